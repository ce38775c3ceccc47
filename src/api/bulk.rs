//! Many certificates in one call.

use super::{
    Problem,
    extract::{Body, Caller, id_in_field},
    shapes::{
        BulkError, BulkJob, BulkReassigned, BulkRenewed, BulkRevoked, ReassignWish, Selected,
        SelectedRevoke,
    },
};
use crate::{
    app::{App, Bulk, MOST_NAMED, Selection},
    id::Id,
};
use axum::{Json, extract::State};
use std::{collections::BTreeSet, sync::Arc};

/// Revokes all that fit.
#[utoipa::path(
    post,
    path = "/certificates/bulk-revoke",
    operation_id = "bulk_revoke",
    request_body = SelectedRevoke,
    responses((status = 200, body = BulkRevoked)),
    security(("key" = ["cert.bulk_revoke"])),
)]
pub async fn revoke(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Body(wish): Body<SelectedRevoke>,
) -> Result<Json<BulkRevoked>, Problem> {
    let reason = wish.reason.parse();
    let reason = reason.map_err(|e| Problem::bad("reason", e))?;
    let bulk = app
        .revoke_many(&who, &selection(wish.selected())?, reason)
        .await?;
    Ok(Json(BulkRevoked {
        total_matched: bulk.matched,
        total_revoked: bulk.done,
        total_skipped: bulk.skipped,
        total_failed: bulk.failed,
        errors: errors(&bulk),
    }))
}

/// Renews all that fit.
#[utoipa::path(
    post,
    path = "/certificates/bulk-renew",
    operation_id = "bulk_renew",
    request_body = Selected,
    responses((status = 200, body = BulkRenewed)),
    security(("key" = ["cert.issue"])),
)]
pub async fn renew(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Body(wish): Body<Selected>,
) -> Result<Json<BulkRenewed>, Problem> {
    let bulk = app.renew_many(&who, &selection(wish)?).await?;
    let jobs = bulk.jobs.iter().map(|(certificate, job)| BulkJob {
        certificate_id: certificate.to_string(),
        job_id: job.to_string(),
    });
    Ok(Json(BulkRenewed {
        total_matched: bulk.matched,
        total_enqueued: bulk.done,
        total_skipped: bulk.skipped,
        total_failed: bulk.failed,
        enqueued_jobs: jobs.collect(),
        errors: errors(&bulk),
    }))
}

/// Gives certificates another owner.
#[utoipa::path(
    post,
    path = "/certificates/bulk-reassign",
    operation_id = "bulk_reassign",
    request_body = ReassignWish,
    responses((status = 200, body = BulkReassigned)),
    security(("key" = ["cert.edit"])),
)]
pub async fn reassign(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Body(wish): Body<ReassignWish>,
) -> Result<Json<BulkReassigned>, Problem> {
    let ids = ids(&wish.certificate_ids)?;
    if ids.is_empty() {
        return Err(Problem::bad("certificate_ids", "one is needed at least"));
    }
    let team = given(wish.team_id);
    let bulk = app
        .reassign_many(&who, &ids, &wish.owner_id, team.as_deref())
        .await?;
    Ok(Json(BulkReassigned {
        total_matched: bulk.matched,
        total_reassigned: bulk.done,
        total_skipped: bulk.skipped,
        total_failed: bulk.failed,
        errors: errors(&bulk),
    }))
}

/// A field that is there, and not empty.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn selection(wish: Selected) -> Result<Selection, Problem> {
    let selection = Selection {
        profile_id: given(wish.profile_id),
        owner_id: given(wish.owner_id),
        agent_id: given(wish.agent_id),
        issuer_id: given(wish.issuer_id),
        team_id: given(wish.team_id),
        ids: ids(&wish.certificate_ids)?,
    };
    if selection == Selection::default() {
        let message = "one of profile_id, owner_id, agent_id, issuer_id, team_id and \
                       certificate_ids is needed";
        return Err(Problem::bad("body", message));
    }
    Ok(selection)
}

fn ids(texts: &[String]) -> Result<BTreeSet<Id>, Problem> {
    if texts.len() > MOST_NAMED {
        let message = format!("{MOST_NAMED} at most are accepted in one call");
        return Err(Problem::bad("certificate_ids", message));
    }
    let ids = texts.iter().map(|id| id_in_field("certificate_ids", id));
    ids.collect()
}

fn errors(bulk: &Bulk) -> Vec<BulkError> {
    let errors = bulk.errors.iter().map(|(certificate, error)| BulkError {
        certificate_id: certificate.to_string(),
        error: error.clone(),
    });
    errors.collect()
}
