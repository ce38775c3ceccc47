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

/// Notes from where a call comes, and refuses it when there were too many from there.
pub async fn by_address(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let as_whom = match PROBES.contains(&request.uri().path()) {
        true => As::Probe,
        false => As::Anybody,
    };
    admitted(&app, request, next, as_whom).await
}

/// As [`by_address`], for what agents alone call: those that show an agent's credential are let
/// past as long as few from there were wrong.
pub async fn of_agents(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let as_whom = match extract::is_agent(request.headers()) {
        true => As::Agent,
        false => As::Anybody,
    };
    admitted(&app, request, next, as_whom).await
}

/// As what a call is counted.
enum As {
    Probe,
    Agent,
    Anybody,
}

async fn admitted(app: &App, mut request: Request, next: Next, as_whom: As) -> Response {
    if let Some(client) = client(app, &request) {
        request.extensions_mut().insert(Client(client));
        // Boxed: a call that waits holds no room for this.
        let admitted = match as_whom {
            As::Probe => Ok(()),
            As::Agent => Box::pin(app.admit_agent(client)).await,
            As::Anybody => Box::pin(app.admit_address(client)).await,
        };
        if let Err(e) = admitted {
            return Problem::from(e).into_response();
        }
    }
    if let Some(refusal) = fence::refusal(app, &request) {
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
