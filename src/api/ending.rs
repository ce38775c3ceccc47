//! Revoking, archiving and exporting certificates.

use super::{
    Problem,
    extract::{Caller, OptionalBody, id_in_path},
    shapes::{ExportShape, RevokeWish, StatusShape},
};
use crate::app::App;
use axum::{
    Json,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::sync::Arc;
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
    responses((status = 204, description = "Archived")),
    security(("key" = ["cert.delete"])),
)]
pub async fn archive(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("certificate", &id)?;
    app.archive(&who, &id).await?;
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
    responses((status = 200, content((ExportShape = "application/json"), (String = "application/x-pem-file")))),
    security(("key" = ["cert.read"])),
)]
pub async fn export_pem(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Problem> {
    let id = id_in_path("certificate", &id)?;
    let export = app.export(&who, &id).await?;
    let full_pem = format!("{}{}", export.leaf, export.chain);
    if query.download.as_deref() == Some("true") {
        let headers = [
            (header::CONTENT_TYPE, "application/x-pem-file"),
            (
                header::CONTENT_DISPOSITION,
                "attachment; filename=\"certificate.pem\"",
            ),
        ];
        return Ok((headers, full_pem).into_response());
    }
    Ok(Json(ExportShape {
        cert_pem: export.leaf,
        chain_pem: export.chain,
        full_pem,
    })
    .into_response())
}
