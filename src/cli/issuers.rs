//! `certctl issuers`.

use super::{CliError, Global, Output, client::Client, host, output};
use crate::{
    api::shapes::{IssuerShape, List, StatusShape},
    config::Environment,
    id::Id,
};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// The longest file of certificates or a key, in bytes.
const MAX_PEM: usize = 256 << 10;

/// List, show, make, import, edit, test and delete issuers.
#[derive(Debug, Subcommand)]
pub enum Issuers {
    /// List issuers
    List,
    /// Show an issuer and its CA's certificate
    Show {
        /// The issuer's id
        issuer: Id,
    },
    /// Make a CA: a root, and an issuing CA below it
    Create(Create),
    /// Rename an issuer, or switch it on or off
    Edit {
        /// The issuer's id
        issuer: Id,
        /// Its new name
        #[arg(long)]
        name: Option<String>,
        /// It may be asked again: orders that waited are opened
        #[arg(long, conflicts_with = "disable")]
        enable: bool,
        /// It is not asked: no order is opened, and certificates that come due wait
        #[arg(long)]
        disable: bool,
    },
    /// See whether an issuer can issue: its key, its certificate and those above it
    Test {
        /// The issuer's id
        issuer: Id,
    },
    /// Delete an issuer that no certificate has, with its CA's key
    Delete {
        /// The issuer's id
        issuer: Id,
    },
    /// Let a CA that was made elsewhere sign here
    Import {
        /// Its name
        #[arg(long)]
        name: String,
        /// File of the CA's certificate, then those of the CAs above it, PEM
        #[arg(long, value_name = "FILE")]
        cert: PathBuf,
        /// File of the CA's private key, PEM: PKCS#8, encrypted or not, PKCS#1 or SEC 1
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// File of the passphrase of an encrypted key; one line end at its end is left out
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Its id; made when absent
        #[arg(long)]
        id: Option<Id>,
    },
}

/// What to make.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name
    name: String,
    /// What root and issuing CA are called [default: the name]
    #[arg(long, value_name = "NAME")]
    common_name: Option<String>,
    /// The kind of their keys: ECDSA-P256, ECDSA-P384, RSA-3072 or RSA-4096
    #[arg(long, value_name = "KIND", default_value = "ECDSA-P256")]
    key_algorithm: String,
    /// How long the root lasts
    #[arg(long, value_name = "DAYS", default_value_t = 3_650)]
    root_days: u32,
    /// How long the issuing CA lasts
    #[arg(long, value_name = "DAYS", default_value_t = 1_825)]
    days: u32,
    /// Certify DNS names under this one only; may be repeated
    #[arg(long, value_name = "NAME")]
    permit: Vec<String>,
    /// Certify no DNS names under this one; may be repeated
    #[arg(long, value_name = "NAME")]
    exclude: Vec<String>,
    /// Its id; made when absent
    #[arg(long)]
    id: Option<Id>,
}

