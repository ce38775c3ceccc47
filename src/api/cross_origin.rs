//! Pages of other origins that may call the API from a browser (CORS, the Fetch standard).

use crate::app::App;
use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::Response,
};
use futures_util::{FutureExt, future::Either};
use std::time::Duration;
use tower::{Layer, ServiceExt};
use tower_http::{
    cors::{AllowOrigin, CorsLayer},
    csrf::CsrfLayer,
};

/// What pages of any origin may read: it says nothing of anybody.
const FOR_ALL: [&str; 4] = ["/health", "/ready", "/api/v1/auth/info", "/api/v1/version"];
/// How long a browser may remember what it was told.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// Tells browsers which origins may call.
pub fn allowed(app: &App) -> CorsLayer {
    let origins = app.config.cors_origins.clone();
    let allows = move |origin: &HeaderValue, parts: &Parts| {
        let listed = |listed: &String| listed == "*" || listed.as_bytes() == origin.as_bytes();
        FOR_ALL.contains(&parts.uri.path()) || origins.iter().any(listed)
    };
    let own = |name| HeaderName::from_static(name);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allows))
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
            Method::OPTIONS,
        ])
        .allow_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            own("x-request-id"),
            own("x-csrf-token"),
            own("idempotency-key"),
        ])
        .expose_headers([
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            own("x-request-id"),
        ])
        .max_age(REMEMBERED)
}

/// Tells a page of another origin what it may. Requests that come from no page are left alone.
pub fn told(
    State(allowed): State<CorsLayer>,
    request: Request,
    next: Next,
) -> impl Future<Output = Response> + Send {
    if !request.headers().contains_key(header::ORIGIN) {
        return Either::Left(next.run(request));
    }
    let asks = *request.method() == Method::OPTIONS;
    let told = Box::pin(allowed.layer(next).oneshot(request));
    Either::Right(told.map(move |Ok(mut answer)| {
        if asks && answer.status() == StatusCode::OK {
            *answer.status_mut() = StatusCode::NO_CONTENT;
        }
        answer
    }))
}

/// Refuses what a page of another origin would change, but of those that are listed by name. `*`
/// names none: what all may read, not all may change with the session of whoever looks at them.
pub fn guarded(app: &App) -> CsrfLayer {
    let named = app.config.cors_origins.iter().filter(|o| *o != "*");
    named.fold(CsrfLayer::new(), |layer, origin| {
        // Each was checked when the settings were read.
        layer.clone().add_trusted_origin(origin).unwrap_or(layer)
    })
}
