//! How often an address may call.

use super::{Problem, extract, fence};
use crate::{
    app::{App, AppError},
    net::Peer,
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::future::{Either, ready};
use std::{net::IpAddr, sync::Arc};

/// Probes of those that watch over the process; a refusal would have it restarted.
const PROBES: [&str; 2] = ["/health", "/ready"];

/// The address of who calls, where there is one. A request extension.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub IpAddr);

/// Notes from where a call comes, and refuses it when there were too many from there.
pub fn by_address(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> impl Future<Output = Response> + Send {
    let probe = PROBES.contains(&request.uri().path());
    let admit = |client| {
        if probe {
            Ok(())
        } else {
            app.admit_address(client)
        }
    };
    let refusal = refusal(&app, &mut request, admit);
    answer(refusal, request, next)
}

/// As [`by_address`], for what agents alone call: those that show an agent's credential are let
/// past as long as few from there were wrong.
pub fn of_agents(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> impl Future<Output = Response> + Send {
    let agent = extract::is_agent(request.headers());
    let admit = |client| match agent {
        true => app.admit_agent(client),
        false => app.admit_address(client),
    };
    let refusal = refusal(&app, &mut request, admit);
    answer(refusal, request, next)
}

/// Not an async function: one would hold the request twice for as long as the call waits.
fn answer(
    refusal: Option<Response>,
    request: Request,
    next: Next,
) -> impl Future<Output = Response> + Send {
    match refusal {
        Some(refusal) => Either::Left(ready(refusal)),
        None => Either::Right(next.run(request)),
    }
}

fn refusal(
    app: &App,
    request: &mut Request,
    admit: impl Fn(IpAddr) -> Result<(), AppError>,
) -> Option<Response> {
    if let Some(client) = client(app, request) {
        request.extensions_mut().insert(Client(client));
        if let Err(e) = admit(client) {
            return Some(Problem::from(e).into_response());
        }
    }
    fence::refusal(app, request)
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
