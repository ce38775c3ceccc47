//! The first page: certificates, where each was seen served, and the last events.

use super::{
    Page, Reader, assets,
    moment::{Moment, Part, sentence},
    signin::SignedIn,
};
use crate::{
    api::Problem,
    app::{
        App,
        views::{CertificateView, Counts, Deployed, Event, Overview},
    },
    clock::Time,
    domain::{DeploymentState, Status},
};
use askama::Template;
use axum::{
    extract::{Query, State},
    response::IntoResponse,
};
use serde::Deserialize;
use std::{path::Path, sync::Arc};

/// Certificates on the page.
const CERTIFICATES: usize = 100;
/// Events on the page.
const EVENTS: usize = 20;

/// What the page's address says.
#[derive(Deserialize)]
pub struct View {
    /// `off`: the page stands still.
    live: Option<String>,
}

#[derive(Template)]
#[template(path = "certificates.html")]
struct Whole<'a> {
    who: &'a Reader,
    board: Board<'a>,
}

impl Whole<'_> {
    fn page(&self) -> &'static str {
        "certificates"
    }
}

/// What is refreshed.
#[derive(Template)]
#[template(path = "board.html")]
struct Board<'a> {
    live: bool,
    now: Moment,
    clock: String,
    socket: &'a Path,
    /// How many certificates there are, and what is true of how many.
    counts: Vec<(u64, Badge)>,
    more: bool,
    certificates: Option<Vec<Row<'a>>>,
    events: Option<Vec<Entry<'a>>>,
}

/// A state in words, with the icon and the tone that go with it.
#[derive(Debug, Clone, Copy)]
pub struct Badge {
    pub word: &'static str,
    pub icon: &'static str,
    pub tone: &'static str,
}

const IN_ALL: Badge = Badge {
    word: "in all",
    icon: "box",
    tone: "calm",
};

const DEPLOYMENT_FAILED: Badge = Badge {
    word: "failed on a target",
    icon: "cross",
    tone: "bad",
};

const CHANGED: Badge = Badge {
    word: "not as deployed",
    icon: "cross",
    tone: "bad",
};

struct Row<'a> {
    view: &'a CertificateView,
    names: Vec<String>,
    badge: Badge,
    expires: Option<Moment>,
    next: Vec<Part>,
    targets: Vec<Place<'a>>,
}

/// A target, and whether the certificate was seen there.
pub struct Place<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub badge: Badge,
    pub at: Option<Moment>,
    pub detail: String,
}

struct Entry<'a> {
    number: u64,
    at: Moment,
    actor: &'a str,
    action: String,
    resource: String,
    details: Vec<(String, &'a str)>,
}

/// `GET /certificates`
pub async fn page(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
    Query(view): Query<View>,
) -> Result<impl IntoResponse, Problem> {
    let overview = app.overview(&who, CERTIFICATES, EVENTS).await?;
    Ok(Page(Whole {
        who: &who,
        board: board(&app, &overview, view.live.as_deref() != Some("off")),
    })
    .into_response())
}

/// `GET /certificates/fragment`
pub async fn fragment(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
) -> Result<impl IntoResponse, Problem> {
    let overview = app.overview(&who, CERTIFICATES, EVENTS).await?;
    Ok(Page(board(&app, &overview, true)).into_response())
}

fn board<'a>(app: &'a App, overview: &'a Overview, live: bool) -> Board<'a> {
    let now = overview.now;
    let shown = overview.certificates.as_deref();
    let counts = overview.counts.as_ref().map_or(Vec::new(), tally);
    let moment = Moment::new(now, now);
    Board {
        live,
        clock: moment.machine.get(11..19).unwrap_or_default().to_owned(),
        now: moment,
        socket: &app.config.socket,
        counts,
        more: overview.more,
        certificates: shown.map(|list| list.iter().map(|c| row(c, now)).collect()),
        events: overview
            .events
            .as_deref()
            .map(|list| list.iter().map(|e| entry(e, now)).collect()),
    }
}

