//! `/backups` and `/restore`.

use super::{
    Problem,
    extract::{Body, Caller},
    shapes::{BackupRunShape, BackupStateShape, NewBackup, RestoreShape, Seq},
};
use crate::app::{
    App, WantedBackup,
    backup::{Locking, Recipient, Since, Sink},
};
use axum::{Json, extract::State, http::StatusCode};
use std::sync::Arc;
use zeroize::Zeroizing;

/// How the backups of this server stand, and which are in the sink of its schedule.
#[utoipa::path(
    get,
    path = "/backups",
    operation_id = "backups",
    responses((status = 200, body = BackupStateShape)),
    security(("key" = ["backup.read"])),
)]
pub async fn state(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<BackupStateShape>, Problem> {
    Ok(Json(app.backup_state(&who)?.into()))
}

/// Begins a backup. How it stands, and what became of it, is answered by a `GET` of the same path,
/// under its id.
#[utoipa::path(
    post,
    path = "/backups",
    operation_id = "start_backup",
    request_body = NewBackup,
    responses(
        (status = 202, body = BackupRunShape),
        (status = 409, description = "Another is being made or proven"),
    ),
    security(("key" = ["backup.run"])),
)]
pub async fn start(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Body(new): Body<NewBackup>,
) -> Result<(StatusCode, Json<BackupRunShape>), Problem> {
    let wanted = wanted(new)?;
    let run = app.start_backup(&who, wanted).await?;
    Ok((StatusCode::ACCEPTED, Json(run.into())))
}

fn wanted(new: NewBackup) -> Result<WantedBackup, Problem> {
    let sink: Sink = new.sink.parse().map_err(|e| Problem::bad("sink", e))?;
    let recipients = new.encrypt_to.iter().map(|text| text.parse::<Recipient>());
    let recipients = recipients.collect::<Result<Vec<_>, _>>();
    let recipients = recipients.map_err(|e| Problem::bad("encrypt_to", e))?;
    let locking = match (new.passphrase, recipients.is_empty(), new.without_keys) {
        (Some(passphrase), true, false) if !passphrase.is_empty() => {
            Locking::Passphrase(Zeroizing::new(passphrase))
        }
        (None, false, false) => Locking::Recipients(recipients),
        (None, true, true) => Locking::WithoutKeys,
        _ => {
            return Err(Problem::bad(
                "encrypt_to",
                "one of encrypt_to, passphrase and without_keys is expected",
            ));
        }
    };
    let since = match (new.since, new.since_audit_entries) {
        (None, None) => None,
        (Some(Seq(seq)), Some(audit_entries)) => Some(Since { seq, audit_entries }),
        _ => {
            return Err(Problem::bad(
                "since",
                "it goes with since_audit_entries, both of the backup that is followed",
            ));
        }
    };
    Ok(WantedBackup {
        sink,
        locking,
        since,
    })
}

/// The last restore, and what the server would do now.
#[utoipa::path(
    get,
    path = "/restore",
    operation_id = "restore",
    responses((status = 200, body = RestoreShape)),
    security(("key" = ["backup.read"])),
)]
pub async fn plan(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<RestoreShape>, Problem> {
    Ok(Json(app.restore_plan(&who).await?.into()))
}

/// Lets a restored server act.
#[utoipa::path(
    post,
    path = "/restore/unfence",
    operation_id = "unfence",
    responses(
        (status = 200, body = RestoreShape),
        (status = 409, description = "The store was not restored"),
    ),
    security(("key" = ["backup.run"])),
)]
pub async fn unfence(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<RestoreShape>, Problem> {
    app.unfence(&who).await?;
    Ok(Json(app.restore_plan(&who).await?.into()))
}
