//! How often an address may call.

use super::{Problem, extract, fence};
use crate::{app::App, net::Peer};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{net::IpAddr, sync::Arc};

/// Probes of those that watch over the process; a refusal would have it restarted.
const PROBES: [&str; 2] = ["/health", "/ready"];

/// The address of who calls, where there is one. A request extension.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub IpAddr);

/// Notes from where a call comes, and refuses it when there were too many from there. An agent is
/// let past: when its credential is wrong after all, it is counted as a guess. Changes are refused
/// while the fence of a restore stands.
pub async fn by_address(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    if let Some(client) = client(&app, &request) {
        request.extensions_mut().insert(Client(client));
        let free = PROBES.contains(&request.uri().path()) || extract::is_agent(request.headers());
        if !free && let Err(e) = app.admit_address(client) {
            return Problem::from(e).into_response();
        }
    }
    if let Some(refusal) = fence::refusal(&app, &request) {
        return refusal;
    }
    next.run(request).await
}

fn client(app: &App, request: &Request) -> Option<IpAddr> {
    let Peer::Tcp(peer) = request.extensions().get()? else {
        return None;
    };
    Some(app.client_address(peer.ip(), forwarded(request.headers())))
}

/// The lines of `X-Forwarded-For`. One that is no text names nobody.
fn forwarded(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = &str> {
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let lines = lines.into_iter();
    lines.map(|line| line.to_str().unwrap_or_default())
}

/// The address of who calls.
pub fn address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get().map(|Client(address)| *address)
}