fn row(view: &CertificateView, now: Time) -> Row<'_> {
    let names = view.certificate.sans.iter().map(ToString::to_string);
    Row {
        view,
        names: names.filter(|n| *n != view.certificate.name).collect(),
        badge: badge(view.status),
        expires: view.expires_at.map(|at| Moment::new(at, now)),
        next: sentence(&view.next, now),
        targets: view
            .deployed
            .iter()
            .map(|d| place(d, view.problem.as_deref(), now))
            .collect(),
    }
}

/// The numbers above the table, without those that are 0.
fn tally(counts: &Counts) -> Vec<(u64, Badge)> {
    let mut tally = vec![
        (counts.total, IN_ALL),
        (counts.failed_deployments, DEPLOYMENT_FAILED),
        (counts.changed, CHANGED),
    ];
    tally.extend(counts.by_status.iter().map(|(s, n)| (*n, badge(*s))));
    tally.retain(|(n, _)| *n > 0);
    tally
}

pub fn badge(status: Status) -> Badge {
    let (word, icon, tone) = match status {
        Status::Active => ("Active", "check", "good"),
        Status::Expiring => ("Expiring soon", "clock", "warn"),
        Status::Failed => ("Failed", "cross", "bad"),
        Status::RenewalInProgress => ("Renewing", "turn", "info"),
        Status::Expired => ("Expired", "cross", "bad"),
        Status::Pending => ("Pending", "dots", "info"),
        Status::Archived => ("Archived", "box", "calm"),
        Status::Revoked => ("Revoked", "cross", "calm"),
    };
    Badge { word, icon, tone }
}

/// A target; `problem` is told already.
pub fn place<'a>(deployed: &'a Deployed, problem: Option<&str>, now: Time) -> Place<'a> {
    let state = deployed.deployment.as_ref().map(|d| &d.state);
    let (word, icon, tone) = match state {
        None => ("Waiting", "dots", "calm"),
        Some(DeploymentState::Pending) => ("Pending", "dots", "info"),
        Some(DeploymentState::Confirmed { .. }) if fault(deployed).is_some() => {
            ("Not as deployed", "cross", "bad")
        }
        Some(DeploymentState::Confirmed { .. }) => ("Confirmed", "check", "good"),
        Some(DeploymentState::Failed { .. }) => ("Failed", "cross", "bad"),
        Some(DeploymentState::Superseded { .. }) => ("Superseded", "turn", "calm"),
    };
    let (at, detail) = match state {
        None => (None, "no version yet".into()),
        Some(DeploymentState::Pending) => (None, String::new()),
        Some(DeploymentState::Confirmed { at, endpoints }) => match fault(deployed) {
            Some(fault) if problem.is_some_and(|p| p.ends_with(&fault)) => (None, String::new()),
            Some(fault) => (None, fault),
            None => (Some(*at), endpoints.join(", ")),
        },
        Some(DeploymentState::Superseded { at }) => (Some(*at), String::new()),
        Some(DeploymentState::Failed {
            at,
            reason,
            served,
            broken,
            retry_at,
        }) => {
            let mut says = Vec::new();
            if !problem.is_some_and(|p| p.ends_with(reason.as_str())) {
                says.push(reason.clone());
            }
            for (endpoint, serial) in served {
                says.push(format!("{endpoint} serves serial {serial}"));
            }
            if *broken {
                says.push("what was there before is not back".into());
            }
            says.push(format!(
                "tried again {}",
                Moment::new(*retry_at, now).relative
            ));
            (Some(*at), says.join("; "))
        }
    };
    Place {
        name: &deployed.target.name,
        kind: &deployed.target.kind,
        badge: Badge { word, icon, tone },
        at: at.map(|at| Moment::new(at, now)),
        detail,
    }
}

fn fault(deployed: &Deployed) -> Option<String> {
    deployed.observed.as_ref()?.fault()
}

fn entry(event: &Event, now: Time) -> Entry<'_> {
    let Event { number, event } = event;
    let details = event.details.iter();
    Entry {
        number: *number,
        at: Moment::new(event.at, now),
        actor: &event.actor,
        action: event.action.replace('_', " "),
        resource: format!(
            "{} {}",
            event.resource_type.replace('_', " "),
            event.resource_id
        ),
        details: details
            .map(|(k, v)| (k.replace('_', " "), v.as_str()))
            .collect(),
    }
}
