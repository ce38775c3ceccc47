//! `/agents`: join tokens, agents as operators see them, and an agent's own calls (see
//! [`protocol`](crate::agent::protocol)).

use super::{
    Problem,
    extract::{AgentBody, Body, Caller, New, id_in_field, id_in_path},
    pages::{Pages, given},
    shapes::{
        AgentDetailShape, AgentShape, BlockedShape, List, Retire, RetiredShape, StatusShape,
        TokenMadeShape, TokenNew, TokenShape,
    },
};
use crate::{
    agent::protocol::{Csr, Enrol, Enrolled, NextSecret, Pong, Renew, Renewed, Report, Work},
    app::{AgentFilter, App, NewToken, Retirement},
    clock::Time,
    domain::{AgentStatus, NameScope, Said},
    id::Id,
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, Uri, header, uri::Authority},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use utoipa::IntoParams;

/// Makes a join token.
#[utoipa::path(
    post,
    path = "/agents/tokens",
    request_body = TokenNew,
    responses((status = 201, body = TokenMadeShape)),
    security(("key" = ["agent.edit"])),
)]
pub async fn create_token(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    uri: Uri,
    headers: HeaderMap,
    New(new, once): New<TokenNew>,
) -> Result<Response, Problem> {
    let names = new.names.as_deref().map(str::parse::<NameScope>);
    let names = names.transpose().map_err(|e| Problem::bad("for", e))?;
    let named = match &names {
        Some(NameScope::Is(name)) => format!(" --name {}", quoted(name)),
        _ => String::new(),
    };
    let made = app
        .create_token(
            &who,
            &NewToken {
                name: new.name,
                lifetime: Duration::from_secs(new.expires_in_seconds),
                max_uses: new.max_uses,
                replace: new.replace,
                names,
            },
            once.as_ref(),
        )
        .await?;
    let host = own_address(&app, &uri, &headers);
    let command = format!(
        "echo {} | certctl agent enrol --server https://{host} --ca-pin {} --token-file -{named}",
        made.token, made.ca_pin
    );
    let shape = TokenMadeShape {
        id: made.id.to_string(),
        token: made.token,
        expires_at: made.expires_at.to_string(),
        ca_pin: made.ca_pin,
        command,
    };
    Ok((StatusCode::CREATED, Json(shape)).into_response())
}

/// This server as its caller reached it: by `:authority` in HTTP/2, by `Host` in HTTP/1. Through the
/// socket it has no address of its own, and is what it is known as where it listens.
fn own_address(app: &App, uri: &Uri, headers: &HeaderMap) -> String {
    let listen = app.config.listen;
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let named = uri.authority().map(Authority::as_str).or(host);
    match named.filter(|name| *name != "localhost") {
        Some(name) => name.to_owned(),
        None => match (&app.config.public_url, app.system_ca.known_as()) {
            (Some(url), _) => url.trim_start_matches("https://").to_owned(),
            (None, Some(name)) if !listen.ip().is_loopback() => {
                format!("{name}:{}", listen.port())
            }
            (None, _) => listen.to_string(),
        },
    }
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Join tokens, newest first.
#[utoipa::path(
    get,
    path = "/agents/tokens",
    params(Pages),
    responses((status = 200, body = List<TokenShape>)),
    security(("key" = ["agent.read"])),
)]
pub async fn tokens(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let at = pages.place();
    let page = app.join_tokens(&who, at.cursor, at.skip, at.limit).await?;
    let rows = page.rows.iter().map(TokenShape::from).collect();
    Ok(pages.answer(at.list(rows, page.total, page.next)))
}

