//! `certctl issuers`.

use super::{CliError, Global, Output, client::Client, host, output};
use crate::{
    api::shapes::{IssuerShape, List},
    config::Environment,
    id::Id,
};
use clap::Subcommand;
use std::path::{Path, PathBuf};

/// The longest file of certificates or a key, in bytes.
const MAX_PEM: usize = 256 << 10;

/// List, show and import issuers.
#[derive(Debug, Subcommand)]
pub enum Issuers {
    /// List issuers
    List,
    /// Show an issuer and its CA's certificate
    Show {
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
                ]
            });
            output::table(&["ID", "NAME", "CA", "KEY", "EXPIRES"], rows);
            Ok(())
        }
        Issuers::Show { issuer } => {
            let issuer: IssuerShape = client.get(&format!("/issuers/{issuer}")).await?;
            show(&issuer, global.output)
        }
        Issuers::Import {
            name,
            cert,
            key,
            passphrase_file,
            id,
        } => {
            let passphrase = passphrase_file.as_deref().map(text).transpose()?;
            let passphrase = passphrase.map(|text| {
                let line = text.strip_suffix('\n').unwrap_or(&text);
                line.strip_suffix('\r').unwrap_or(line).to_owned()
            });
            let new = serde_json::json!({
                "id": id,
                "name": name,
                "type": "GenericCA",
                "config": {
                    "ca_cert_pem": text(&cert)?,
                    "ca_key_pem": text(&key)?,
                    "ca_key_passphrase": passphrase,
                },
            });
            let issuer: IssuerShape = client.post("/issuers", &new).await?;
            show(&issuer, global.output)
        }
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
    for (name, value) in [
        ("issuer", &issuer.id),
        ("name", &issuer.name),
        ("type", &issuer.kind),
        ("CA", &ca.ca_common_name),
        ("key", &ca.key_algorithm),
        ("fingerprint", &ca.fingerprint_sha256),
        ("expires", &expires),
        ("CA node", &ca.ca_node),
    ] {
        output::line(&format!("{name:<12} {value}"));
    }
    output::line("");
    output::line(ca.ca_cert_pem.trim_end());
    Ok(())
}
