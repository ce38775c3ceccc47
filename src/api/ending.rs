//! Revoking, archiving and exporting certificates.

use super::{
    Problem,
    conditional::IfMatch,
    extract::{Caller, OptionalBody, id_in_path},
    shapes::{ExportShape, ExportsSpent, Pkcs12Wish, RevokeWish, StatusShape},
};
use crate::app::{App, AppError};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use secrecy::SecretString;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use utoipa::IntoParams;

/// Revokes every version of a certificate.
#[utoipa::path(
    post,
    path = "/certificates/{id}/revoke",
    request_body = Option<RevokeWish>,
    responses((status = 200, body = StatusShape)),
    security(("key" = ["cert.revoke"])),
)]
pub async fn revoke(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    OptionalBody(wish): OptionalBody<RevokeWish>,
) -> Result<Json<StatusShape>, Problem> {
    let id = id_in_path("certificate", &id)?;
    let word = wish.reason.as_deref().filter(|word| !word.is_empty());
    let reason = word.unwrap_or("unspecified").parse();
    let reason = reason.map_err(|e| Problem::bad("reason", e))?;
    app.revoke(&who, &id, reason).await?;
    Ok(Json(StatusShape::new("revoked")))
}

/// Puts a certificate away.
#[utoipa::path(
    delete,
    path = "/certificates/{id}",
    responses((status = 204, description = "Archived"), (status = 412)),
    security(("key" = ["cert.delete"])),
)]
pub async fn archive(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("certificate", &id)?;
    app.archive(&who, &id, &expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How an export is answered.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ExportQuery {
    /// `true`: as a file.
    download: Option<String>,
}

/// The newest version, PEM.
#[utoipa::path(
    get,
    path = "/certificates/{id}/export/pem",
    params(ExportQuery),
    responses(
        (status = 200, content((ExportShape = "application/json"), (String = "application/x-pem-file"))),
        (status = 429, body = ExportsSpent),
    ),
    security(("key" = ["cert.read"])),
)]
pub async fn export_pem(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Problem> {
    let id = id_in_path("certificate", &id)?;
    let export = match app.export(&who, &id).await {
        Err(AppError::Limited { retry_in, .. }) => return Ok(limited(retry_in)),
        export => export?,
    };
    let full_pem = format!("{}{}", export.leaf, export.chain);
    if query.download.as_deref() == Some("true") {
        let file = attachment("application/x-pem-file", "certificate.pem");
        return Ok((file, full_pem).into_response());
    }
    Ok(Json(ExportShape {
        cert_pem: export.leaf,
        chain_pem: export.chain,
        full_pem,
    })
    .into_response())
}

/// The newest version, PKCS#12 without a private key: the server has none.
#[utoipa::path(
    post,
    path = "/certificates/{id}/export/pkcs12",
    request_body = Option<Pkcs12Wish>,
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/x-pkcs12"),
        (status = 429, body = ExportsSpent),
    ),
    security(("key" = ["cert.read"])),
)]
pub async fn export_pkcs12(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    OptionalBody(wish): OptionalBody<Pkcs12Wish>,
) -> Result<Response, Problem> {
    let id = id_in_path("certificate", &id)?;
    let password = SecretString::from(wish.password);
    match app.export_pkcs12(&who, &id, &password).await {
        Err(AppError::Limited { retry_in, .. }) => Ok(limited(retry_in)),
        file => {
            let headers = attachment("application/x-pkcs12", "certificate.p12");
            Ok((headers, file?).into_response())
        }
    }
}

fn attachment(kind: &'static str, name: &'static str) -> [(HeaderName, String); 2] {
    [
        (header::CONTENT_TYPE, kind.into()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ]
}

/// The answer to one export too many.
fn limited(retry_in: Duration) -> Response {
    let seconds = retry_in.as_secs().max(1);
    let body = ExportsSpent {
        error: "rate_limit_exceeded".into(),
        retry_after_seconds: seconds,
    };
    let after = [(header::RETRY_AFTER, seconds.to_string())];
    (StatusCode::TOO_MANY_REQUESTS, after, Json(body)).into_response()
}
