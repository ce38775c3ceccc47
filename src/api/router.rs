//! Every route of the API.

use super::{
    agents, audit, auth, backups, bulk, certificates, conditional, cross_origin, doctor, documents,
    ending, issuers, jobs, keys, limit, metrics, observe, openapi, problem, roles, secrets, served,
    shapes::StatusShape, stats, storage, targets, unread, violations,
};
use crate::{
    app::{App, NotReady},
    protocol, web,
};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use serde::Serialize;
use std::{sync::Arc, time::Duration};
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    set_header::SetResponseHeaderLayer,
    timeout::{RequestBodyTimeoutLayer, TimeoutLayer},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The largest request body, in bytes.
pub(super) const MAX_BODY: usize = 1 << 20;
/// The largest body of a caller that has shown no credential, in bytes.
const MAX_STRANGERS_BODY: usize = 4 << 10;
/// The longest pause within a body.
const MAX_BODY_PAUSE: Duration = Duration::from_secs(10);
/// The longest a request may take; a poll for work waits up to a minute.
const MAX_TIME: Duration = Duration::from_secs(90);
/// Scripts, styles and everything else come from us; nobody frames us.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'; object-src 'none'";

/// What pages may use of the machine that shows them: nothing.
const PERMISSIONS: &str = "camera=(), display-capture=(), geolocation=(), microphone=(), \
                           payment=(), publickey-credentials-get=(), usb=()";
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// What those need who check certificates of ours: for anyone, over plain HTTP also.
fn published() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(protocol::publication::crl))
        .routes(routes!(protocol::publication::crl_shard))
        .routes(routes!(protocol::publication::ca_certificate))
}

/// Every operation of the API, each with its path and all else at its handler.
pub(super) fn operations() -> OpenApiRouter<Arc<App>> {
    for_anyone().merge(for_agents())
}

/// What agents alone call, over and over. Thousands wait here at once: no layer beyond those of all
/// routes but the one that counts them.
fn for_agents() -> OpenApiRouter<Arc<App>> {
    let api = OpenApiRouter::new()
        .routes(routes!(agents::credential))
        .routes(routes!(agents::work))
        .routes(routes!(served::observe))
        .routes(routes!(agents::lease))
        .routes(routes!(agents::csr))
        .routes(routes!(agents::report));
    OpenApiRouter::new().nest("/api/v1", api)
}

/// All the others.
fn for_anyone() -> OpenApiRouter<Arc<App>> {
    let for_strangers = OpenApiRouter::new()
        .routes(routes!(agents::enrol))
        .layer(DefaultBodyLimit::max(MAX_STRANGERS_BODY));
    let api = OpenApiRouter::new()
        .routes(routes!(openapi::serve))
        .routes(routes!(certificates::list, certificates::create))
        .routes(routes!(
            certificates::show,
            certificates::edit,
            ending::archive
        ))
        .routes(routes!(bulk::revoke))
        .routes(routes!(bulk::renew))
        .routes(routes!(bulk::reassign))
        .routes(routes!(ending::revoke))
        .routes(routes!(ending::export_pem))
        .routes(routes!(ending::export_pkcs12))
        .routes(routes!(
            certificates::versions,
            certificates::request_version
        ))
        .routes(routes!(certificates::deployments))
        .routes(routes!(served::show))
        .routes(routes!(served::check))
        .routes(routes!(certificates::renew))
        .routes(routes!(certificates::deploy))
        .routes(routes!(issuers::list, issuers::create))
        .routes(routes!(issuers::show, issuers::edit, issuers::delete))
        .routes(routes!(issuers::test))
        .merge(documents::operations())
        .routes(routes!(violations::list))
        .routes(routes!(certificates::order))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::cancel))
        .routes(routes!(targets::list, targets::create))
        .routes(routes!(targets::show, targets::edit, targets::delete))
        .routes(routes!(targets::test))
        .routes(routes!(agents::tokens, agents::create_token))
        .routes(routes!(agents::token, agents::revoke_token))
        .routes(routes!(agents::list))
        .routes(routes!(agents::retired))
        .routes(routes!(agents::show, agents::delete))
        .routes(routes!(agents::retire))
        .routes(routes!(agents::ping))
        .routes(routes!(audit::list))
        .routes(routes!(auth::version))
        .routes(routes!(auth::info))
        .routes(routes!(auth::check))
        .routes(routes!(auth::me))
        .routes(routes!(auth::permissions))
        .routes(routes!(auth::sessions, auth::end_other_sessions))
        .routes(routes!(auth::end_session))
        .routes(routes!(keys::keys, keys::create_key))
        .routes(routes!(keys::key, keys::delete_key))
        .routes(routes!(keys::rotate_key))
        .routes(routes!(keys::grant_role))
        .routes(routes!(keys::ungrant_role))
        .routes(routes!(roles::roles, roles::create_role))
        .routes(routes!(roles::role, roles::edit_role, roles::delete_role))
        .routes(routes!(roles::add_permission))
        .routes(routes!(roles::remove_permission))
        .routes(routes!(audit::export))
        .routes(routes!(audit::verify))
        .routes(routes!(audit::show))
        .routes(routes!(stats::summary))
        .routes(routes!(stats::by_status))
        .routes(routes!(stats::expirations))
        .routes(routes!(stats::job_trends))
        .routes(routes!(stats::issuance_rate))
        .routes(routes!(metrics::show))
        .routes(routes!(metrics::text))
        .routes(routes!(backups::state, backups::start))
        .routes(routes!(doctor::state, doctor::start))
        .routes(routes!(storage::state))
        .routes(routes!(secrets::show))
        .routes(routes!(secrets::rotate))
        .routes(routes!(secrets::reseal))
        .routes(routes!(backups::plan))
        .routes(routes!(backups::unfence))
        .layer(middleware::from_fn(conditional::tagged))
        .merge(for_strangers);
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(ready))
        .nest("/api/v1", api)
        .merge(published())
}

