//! `certctl profiles`.

use super::{
    CliError, Global,
    client::Client,
    documents::{self, Kind, entries, seconds, span},
    output,
};
use crate::{
    api::shapes::{KeyRuleShape, ProfileShape, ProfileWish},
    config::Environment,
    id::Id,
};
use clap::{Args, Subcommand};

/// List, show, make, edit and delete profiles: what may be issued.
#[derive(Debug, Subcommand)]
pub enum Profiles {
    /// List profiles
    List,
    /// Show a profile
    Show {
        /// The profile's id
        profile: Id,
    },
    /// Make a profile
    Create {
        /// Its id; made when absent
        #[arg(long)]
        id: Option<Id>,
        /// Its name
        #[arg(long)]
        name: String,
        #[command(flatten)]
        says: Says,
    },
    /// Edit a profile; what no flag names stays as it is
    Edit {
        /// The profile's id
        profile: Id,
        /// Its name
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        says: Says,
    },
    /// Delete a profile that no certificate has
    Delete {
        /// The profile's id
        profile: Id,
    },
}

/// What a profile says.
#[derive(Debug, Args)]
pub struct Says {
    /// What it is for
    #[arg(long)]
    description: Option<String>,
    /// Keys accepted, the first is what agents make: ECDSA:256, RSA:3072, Ed25519; repeatable
    #[arg(long, value_name = "KIND[:BITS]", value_parser = key)]
    key: Vec<KeyRuleShape>,
    /// The lifetime asked for, e.g. 90d
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    lifetime: Option<u64>,
    /// The longest lifetime, e.g. 90d; 0: none is set
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    max_lifetime: Option<u64>,
    /// What certificates are for: serverAuth, clientAuth, codeSigning, emailProtection,
    /// timeStamping; repeatable
    #[arg(long, value_name = "USE")]
    eku: Vec<String>,
    /// Regular expression; each name must match one of them from end to end; repeatable, empty:
    /// any name
    #[arg(long, value_name = "REGEX")]
    name_pattern: Vec<String>,
    /// Regular expression that the one URI among the names must match; empty: none
    #[arg(long, value_name = "REGEX")]
    spiffe_pattern: Option<String>,
    /// Whether lifetimes below an hour are meant; wants --max-lifetime below it
    #[arg(long, value_name = "BOOL")]
    short_lived: Option<bool>,
    /// Whether anything is issued under it
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
}

fn key(text: &str) -> Result<KeyRuleShape, String> {
    let (algorithm, min_size) = text.split_once(':').unwrap_or((text, "0"));
    let min_size = min_size
        .parse()
        .map_err(|_| format!("{min_size:?} is no number of bits"))?;
    Ok(KeyRuleShape {
        algorithm: algorithm.to_owned(),
        min_size,
    })
}

impl Says {
    fn wish(self, id: Option<Id>, name: Option<String>) -> ProfileWish {
        ProfileWish {
            id: id.map(|id| id.to_string()),
            name,
            description: self.description,
            allowed_key_algorithms: (!self.key.is_empty()).then_some(self.key),
            lifetime_seconds: self.lifetime,
            max_ttl_seconds: self.max_lifetime,
            allowed_ekus: entries(self.eku),
            required_san_patterns: entries(self.name_pattern),
            spiffe_uri_pattern: self.spiffe_pattern,
            allow_short_lived: self.short_lived,
            enabled: self.enabled,
            ..ProfileWish::default()
        }
    }
}

struct OfProfile;

impl Kind for OfProfile {
    type Shape = ProfileShape;
    const PATH: &'static str = "/profiles";
    const MANY: &'static str = "profiles";
    const HEADER: &'static [&'static str] = &[
        "ID", "NAME", "KEYS", "USES", "LIFETIME", "LONGEST", "ENABLED",
    ];

    fn row(p: &ProfileShape) -> Vec<String> {
        vec![
            p.id.clone(),
            p.name.clone(),
            keys(p),
            p.allowed_ekus.join(" "),
            span(p.lifetime_seconds),
            longest(p),
            p.enabled.to_string(),
        ]
    }

    fn facts(p: &ProfileShape) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("profile", p.id.clone()),
            ("name", p.name.clone()),
            ("description", p.description.clone()),
            ("keys", keys(p)),
            ("uses", p.allowed_ekus.join(" ")),
            ("lifetime", span(p.lifetime_seconds)),
            ("longest", longest(p)),
            ("names", p.required_san_patterns.join(" ")),
            ("URI", p.spiffe_uri_pattern.clone()),
            ("short-lived", p.allow_short_lived.to_string()),
            ("enabled", p.enabled.to_string()),
            ("edited", output::moment(Some(&p.updated_at))),
        ];
        if let Some(replan) = &p.replan {
            facts.push(("replanned", format!("{} of {}", replan.done, replan.total)));
        }
        facts
    }
}

fn keys(p: &ProfileShape) -> String {
    let keys = p.allowed_key_algorithms.iter();
    let word = |k: &KeyRuleShape| match k.min_size {
        0 => k.algorithm.clone(),
        bits => format!("{}:{bits}", k.algorithm),
    };
    keys.map(word).collect::<Vec<_>>().join(" ")
}

fn longest(p: &ProfileShape) -> String {
    match p.max_ttl_seconds {
        0 => "-".into(),
        seconds => span(seconds),
    }
}

/// Runs it.
pub async fn run(command: Profiles, global: &Global, env: &Environment) -> Result<(), CliError> {
    let client = Client::new(global, env)?;
    let output = global.output;
    match command {
        Profiles::List => documents::list::<OfProfile>(&client, output).await,
        Profiles::Show { profile } => documents::show::<OfProfile>(&client, &profile, output).await,
        Profiles::Create { id, name, says } => {
            let wish = says.wish(id, Some(name));
            documents::create::<OfProfile>(&client, &wish, output).await
        }
        Profiles::Edit {
            profile,
            name,
            says,
        } => {
            let wish = says.wish(None, name);
            documents::edit::<OfProfile>(&client, &profile, &wish, output).await
        }
        Profiles::Delete { profile } => {
            documents::delete::<OfProfile>(&client, &profile, output).await
        }
    }
}
