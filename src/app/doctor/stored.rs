//! The store itself: its rows, its audit log, its format.

use super::{Found, Ground, NAMED, RESTORE, Reading};
use crate::{
    app::schema::Standing,
    domain::{AuditEvent, Finding},
    store::{AUDIT, COLLECTIONS, Fault, Store, StoreError},
};
use std::time::Duration;
use tokio::time::Instant;

/// A whole look takes no longer.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Clocks of servers that share a store may differ by so much.
const AHEAD: Duration = Duration::from_secs(60);

/// Whether every row can be read, and indexes and counts follow from the rows.
pub(super) async fn rows(store: &Store, reading: Reading<'_>) -> Found {
    let until = Instant::now() + LONGEST;
    let checked = store.check(COLLECTIONS, until, reading).await?;
    let mut found = Vec::new();
    for fault in &checked.faults {
        let remedy = match fault {
            Fault::Index { .. } | Fault::Counts { .. } => {
                "a restore derives all indexes from the rows: stop the server, then `certctl \
                 backup create --sink dir:PATH --without-keys` and `certctl restore BACKUP`"
            }
            Fault::Row { .. } | Fault::Unreadable { .. } => RESTORE,
        };
        let subject = match fault {
            Fault::Row { coll, id, .. } => format!("{coll} {id}"),
            Fault::Index { index, .. } | Fault::Counts { index, .. } => (*index).to_owned(),
            Fault::Unreadable { what, .. } => (*what).to_owned(),
        };
        found.push(Finding::error(
            "storage",
            subject,
            fault.to_string(),
            remedy,
        ));
    }
    if checked.more > 0 {
        let more = format!("{} more rows and indexes are at fault", checked.more);
        found.push(Finding::error("storage", "", more, RESTORE));
    }
    if !checked.unbuilt.is_empty() {
        found.push(Finding::notice(
            "storage",
            checked.unbuilt.join(", "),
            "this version keeps other indexes of them, which the next start of the server builds",
            "",
        ));
    }
    if found.is_empty() {
        let rows = checked.rows;
        let what = format!("{rows} rows can be read, and all indexes and counts follow from them");
        found.push(Finding::ok("storage", what));
    }
    Ok(found)
}

/// Whether the audit log's links hold.
pub(super) async fn audit_log(store: &Store) -> Found {
    Ok(vec![match store.verify_stream(AUDIT).await {
        Ok(entries) => Finding::ok(
            "audit",
            format!("{entries} events, each linked to the last"),
        ),
        Err(e @ StoreError::BrokenChain { number, .. }) => Finding::error(
            "audit",
            format!("event {number}"),
            format!("somebody has changed the log: {e}"),
            "keep a copy of the store as evidence, and compare its log with that of a backup: \
             `certctl backup verify BACKUP --restore`",
        ),
        Err(e) => return Err(e),
    }])
}

/// Whether this version may use the store.
pub(super) async fn schema(store: &Store) -> Found {
    let known = store.refresh_known().await?;
    let (format, program) = (known.format(), known.program_format());
    let mut found: Vec<Finding> = known
        .altered()
        .into_iter()
        .take(NAMED)
        .map(|number| {
            Finding::error(
                "schema",
                format!("migration {number}"),
                "the ledger says something else of it than when it was made",
                RESTORE,
            )
        })
        .collect();
    let text = format!("the store has format {format}, this version {program}");
    found.push(match Standing::of(&known) {
        Standing::Current => Finding::ok("schema", format!("format {format}, as this version's")),
        Standing::Behind => Finding::warning(
            "schema",
            "",
            text,
            "stop the server and `certctl migrate up`; a server does that at its start, too",
        ),
        Standing::Ahead => Finding::notice(
            "schema",
            "",
            format!("{text}, which may use it"),
            "install the version that brought it there: `certctl migrate status` names it",
        ),
        Standing::TooNew => Finding::error(
            "schema",
            "",
            format!("{text}, which may not use it"),
            format!(
                "start the version that brought it there, or undo that: `certctl migrate down --to \
                 {program}`"
            ),
        ),
    });
    Ok(found)
}

/// Whether the clock was set back since the last event.
pub(super) async fn newest_event(ground: &Ground<'_>, store: &Store) -> Found {
    let newest = store.tail(AUDIT, u64::MAX, 1).await?;
    let event = newest.first();
    let event = event.and_then(|e| serde_json::from_slice::<AuditEvent>(&e.doc).ok());
    let Some(event) = event.filter(|event| event.at.since(ground.now) > AHEAD) else {
        return Ok(Vec::new());
    };
    Ok(vec![Finding::error(
        "clock",
        "",
        format!(
            "the newest audit event is of {}, and the clock says {}: it was set back, or another \
             server's is ahead",
            event.at.whole_seconds(),
            ground.now.whole_seconds()
        ),
        "set the clock by NTP (`timedatectl set-ntp true`)",
    )])
}
