//! The page that says why there is no page.

use super::{Page, assets};
use askama::Template;
use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

#[derive(Template)]
#[template(path = "failure.html")]
struct Failure<'a> {
    title: &'a str,
    message: &'a str,
    remedy: &'a str,
    request_id: &'a str,
}

/// Whether an error is to be told as a page: the path is the dashboard's and the client reads
/// HTML.
pub fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    let machine = path.starts_with("/api/") || matches!(path, "/health" | "/ready");
    !machine
        && headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .any(|v| v.contains("text/html"))
}

/// An error answer as a page.
pub fn failure(status: StatusCode, message: &str, request_id: &str) -> Response {
    let title = match status {
        StatusCode::NOT_FOUND => "There is no such page",
        StatusCode::FORBIDDEN => "This is not allowed",
        StatusCode::SERVICE_UNAVAILABLE => "The server is busy or stopping",
        StatusCode::PAYLOAD_TOO_LARGE => "That was too much",
        s if s.is_server_error() => "The server failed",
        _ => "This request cannot be answered",
    };
    let remedy = match status {
        StatusCode::NOT_FOUND => "Check the address, or start from the certificates.",
        StatusCode::FORBIDDEN => {
            "Sign in with a key whose role may do this, or ask an administrator for one. If a link \
             or form of another site brought you here, open the page from here instead."
        }
        StatusCode::SERVICE_UNAVAILABLE => "Wait a moment and load the page again.",
        s if s.is_server_error() => {
            "Load the page again. If it fails again, look for the request's number in the server's \
             log."
        }
        _ => "Go back and try again.",
    };
    let mut page = Page(Failure {
        title,
        message,
        remedy,
        request_id,
    })
    .into_response();
    *page.status_mut() = status;
    page
}
