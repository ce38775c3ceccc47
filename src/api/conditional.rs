//! Conditional requests (RFC 9110, section 13): whoever has an answer already is not sent it again,
//! and whoever follows from one that is out of date changes nothing.
//!
//! The tag of a row is `"<version>.<hash>"`. `If-Match` compares the version, since a write alone
//! makes another; `If-None-Match` the whole, since what is shown of a row (a status, what happens
//! next) changes without one. What is no row has the hash alone.

use crate::app::Expected;
use axum::{
    Json,
    body::{Body, HttpBody},
    extract::{FromRequestParts, Request},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use std::convert::Infallible;

/// The longest answer that gets a tag, in bytes.
const MAX_TAGGED: u64 = 1 << 20;
/// Bytes of the hash in a tag of what is no row.
const HASH: usize = 8;
/// Bytes of the hash in a tag of a row.
const ROW_HASH: usize = 4;

/// A row as JSON, with its version.
pub struct Versioned<T> {
    version: Option<u64>,
    shape: T,
}

impl<T> Versioned<T> {
    /// What has this version; what is part of the program has none.
    pub fn new(version: impl Into<Option<u64>>, shape: T) -> Self {
        Self {
            version: version.into(),
            shape,
        }
    }
}

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.shape).into_response();
        if let Some(version) = self.version {
            response.extensions_mut().insert(RowVersion(version));
        }
        response
    }
}

/// The version of the row that an answer shows. A response extension.
#[derive(Clone, Copy)]
struct RowVersion(u64);

/// What the caller expects to change, by `If-Match`.
pub struct IfMatch(pub Expected);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(expected(&parts.headers)))
    }
}

fn expected(headers: &HeaderMap) -> Expected {
    if !headers.contains_key(header::IF_MATCH) {
        return Expected::ANY;
    }
    let tags: Vec<&str> = tags(headers.get_all(header::IF_MATCH)).collect();
    match tags[..] {
        ["*"] => Expected::ANY,
        // A tag of another form is that of no version there is.
        _ => Expected::one_of(tags.iter().filter_map(|tag| version_of(tag))),
    }
}

/// The version in a tag of a row. A weak tag has none: it does not tell one version from another.
fn version_of(tag: &str) -> Option<u64> {
    let (version, hash) = tag.strip_prefix('"')?.strip_suffix('"')?.split_once('.')?;
    let is_hash = HEXLOWER.decode(hash.as_bytes()).ok()?.len() == ROW_HASH;
    let is_number = version.bytes().all(|b| b.is_ascii_digit());
    version.parse().ok().filter(|_| is_hash && is_number)
}

/// Tags what is read, and rows that were written, and answers 304 to whoever has what they read.
pub async fn tagged(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let known = request.headers().get_all(header::IF_NONE_MATCH);
    let known: Vec<HeaderValue> = known.iter().cloned().collect();
    let response = next.run(request).await;
    let version = response.extensions().get::<RowVersion>().copied();
    let (gets_one, known) = match method {
        Method::GET => (true, known),
        Method::PUT => (version.is_some(), Vec::new()),
        _ => (false, Vec::new()),
    };
    let short = response.body().size_hint().exact();
    if gets_one
        && response.status() == StatusCode::OK
        && !response.headers().contains_key(header::ETAG)
        && short.is_some_and(|bytes| bytes <= MAX_TAGGED)
    {
        return tag(response, version, &known).await;
    }
    response
}

async fn tag(response: Response, version: Option<RowVersion>, known: &[HeaderValue]) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let hash = digest(&SHA256, &bytes);
    let tag = match version {
        Some(RowVersion(version)) => {
            format!(
                "\"{version}.{}\"",
                HEXLOWER.encode(&hash.as_ref()[..ROW_HASH])
            )
        }
        None => format!("\"{}\"", HEXLOWER.encode(&hash.as_ref()[..HASH])),
    };
    let is_known = tags(known).any(|known| known == "*" || known.trim_start_matches("W/") == tag);
    if let Ok(value) = HeaderValue::from_str(&tag) {
        parts.headers.insert(header::ETAG, value);
    }
    if is_known {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// Each tag of a header's values.
fn tags<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> impl Iterator<Item = &'a str> {
    let values = values.into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}
