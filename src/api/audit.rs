//! `/audit`.

use super::{
    Problem,
    extract::Caller,
    pages::{Pages, given, moment},
    shapes::{ChainShape, EventShape, List},
};
use crate::{
    app::{App, Chained, EventExport, EventFilter},
    clock::Time,
    domain::Category,
};
use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Events in an export where nothing is said.
const EXPORTED: usize = 50_000;
/// Events in an export at most.
const MOST_EXPORTED: usize = 100_000;

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
pub struct EventQuery {
    /// Those of this part: `cert_lifecycle`, `auth` or `config`.
    category: Option<String>,
    /// Not before this moment.
    since: Option<String>,
    /// Not after this moment.
    until: Option<String>,
    /// Those of this actor.
    actor: Option<String>,
    /// Those of this action.
    action: Option<String>,
    /// Those on this kind of thing.
    resource_type: Option<String>,
    /// Those on this thing.
    resource_id: Option<String>,
}

/// Events, newest first.
#[utoipa::path(
    get,
    path = "/audit",
    params(EventQuery, Pages),
    responses((status = 200, body = List<EventShape>)),
    security(("key" = ["audit.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(query): Query<EventQuery>,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let place = pages.place();
    let before = match place.cursor {
        Some(cursor) => number_of(cursor).ok_or_else(|| {
            let message = "it is none of this list: leave it out to begin anew";
            Problem::bad("cursor", message)
        })?,
        None => u64::MAX,
    };
    let text = |text: &Option<String>| given(text.as_deref()).map(str::to_owned);
    let filter = EventFilter {
        category: category(query.category.as_deref())?,
        since: moment("since", query.since.as_deref())?,
        until: moment("until", query.until.as_deref())?,
        actor: text(&query.actor),
        action: text(&query.action),
        resource_type: text(&query.resource_type),
        resource_id: text(&query.resource_id),
    };
    let found = app.list_events(&who, &filter, before, place.skip, place.limit);
    let found = found.await?;
    let data = found.events.iter().map(EventShape::from).collect();
    let next = found.next.map(|number| format!("audit-{number}"));
    Ok(pages.answer(place.list(data, found.total, next)))
}

/// One event.
#[utoipa::path(
    get,
    path = "/audit/{id}",
    responses((status = 200, body = EventShape)),
    security(("key" = ["audit.read"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<EventShape>, Problem> {
    let number = number_of(&id).ok_or_else(|| {
        let id: String = id.chars().take(64).collect();
        Problem::new(StatusCode::NOT_FOUND, format!("there is no event {id:?}"))
    })?;
    let event = app.event(&who, number).await?;
    Ok(Json(EventShape::from(&event)))
}

/// Which events are exported.
#[derive(Debug, Deserialize, IntoParams)]
pub struct AuditExportQuery {
    /// From this moment on; needed.
    from: Option<String>,
    /// Up to this moment, 90 days later at most; needed.
    to: Option<String>,
    /// Those of this part: `cert_lifecycle`, `auth` or `config`.
    category: Option<String>,
    /// 1 to 100000; 50000 when absent.
    limit: Option<String>,
}

/// Events of a time, oldest first, a line of JSON each.
#[utoipa::path(
    get,
    path = "/audit/export",
    params(AuditExportQuery),
    responses((status = 200, body = String, content_type = "application/x-ndjson")),
    security(("key" = ["audit.export"])),
)]
pub async fn export(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(query): Query<AuditExportQuery>,
) -> Result<Response, Problem> {
    let needed = |field, text: Option<String>| {
        let needed = || Problem::bad(field, "it is needed: a time such as 2026-01-31T12:00:00Z");
        moment(field, text.as_deref())?.ok_or_else(needed)
    };
    let (from, to) = (needed("from", query.from)?, needed("to", query.to)?);
    let limit = match given(query.limit.as_deref()) {
        None => EXPORTED,
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| (1..=MOST_EXPORTED).contains(n))
            .ok_or_else(|| Problem::bad("limit", format!("1 to {MOST_EXPORTED} is accepted")))?,
    };
    let category = category(query.category.as_deref())?;
    let export = app.export_events(&who, (from, to), category, limit).await?;
    let day = |t: Time| t.to_string().chars().take(10).collect::<String>();
    let name = format!("certctl-audit-{}_to_{}.ndjson", day(from), day(to));
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    let lines = stream::try_unfold((app, export), next_lines);
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// The next lines of an export. One that fails ends the connection, so that nobody takes what came
/// for the whole.
async fn next_lines(
    (app, mut export): (Arc<App>, EventExport),
) -> Result<Option<(Bytes, (Arc<App>, EventExport))>, std::io::Error> {
    let failed = |e: &dyn std::fmt::Display| {
        tracing::error!(error = %e, "an export of the audit log was cut");
        std::io::Error::other("the export was cut")
    };
    let events = app.exported_events(&mut export).await;
    let events = events.map_err(|e| failed(&e))?;
    if events.is_empty() {
        return Ok(None);
    }
    let mut lines = Vec::new();
    for event in &events {
        serde_json::to_writer(&mut lines, &EventShape::from(event)).map_err(|e| failed(&e))?;
        lines.push(b'\n');
    }
    Ok(Some((lines.into(), (app, export))))
}

/// Follows the links of the log.
#[utoipa::path(
    post,
    path = "/audit/verify",
    responses((status = 200, body = ChainShape)),
    security(("key" = ["audit.export"])),
)]
pub async fn verify(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
) -> Result<Json<ChainShape>, Problem> {
    let chained = app.verify_events(&who).await?;
    Ok(Json(match chained {
        Chained::Whole(entries) => ChainShape {
            intact: true,
            entries: Some(entries),
            first_fault: None,
        },
        Chained::BrokenAt(number) => ChainShape {
            intact: false,
            entries: None,
            first_fault: Some(format!("audit-{number}")),
        },
    }))
}

fn number_of(id: &str) -> Option<u64> {
    id.strip_prefix("audit-")?.parse().ok()
}

fn category(word: Option<&str>) -> Result<Option<Category>, Problem> {
    let parsed = given(word).map(|word| {
        Category::of_word(word).ok_or_else(|| {
            let words = Category::ALL.map(Category::as_str).join(", ");
            Problem::bad("category", format!("{word:?} is none of {words}"))
        })
    });
    parsed.transpose()
}
