//! `/issuers`.

use super::{
    Problem,
    extract::{Caller, New, id_in_path, optional_id},
    pages::Pages,
    shapes::{IssuerNew, IssuerShape, List},
};
use crate::app::{App, NewIssuer};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use secrecy::SecretString;
use std::sync::Arc;

/// The names of a CA in this process.
const LOCAL: [&str; 3] = ["GenericCA", "local", "local_ca"];

/// Every issuer, by name.
#[utoipa::path(
    get,
    path = "/issuers",
    params(Pages),
    responses((status = 200, body = List<IssuerShape>)),
    security(("key" = ["issuer.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let rows = app.issuers(&who).await?;
    Ok(pages.of(&rows, |i| IssuerShape::from(i)))
}

/// Brings in a CA that was made elsewhere.
#[utoipa::path(
    post,
    path = "/issuers",
    request_body = IssuerNew,
    responses((status = 201, body = IssuerShape)),
    security(("key" = ["issuer.edit"])),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    New(new, once): New<IssuerNew>,
) -> Result<Response, Problem> {
    if !LOCAL
        .iter()
        .any(|name| name.eq_ignore_ascii_case(&new.kind))
    {
        let message = format!("{:?} is no type of issuer here: GenericCA is", new.kind);
        return Err(Problem::bad("type", message));
    }
    let config = new.config;
    for (field, path) in [
        ("config.ca_cert_path", &config.ca_cert_path),
        ("config.ca_key_path", &config.ca_key_path),
    ] {
        if path.is_some() {
            let message = "files of the server are not read by this call: send their content in \
                           ca_cert_pem and ca_key_pem";
            return Err(Problem::bad(field, message));
        }
    }
    let new = NewIssuer {
        id: optional_id("id", new.id.as_ref())?,
        name: new.name,
        chain_pem: config.ca_cert_pem,
        key_pem: SecretString::from(config.ca_key_pem),
        passphrase: config.ca_key_passphrase.map(SecretString::from),
    };
    let issuer = app.import_issuer(&who, &new, once.as_ref()).await?;
    Ok((StatusCode::CREATED, Json(IssuerShape::from(&issuer))).into_response())
}

/// One issuer.
#[utoipa::path(
    get,
    path = "/issuers/{id}",
    responses((status = 200, body = IssuerShape)),
    security(("key" = ["issuer.read"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<IssuerShape>, Problem> {
    let id = id_in_path("issuer", &id)?;
    let issuer = app.issuer(&who, &id).await?;
    Ok(Json(IssuerShape::from(&issuer)))
}
