//! `certctl certs create`, `edit`, and the filters of `list`.

use super::{CliError, Output, client::Client, documents::entries, host, output};
use crate::{
    api::shapes::{CertificateNew, CertificateShape, CertificateWish},
    id::Id,
};
use clap::Args;
use std::{collections::BTreeMap, path::PathBuf};

/// The longest file of a CSR, in bytes.
const MAX_CSR: usize = 64 << 10;

/// A certificate to make.
#[derive(Debug, Args)]
pub struct Create {
    /// The common name: a DNS name, an IP address, an e-mail address or a URI
    common_name: String,
    /// Its id; made when absent
    #[arg(long)]
    id: Option<Id>,
    /// A name for people [default: the common name]
    #[arg(long)]
    name: Option<String>,
    /// A CSR for the first version, when its key is not an agent's
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
    #[command(flatten)]
    says: Says,
}

/// What is to change of a certificate.
#[derive(Debug, Args)]
pub struct Edit {
    /// The certificate's id
    certificate: Id,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// The common name; it takes the place of the old one
    #[arg(long, value_name = "NAME")]
    common_name: Option<String>,
    /// Take this label away; repeatable
    #[arg(long, value_name = "NAME")]
    untag: Vec<String>,
    #[command(flatten)]
    says: Says,
}

/// What a certificate says.
#[derive(Debug, Args)]
pub struct Says {
    /// A further name; repeatable, given at all these are all there are
    #[arg(long, value_name = "NAME")]
    san: Vec<String>,
    /// E.g. production
    #[arg(long)]
    environment: Option<String>,
    /// Who answers for it
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// The owner's team
    #[arg(long, value_name = "ID")]
    team: Option<String>,
    /// Where versions come from [default for a new one: iss-local]
    #[arg(long, value_name = "ID")]
    issuer: Option<Id>,
    /// What may be issued [default for a new one: prof-default]
    #[arg(long, value_name = "ID")]
    profile: Option<Id>,
    /// When to renew [default for a new one: rp-default]
    #[arg(long, value_name = "ID")]
    policy: Option<Id>,
    /// Where versions are put; repeatable, given at all these are all there are, empty: nowhere
    #[arg(long, value_name = "ID")]
    target: Vec<String>,
    /// A label; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag)]
    tag: Vec<(String, String)>,
}

/// Which certificates to list.
#[derive(Debug, Default, Args)]
pub struct Filter {
    /// Active, Expiring, Expired, Failed, RenewalInProgress, Pending, Revoked or Archived
    #[arg(long)]
    status: Option<String>,
    /// Those of an environment
    #[arg(long)]
    environment: Option<String>,
    /// Those of an owner
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// Those of a team
    #[arg(long, value_name = "ID")]
    team: Option<String>,
    /// Those of an issuer
    #[arg(long, value_name = "ID")]
    issuer: Option<String>,
    /// Those of a profile
    #[arg(long, value_name = "ID")]
    profile: Option<String>,
    /// Those of a renewal policy
    #[arg(long, value_name = "ID")]
    policy: Option<String>,
    /// Those with a key on an agent
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Those with a label, whatever its value or with this one; repeatable
    #[arg(long, value_name = "NAME[=VALUE]")]
    tag: Vec<String>,
}

fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not name=value")),
    }
}

impl Filter {
    /// The filters as a query, with an `&` before each.
    pub fn query(&self) -> String {
        let tags = self.tag.iter().map(|tag| tag.replacen('=', ":", 1));
        let tags: Vec<String> = tags.collect();
        let tags = Some(tags.join(",")).filter(|tags| !tags.is_empty());
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("status", &self.status),
            ("environment", &self.environment),
            ("owner_id", &self.owner),
            ("team_id", &self.team),
            ("issuer_id", &self.issuer),
            ("profile_id", &self.profile),
            ("renewal_policy_id", &self.policy),
            ("agent_id", &self.agent),
            ("tag", &tags),
        ] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        let query = query.finish();
        if query.is_empty() {
            query
        } else {
            format!("&{query}")
        }
    }
}

/// Makes a certificate.
pub async fn create(client: &Client, new: Create, output: Output) -> Result<(), CliError> {
    let csr_pem = new.csr.map(|path| {
        let bytes = host::read(&path, MAX_CSR)?;
        let path = path.display();
        String::from_utf8(bytes)
            .map_err(|_| CliError::Failed(format!("{path} is no text: PEM is expected")))
    });
    let Says {
        san,
        environment,
        owner,
        team,
        issuer,
        profile,
        policy,
        target,
        tag,
    } = new.says;
    let body = CertificateNew {
        id: new.id.map(|id| id.to_string()),
        name: new.name.unwrap_or_else(|| new.common_name.clone()),
        common_name: new.common_name,
        sans: san,
        environment: environment.unwrap_or_default(),
        owner_id: owner.unwrap_or_default(),
        team_id: team.unwrap_or_default(),
        issuer_id: issuer.map(|id| id.to_string()),
        certificate_profile_id: profile.map(|id| id.to_string()),
        renewal_policy_id: policy.map(|id| id.to_string()),
        target_ids: entries(target).unwrap_or_default(),
        tags: tag.into_iter().collect(),
        csr_pem: csr_pem.transpose()?,
        ..CertificateNew::default()
    };
    let made: CertificateShape = client.post("/certificates", &body).await?;
    tell(&made, "made", output)
}

/// Edits a certificate.
pub async fn edit(client: &Client, edit: Edit, output: Output) -> Result<(), CliError> {
    let id = edit.certificate;
    let path = format!("/certificates/{id}");
    let says = edit.says;
    let tags = if says.tag.is_empty() && edit.untag.is_empty() {
        None
    } else {
        let now: CertificateShape = client.get(&path).await?;
        let mut tags: BTreeMap<String, String> = now.tags;
        tags.retain(|name, _| !edit.untag.contains(name));
        tags.extend(says.tag);
        Some(tags)
    };
    let wish = CertificateWish {
        name: edit.name,
        common_name: edit.common_name,
        sans: entries(says.san),
        environment: says.environment,
        owner_id: says.owner,
        team_id: says.team,
        issuer_id: says.issuer.map(|id| id.to_string()),
        certificate_profile_id: says.profile.map(|id| id.to_string()),
        renewal_policy_id: says.policy.map(|id| id.to_string()),
        target_ids: entries(says.target),
        tags,
        status: None,
    };
    let edited: CertificateShape = client.put(&path, &wish).await?;
    tell(&edited, "edited", output)
}

fn tell(certificate: &CertificateShape, done: &str, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        return output::json(certificate);
    }
    output::line(&format!("{} is {done}", certificate.id));
    for warning in &certificate.warnings {
        output::line(&format!("warning: {warning}"));
    }
    Ok(())
}