/// One join token.
#[utoipa::path(
    get,
    path = "/agents/tokens/{id}",
    responses((status = 200, body = TokenShape)),
    security(("key" = ["agent.read"])),
)]
pub async fn token(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<TokenShape>, Problem> {
    let id = id_in_path("join token", &id)?;
    let view = app.join_token(&who, &id).await?;
    Ok(Json(TokenShape::from(&view)))
}

/// Revokes a join token.
#[utoipa::path(
    delete,
    path = "/agents/tokens/{id}",
    responses((status = 204, description = "Revoked")),
    security(("key" = ["agent.edit"])),
)]
pub async fn revoke_token(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("join token", &id)?;
    app.revoke_token(&who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which agents.
#[derive(Debug, Deserialize, IntoParams)]
pub struct Which {
    /// Those whose name begins with this.
    name: Option<String>,
    /// `Online`, `Degraded` or `Offline`.
    status: Option<String>,
    /// Those of a version.
    version: Option<String>,
    /// Those of an operating system.
    os: Option<String>,
}

impl Which {
    fn filter(&self) -> Result<AgentFilter, Problem> {
        let text = |text: &Option<String>| given(text.as_deref()).map(str::to_owned);
        let status = given(self.status.as_deref()).map(|word| {
            AgentStatus::of_word(word).ok_or_else(|| {
                let words = AgentStatus::ALL.map(AgentStatus::as_str).join(", ");
                Problem::bad("status", format!("{word:?} is none of {words}"))
            })
        });
        Ok(AgentFilter {
            status: status.transpose()?,
            name: text(&self.name),
            version: text(&self.version),
            os: text(&self.os),
            retired: false,
        })
    }
}

/// Agents that are not retired, newest first.
#[utoipa::path(
    get,
    path = "/agents",
    params(Which, Pages),
    responses((status = 200, body = List<AgentShape>)),
    security(("key" = ["agent.read"])),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(which): Query<Which>,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    page(&app, &who, &which.filter()?, &pages).await
}

/// Agents that are retired, the last one first.
#[utoipa::path(
    get,
    path = "/agents/retired",
    params(Pages),
    responses((status = 200, body = List<AgentShape>)),
    security(("key" = ["agent.read"])),
)]
pub async fn retired(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Query(pages): Query<Pages>,
) -> Result<Response, Problem> {
    let filter = AgentFilter {
        retired: true,
        ..AgentFilter::default()
    };
    page(&app, &who, &filter, &pages).await
}

async fn page(
    app: &App,
    who: &crate::domain::Principal,
    filter: &AgentFilter,
    pages: &Pages,
) -> Result<Response, Problem> {
    let at = pages.place();
    let page = app
        .agents(who, filter, at.cursor, at.skip, at.limit)
        .await?;
    let rows = page.rows.iter().map(AgentShape::from).collect();
    Ok(pages.answer(at.list(rows, page.total, page.next)))
}

/// One agent, and what hangs on it.
#[utoipa::path(
    get,
    path = "/agents/{id}",
    responses((status = 200, body = AgentDetailShape)),
    security(("key" = ["agent.read"])),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<AgentDetailShape>, Problem> {
    let id = id_in_path("agent", &id)?;
    let detail = app.agent(&who, &id).await?;
    Ok(Json(AgentDetailShape::from(&detail)))
}

/// Retires an agent, as the body says.
#[utoipa::path(
    post,
    path = "/agents/{id}/retire",
    request_body = Retire,
    responses(
        (status = 200, body = RetiredShape),
        (status = 204, description = "It was retired before"),
        (status = 409, description = "Something hangs on it", body = BlockedShape),
    ),
    security(("key" = ["agent.retire"])),
)]
pub async fn retire(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Body(wish): Body<Retire>,
) -> Result<Response, Problem> {
    end(&app, &who, &id, &wish).await
}

/// Retires an agent, as the query says.
#[utoipa::path(
    delete,
    path = "/agents/{id}",
    params(Retire),
    responses(
        (status = 200, body = RetiredShape),
        (status = 204, description = "It was retired before"),
        (status = 409, description = "Something hangs on it", body = BlockedShape),
    ),
    security(("key" = ["agent.retire"])),
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(wish): Query<Retire>,
) -> Result<Response, Problem> {
    end(&app, &who, &id, &wish).await
}

async fn end(
    app: &App,
    who: &crate::domain::Principal,
    id: &str,
    wish: &Retire,
) -> Result<Response, Problem> {
    let id = id_in_path("agent", id)?;
    Ok(
        match app.retire_agent(who, &id, wish.force, &wish.reason).await? {
            Retirement::Done {
                at,
                cascade,
                counts,
            } => Json(RetiredShape {
                retired_at: at.to_string(),
                already_retired: false,
                cascade,
                counts: counts.into(),
            })
            .into_response(),
            Retirement::Already => StatusCode::NO_CONTENT.into_response(),
            Retirement::Blocked(counts) => {
                (StatusCode::CONFLICT, Json(BlockedShape::new(counts))).into_response()
            }
        },
    )
}

/// Tells an agent that its way here is good.
#[utoipa::path(
    get,
    path = "/agents/{id}/ping",
    responses((status = 200, body = Pong)),
    security(("agent" = [])),
)]
pub async fn ping(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<Pong>, Problem> {
    let id = id_in_path("agent", &id)?;
    Ok(Json(app.pong(&who, &id).await?))
}

/// Takes the hash of an agent's next secret.
#[utoipa::path(
    post,
    path = "/agents/{id}/credential",
    request_body = NextSecret,
    responses((status = 204, description = "Noted")),
    security(("agent" = [])),
)]
pub async fn credential(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    AgentBody(next): AgentBody<NextSecret>,
) -> Result<StatusCode, Problem> {
    let id = id_in_path("agent", &id)?;
    app.offer_secret(&who, &id, &next.secret_sha256).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets an agent in.
#[utoipa::path(
    post,
    path = "/agents/enrol",
    request_body = Enrol,
    responses(
        (status = 201, body = Enrolled),
        (status = 401),
    ),
    security(()),
)]
pub async fn enrol(
    State(app): State<Arc<App>>,
    AgentBody(wish): AgentBody<Enrol>,
) -> Result<Response, Problem> {
    let enrolled = app.enrol(&wish).await?;
    Ok((StatusCode::CREATED, Json(enrolled)).into_response())
}

