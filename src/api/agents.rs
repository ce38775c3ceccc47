//! `/agents`: joining, and an agent's own calls (see [`protocol`](crate::agent::protocol)).

use super::{
    Problem,
    extract::{Body, Caller, id_in_path},
    shapes::{TokenNew, TokenShape},
};
use crate::{
    agent::protocol::{Csr, Enrol, Renew, Renewed, Report, Work},
    app::{App, NewToken},
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, Uri, header, uri::Authority},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// Makes a join token.
pub async fn create_token(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    uri: Uri,
    headers: HeaderMap,
    Body(new): Body<TokenNew>,
) -> Result<Response, Problem> {
    let made = app
        .create_token(
            &who,
            &NewToken {
                name: new.name,
                lifetime: Duration::from_secs(new.expires_in_seconds),
                max_uses: new.max_uses,
                replace: new.replace,
            },
        )
        .await?;
    let host = own_address(&uri, &headers, app.config.listen);
    let command = format!(
        "certctl agent enrol --server https://{host} --token {} --ca-pin {}",
        made.token, made.ca_pin
    );
    let shape = TokenShape {
        id: made.id.to_string(),
        token: made.token,
        expires_at: made.expires_at.to_string(),
        ca_pin: made.ca_pin,
        command,
    };
    Ok((StatusCode::CREATED, Json(shape)).into_response())
}

/// This server as its caller reached it: by `:authority` in HTTP/2, by `Host` in HTTP/1. Through the
/// socket it has no address of its own, and is where it listens.
fn own_address(uri: &Uri, headers: &HeaderMap, listen: SocketAddr) -> String {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let named = uri.authority().map(Authority::as_str).or(host);
    match named.filter(|name| *name != "localhost") {
        Some(name) => name.to_owned(),
        None if listen.ip().is_unspecified() => format!("<this server>:{}", listen.port()),
        None => listen.to_string(),
    }
}

/// Lets an agent in.
pub async fn enrol(
    State(app): State<Arc<App>>,
    Body(wish): Body<Enrol>,
) -> Result<Response, Problem> {
    let enrolled = app.enrol(&wish).await?;
    Ok((StatusCode::CREATED, Json(enrolled)).into_response())
}

/// How long a poll waits, and whether the agent has just started.
#[derive(Debug, Deserialize)]
pub struct Poll {
    #[serde(default)]
    wait: u64,
    #[serde(default)]
    fresh: bool,
}

/// Leases jobs.
pub async fn work(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(Poll { wait, fresh }): Query<Poll>,
) -> Result<Json<Work>, Problem> {
    let id = id_in_path("agent", &id)?;
    if fresh {
        app.end_leases(&who, &id).await?;
    }
    Ok(Json(app.work(&who, &id, Duration::from_secs(wait)).await?))
}

/// Renews a lease.
pub async fn lease(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id, job)): Path<(String, String)>,
    Body(renew): Body<Renew>,
) -> Result<Json<Renewed>, Problem> {
    let (id, job) = (id_in_path("agent", &id)?, id_in_path("job", &job)?);
    let renewed = app
        .renew_lease(&who, &id, &job, token(&renew.token)?)
        .await?;
    Ok(Json(renewed))
}

/// Takes a CSR.
pub async fn csr(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id, job)): Path<(String, String)>,
    Body(csr): Body<Csr>,
) -> Result<Response, Problem> {
    let (id, job) = (id_in_path("agent", &id)?, id_in_path("job", &job)?);
    app.submit_csr(&who, &id, &job, token(&csr.token)?, &csr.csr_pem)
        .await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({"status": "csr_accepted"})),
    )
        .into_response())
}

/// Takes an agent's word on how a job ended.
pub async fn report(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id, job)): Path<(String, String)>,
    Body(report): Body<Report>,
) -> Result<Response, Problem> {
    let (id, job) = (id_in_path("agent", &id)?, id_in_path("job", &job)?);
    app.report(&who, &id, &job, token(&report.token)?, &report)
        .await?;
    Ok(Json(json!({"status": "updated"})).into_response())
}

fn token(text: &str) -> Result<u64, Problem> {
    text.parse()
        .map_err(|_| Problem::bad("token", "the lease's token is expected as it was given"))
}