/// All that the plain HTTP listener serves.
pub fn plain_router(app: Arc<App>) -> Router {
    Router::from(published())
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .with_state(Arc::clone(&app))
        .layer(DefaultBodyLimit::max(0))
        .layer(
            ServiceBuilder::new()
                .layer(middleware::from_fn_with_state(app.clone(), problem::dress))
                .layer(header_layer(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
                .layer(middleware::from_fn_with_state(app, limit::by_address))
                .layer(CatchPanicLayer::custom(problem::panicked))
                .layer(TimeoutLayer::with_status_code(
                    StatusCode::SERVICE_UNAVAILABLE,
                    MAX_TIME,
                )),
        )
}

/// All that is served while the store is waited for: the process lives, and is not ready.
pub fn waiting_router(why: &str) -> Router {
    let not_ready = Readiness::of("schema_behind", Some(why.to_owned()));
    let body = serde_json::to_value(not_ready).unwrap_or_default();
    let answer = move || async move { (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)) };
    let health: OpenApiRouter = OpenApiRouter::new().routes(routes!(health));
    Router::from(health)
        .fallback(answer)
        .layer(DefaultBodyLimit::max(0))
}

/// All that the listener and the socket serve.
pub fn router(app: Arc<App>) -> Router {
    let (allowed, guarded) = (cross_origin::allowed(&app), cross_origin::guarded(&app));
    let for_agents = Router::from(for_agents())
        .method_not_allowed_fallback(problem::no_method)
        .layer(middleware::from_fn_with_state(
            app.clone(),
            limit::of_agents,
        ));
    Router::from(for_anyone())
        .merge(web::router())
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(middleware::from_fn_with_state(
            app.clone(),
            limit::by_address,
        ))
        .layer(middleware::from_fn(unread::read))
        .merge(for_agents)
        .with_state(Arc::clone(&app))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(
            ServiceBuilder::new()
                .layer(middleware::from_fn_with_state(app, observe::observe))
                .layer(middleware::from_fn_with_state(allowed, cross_origin::told))
                .layer(middleware::from_fn(complete))
                .layer(CatchPanicLayer::custom(problem::panicked))
                .layer(TimeoutLayer::with_status_code(
                    StatusCode::SERVICE_UNAVAILABLE,
                    MAX_TIME,
                ))
                .layer(RequestBodyTimeoutLayer::new(MAX_BODY_PAUSE))
                .layer(guarded),
        )
}

/// What every answer says unless it says something else.
static HEADERS: [(HeaderName, HeaderValue); 7] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    ),
    (
        header::STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=31536000"),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (PERMISSIONS_POLICY, HeaderValue::from_static(PERMISSIONS)),
];

/// Gives every answer its headers, and an error its body. One layer: each costs memory for every
/// agent that waits.
fn complete(request: Request, next: Next) -> impl Future<Output = Response> + Send {
    problem::dress(request, next).map(|mut response| {
        for (name, value) in &HEADERS {
            let slot = response.headers_mut().entry(name);
            slot.or_insert_with(|| value.clone());
        }
        response
    })
}

fn header_layer(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// The process lives.
#[utoipa::path(
    get,
    path = "/health",
    responses((status = 200, body = StatusShape)),
    security(()),
)]
async fn health() -> axum::Json<StatusShape> {
    axum::Json(StatusShape::new("healthy"))
}

/// The server takes work: the store answers, the loops look, and it is not about to stop.
#[utoipa::path(
    get,
    path = "/ready",
    responses(
        (status = 200, body = Readiness),
        (status = 503, description = "It takes none", body = Readiness),
    ),
    security(()),
)]
async fn ready(State(app): State<Arc<App>>) -> Response {
    let (status, says) = match app.ready().await {
        Ok(()) => {
            let warning = app.held_back();
            let role = app
                .leads()
                .map(|leads| if leads { "leader" } else { "follower" });
            let ready = Readiness {
                warning,
                role,
                ..Readiness::of("ready", None)
            };
            return axum::Json(ready).into_response();
        }
        Err(NotReady::Stopping) => ("draining", "the server is stopping".to_owned()),
        Err(NotReady::Loop(name)) => {
            tracing::error!(loop_name = name, "a loop has not looked for long");
            (
                "loop_stalled",
                format!("the loop {name} has not looked for long"),
            )
        }
        Err(NotReady::Outdated) => ("schema_ahead", NotReady::Outdated.to_string()),
        Err(NotReady::Behind) => ("schema_behind", NotReady::Behind.to_string()),
        Err(NotReady::Silent) => ("db_unavailable", NotReady::Silent.to_string()),
        Err(NotReady::Store(e)) => {
            tracing::error!(error = %e, "the store does not answer");
            (
                "db_unavailable",
                "the store does not answer; the log says why".to_owned(),
            )
        }
    };
    let body = Readiness::of(status, Some(says));
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response()
}

/// Whether the server takes work.
#[derive(Serialize, ToSchema)]
struct Readiness {
    /// `ready`, `draining`, `loop_stalled`, `schema_behind`, `schema_ahead` or `db_unavailable`.
    status: &'static str,
    /// `reachable`, when ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    db: Option<&'static str>,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What keeps it from beginning anything new, as too little room or the fence after a restore,
    /// and the remedy: reads are answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    /// `leader` or `follower`, when ready, of servers that share a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
}

impl Readiness {
    fn of(status: &'static str, error: Option<String>) -> Self {
        let db = error.is_none().then_some("reachable");
        Self {
            status,
            db,
            error,
            warning: None,
            role: None,
        }
    }
}
