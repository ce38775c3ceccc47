//! Sign-in with an API key, sign-out, and who is signed in.

use super::{HOME, Page, Reader, assets};
use crate::{
    api::{Caller, Client, Problem, SESSION_COOKIE, session_cookie},
    app::{App, Browser},
    domain::SESSION_LIFETIME,
};
use askama::Template;
use axum::{
    Extension, Form,
    extract::{FromRequestParts, Query, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use cookie::{Cookie, SameSite};
use serde::Deserialize;
use std::{net::IpAddr, sync::Arc};

/// The longest address to come back to.
const MAX_RETURN: usize = 2048;

/// The reader of a page. Somebody unknown is sent to sign in.
pub struct SignedIn(pub Reader);

impl FromRequestParts<Arc<App>> for SignedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        match Caller::from_request_parts(parts, app).await {
            Ok(Caller(who)) => Ok(Self(Reader {
                notice: app.held_back(),
                who,
            })),
            Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => {
                Err(to_sign_in(parts, problem))
            }
            Err(problem) => Err(problem.into_response()),
        }
    }
}

/// Sends a browser to the sign-in page. htmx would follow a redirect and put the sign-in page
/// inside the page it refreshes; it is told to leave instead.
fn to_sign_in(parts: &Parts, problem: Problem) -> Response {
    let htmx = parts.headers.contains_key("hx-request");
    let back = if htmx {
        let page = parts.headers.get("hx-current-url");
        page.and_then(|v| v.to_str().ok()?.parse::<http::Uri>().ok())
            .and_then(|uri| ReturnTo::new(uri.path_and_query()?.as_str()))
    } else if parts.method == Method::GET || parts.method == Method::HEAD {
        parts
            .uri
            .path_and_query()
            .and_then(|path| ReturnTo::new(path.as_str()))
    } else {
        None
    };
    let page = match back {
        Some(ReturnTo(path)) if path != HOME => {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("next", &path)
                .finish();
            format!("/login?{query}")
        }
        _ => "/login".to_owned(),
    };
    if !htmx {
        return Redirect::to(&page).into_response();
    }
    let mut response = problem.into_response();
    if let Ok(page) = HeaderValue::from_str(&page) {
        response.headers_mut().insert("hx-redirect", page);
    }
    response
}

/// Where to go after sign-in: an address of this server, never of another one.
struct ReturnTo(String);

impl ReturnTo {
    /// A path of ours. `//host` and `/\host` name other hosts, and browsers drop control
    /// characters before they look.
    fn new(path: &str) -> Option<Self> {
        let rest = path.strip_prefix('/')?;
        let ours = path.len() <= MAX_RETURN
            && !rest.starts_with('/')
            && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        let page = !["/login", "/logout"].iter().any(|p| path.starts_with(p));
        (ours && page).then(|| Self(path.to_owned()))
    }

    fn or_home(path: Option<&str>) -> Self {
        path.and_then(Self::new)
            .unwrap_or_else(|| Self(HOME.to_owned()))
    }
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    next: String,
    wrong: bool,
}

/// What the address of the sign-in page says.
#[derive(Deserialize)]
pub struct Wish {
    next: Option<String>,
}

/// `GET /login`
pub async fn page(Query(wish): Query<Wish>) -> impl IntoResponse {
    let ReturnTo(next) = ReturnTo::or_home(wish.next.as_deref());
    Page(Login { next, wrong: false })
}

/// The sign-in form.
#[derive(Deserialize)]
pub struct SignIn {
    key: String,
    next: Option<String>,
}

/// `POST /login`
pub async fn sign_in(
    State(app): State<Arc<App>>,
    from: Option<Extension<Client>>,
    headers: HeaderMap,
    Form(form): Form<SignIn>,
) -> Response {
    let ReturnTo(next) = ReturnTo::or_home(form.next.as_deref());
    let from = from.map(|Extension(Client(from))| from);
    let problem = match app.sign_in(&form.key, &browser(from, &headers)).await {
        Ok(secret) => {
            if let Some(older) = session_cookie(&headers)
                && let Err(e) = app.sign_out(older).await
            {
                tracing::warn!(error = %e, "the session before this sign-in goes on until it ends");
            }
            return with_cookie(Redirect::to(&next), session(secret));
        }
        Err(e) => Problem::from(e),
    };
    if problem.status() != StatusCode::UNAUTHORIZED {
        return problem.into_response();
    }
    let mut page = Page(Login { next, wrong: true }).into_response();
    *page.status_mut() = StatusCode::UNAUTHORIZED;
    page
}

fn browser(address: Option<IpAddr>, headers: &HeaderMap) -> Browser {
    let name = headers
        .get(header::USER_AGENT)
        .and_then(|v| v.to_str().ok());
    Browser {
        address,
        user_agent: name.unwrap_or_default().to_owned(),
    }
}

/// `POST /logout`
pub async fn sign_out(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(session) = session_cookie(&headers) {
        app.sign_out(session).await?;
    }
    let mut none = session(String::new());
    none.make_removal();
    Ok(with_cookie(Redirect::to("/login"), none))
}

/// `POST /auth/logout`, for programs: ends the session that the caller came with.
pub async fn logout(
    State(app): State<Arc<App>>,
    Caller(_): Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(session) = session_cookie(&headers) {
        app.sign_out(session).await?;
    }
    let mut none = session(String::new());
    none.make_removal();
    Ok(with_cookie(StatusCode::NO_CONTENT, none))
}

/// The session's cookie. `Lax`: a link in a mail finds the reader signed in; a form elsewhere
/// does not.
fn session(secret: String) -> Cookie<'static> {
    let seconds = i64::try_from(SESSION_LIFETIME.as_secs()).unwrap_or(i64::MAX);
    Cookie::build((SESSION_COOKIE, secret))
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Lax)
        .max_age(cookie::time::Duration::seconds(seconds))
        .build()
}

fn with_cookie(response: impl IntoResponse, cookie: Cookie<'_>) -> Response {
    let mut response = response.into_response();
    if let Ok(value) = HeaderValue::from_str(&cookie.to_string()) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}
