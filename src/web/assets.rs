//! Files that the pages need, from inside the binary.

use crate::api::Problem;
use axum::{
    extract::{Path, Query},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rust_embed::{EmbeddedFile, RustEmbed};
use serde::Deserialize;

#[derive(RustEmbed)]
#[folder = "web/static/"]
struct Static;

/// Where a page finds a file. The address names the content, so that a browser may keep it.
pub fn address(name: &str) -> String {
    let print = Static::get(name).map_or_else(String::new, |f| print(&f));
    format!("/static/{name}?v={print}")
}

/// The first 64 bits of the content's SHA-256: enough to tell versions of one file apart.
fn print(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    data_encoding::HEXLOWER.encode(hash.get(..8).unwrap_or_default())
}

/// Which content a page asks for.
#[derive(Deserialize)]
pub struct Version {
    v: Option<String>,
}

/// `GET /static/{file}`
pub async fn file(
    Path(name): Path<String>,
    Query(version): Query<Version>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let file = Static::get(&name)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such file"))?;
    let print = print(&file);
    let keep = if version.v.as_deref() == Some(print.as_str()) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let tag = format!("\"{print}\"");
    let known = knows(&headers, &tag);
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, kind(&name))], file.data).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}

/// Whether `If-None-Match` names the tag (RFC 9110, section 13.1.2: compared weakly).
fn knows(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == tag)
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
