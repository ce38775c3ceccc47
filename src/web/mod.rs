//! The dashboard: server-rendered pages, a file per page. Every page is read and every form sent
//! without a script; htmx only keeps a page fresh.

mod agents;
mod assets;
mod attempt;
mod backups;
mod certificate;
mod certificates;
mod charts;
mod ending;
mod failure;
mod moment;
mod served;
mod signin;
mod storage;
mod targets;

pub use failure::{failure, wants_page};

use crate::{access::Permission, api::Problem, app::App, domain::Principal};
use askama::Template;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use std::{ops::Deref, sync::Arc};

/// The page after sign-in.
const HOME: &str = "/certificates";
/// The largest form, in bytes.
const MAX_FORM: usize = 8 << 10;

/// Every route of the dashboard.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(|| async { Redirect::to(HOME) }))
        .route("/login", get(signin::page).post(signin::sign_in))
        .route("/logout", post(signin::sign_out))
        .route("/auth/logout", post(signin::logout))
        .route(HOME, get(certificates::page))
        .route("/certificates/fragment", get(certificates::fragment))
        .route("/certificates/{id}", get(certificate::page))
        .route("/certificates/{id}/check", post(served::check))
        .route("/certificates/{id}/fragment", get(certificate::fragment))
        .route("/certificates/{id}/deploy", post(certificate::deploy))
        .route("/certificates/{id}/end", get(ending::page))
        .route("/certificates/{id}/revoke", post(ending::revoke))
        .route("/certificates/{id}/archive", post(ending::archive))
        .route("/agents", get(agents::page))
        .route("/agents/{id}", get(agents::one))
        .route("/backups", get(backups::page))
        .route("/storage", get(storage::page))
        .route("/targets", get(targets::page))
        .route("/targets/fragment", get(targets::fragment))
        .route("/targets/{id}/test", post(targets::test))
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .route("/static/{file}", get(assets::file))
}

/// Who reads a page, and what every page tells.
struct Reader {
    who: Principal,
    /// What is wrong with the server as a whole.
    notice: Option<String>,
}

impl Deref for Reader {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.who
    }
}

/// Whether a reader holds a permission: what a page offers. The use case asks again.
fn may(who: &Principal, permission: Permission) -> bool {
    who.allows(permission)
}

/// A page, or a part of one.
struct Page<T>(T);

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            Ok(html) => Html(html).into_response(),
            Err(e) => {
                tracing::error!(error = %e, "a page cannot be written");
                Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "this page cannot be written; the log says why",
                )
                .into_response()
            }
        }
    }
}
