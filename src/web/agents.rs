//! Agents: how they are, and what hangs on each.

use super::{Page, Reader, assets, certificates::Badge, moment::Moment, signin::SignedIn};
use crate::{
    api::Problem,
    app::{AgentDetail, AgentFilter, AgentView, App},
    clock::Time,
    domain::{AgentStatus, Job, Skew},
    id::Id,
};
use askama::Template;
use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::IntoResponse,
};
use serde::Deserialize;
use std::sync::Arc;

/// Agents on a page.
const AGENTS: usize = 100;
/// The word for those that are retired, beside those of [`AgentStatus`].
const RETIRED: &str = "Retired";

/// What the list's address says.
#[derive(Deserialize)]
pub struct Wish {
    status: Option<String>,
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "agents.html")]
struct Whole<'a> {
    who: &'a Reader,
    now: Moment,
    clock: String,
    /// The choices of the list: word, address, whether it is the present one.
    choices: Vec<(&'static str, String, bool)>,
    /// The choice is all that are not retired, and there are none.
    none_yet: bool,
    total: Option<u64>,
    agents: Vec<Row<'a>>,
    /// The address of the next page.
    next: Option<String>,
}

impl Whole<'_> {
    fn page(&self) -> &'static str {
        "agents"
    }
}

struct Row<'a> {
    view: &'a AgentView,
    badge: Badge,
    heard: Option<Moment>,
    skew: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "agent.html")]
struct One<'a> {
    who: &'a Reader,
    now: Moment,
    clock: String,
    detail: &'a AgentDetail,
    row: Row<'a>,
    enrolled: Moment,
    credential: Moment,
    retired: Option<(Moment, &'a str)>,
    clock_ahead: String,
    jobs: Vec<Doing<'a>>,
}

impl One<'_> {
    fn page(&self) -> &'static str {
        "agents"
    }
}

struct Doing<'a> {
    job: &'a Job,
    badge: Badge,
    made: Moment,
}

/// `GET /agents`
pub async fn page(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
    Query(wish): Query<Wish>,
) -> Result<impl IntoResponse, Problem> {
    let word = wish.status.as_deref().unwrap_or_default();
    let retired = word.eq_ignore_ascii_case(RETIRED);
    let status = match word {
        "" => None,
        _ if retired => None,
        word => Some(AgentStatus::of_word(word).ok_or_else(|| {
            Problem::new(StatusCode::BAD_REQUEST, "status: there is no such status")
        })?),
    };
    let filter = AgentFilter {
        status,
        retired,
        ..AgentFilter::default()
    };
    let cursor = wish.cursor.as_deref().filter(|text| !text.is_empty());
    let listed = app.agents(&who, &filter, cursor, 0, AGENTS).await?;
    let now = app.now();
    let (moment, clock) = present(now);
    let present = status.map_or(if retired { RETIRED } else { "All" }, AgentStatus::as_str);
    let words = ["All"]
        .into_iter()
        .chain(AgentStatus::ALL.map(AgentStatus::as_str))
        .chain([RETIRED]);
    Ok(Page(Whole {
        who: &who,
        now: moment,
        clock,
        choices: words
            .map(|word| (word, address(word, None), word == present))
            .collect(),
        none_yet: filter == AgentFilter::default() && cursor.is_none() && listed.rows.is_empty(),
        total: listed.total,
        agents: listed.rows.iter().map(|view| row(view, now)).collect(),
        next: listed.next.map(|next| address(present, Some(&next))),
    })
    .into_response())
}

/// `GET /agents/{id}`
pub async fn one(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let id: Id = id
        .parse()
        .map_err(|_| Problem::new(StatusCode::NOT_FOUND, "there is no such agent"))?;
    let detail = app.agent(&who, &id).await?;
    let now = app.now();
    let (moment, clock) = present(now);
    let agent = &detail.view.agent;
    Ok(Page(One {
        who: &who,
        now: moment,
        clock,
        row: row(&detail.view, now),
        enrolled: Moment::new(agent.enrolled_at, now),
        credential: Moment::new(agent.secret_since(), now),
        retired: agent
            .retired
            .as_ref()
            .map(|r| (Moment::new(r.at, now), r.reason.as_str())),
        clock_ahead: ahead(detail.view.said.clock_ahead_ms),
        jobs: detail.jobs.iter().map(|job| doing(job, now)).collect(),
        detail: &detail,
    })
    .into_response())
}

/// Now, and its time of day.
fn present(now: Time) -> (Moment, String) {
    let moment = Moment::new(now, now);
    let clock = moment.machine.get(11..19).unwrap_or_default().to_owned();
    (moment, clock)
}

/// The list's address for a choice, from a cursor on.
fn address(word: &str, cursor: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if word != "All" {
        query.append_pair("status", &word.to_lowercase());
    }
    if let Some(cursor) = cursor {
        query.append_pair("cursor", cursor);
    }
    match query.finish() {
        query if query.is_empty() => "/agents".into(),
        query => format!("/agents?{query}"),
    }
}

fn row(view: &AgentView, now: Time) -> Row<'_> {
    Row {
        badge: badge(view),
        heard: view.heard_at.map(|at| Moment::new(at, now)),
        skew: match view.skew {
            Skew::Same | Skew::Unknown => None,
            Skew::Older { .. } => Some("older than the server"),
            Skew::Newer { .. } => Some("newer than the server"),
        },
        view,
    }
}

fn badge(view: &AgentView) -> Badge {
    let (word, icon, tone) = match view.status {
        _ if view.agent.retired.is_some() => ("Retired", "box", "calm"),
        AgentStatus::Online => ("Online", "check", "good"),
        AgentStatus::Degraded => ("Degraded", "clock", "warn"),
        AgentStatus::Offline => ("Offline", "cross", "bad"),
    };
    Badge { word, icon, tone }
}

fn doing(job: &Job, now: Time) -> Doing<'_> {
    let (word, icon, tone) = match job.lease() {
        Some(_) if job.is_stopping() => ("Stopping", "turn", "warn"),
        Some(_) => ("Running", "turn", "info"),
        None => ("Pending", "dots", "calm"),
    };
    Doing {
        job,
        badge: Badge { word, icon, tone },
        made: Moment::new(job.created_at, now),
    }
}

fn ahead(ms: Option<i64>) -> String {
    match ms {
        None => "not told yet".into(),
        Some(ms) if ms.unsigned_abs() < 1_000 => "as the server's".into(),
        Some(ms) => {
            let side = if ms > 0 { "ahead of" } else { "behind" };
            format!("{} s {side} the server's", ms.unsigned_abs() / 1_000)
        }
    }
}
