//! Every route of the API.

use super::{
    agents, audit, certificates, ending, issuers, jobs, metrics, observe, owners, policies,
    problem, profiles, renewal_policies, served, targets, teams,
};
use crate::{
    app::{App, NotReady},
    protocol, web,
};
use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    csrf::CsrfLayer,
    set_header::SetResponseHeaderLayer,
    timeout::{RequestBodyTimeoutLayer, TimeoutLayer},
};

/// The largest request body, in bytes.
const MAX_BODY: usize = 1 << 20;
/// The largest body of a caller that has shown no credential, in bytes.
const MAX_STRANGERS_BODY: usize = 4 << 10;
/// The longest pause within a body.
const MAX_BODY_PAUSE: Duration = Duration::from_secs(10);
/// The longest a request may take; a poll for work waits up to a minute.
const MAX_TIME: Duration = Duration::from_secs(90);
/// Scripts, styles and everything else come from us; nobody frames us.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'; object-src 'none'";

/// What those need who check certificates of ours: for anyone, over plain HTTP also.
fn published() -> Router<Arc<App>> {
    Router::new()
        .route("/.well-known/pki/crl/{ca}", get(protocol::crl))
        .route(
            "/.well-known/pki/crl/{ca}/{shard}",
            get(protocol::crl_shard),
        )
        .route("/.well-known/pki/ca/{file}", get(protocol::ca_certificate))
}