/// How long a poll waits, whether the agent has just started, and what it says of itself.
#[derive(Debug, Deserialize, IntoParams)]
pub struct Poll {
    /// Seconds to wait for work.
    #[serde(default)]
    #[param(default = 0)]
    wait: u64,
    /// The agent has just started: end the leases it has.
    #[serde(default)]
    #[param(default = false)]
    fresh: bool,
    /// An answer may have been lost: of the agent's leases, only those of these jobs, with commas
    /// between, are not to be ended.
    holds: Option<String>,
    /// Its version.
    version: Option<String>,
    /// Its clock, RFC 3339.
    time: Option<String>,
    /// It puts back what a crash left half done.
    #[serde(default)]
    #[param(default = false)]
    restoring: bool,
}

/// Leases jobs.
#[utoipa::path(
    get,
    path = "/agents/{id}/work",
    params(Poll),
    responses((status = 200, body = Work)),
    security(("agent" = [])),
)]
pub async fn work(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path(id): Path<String>,
    Query(poll): Query<Poll>,
) -> Result<Json<Work>, Problem> {
    let id = id_in_path("agent", &id)?;
    // A clock that cannot be read is not worth refusing work for.
    let time = poll.time.as_deref().and_then(|t| t.parse::<Time>().ok());
    let ahead = time.map(|t| (t.micros() - app.now().micros()) / 1_000);
    let said = Said {
        clock_ahead_ms: ahead,
        restoring: poll.restoring,
    };
    // Boxed, so that an agent that waits holds no room for what was done before.
    Box::pin(app.hear_of(&who, &id, said, poll.version.as_deref())).await?;
    match &poll.holds {
        _ if poll.fresh => Box::pin(app.end_leases(&who, &id, &BTreeSet::new())).await?,
        Some(jobs) => {
            let jobs = jobs.split(',').filter(|job| !job.is_empty());
            let jobs: Result<BTreeSet<Id>, _> = jobs.map(|id| id_in_field("holds", id)).collect();
            Box::pin(app.end_leases(&who, &id, &jobs?)).await?;
        }
        None => {}
    }
    let wait = Duration::from_secs(poll.wait);
    Ok(Json(app.work(&who, &id, wait).await?))
}

/// Renews a lease.
#[utoipa::path(
    post,
    path = "/agents/{id}/jobs/{job}/lease",
    request_body = Renew,
    responses((status = 200, body = Renewed)),
    security(("agent" = [])),
)]
pub async fn lease(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id, job)): Path<(String, String)>,
    AgentBody(renew): AgentBody<Renew>,
) -> Result<Json<Renewed>, Problem> {
    let (id, job) = (id_in_path("agent", &id)?, id_in_path("job", &job)?);
    let renewed = app
        .renew_lease(&who, &id, &job, lease_token(&renew.token)?)
        .await?;
    Ok(Json(renewed))
}

/// Takes a CSR.
#[utoipa::path(
    post,
    path = "/agents/{id}/jobs/{job}/csr",
    request_body = Csr,
    responses((status = 202, body = StatusShape), (status = 502)),
    security(("agent" = [])),
)]
pub async fn csr(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id, job)): Path<(String, String)>,
    AgentBody(csr): AgentBody<Csr>,
) -> Result<Response, Problem> {
    let (id, job) = (id_in_path("agent", &id)?, id_in_path("job", &job)?);
    app.submit_csr(&who, &id, &job, lease_token(&csr.token)?, &csr.csr_pem)
        .await?;
    let body = StatusShape::new("csr_accepted");
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

/// Takes an agent's word on how a job ended.
#[utoipa::path(
    post,
    path = "/agents/{id}/jobs/{job}/report",
    request_body = Report,
    responses((status = 200, body = StatusShape)),
    security(("agent" = [])),
)]
pub async fn report(
    State(app): State<Arc<App>>,
    Caller(who): Caller,
    Path((id, job)): Path<(String, String)>,
    AgentBody(report): AgentBody<Report>,
) -> Result<Response, Problem> {
    let (id, job) = (id_in_path("agent", &id)?, id_in_path("job", &job)?);
    app.report(&who, &id, &job, lease_token(&report.token)?, &report)
        .await?;
    Ok(Json(StatusShape::new("updated")).into_response())
}

fn lease_token(text: &str) -> Result<u64, Problem> {
    text.parse()
        .map_err(|_| Problem::bad("token", "the lease's token is expected as it was given"))
}
