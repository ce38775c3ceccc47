//! The doctor of a running server, which looks at itself.

use super::{Ground, around, within};
use crate::{
    access::Permission,
    app::{App, AppError, backup::S3Access, require},
    clock::Time,
    domain::{Finding, Principal},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A look that takes less is no burden.
const SHORT: Duration = Duration::from_secs(10);

/// What was found, and when.
#[derive(Debug, Clone)]
pub struct Report {
    /// When the look began.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// Without what takes long.
    pub quick: bool,
    /// What was found, in the order of the checks.
    pub findings: Vec<Finding>,
}

/// How the doctor stands.
#[derive(Debug, Clone, Default)]
pub struct DoctorState {
    /// It looks, and has read so many rows.
    pub running: Option<u64>,
    /// What it found last.
    pub last: Option<Report>,
    /// What a look that was no quick one found, and until when that is answered: those who ask one
    /// after the other do not have a server read all it holds all the time.
    rests: Option<(Report, Instant)>,
}

/// The doctor of this process: one look at a time.
#[derive(Default)]
pub struct Doctor(Mutex<DoctorState>);

impl Doctor {
    fn with<T>(&self, use_it: impl FnOnce(&mut DoctorState) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl App {
    /// How the doctor stands.
    pub fn doctor_state(&self, who: &Principal) -> Result<DoctorState, AppError> {
        require(who, Permission::DoctorRun)?;
        Ok(self.doctor.with(|state| state.clone()))
    }

    /// Begins a look, which goes on when the caller has gone, but not beyond the server's stop.
    /// While another goes on, that is the one. After one that took long the doctor rests for as
    /// long: meanwhile what it found is the answer, unless a quick look is asked for.
    pub fn start_doctor(
        self: &Arc<Self>,
        who: &Principal,
        quick: bool,
    ) -> Result<DoctorState, AppError> {
        require(who, Permission::DoctorRun)?;
        let since = Instant::now();
        let (looks, state) = self.doctor.with(|state| {
            let looks = state.running.is_some();
            let rests = state.rests.as_ref().filter(|(_, until)| since < *until);
            if let Some((report, _)) = rests.filter(|_| !looks && !quick) {
                state.last = Some(report.clone());
                return (true, state.clone());
            }
            state.running.get_or_insert(0);
            (looks, state.clone())
        });
        if looks {
            return Ok(state);
        }
        let (app, began, stop) = (Arc::clone(self), self.now(), self.tasks.token());
        let runtime = tokio::runtime::Handle::current();
        self.tasks.spawn("doctor", async move {
            let looks = Arc::clone(&app);
            // On a thread of its own: it reads all there is.
            let looked = app.tasks.spawn_blocking("doctor", move || {
                runtime.block_on(stop.run_until_cancelled(looks.examine(!quick)))
            });
            let findings = match looked.await {
                Ok(Some(findings)) => findings,
                // The server stops.
                Ok(None) => return,
                Err(e) => {
                    let remedy = "see the server's log";
                    vec![Finding::error("doctor", "", e.to_string(), remedy)]
                }
            };
            let now = Instant::now();
            let ended = app.now();
            app.doctor.with(|state| {
                let report = Report {
                    began,
                    ended,
                    quick,
                    findings,
                };
                state.running = None;
                let took = now - since;
                if !quick && took >= SHORT {
                    state.rests = Some((report.clone(), now + took));
                }
                state.last = Some(report);
            });
        });
        Ok(state)
    }

    async fn examine(&self, thorough: bool) -> Vec<Finding> {
        let s3 = self.config.s3.as_ref();
        let s3 = s3.and_then(|s3| S3Access::new(s3).ok());
        let ground = Ground {
            config: &self.config,
            files: &*self.files,
            rooms: &*self.rooms,
            s3: s3.as_ref(),
            clock: &*self.clock,
            now: self.now(),
            thorough,
        };
        let mut findings = Vec::new();
        around(&ground, &mut findings).await;
        let reading = |_: &'static str, rows: u64| {
            self.doctor.with(|state| {
                if let Some(running) = &mut state.running {
                    *running += rows;
                }
            });
        };
        within(&ground, &self.store, &reading, &mut findings).await;
        findings.extend(self.last_backup());
        findings.extend(self.journal_that_fails());
        findings.push(self.own_leaf());
        findings
    }

    /// Why the journal is not written, where it fails.
    fn journal_that_fails(&self) -> Option<Finding> {
        let journal = self.backup_numbers().journal?;
        let (at, why) = journal.failed?;
        Some(Finding::error(
            "backups",
            journal.sink,
            format!(
                "the journal is not written; the last try, of {}, failed: {why}",
                at.whole_seconds()
            ),
            "mend what it says; it goes on by itself",
        ))
    }

    /// What became of the last backup that this server made: of those of the schedule, where there
    /// is one. What somebody asked for was told to them.
    fn last_backup(&self) -> Option<Finding> {
        let wanted = self.config.backup.as_ref().map(|b| b.sink.to_string());
        let mut ended = self.backup_numbers().ended.into_iter();
        let last = ended.find(|ended| {
            let refused = matches!(ended.failed, Some(("refused", _)));
            wanted
                .as_ref()
                .is_none_or(|sink| *sink == ended.sink && !refused)
        })?;
        let (step, why) = last.failed?;
        Some(Finding::error(
            "backups",
            last.sink,
            format!(
                "the last one, of {}, failed ({step}): {why}",
                last.began.whole_seconds()
            ),
            "mend what it says; the next is made by itself",
        ))
    }

    /// Whether the server's own certificate is renewed in time.
    fn own_leaf(&self) -> Finding {
        let (begin, end) = self.system_ca.leaf_validity();
        let now = self.now();
        let text = format!("the server's own certificate ends {}", end.whole_seconds());
        if begin <= now && now < end {
            Finding::ok("tls", text)
        } else {
            Finding::error(
                "tls",
                "",
                format!("{text}: it is not good now"),
                "see that the clock is right, then restart the server, which makes another",
            )
        }
    }
}
