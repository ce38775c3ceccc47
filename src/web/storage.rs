//! How much room the store takes, and will take.

use super::{Page, Reader, assets, charts::Bars, moment::Moment, signin::SignedIn};
use crate::{
    api::Problem,
    app::{
        App,
        storage::{AHEAD, Census, StorageState, kept},
    },
    clock::Time,
    sys::size,
};
use askama::Template;
use axum::{extract::State, response::IntoResponse};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "storage.html")]
struct Whole<'a> {
    who: &'a Reader,
    now: Moment,
    clock: String,
    counting: bool,
    counted: Option<Counted>,
}

struct Counted {
    at: Moment,
    now: String,
    documents: String,
    free: Option<(String, String)>,
    issued: u64,
    expected: u64,
    full_in: Option<u64>,
    chart: Bars,
    rows: Vec<(&'static str, u64, String, String)>,
}

impl Whole<'_> {
    fn page(&self) -> &'static str {
        "storage"
    }
}

/// `GET /storage`
pub async fn page(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
) -> Result<impl IntoResponse, Problem> {
    let state = app.storage(&who)?;
    let (now, days) = (app.now(), app.kept_days());
    Ok(Page(whole(&who, &state, days, now)).into_response())
}

fn whole<'a>(who: &'a Reader, state: &StorageState, days: (u64, u64), now: Time) -> Whole<'a> {
    let seen = Moment::new(now, now);
    let counted = state.last.as_ref();
    Whole {
        who,
        clock: seen.machine.get(11..19).unwrap_or_default().to_owned(),
        now: seen,
        counting: state.counting,
        counted: counted.map(|census| Counted::of(census, days, now)),
    }
}

impl Counted {
    fn of(census: &Census, days: (u64, u64), now: Time) -> Self {
        let mut numbers = vec![("now".to_owned(), census.now())];
        numbers.extend(AHEAD.iter().map(|ahead| {
            let bytes = census.forecast(*ahead, days);
            (format!("{ahead} days"), bytes)
        }));
        let room = census.room;
        let most = census.now().saturating_add(room.free);
        let limit = census.on_disk.map(|_| most);
        Self {
            at: Moment::new(census.at, now),
            now: size(census.now()),
            documents: size(census.documents()),
            free: (room.total > 0).then(|| (size(room.free), size(room.total))),
            issued: census.issued,
            expected: census.expected,
            full_in: census.full_in(days),
            chart: Bars::of(&numbers, limit, size),
            rows: census
                .collections
                .iter()
                .map(|taken| (taken.what, taken.rows, size(taken.bytes), kept(taken.what)))
                .collect(),
        }
    }
}
