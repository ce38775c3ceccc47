//! The page that asks before a certificate is revoked or archived.

use super::{Page, Reader, assets, certificate::certificate_id, may, signin::SignedIn};
use crate::{
    access::Permission,
    api::Problem,
    app::{App, Expected},
    domain::Certificate,
};
use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
    response::{IntoResponse, Redirect},
};
use serde::Deserialize;
use std::sync::Arc;

/// The reasons for a revocation, as people say them.
const REASONS: [(&str, &str); 8] = [
    ("unspecified", "No reason given"),
    (
        "keyCompromise",
        "The private key was, or may have been, seen by others",
    ),
    (
        "caCompromise",
        "The CA's key was, or may have been, seen by others",
    ),
    (
        "affiliationChanged",
        "The names belong to somebody else now",
    ),
    ("superseded", "Another certificate took its place"),
    ("cessationOfOperation", "The service is no longer run"),
    ("certificateHold", "On hold"),
    ("privilegeWithdrawn", "A right it stands for was withdrawn"),
];

#[derive(Template)]
#[template(path = "end.html")]
struct Whole<'a> {
    who: &'a Reader,
    certificate: &'a Certificate,
    ended: Option<&'static str>,
    may_revoke: bool,
    may_archive: bool,
    reasons: [(&'static str, &'static str); 8],
}

impl Whole<'_> {
    fn page(&self) -> &'static str {
        "certificate"
    }
}

/// `GET /certificates/{id}/end`
pub async fn page(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let certificate = app.certificate(&who, &certificate_id(&id)?).await?;
    Ok(Page(Whole {
        ended: certificate.ended(),
        may_revoke: may(&who, Permission::CertRevoke),
        may_archive: may(&who, Permission::CertDelete),
        who: &who,
        certificate: &certificate,
        reasons: REASONS,
    })
    .into_response())
}

/// Why a certificate is revoked.
#[derive(Deserialize)]
pub struct Wish {
    reason: String,
}

/// `POST /certificates/{id}/revoke`
pub async fn revoke(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
    Path(id): Path<String>,
    Form(wish): Form<Wish>,
) -> Result<impl IntoResponse, Problem> {
    let id = certificate_id(&id)?;
    let reason = wish.reason.parse().map_err(|e| Problem::bad("reason", e))?;
    app.revoke(&who, &id, reason).await?;
    Ok(Redirect::to(&format!("/certificates/{id}")))
}

/// `POST /certificates/{id}/archive`
pub async fn archive(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let id = certificate_id(&id)?;
    app.archive(&who, &id, &Expected::ANY).await?;
    Ok(Redirect::to(&format!("/certificates/{id}")))
}
