//! The first page: certificates, where each was seen served, and the last events.

use super::{
    Page, assets,
    moment::{Moment, Part, sentence},
    signin::SignedIn,
};
use crate::{
    api::Problem,
    app::{
        App,
        views::{CertificateView, Deployed, Event, Overview},
    },
    clock::Time,
    domain::{DeploymentState, Principal, Status},
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
    who: &'a Principal,
    board: Board<'a>,
}

/// What is refreshed.
#[derive(Template)]
#[template(path = "board.html")]
struct Board<'a> {
    live: bool,
    now: Moment,
    clock: String,
    socket: &'a Path,
    counts: Vec<(usize, Badge)>,
    more: bool,
    certificates: Option<Vec<Row<'a>>>,
    events: Option<Vec<Entry<'a>>>,
}

/// A state in words, with the icon and the tone that go with it.
#[derive(Debug, Clone, Copy)]
struct Badge {
    word: &'static str,
    icon: &'static str,
    tone: &'static str,
}

struct Row<'a> {
    view: &'a CertificateView,
    names: Vec<String>,
    badge: Badge,
    expires: Option<Moment>,
    next: Vec<Part>,
    targets: Vec<Place<'a>>,
}

/// A target, and whether the certificate was seen there.
struct Place<'a> {
    name: &'a str,
    kind: &'a str,
    badge: Badge,
    at: Option<Moment>,
    detail: String,
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
    let counts = Status::ALL.iter().filter_map(|status| {
        let n = shown?.iter().filter(|c| c.status == *status).count();
        (n > 0).then(|| (n, badge(*status)))
    });
    let moment = Moment::new(now, now);
    Board {
        live,
        clock: moment.machine.get(11..19).unwrap_or_default().to_owned(),
        now: moment,
        socket: &app.config.socket,
        counts: counts.collect(),
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
        targets: view.deployed.iter().map(|d| place(d, now)).collect(),
    }
}

fn badge(status: Status) -> Badge {
    let (word, icon, tone) = match status {
        Status::Active => ("Active", "check", "good"),
        Status::Expiring => ("Expiring soon", "clock", "warn"),
        Status::Failed => ("Failed", "cross", "bad"),
        Status::RenewalInProgress => ("Renewing", "turn", "info"),
        Status::Expired => ("Expired", "cross", "bad"),
        Status::Pending => ("Pending", "dots", "info"),
        Status::Archived => ("Archived", "box", "calm"),
    };
    Badge { word, icon, tone }
}

fn place(deployed: &Deployed, now: Time) -> Place<'_> {
    let state = deployed.deployment.as_ref().map(|d| &d.state);
    let (word, icon, tone) = match state {
        None => ("Waiting", "dots", "calm"),
        Some(DeploymentState::Pending) => ("Pending", "dots", "info"),
        Some(DeploymentState::Confirmed { .. }) => ("Confirmed", "check", "good"),
        Some(DeploymentState::Failed { .. }) => ("Failed", "cross", "bad"),
        Some(DeploymentState::Superseded { .. }) => ("Superseded", "turn", "calm"),
    };
    let at = match state {
        Some(
            DeploymentState::Confirmed { at, .. }
            | DeploymentState::Failed { at, .. }
            | DeploymentState::Superseded { at },
        ) => Some(Moment::new(*at, now)),
        _ => None,
    };
    let detail = match state {
        None => "no version yet".into(),
        Some(DeploymentState::Confirmed { endpoints, .. }) => endpoints.join(", "),
        Some(DeploymentState::Failed {
            reason,
            served,
            broken,
            retry_at,
            ..
        }) => {
            let mut text = reason.clone();
            for (endpoint, serial) in served {
                text.push_str(&format!("; {endpoint} serves serial {serial}"));
            }
            if *broken {
                text.push_str("; what was there before is not back");
            }
            let again = Moment::new(*retry_at, now).relative;
            text.push_str(&format!("; tried again {again}"));
            text
        }
        _ => String::new(),
    };
    Place {
        name: &deployed.target.name,
        kind: &deployed.target.kind,
        badge: Badge { word, icon, tone },
        at,
        detail,
    }
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
