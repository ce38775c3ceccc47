//! Conditional reading (RFC 9110, section 13.1.2): whoever has an answer already is not sent it
//! again.

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};

/// The longest answer that gets a tag, in bytes.
const MAX_TAGGED: u64 = 1 << 20;
/// Bytes of the hash in a tag.
const TAG: usize = 8;

/// Tags what is read by the hash of its body, and answers 304 to whoever names that tag.
pub async fn tagged(request: Request, next: Next) -> Response {
    let reads = *request.method() == Method::GET;
    let known = request.headers().get_all(header::IF_NONE_MATCH);
    let known = reads.then(|| known.iter().cloned().collect::<Vec<_>>());
    let response = next.run(request).await;
    let short = response.body().size_hint().exact();
    match known {
        Some(known)
            if response.status() == StatusCode::OK
                && !response.headers().contains_key(header::ETAG)
                && short.is_some_and(|bytes| bytes <= MAX_TAGGED) =>
        {
            tag(response, &known).await
        }
        _ => response,
    }
}

async fn tag(response: Response, known: &[HeaderValue]) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let hash = digest(&SHA256, &bytes);
    let tag = format!("\"{}\"", HEXLOWER.encode(&hash.as_ref()[..TAG]));
    let is_known = names(known, &tag);
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

/// Whether `If-None-Match` names the tag, by the weak comparison.
fn names(known: &[HeaderValue], tag: &str) -> bool {
    let mut tags = known
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tags.any(|known| {
        let known = known.trim();
        known == "*" || known.trim_start_matches("W/") == tag
    })
}
