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
use futures_util::{
    FutureExt,
    future::{BoxFuture, Either, ready},
};
use std::{net::IpAddr, sync::Arc};

/// Probes of those that watch over the process; a refusal would have it restarted.
const PROBES: [&str; 2] = ["/health", "/ready"];

/// The address of who calls, where there is one. A request extension.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub IpAddr);

/// Notes from where a call comes, and refuses it when there were too many from there.
pub fn by_address(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> impl Future<Output = Response> + Send {
    let as_whom = match PROBES.contains(&request.uri().path()) {
        true => As::Probe,
        false => As::Anybody,
    };
    answer(app, as_whom, request, next)
}

/// As [`by_address`], for what agents alone call: those that show an agent's credential are let
/// past as long as few from there were wrong.
pub fn of_agents(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> impl Future<Output = Response> + Send {
    let as_whom = match extract::is_agent(request.headers()) {
        true => As::Agent,
        false => As::Anybody,
    };
    answer(app, as_whom, request, next)
}

/// As what a call is counted.
#[derive(Clone, Copy)]
enum As {
    Probe,
    Agent,
    Anybody,
}

/// Not an async function: one would hold the request twice for as long as the call waits. What
/// counts the call is gone by then.
fn answer(
    app: Arc<App>,
    as_whom: As,
    mut request: Request,
    next: Next,
) -> impl Future<Output = Response> + Send {
    let client = client(&app, &request);
    if let Some(client) = client {
        request.extensions_mut().insert(Client(client));
    }
    let fenced = fence::refusal(&app, &request);
    let counted: BoxFuture<'static, Result<(), AppError>> = Box::pin(async move {
        match (client, as_whom) {
            (None, _) | (_, As::Probe) => Ok(()),
            (Some(client), As::Agent) => app.admit_agent(client).await,
            (Some(client), As::Anybody) => app.admit_address(client).await,
        }
    });
    counted.then(move |admitted| {
        let refused = admitted.err().map(|e| Problem::from(e).into_response());
        match refused.or(fenced) {
            Some(refusal) => Either::Left(ready(refusal)),
            None => Either::Right(next.run(request)),
        }
    })
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
