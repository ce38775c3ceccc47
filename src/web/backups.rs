//! How the backups stand, and a restore.

use super::{Page, Reader, assets, moment::Moment, signin::SignedIn};
use crate::{
    api::Problem,
    app::{
        App, BackupState, BackupStep, JournalState, RestorePlan, Step, Unknown,
        backup::{Doubt, Stored},
        size,
    },
    clock::Time,
};
use askama::Template;
use axum::{extract::State, response::IntoResponse};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "backups.html")]
struct Whole<'a> {
    who: &'a Reader,
    now: Moment,
    clock: String,
    plan: Option<RestorePlan>,
    steps: Vec<(Step, Moment, Option<Moment>)>,
    found: Vec<(Unknown, Option<Moment>)>,
    taken: Moment,
    restored: Moment,
    newest: Option<Moment>,
    proven: Option<Moment>,
    file: Option<(String, String)>,
    took: Option<String>,
    schedule: Option<String>,
    next: Option<Moment>,
    running: Option<(&'static str, Moment)>,
    failed: Option<(Moment, String)>,
    held: Option<Held>,
    journal: Option<Following>,
}

/// What is in the sink of the schedule.
struct Held {
    sink: String,
    looked: Option<Moment>,
    unread: Option<(Moment, String)>,
    /// Newest first.
    rows: Vec<Line>,
    total: usize,
}

/// A backup in it.
struct Line {
    name: String,
    made: Moment,
    kind: &'static str,
    size: String,
    proven: Option<(&'static str, Moment)>,
    unusable: Option<(&'static str, &'static str)>,
}

/// The journal.
struct Following {
    sink: String,
    every: u64,
    covers: Option<Moment>,
    made: u64,
    waits: Option<&'static str>,
    failed: Option<(Moment, String)>,
}

/// So many backups are shown.
const SHOWN: usize = 100;

impl Held {
    fn of(state: &BackupState, now: Time) -> Option<Self> {
        let (held, unread) = (state.held.as_ref(), state.unread.clone());
        let all = held.map_or(&[][..], |held| &held.all);
        let line = |stored: &Stored| Line {
            name: stored.name.clone(),
            made: Moment::new(stored.created_at, now),
            kind: if stored.increment {
                "increment"
            } else {
                "full"
            },
            size: size(stored.bytes),
            proven: stored.proven.as_ref().map(|proven| {
                let how = if proven.restored { "restored" } else { "read" };
                (how, Moment::new(proven.at, now))
            }),
            unusable: stored.doubt.map(Doubt::told),
        };
        Some(Self {
            sink: state.sink.clone()?,
            looked: held.map(|held| Moment::new(held.looked_at, now)),
            unread: unread.map(|(at, why)| (Moment::new(at, now), why)),
            rows: all.iter().rev().take(SHOWN).map(line).collect(),
            total: all.len(),
        })
    }
}

impl Following {
    fn of(state: &JournalState, now: Time) -> Self {
        let seen = |at: Time| Moment::new(at, now);
        Self {
            sink: state.sink.clone(),
            every: state.every.as_secs(),
            covers: state.covers.map(seen),
            made: state.made,
            waits: state.waits,
            failed: state.failed.clone().map(|(at, why)| (seen(at), why)),
        }
    }
}

impl Whole<'_> {
    fn page(&self) -> &'static str {
        "backups"
    }
}

/// `GET /backups`
pub async fn page(
    State(app): State<Arc<App>>,
    SignedIn(who): SignedIn,
) -> Result<impl IntoResponse, Problem> {
    let state = app.backup_state(&who)?;
    let plan = app.restore_plan(&who).await?;
    Ok(Page(whole(&who, state, plan, app.now())).into_response())
}

fn whole(who: &Reader, state: BackupState, mut plan: Option<RestorePlan>, now: Time) -> Whole<'_> {
    let seen = |at: Time| Moment::new(at, now);
    let of_plan = |at: fn(&RestorePlan) -> Time| seen(plan.as_ref().map_or(now, at));
    let (taken, restored) = (
        of_plan(|plan| plan.restoration.taken_at),
        of_plan(|plan| plan.restoration.restored_at),
    );
    let steps = plan.as_mut().map(|plan| std::mem::take(&mut plan.steps));
    let steps = steps.into_iter().flatten().map(|step| {
        let (due, ends) = (seen(step.due), step.ends.map(seen));
        (step, due, ends)
    });
    let steps = steps.collect();
    let found = plan.as_mut().map(|plan| std::mem::take(&mut plan.found));
    let found = found.into_iter().flatten().map(|unknown| {
        let ends = unknown.ends.map(seen);
        (unknown, ends)
    });
    let found = found.collect();
    let now_seen = seen(now);
    let newest = state.newest.as_ref();
    let failed = state.ended.front().and_then(|last| {
        let (_, why) = last.failed.as_ref()?;
        Some((seen(last.ended), why.clone()))
    });
    Whole {
        who,
        clock: now_seen.machine.get(11..19).unwrap_or_default().to_owned(),
        now: now_seen,
        taken,
        restored,
        newest: newest.map(|stored| seen(stored.created_at)),
        proven: state.proven_at.map(seen),
        file: newest.map(|stored| (stored.name.clone(), size(stored.bytes))),
        took: state.took.map(|took| format!("{} ms", took.as_millis())),
        schedule: state.schedule.map(|schedule| schedule.to_string()),
        next: state.next_at().map(seen),
        running: state.run.as_ref().map(|run| {
            let what = match run.step {
                BackupStep::Making => "being made",
                BackupStep::Proving => "being proven",
            };
            (what, seen(run.began))
        }),
        failed,
        held: Held::of(&state, now),
        journal: state.journal.as_ref().map(|j| Following::of(j, now)),
        plan,
        steps,
        found,
    }
}
