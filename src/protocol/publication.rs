//! `/.well-known/pki`: revocation lists and CA certificates, for anyone.

use crate::{
    api::Problem,
    app::{App, Crl},
    clock::Time,
    id::Id,
};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// How long others may keep a list or certificate.
const KEPT: &str = "public, max-age=3600, must-revalidate";

/// `GET /.well-known/pki/crl/{ca}`: the whole list of a CA, by its node or an issuer.
#[utoipa::path(
    get,
    path = "/.well-known/pki/crl/{ca}",
    responses((status = 200, description = "A CRL, DER (RFC 5280)", body = [u8], content_type = "application/pkix-crl")),
    security(()),
)]
pub async fn crl(
    State(app): State<Arc<App>>,
    Path(ca): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let list = app.crl(&id(&ca)?).await?;
    Ok(answer(&list, &headers))
}

/// `GET /.well-known/pki/crl/{ca}/{shard}.crl`. There is one shard, 0, which is the whole list.
#[utoipa::path(
    get,
    path = "/.well-known/pki/crl/{ca}/{shard}",
    responses((status = 200, description = "A CRL, DER (RFC 5280)", body = [u8], content_type = "application/pkix-crl")),
    security(()),
)]
pub async fn crl_shard(
    State(app): State<Arc<App>>,
    Path((ca, shard)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if shard != "0.crl" {
        return Err(nothing());
    }
    let list = app.crl(&id(&ca)?).await?;
    Ok(answer(&list, &headers))
}

/// `GET /.well-known/pki/ca/{ca}.cer`
#[utoipa::path(
    get,
    path = "/.well-known/pki/ca/{file}",
    responses((status = 200, description = "A certificate, DER", body = [u8], content_type = "application/pkix-cert")),
    security(()),
)]
pub async fn ca_certificate(
    State(app): State<Arc<App>>,
    Path(file): Path<String>,
) -> Result<Response, Problem> {
    let ca = file.strip_suffix(".cer").ok_or_else(nothing)?;
    let der = app.ca_certificate(&id(ca)?).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/pkix-cert"),
        (header::CACHE_CONTROL, KEPT),
    ];
    Ok((headers, der).into_response())
}

fn id(text: &str) -> Result<Id, Problem> {
    text.parse().map_err(|_| nothing())
}

fn nothing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such CA or list")
}

fn answer(list: &Crl, asked: &HeaderMap) -> Response {
    let tag = format!("W/\"{}\"", list.digest);
    let modified = http_date(list.made_at);
    let mut response = if is_known(list, &tag, asked) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        (
            [(header::CONTENT_TYPE, "application/pkix-crl")],
            list.der.clone(),
        )
            .into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(KEPT));
    for (name, text) in [(header::ETAG, tag), (header::LAST_MODIFIED, modified)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    response
}

/// Whether the caller has this very list (RFC 9110, section 13.2.2: the tag leads the date).
fn is_known(list: &Crl, tag: &str, asked: &HeaderMap) -> bool {
    let text = |name| asked.get(name).and_then(|value| value.to_str().ok());
    if let Some(tags) = text(header::IF_NONE_MATCH) {
        let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        return tags
            .split(',')
            .any(|t| t.trim() == "*" || weak(t) == weak(tag));
    }
    let since = text(header::IF_MODIFIED_SINCE).and_then(moment);
    since.is_some_and(|since| list.made_at.seconds() <= since.seconds())
}

/// RFC 9110, section 5.6.7.
fn http_date(at: Time) -> String {
    let at = jiff::Timestamp::from_second(at.seconds()).unwrap_or_default();
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn moment(text: &str) -> Option<Time> {
    let text = text.strip_suffix(" GMT")?;
    let at = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S", text).ok()?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Time::from_seconds(at.timestamp().as_second()))
}
