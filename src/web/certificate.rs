//! A certificate's page: its state, and what is served where, now.

use super::{
    Page, assets,
    certificates::{Badge, badge},
    moment::{Moment, Part, sentence},
    signin::SignedIn,
};
use crate::{
    api::Problem,
    app::{App, ServedAt, ServedNow, ServedState, views::CertificateView},
    clock::Time,
    domain::Principal,
    id::Id,
};
use askama::Template;
use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect},
};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "certificate.html")]
struct Whole<'a> {
    who: &'a Principal,
    view: &'a CertificateView,
    names: String,
    badge: Badge,
    expires: Option<Moment>,
    next: Vec<Part>,
    places: Vec<Place<'a>>,
    /// The agents were just asked; whether all have answered.
    checked: Option<bool>,
}

/// One row of what is served.
struct Place<'a> {
    at: &'a ServedAt,
    badge: Badge,
    since: Option<Moment>,
    seen: Option<Moment>,
}

/// What the page's address says.
#[derive(Deserialize)]
pub struct View {
    /// `all` or `some` of the agents have just looked.
    checked: Option<String>,
}

/// `GET /certificates/{id}`
pub async fn page(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
    Path(id): Path<String>,
    Query(view): Query<View>,
) -> Result<impl IntoResponse, Problem> {
    let id = named(&id)?;
    let checked = view.checked.map(|word| word == "all");
    let (view, served) = (app.view(&who, &id).await?, app.served(&who, &id).await?);
    let now = app.now();
    let sans = view.certificate.sans.iter().map(ToString::to_string);
    Ok(Page(Whole {
        who: &who,
        names: sans.collect::<Vec<_>>().join(", "),
        badge: badge(view.status),
        expires: view.expires_at.map(|at| Moment::new(at, now)),
        next: sentence(&view.next, now),
        places: places(&served, now),
        view: &view,
        checked,
    })
    .into_response())
}

/// `POST /certificates/{id}/check`
pub async fn check(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
    Path(id): Path<String>,
) -> Result<Redirect, Problem> {
    let id = named(&id)?;
    let served = app.check_served(&who, &id).await?;
    let seen = if served.fresh { "all" } else { "some" };
    Ok(Redirect::to(&format!("/certificates/{id}?checked={seen}")))
}

fn named(id: &str) -> Result<Id, Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "there is no such certificate");
    id.parse().map_err(|_| missing())
}

fn places(served: &ServedNow, now: Time) -> Vec<Place<'_>> {
    let places = served.places.iter().map(|at| {
        let (word, icon, tone) = match at.state {
            ServedState::ThisVersion => ("Current version", "check", "good"),
            ServedState::Changed => ("Not as deployed", "cross", "bad"),
            ServedState::OtherVersion => ("Another version", "turn", "warn"),
            ServedState::OtherCertificate => ("Another certificate", "cross", "bad"),
            ServedState::Nothing => ("Nothing answers", "cross", "bad"),
            ServedState::NotSeen => ("Not seen yet", "dots", "calm"),
        };
        Place {
            at,
            badge: Badge { word, icon, tone },
            since: at.since.map(|t| Moment::new(t, now)),
            seen: at.seen_at.map(|t| Moment::new(t, now)),
        }
    });
    places.collect()
}