/// All that the plain HTTP listener serves.
pub fn plain_router(app: Arc<App>) -> Router {
    published()
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .with_state(Arc::clone(&app))
        .layer(DefaultBodyLimit::max(0))
        .layer(
            ServiceBuilder::new()
                .layer(middleware::from_fn_with_state(app, problem::dress))
                .layer(header_layer(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
                .layer(CatchPanicLayer::custom(problem::panicked))
                .layer(TimeoutLayer::with_status_code(
                    StatusCode::SERVICE_UNAVAILABLE,
                    MAX_TIME,
                )),
        )
}

/// All that the listener and the socket serve.
pub fn router(app: Arc<App>) -> Router {
    let for_strangers = Router::new()
        .route("/agents/enrol", post(agents::enrol))
        .layer(DefaultBodyLimit::max(MAX_STRANGERS_BODY));
    let api = Router::new()
        .route(
            "/certificates",
            get(certificates::list).post(certificates::create),
        )
        .route(
            "/certificates/{id}",
            get(certificates::show)
                .put(certificates::edit)
                .delete(ending::archive),
        )
        .route("/certificates/{id}/revoke", post(ending::revoke))
        .route("/certificates/{id}/export/pem", get(ending::export_pem))
        .route(
            "/certificates/{id}/versions",
            get(certificates::versions).post(certificates::request_version),
        )
        .route(
            "/certificates/{id}/deployments",
            get(certificates::deployments),
        )
        .route("/certificates/{id}/served", get(served::show))
        .route("/certificates/{id}/check", post(served::check))
        .route("/certificates/{id}/renew", post(certificates::renew))
        .route("/certificates/{id}/deploy", post(certificates::deploy))
        .route("/issuers", get(issuers::list).post(issuers::create))
        .route("/issuers/{id}", get(issuers::show))
        .route("/profiles", get(profiles::list).post(profiles::create))
        .route(
            "/profiles/{id}",
            get(profiles::show)
                .put(profiles::edit)
                .delete(profiles::delete),
        )
        .route(
            "/renewal-policies",
            get(renewal_policies::list).post(renewal_policies::create),
        )
        .route(
            "/renewal-policies/{id}",
            get(renewal_policies::show)
                .put(renewal_policies::edit)
                .delete(renewal_policies::delete),
        )
        .route("/policies", get(policies::list).post(policies::create))
        .route(
            "/policies/{id}",
            get(policies::show)
                .put(policies::edit)
                .delete(policies::delete),
        )
        .route("/policies/{id}/violations", get(policies::violations))
        .route("/owners", get(owners::list).post(owners::create))
        .route(
            "/owners/{id}",
            get(owners::show).put(owners::edit).delete(owners::delete),
        )
        .route("/teams", get(teams::list).post(teams::create))
        .route(
            "/teams/{id}",
            get(teams::show).put(teams::edit).delete(teams::delete),
        )
        .route("/orders/{id}", get(certificates::order))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{id}", get(jobs::show))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
        .route("/targets", get(targets::list).post(targets::create))
        .route("/targets/{id}", get(targets::show).delete(targets::delete))
        .route("/targets/{id}/test", post(targets::test))
        .route(
            "/agents/tokens",
            get(agents::tokens).post(agents::create_token),
        )
        .route(
            "/agents/tokens/{id}",
            get(agents::token).delete(agents::revoke_token),
        )
        .merge(for_strangers)
        .route("/agents", get(agents::list))
        .route("/agents/retired", get(agents::retired))
        .route("/agents/{id}", get(agents::show).delete(agents::delete))
        .route("/agents/{id}/retire", post(agents::retire))
        .route("/agents/{id}/ping", get(agents::ping))
        .route("/agents/{id}/credential", post(agents::credential))
        .route("/agents/{id}/work", get(agents::work))
        .route("/agents/{id}/observations", post(served::observe))
        .route("/agents/{id}/jobs/{job}/lease", post(agents::lease))
        .route("/agents/{id}/jobs/{job}/csr", post(agents::csr))
        .route("/agents/{id}/jobs/{job}/report", post(agents::report))
        .route("/audit", get(audit::list))
        .route("/metrics", get(metrics::show))
        .route("/metrics/prometheus", get(metrics::text))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method);
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .nest("/api/v1", api)
        .merge(published())
        .merge(web::router())
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .with_state(Arc::clone(&app))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(
            ServiceBuilder::new()
                .layer(middleware::from_fn_with_state(app, observe::observe))
                .layer(middleware::from_fn(problem::dress))
                .layer(header_layer(header::CACHE_CONTROL, "no-store"))
                .layer(header_layer(header::CONTENT_SECURITY_POLICY, POLICY))
                .layer(header_layer(
                    header::STRICT_TRANSPORT_SECURITY,
                    "max-age=31536000",
                ))
                .layer(header_layer(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
                .layer(header_layer(header::X_FRAME_OPTIONS, "DENY"))
                .layer(header_layer(header::REFERRER_POLICY, "no-referrer"))
                .layer(CatchPanicLayer::custom(problem::panicked))
                .layer(TimeoutLayer::with_status_code(
                    StatusCode::SERVICE_UNAVAILABLE,
                    MAX_TIME,
                ))
                .layer(RequestBodyTimeoutLayer::new(MAX_BODY_PAUSE))
                .layer(CsrfLayer::new()),
        )
}

fn header_layer(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// The process lives.
async fn health() -> impl IntoResponse {
    axum::Json(json!({"status": "healthy"}))
}

/// The server takes work: the store answers, the loops look, and it is not about to stop.
async fn ready(State(app): State<Arc<App>>) -> Response {
    let (status, says) = match app.ready().await {
        Ok(()) => {
            return axum::Json(json!({"status": "ready", "db": "reachable"})).into_response();
        }
        Err(NotReady::Stopping) => ("draining", "the server is stopping".to_owned()),
        Err(NotReady::Loop(name)) => {
            tracing::error!(loop_name = name, "a loop has not looked for long");
            (
                "loop_stalled",
                format!("the loop {name} has not looked for long"),
            )
        }
        Err(NotReady::Store(e)) => {
            tracing::error!(error = %e, "the store does not answer");
            (
                "db_unavailable",
                "the store does not answer; the log says why".to_owned(),
            )
        }
    };
    let body = json!({"status": status, "error": says});
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response()
}
