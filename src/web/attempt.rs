//! An attempt at a job, as pages show it.

use super::{certificates::Badge, moment::Moment};
use crate::{
    app::JobView,
    clock::Time,
    domain::{
        Attempt, Ending, JobState,
        attempt::{Leaf, Served},
    },
};

/// An attempt that has ended.
pub struct Shown<'a> {
    pub badge: Badge,
    pub took: String,
    pub ended: Moment,
    pub number: u32,
    pub reason: Option<&'a str>,
    pub findings: &'a [String],
    pub old: Option<&'a Leaf>,
    pub new: Option<&'a Leaf>,
    pub served: &'a [Served],
    pub output: &'a str,
}

impl<'a> Shown<'a> {
    /// `attempt`, seen from `now`.
    pub fn new(attempt: &'a Attempt, now: Time) -> Self {
        let (word, icon, tone) = match attempt.ending {
            Ending::Changed => ("Changed", "check", "good"),
            Ending::Unchanged => ("Unchanged", "check", "good"),
            Ending::Passed => ("Passed", "check", "good"),
            Ending::RolledBack => ("Rolled back", "turn", "warn"),
            Ending::RollbackFailed => ("Rollback failed", "cross", "bad"),
            Ending::Failed { .. } => ("Failed", "cross", "bad"),
            Ending::Lost => ("No word", "dots", "bad"),
        };
        Self {
            badge: Badge { word, icon, tone },
            took: took(attempt.duration_ms),
            ended: Moment::new(attempt.ended_at, now),
            number: attempt.number,
            reason: attempt.reason.as_deref(),
            findings: &attempt.findings,
            old: attempt.old.as_ref().filter(|_| attempt.old != attempt.new),
            new: attempt.new.as_ref(),
            served: &attempt.served,
            output: &attempt.output,
        }
    }
}

fn took(ms: u64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        _ => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
    }
}

/// A job's status.
pub fn badge(job: &JobView) -> Badge {
    let (word, icon, tone) = match job.job.state {
        JobState::Ready { .. } | JobState::Backoff { .. } => ("Waiting", "dots", "calm"),
        JobState::Leased(_) => ("Running", "turn", "info"),
        JobState::CancelRequested(_) => ("Stopping", "turn", "warn"),
        JobState::Succeeded { .. } => ("Completed", "check", "good"),
        JobState::Failed { .. } => ("Failed", "cross", "bad"),
        JobState::Cancelled { .. } => ("Cancelled", "box", "calm"),
    };
    Badge { word, icon, tone }
}

/// What a job that has not ended waits for.
pub fn waits(job: &JobView) -> Option<String> {
    let running = || "It is being run.".to_owned();
    let waits = || job.waits_for.as_ref().map(|what| format!("It {what}."));
    job.job.is_open().then(|| waits().unwrap_or_else(running))
}
