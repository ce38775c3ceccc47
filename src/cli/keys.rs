//! `certctl keys`.

use super::{CliError, Global, Output, agents::time, client::Client, output};
use crate::{
    api::shapes::{GrantShape, GrantWish, KeyMadeShape, KeyNew, KeyShape, KeysShape, Rotate},
    clock::{Clock, SystemClock},
    config::Environment,
    id::Id,
};
use clap::{Args, Subcommand};
use std::time::Duration;

/// Make, list and end the keys of people and programs.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key; it is printed once
    Create {
        /// Its name, as the audit log will have it
        name: String,
        /// The id or name of a role, such as r-viewer; may be given more than once
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<String>,
        /// When it ends, from now, such as 12h or 90d; never when absent
        #[arg(long, value_name = "TIME", value_parser = time)]
        expires: Option<Duration>,
    },
    /// List keys, with their roles and when they were last used
    List,
    /// Show a key, without its secret
    Show {
        /// The key's id or name
        key: String,
    },
    /// Give a key a new secret; it is printed once
    Rotate {
        /// The key's id or name
        key: String,
        /// For so long the present secret stays good, such as 1h; not at all when absent
        #[arg(long, value_name = "TIME", value_parser = time)]
        overlap: Option<Duration>,
    },
    /// End a key: it, and the browser sessions opened with it, are refused from then on
    Revoke {
        /// The key's id or name
        key: String,
    },
    /// Grant a role to a key
    Grant {
        /// The key's id or name
        key: String,
        /// The role's id or name
        role: String,
        #[command(flatten)]
        scope: ScopeArgs,
        /// When it ends, from now, such as 12h or 90d; never when absent
        #[arg(long, value_name = "TIME", value_parser = time)]
        expires: Option<Duration>,
    },
    /// Take a role from a key: wherever it counts, or in one scope
    Ungrant {
        /// The key's id or name
        key: String,
        /// The role's id or name
        role: String,
        #[command(flatten)]
        scope: ScopeArgs,
    },
}

/// Where a role counts; everywhere when neither is given.
#[derive(Debug, Args)]
pub struct ScopeArgs {
    /// On this profile alone
    #[arg(long, value_name = "PROFILE", conflicts_with = "issuer")]
    profile: Option<Id>,
    /// On this issuer alone
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<Id>,
}

impl ScopeArgs {
    fn of(&self) -> Option<(&'static str, String)> {
        let profile = self.profile.as_ref().map(|id| ("profile", id.to_string()));
        let issuer = self.issuer.as_ref().map(|id| ("issuer", id.to_string()));
        profile.or(issuer)
    }
}

/// Runs it.
pub async fn run(command: Keys, global: &Global, env: &Environment) -> Result<(), CliError> {
    let client = Client::new(global, env)?;
    let output = global.output;
    match command {
        Keys::Create {
            name,
            roles,
            expires,
        } => {
            let new = KeyNew {
                name,
                role_ids: roles,
                expires_at: expires.map(from_now),
            };
            let made: KeyMadeShape = client.post("/auth/keys", &new).await?;
            show_made(&made, output)
        }
        Keys::List => list(&client.get("/auth/keys").await?, output),
        Keys::Show { key } => show(&client.get(&path(&key)).await?, output),
        Keys::Rotate { key, overlap } => {
            let wish = Rotate {
                overlap_seconds: overlap.unwrap_or_default().as_secs(),
            };
            let made: KeyMadeShape = client
                .post(&format!("{}/rotate", path(&key)), &wish)
                .await?;
            show_made(&made, output)
        }
        Keys::Revoke { key } => {
            let shown: KeyShape = client.get(&path(&key)).await?;
            client.delete(&path(&key)).await?;
            match output {
                Output::Json => output::json(&shown),
                Output::Table => {
                    output::line(&format!("The key {} has ended.", shown.name));
                    Ok(())
                }
            }
        }
        Keys::Grant {
            key,
            role,
            scope,
            expires,
        } => {
            let (scope_type, scope_id) = scope.of().unzip();
            let wish = GrantWish {
                role_id: role,
                scope_type: scope_type.map(Into::into),
                scope_id,
                expires_at: expires.map(from_now),
            };
            let roles = format!("{}/roles", path(&key));
            let _: Option<KeyShape> = client.post_or_nothing(&roles, &wish).await?;
            show(&client.get(&path(&key)).await?, output)
        }
        Keys::Ungrant { key, role, scope } => {
            let query = scope.of().map_or_else(String::new, |(kind, id)| {
                format!("?scope_type={kind}&scope_id={id}")
            });
            let role = format!("{}/roles/{}{query}", path(&key), segment(&role));
            client.delete(&role).await?;
            show(&client.get(&path(&key)).await?, output)
        }
    }
}

fn path(key: &str) -> String {
    format!("/auth/keys/{}", segment(key))
}

/// A text as a part of a path (RFC 3986, section 3.3).
pub fn segment(text: &str) -> String {
    let each = text.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    });
    each.collect()
}

fn from_now(time: Duration) -> String {
    SystemClock.now().plus(time).whole_seconds().to_string()
}

fn show_made(made: &KeyMadeShape, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(made);
    }
    let (name, roles) = (&made.key.name, made.key.role_ids.join(", "));
    output::line(&format!(
        "key {name} ({roles}); its secret is shown this once:"
    ));
    output::line("");
    output::line(&format!("  {}", made.key_value));
    if let Some(until) = &made.key.former_until {
        let until = output::moment(Some(until));
        output::line("");
        output::line(&format!("The secret before it is good until {until}."));
    }
    Ok(())
}

fn list(keys: &KeysShape, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(&keys.keys);
    }
    let rows = keys.keys.iter().map(|key| {
        vec![
            key.id.clone(),
            key.name.clone(),
            key.grants.iter().map(grant).collect::<Vec<_>>().join(", "),
            key.source.clone(),
            output::ago(key.last_used_at.as_deref()),
            output::moment(key.expires_at.as_deref()),
        ]
    });
    let header = ["ID", "NAME", "ROLES", "SOURCE", "LAST USED", "EXPIRES"];
    output::table(&header, rows);
    if let Some(error) = &keys.configuration_error {
        output::line("");
        output::line(&format!(
            "The keys of the configuration stay as they were: {error}"
        ));
    }
    Ok(())
}

fn show(key: &KeyShape, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(key);
    }
    let moment = |text: &Option<String>| output::moment(text.as_deref());
    let roles: Vec<_> = key.grants.iter().map(grant).collect();
    for (name, value) in [
        ("key", key.id.clone()),
        ("name", key.name.clone()),
        ("roles", roles.join(", ")),
        ("source", key.source.clone()),
        ("made", moment(&key.created_at)),
        ("secret since", moment(&key.secret_since)),
        ("old secret", moment(&key.former_until)),
        ("last used", moment(&key.last_used_at)),
        ("expires", moment(&key.expires_at)),
    ] {
        output::line(&format!("{name:<12} {value}"));
    }
    Ok(())
}

/// A role granted, in words.
fn grant(grant: &GrantShape) -> String {
    let mut text = grant.role_id.clone();
    if let Some(id) = &grant.scope_id {
        text += &format!(" on {} {id}", grant.scope_type);
    }
    if let Some(end) = &grant.expires_at {
        text += &format!(" until {}", output::moment(Some(end)));
    }
    text
}
