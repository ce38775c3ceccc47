//! What is served where, on a certificate's page.

use super::{certificate::certificate_id, certificates::Badge, moment::Moment, signin::SignedIn};
use crate::{
    api::Problem,
    app::{App, ServedAt, ServedNow, ServedState},
    clock::Time,
};
use axum::{
    extract::{Path, State},
    response::Redirect,
};
use std::sync::Arc;

/// One row of what is served.
pub struct Row<'a> {
    pub at: &'a ServedAt,
    pub badge: Badge,
    pub since: Option<Moment>,
    pub seen: Option<Moment>,
}

/// `POST /certificates/{id}/check`
pub async fn check(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
    Path(id): Path<String>,
) -> Result<Redirect, Problem> {
    let id = certificate_id(&id)?;
    let served = app.check_served(&who, &id).await?;
    let seen = if served.fresh { "all" } else { "some" };
    Ok(Redirect::to(&format!(
        "/certificates/{id}?checked={seen}#served"
    )))
}

/// The rows.
pub fn rows(served: &ServedNow, now: Time) -> Vec<Row<'_>> {
    let places = served.places.iter().map(|at| {
        let (word, icon, tone) = match at.state {
            ServedState::ThisVersion => ("Current version", "check", "good"),
            ServedState::Changed => ("Not as deployed", "cross", "bad"),
            ServedState::Revoked => ("Revoked, still served", "cross", "bad"),
            ServedState::OtherVersion => ("Another version", "turn", "warn"),
            ServedState::OtherCertificate => ("Another certificate", "cross", "bad"),
            ServedState::Nothing => ("Nothing answers", "cross", "bad"),
            ServedState::NotSeen => ("Not seen yet", "dots", "calm"),
        };
        Row {
            at,
            badge: Badge { word, icon, tone },
            since: at.since.map(|t| Moment::new(t, now)),
            seen: at.seen_at.map(|t| Moment::new(t, now)),
        }
    });
    places.collect()
}
