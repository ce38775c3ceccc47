//! Many certificates in one command.

use super::{CliError, Output, client::Client, output};
use crate::{
    api::shapes::{
        BulkError, BulkReassigned, BulkRenewed, BulkRevoked, CertificateShape, List, ReassignWish,
        Selected, SelectedRevoke,
    },
    id::Id,
};
use clap::Args;

/// Which certificates: those that fit every filter.
#[derive(Debug, Args)]
pub struct Filtered {
    /// Instead of one: all certificates of an issuer, owner, team, profile or agent, as
    /// issuer=iss-local; may be repeated, and all must fit
    #[arg(long, value_name = "NAME=ID")]
    filter: Vec<String>,
    /// Do it, for as many as there are; without it they are only counted
    #[arg(long, requires = "filter")]
    yes: bool,
}

impl Filtered {
    /// What the filters name.
    fn selected(&self) -> Result<Selected, CliError> {
        let mut selected = Selected::default();
        for filter in &self.filter {
            let bad = || {
                CliError::Usage(format!(
                    "--filter: {filter:?} is none of issuer=ID, owner=ID, team=ID, profile=ID and \
                     agent=ID"
                ))
            };
            let (name, id) = filter.split_once('=').ok_or_else(bad)?;
            let part = match name {
                "issuer" => &mut selected.issuer_id,
                "owner" => &mut selected.owner_id,
                "team" => &mut selected.team_id,
                "profile" => &mut selected.profile_id,
                "agent" => &mut selected.agent_id,
                _ => return Err(bad()),
            };
            if id.is_empty() || part.replace(id.to_owned()).is_some() {
                return Err(bad());
            }
        }
        Ok(selected)
    }

    /// Counts those that fit; refuses to go on without `--yes`.
    async fn confirmed(&self, client: &Client, doing: &str) -> Result<Selected, CliError> {
        let selected = self.selected()?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, id) in [
            ("issuer_id", &selected.issuer_id),
            ("owner_id", &selected.owner_id),
            ("team_id", &selected.team_id),
            ("profile_id", &selected.profile_id),
            ("agent_id", &selected.agent_id),
        ] {
            if let Some(id) = id {
                query.append_pair(name, id);
            }
        }
        query.append_pair("per_page", "1");
        let path = format!("/certificates?{}", query.finish());
        let list: List<CertificateShape> = client.get(&path).await?;
        let n = list.total.map_or("many".to_owned(), |n| n.to_string());
        if !self.yes {
            return Err(CliError::Failed(format!(
                "{n} certificate(s) fit: add --yes to have them {doing}"
            )));
        }
        Ok(selected)
    }
}

/// Revokes all that fit.
pub async fn revoke(
    client: &Client,
    filtered: &Filtered,
    reason: String,
    output: Output,
) -> Result<(), CliError> {
    let selected = filtered.confirmed(client, "revoked").await?;
    let wish = SelectedRevoke::of(selected, reason);
    let done: BulkRevoked = client.post("/certificates/bulk-revoke", &wish).await?;
    if output == Output::Json {
        output::json(&done)?;
    } else {
        output::line(&format!(
            "{} revoked, {} had ended already, {} failed",
            done.total_revoked, done.total_skipped, done.total_failed
        ));
    }
    ended(done.total_failed, &done.errors)
}

/// Renews all that fit.
pub async fn renew(client: &Client, filtered: &Filtered, output: Output) -> Result<(), CliError> {
    let selected = filtered.confirmed(client, "renewed").await?;
    let done: BulkRenewed = client.post("/certificates/bulk-renew", &selected).await?;
    if output == Output::Json {
        output::json(&done)?;
    } else {
        output::line(&format!(
            "{} being renewed, {} need not be, {} failed",
            done.total_enqueued, done.total_skipped, done.total_failed
        ));
    }
    ended(done.total_failed, &done.errors)
}

/// Gives certificates another owner.
pub async fn reassign(
    client: &Client,
    certificates: &[Id],
    owner: String,
    team: Option<String>,
    output: Output,
) -> Result<(), CliError> {
    let wish = ReassignWish {
        certificate_ids: certificates.iter().map(ToString::to_string).collect(),
        owner_id: owner,
        team_id: team,
    };
    let done: BulkReassigned = client.post("/certificates/bulk-reassign", &wish).await?;
    if output == Output::Json {
        output::json(&done)?;
    } else {
        output::line(&format!(
            "{} reassigned, {} had that owner already, {} failed",
            done.total_reassigned, done.total_skipped, done.total_failed
        ));
    }
    ended(done.total_failed, &done.errors)
}

/// A failure where some could not be done, with the first of them.
fn ended(failed: u64, errors: &[BulkError]) -> Result<(), CliError> {
    match errors.first() {
        Some(first) => Err(CliError::Failed(format!(
            "{failed} failed, such as {}: {}",
            first.certificate_id, first.error
        ))),
        None => Ok(()),
    }
}