/// Runs it.
pub async fn run(command: Issuers, global: &Global, env: &Environment) -> Result<(), CliError> {
    let client = Client::new(global, env)?;
    match command {
        Issuers::List => {
            let list: List<IssuerShape> = client.get("/issuers?per_page=500").await?;
            if global.output == Output::Json {
                return output::json(&list.data);
            }
            let rows = list.data.iter().map(|i| {
                vec![
                    i.id.clone(),
                    i.name.clone(),
                    i.config.ca_common_name.clone(),
                    i.config.key_algorithm.clone(),
                    output::moment(Some(&i.config.expires_at)),
                    state(i),
                ]
            });
            output::table(&["ID", "NAME", "CA", "KEY", "EXPIRES", "STATE"], rows);
            Ok(())
        }
        Issuers::Show { issuer } => {
            let issuer: IssuerShape = client.get(&format!("/issuers/{issuer}")).await?;
            show(&issuer, global.output)
        }
        Issuers::Create(new) => {
            let new = serde_json::json!({
                "id": new.id,
                "name": new.name,
                "type": "GenericCA",
                "config": {
                    "ca_common_name": new.common_name,
                    "key_algorithm": new.key_algorithm,
                    "root_validity_days": new.root_days,
                    "validity_days": new.days,
                    "permitted_names": new.permit,
                    "excluded_names": new.exclude,
                },
            });
            let issuer: IssuerShape = client.post("/issuers", &new).await?;
            show(&issuer, global.output)
        }
        Issuers::Edit {
            issuer,
            name,
            enable,
            disable,
        } => {
            let enabled = (enable || disable).then_some(enable);
            if name.is_none() && enabled.is_none() {
                let message = "nothing is to change: give --name, --enable or --disable";
                return Err(CliError::Usage(message.into()));
            }
            let mut change = serde_json::Map::new();
            change.extend(name.map(|name| ("name".to_owned(), name.into())));
            change.extend(enabled.map(|enabled| ("enabled".to_owned(), enabled.into())));
            let path = format!("/issuers/{issuer}");
            let issuer: IssuerShape = client.put(&path, &change).await?;
            show(&issuer, global.output)
        }
        Issuers::Test { issuer } => {
            let path = format!("/issuers/{issuer}/test");
            let done: StatusShape = client.post(&path, &serde_json::json!({})).await?;
            if global.output == Output::Json {
                return output::json(&done);
            }
            output::line(&format!("{issuer} can issue"));
            Ok(())
        }
        Issuers::Delete { issuer } => {
            client.delete(&format!("/issuers/{issuer}")).await?;
            if global.output == Output::Json {
                return output::json(&serde_json::json!({"status": "deleted"}));
            }
            output::line(&format!("{issuer} is deleted"));
            Ok(())
        }
        Issuers::Import {
            name,
            cert,
            key,
            passphrase_file,
            id,
        } => {
            let passphrase = passphrase_file.as_deref().map(host::read_secret);
            let passphrase = passphrase.transpose()?;
            let new = serde_json::json!({
                "id": id,
                "name": name,
                "type": "GenericCA",
                "config": {
                    "ca_cert_pem": text(&cert)?,
                    "ca_key_pem": text(&key)?,
                    "ca_key_passphrase": passphrase.as_deref(),
                },
            });
            let issuer: IssuerShape = client.post("/issuers", &new).await?;
            show(&issuer, global.output)
        }
    }
}

/// Whether it may be asked, and what its last test found.
fn state(issuer: &IssuerShape) -> String {
    match (&issuer.test_error, issuer.enabled) {
        (_, false) => "switched off".into(),
        (Some(fault), true) => format!("failed: {fault}"),
        (None, true) if issuer.test_status == "untested" => "on".into(),
        (None, true) => format!(
            "on, tested {}",
            output::moment(issuer.last_tested_at.as_deref())
        ),
    }
}

fn text(path: &Path) -> Result<String, CliError> {
    let bytes = host::read(path, MAX_PEM)?;
    String::from_utf8(bytes)
        .map_err(|_| CliError::Failed(format!("{} is no text: PEM is expected", path.display())))
}

fn show(issuer: &IssuerShape, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(issuer);
    }
    let ca = &issuer.config;
    let expires = output::moment(Some(&ca.expires_at));
    let state = state(issuer);
    for (name, value) in [
        ("issuer", &issuer.id),
        ("name", &issuer.name),
        ("type", &issuer.kind),
        ("CA", &ca.ca_common_name),
        ("key", &ca.key_algorithm),
        ("fingerprint", &ca.fingerprint_sha256),
        ("expires", &expires),
        ("CA node", &ca.ca_node),
        ("state", &state),
    ] {
        output::line(&format!("{name:<12} {value}"));
    }
    output::line("");
    output::line(ca.ca_cert_pem.trim_end());
    Ok(())
}
