//! `/issuers`.

use super::{
    Problem,
    conditional::{IfMatch, Versioned},
    extract::{Caller, Edit, New, id_in_path, optional_id},
    pages::Pages,
    shapes::{IssuerChange, IssuerNew, IssuerShape, List, StatusShape},
};
use crate::app::{App, ImportedCa, IssuerEdit, NewCa};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use secrecy::SecretString;
use std::sync::Arc;

/// How long a root lasts that is made, in days, where nothing is said.
const ROOT_DAYS: u32 = 3_650;
/// How long an issuing CA lasts that is made, in days, where nothing is said.
const ISSUING_DAYS: u32 = 1_825;
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
    pages.of(&rows, |i| IssuerShape::from(i))
}

/// Makes a CA, or brings in one that was made elsewhere.
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
    local(&new.kind)?;
    let config = &new.config;
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
    let issuer = if config.ca_cert_pem.is_empty() && config.ca_key_pem.is_empty() {
        app.create_issuer(&who, &to_make(new)?, once.as_ref())
            .await?
    } else {
        app.import_issuer(&who, &to_import(new)?, once.as_ref())
            .await?
    };
    Ok((StatusCode::CREATED, Json(IssuerShape::from(&issuer))).into_response())
}

fn to_make(new: IssuerNew) -> Result<NewCa, Problem> {
    let config = new.config;
    let algorithm = config.key_algorithm.as_deref().filter(|a| !a.is_empty());
    let algorithm = algorithm.unwrap_or("ECDSA-P256").parse();
    Ok(NewCa {
        id: optional_id("id", new.id.as_ref())?,
        name: new.name,
        common_name: config.ca_common_name.filter(|name| !name.is_empty()),
        key_algorithm: algorithm.map_err(|e| Problem::bad("config.key_algorithm", e))?,
        root_days: config.root_validity_days.unwrap_or(ROOT_DAYS),
        issuing_days: config.validity_days.unwrap_or(ISSUING_DAYS),
        permitted: config.permitted_names,
        excluded: config.excluded_names,
    })
}

fn to_import(new: IssuerNew) -> Result<ImportedCa, Problem> {
    let config = new.config;
    Ok(ImportedCa {
        id: optional_id("id", new.id.as_ref())?,
        name: new.name,
        chain_pem: config.ca_cert_pem,
        key_pem: SecretString::from(config.ca_key_pem),
        passphrase: config.ca_key_passphrase.map(SecretString::from),
    })
}

fn local(kind: &str) -> Result<(), Problem> {
    if LOCAL.iter().any(|name| name.eq_ignore_ascii_case(kind)) {
        return Ok(());
    }
    let message = format!("{kind:?} is no type of issuer here: GenericCA is");
    Err(Problem::bad("type", message))
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
) -> Result<Versioned<IssuerShape>, Problem> {
    let id = id_in_path("issuer", &id)?;
    let issuer = app.issuer(&who, &id).await?;
    Ok(Versioned::new(
        issuer.issuer.version(),
        IssuerShape::from(&issuer),
    ))
}

/// Renames an issuer, or switches it on or off.
#[utoipa::path(
    put,
    path = "/issuers/{id}",
    request_body = IssuerChange,
    responses((status = 200, body = IssuerShape), (status = 412)),
    security(("key" = ["issuer.edit"])),
)]
pub async fn edit(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Edit(change): Edit<IssuerChange>,
) -> Result<Versioned<IssuerShape>, Problem> {
    let id = id_in_path("issuer", &id)?;
    if let Some(kind) = &change.kind {
        local(kind)?;
    }
    if let Some(config) = change.config.filter(|config| !config.is_empty()) {
        let shown = IssuerShape::from(&app.issuer(&who, &id).await?).config;
        let shown = serde_json::to_value(shown).unwrap_or_default();
        if let Some((name, _)) = config.iter().find(|(name, value)| shown[*name] != **value) {
            let message = "the CA of an issuer does not change: make or import another issuer, and \
                           give certificates that one";
            return Err(Problem::bad(&format!("config.{name}"), message));
        }
    }
    let edit = IssuerEdit {
        name: change.name,
        enabled: change.enabled,
    };
    let issuer = app.edit_issuer(&who, &id, &expected, &edit).await?;
    Ok(Versioned::new(
        issuer.issuer.version(),
        IssuerShape::from(&issuer),
    ))
}

/// Deletes an issuer that nothing rests on.
#[utoipa::path(
    delete,
    path = "/issuers/{id}",
    responses((status = 204, description = "Deleted"), (status = 412)),
    security(("key" = ["issuer.delete"])),
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("issuer", &id)?;
    app.delete_issuer(&who, &id, &expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sees whether an issuer can issue.
#[utoipa::path(
    post,
    path = "/issuers/{id}/test",
    responses((status = 200, body = StatusShape), (status = 502)),
    security(("key" = ["issuer.edit"])),
)]
pub async fn test(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<StatusShape>, Problem> {
    let id = id_in_path("issuer", &id)?;
    app.test_issuer(&who, &id).await?;
    Ok(Json(StatusShape::new("connection_successful")))
}
