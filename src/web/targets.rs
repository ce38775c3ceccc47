//! Targets, and what their last tests found.

use super::{
    Page, Reader, assets,
    attempt::{self, Shown},
    certificates::Badge,
    may,
    moment::Moment,
    signin::SignedIn,
};
use crate::{
    access::Permission,
    api::Problem,
    app::{App, TargetView},
    clock::Time,
    domain::Principal,
    id::Id,
};
use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect},
};
use std::sync::Arc;

/// Targets on the page.
const TARGETS: usize = 200;

#[derive(Template)]
#[template(path = "targets.html")]
struct Whole<'a> {
    who: &'a Reader,
    list: Listed<'a>,
}

impl Whole<'_> {
    fn page(&self) -> &'static str {
        "targets"
    }
}

/// What is refreshed while a test is under way.
#[derive(Template)]
#[template(path = "target_list.html")]
struct Listed<'a> {
    busy: bool,
    now: Moment,
    clock: String,
    more: bool,
    may_test: bool,
    targets: Vec<Row<'a>>,
}

struct Row<'a> {
    view: &'a TargetView,
    config: String,
    badge: Badge,
    waits: Option<String>,
    attempt: Option<Shown<'a>>,
}

const UNTESTED: Badge = Badge {
    word: "Untested",
    icon: "dots",
    tone: "calm",
};

fn listed<'a>(who: &Principal, views: &'a [TargetView], now: Time) -> Listed<'a> {
    let moment = Moment::new(now, now);
    let shown = views.get(..TARGETS).unwrap_or(views);
    let open = |view: &TargetView| view.test.as_ref().is_some_and(|t| t.job.is_open());
    Listed {
        busy: shown.iter().any(open),
        clock: moment.machine.get(11..19).unwrap_or_default().to_owned(),
        now: moment,
        more: views.len() > TARGETS,
        may_test: may(who, Permission::TargetEdit),
        targets: shown.iter().map(|view| row(view, now)).collect(),
    }
}

fn row(view: &TargetView, now: Time) -> Row<'_> {
    let test = view.test.as_ref();
    let last = test.and_then(|job| job.job.last.as_ref());
    Row {
        view,
        config: view.target.config.to_string(),
        badge: test.map_or(UNTESTED, attempt::badge),
        waits: test.and_then(attempt::waits),
        attempt: last.map(|attempt| Shown::new(attempt, now)),
    }
}

/// `GET /targets`
pub async fn page(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
) -> Result<impl IntoResponse, Problem> {
    let views = app.target_views(&who, TARGETS + 1).await?;
    let list = listed(&who, &views, app.now());
    Ok(Page(Whole { who: &who, list }).into_response())
}

/// `GET /targets/fragment`
pub async fn fragment(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
) -> Result<impl IntoResponse, Problem> {
    let views = app.target_views(&who, TARGETS + 1).await?;
    Ok(Page(listed(&who, &views, app.now())).into_response())
}

/// `POST /targets/{id}/test`
pub async fn test(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let id: Id = id
        .parse()
        .map_err(|_| Problem::new(StatusCode::NOT_FOUND, "there is no such target"))?;
    app.test_target(&who, &id).await?;
    Ok(Redirect::to(&format!("/targets#target-{id}")))
}
