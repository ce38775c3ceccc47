//! Which server leads, among those that share a store.
//!
//! Nobody compares clocks: a candidate takes over when it has seen the leader's beat unchanged for
//! [`SILENCE`] by its own monotonic clock. That may be wrong, as of a leader that was paused, and
//! nothing rests on it: whatever a leader commits asserts its term, so of two that think they lead
//! only the later one changes anything. Where no other process can have the store open, none is
//! asked, and nothing is written.

use super::{App, AppError, Server, known, sight::Sight};
use crate::{
    domain::Leader,
    id::Id,
    store::{CommitError, Document, Loaded, Refusal, Unit},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A leader shows this often that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(3);
/// One that has not for so long leads no more.
const SILENCE: Duration = Duration::from_secs(12);
/// Who has not looked for so long begins to watch anew.
const BLIND: Duration = Duration::from_secs(6);

const TAKEN_OVER: &str = "another server has taken over the lead from this one";

/// Where this server stands.
pub(super) struct Lead {
    server: Id,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has not looked yet.
    New,
    /// Another one leads, as far as it has seen.
    Following(Option<Sight>),
    /// It leads in the term of this version, and last showed so at this moment.
    Leading { term: u64, shown: Instant },
    /// It stops.
    Resigned,
}

/// The two rows, as they were found.
#[derive(Default)]
struct Rows {
    term: Option<Loaded<Leader>>,
    beat: Option<Loaded<Leader>>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    Show { term: u64 },
    TakeOver,
}

impl Lead {
    pub fn new(server: Id) -> Self {
        Self {
            server,
            state: Mutex::new(State::New),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The term in which this server leads; none once it could not show it for long.
    fn term(&self) -> Option<u64> {
        match *self.state() {
            State::Leading { term, shown } if shown.elapsed() < SILENCE => Some(term),
            _ => None,
        }
    }

    fn set(&self, next: State) {
        let mut state = self.state();
        if *state != State::Resigned {
            *state = next;
        }
    }

    /// What follows from what was found; `alone`: no other program has the store open.
    fn next(&self, rows: &Rows, alone: bool, now: Instant) -> Step {
        let mut state = self.state();
        let mine = |term: &Loaded<Leader>| term.server == self.server;
        match (*state, &rows.term, &rows.beat) {
            (State::Resigned, ..) => Step::Nothing,
            (State::Leading { term, shown }, Some(row), _) if row.version() == term => {
                match now - shown < BEAT_EVERY {
                    true => Step::Nothing,
                    false => Step::Show { term },
                }
            }
            // The answer to its taking over was lost.
            (_, Some(row), _) if mine(row) => Step::Show {
                term: row.version(),
            },
            (_, None, _) | (_, _, None) => Step::TakeOver,
            (State::New, ..) if alone => Step::TakeOver,
            (_, Some(_), Some(beat)) if beat.resigned => Step::TakeOver,
            (was, Some(row), Some(beat)) => {
                let before = match was {
                    State::Following(sight) => sight,
                    State::Leading { .. } => {
                        tracing::warn!(leader = %row.server, "{TAKEN_OVER}");
                        None
                    }
                    State::New => {
                        tracing::info!(leader = %row.server, "another server leads");
                        None
                    }
                    State::Resigned => None,
                };
                let sight = Sight::of(before, beat.version(), now, BLIND);
                *state = State::Following(Some(sight));
                match sight.unchanged() < SILENCE {
                    true => Step::Nothing,
                    false => Step::TakeOver,
                }
            }
        }
    }
}

impl App {
    pub(super) fn of(server: Server) -> Self {
        Self {
            server: Arc::new(server),
            term: None,
        }
    }

    /// This server as the one that leads, for work that is to be done once; `None` when it does
    /// not lead.
    pub fn leading(self: &Arc<Self>) -> Option<Arc<Self>> {
        if !self.store.is_shared() {
            return Some(Arc::clone(self));
        }
        let term = self.lead.term()?;
        Some(Arc::new(Self {
            term: Some(term),
            ..Self::clone(self)
        }))
    }

    /// Whether this server leads; `None` where there can be no other.
    pub fn leads(&self) -> Option<bool> {
        self.store.is_shared().then(|| self.lead.term().is_some())
    }

    /// The name of this process among servers.
    pub fn server_id(&self) -> &Id {
        &self.lead.server
    }

    /// Has a leader's decision rest on its term.
    pub(super) fn assert_term(&self, unit: &mut Unit<'_>) {
        if let Some(term) = self.term {
            unit.recall::<Leader>(&known(Leader::TERM), Some(term));
        }
    }

    /// Whether a commit was refused since another server has taken over.
    pub(super) fn is_superseded(&self, e: &CommitError) -> bool {
        matches!(
            e,
            CommitError::Refused(Refusal::Conflict { coll, id })
                if self.term.is_some() && *coll == Leader::COLL && id.as_str() == Leader::TERM
        )
    }

    /// What a refused commit means.
    pub(super) fn refused(&self, e: CommitError) -> AppError {
        if self.is_superseded(&e) {
            AppError::NotLeading
        } else {
            AppError::of_commit(e)
        }
    }

    /// Shows that this server leads, or takes over where nobody does; for the reconciler, on every
    /// server.
    pub(crate) async fn seek_lead(&self) -> Result<(), AppError> {
        if !self.store.is_shared() {
            return Ok(());
        }
        let rows = match self.lead_rows().await {
            Ok(rows) => rows,
            Err(e) => {
                // What is not seen is no silence of the leader's.
                if matches!(*self.lead.state(), State::Following(_)) {
                    self.lead.set(State::Following(None));
                }
                return Err(e);
            }
        };
        let fresh = *self.lead.state() == State::New;
        let alone = fresh && self.store.others().await?.is_empty();
        match self.lead.next(&rows, alone, Instant::now()) {
            Step::Nothing => Ok(()),
            Step::Show { term } => self.show_lead(term, rows).await,
            Step::TakeOver => self.take_over(rows).await,
        }
    }

    async fn lead_rows(&self) -> Result<Rows, AppError> {
        let ids = vec![known(Leader::TERM), known(Leader::BEAT)];
        let mut found = self.store.get_many::<Leader>(ids).await?.into_iter();
        let mut next = || found.next().flatten();
        Ok(Rows {
            term: next(),
            beat: next(),
        })
    }

    async fn show_lead(&self, term: u64, rows: Rows) -> Result<(), AppError> {
        // Counted from before the commit: others see it later than that.
        let shown = Instant::now();
        let mut unit = self.unit();
        unit.recall::<Leader>(&known(Leader::TERM), Some(term));
        self.write_lead(&mut unit, Leader::BEAT, rows.beat, false);
        match unit.commit().await {
            Ok(_) => self.lead.set(State::Leading { term, shown }),
            Err(e) if e.is_conflict() => self.step_down(),
            Err(e) => return Err(self.refused(e)),
        }
        Ok(())
    }

    async fn take_over(&self, rows: Rows) -> Result<(), AppError> {
        let shown = Instant::now();
        let before = rows.term.as_ref().map(|term| term.server.clone());
        let mut unit = self.unit();
        self.write_lead(&mut unit, Leader::TERM, rows.term, false);
        self.write_lead(&mut unit, Leader::BEAT, rows.beat, false);
        match unit.commit().await {
            Ok(committed) => {
                let term = committed.version;
                self.lead.set(State::Leading { term, shown });
                // Others may have made some meanwhile.
                self.backups.look_again();
                let before = before.map_or_else(|| "none".to_owned(), |id| id.to_string());
                tracing::info!(server = %self.lead.server, term, before, "this server leads");
                Ok(())
            }
            // Another one was first, or the leader lives.
            Err(e) if e.is_conflict() => Ok(()),
            Err(e) => Err(self.refused(e)),
        }
    }

    fn write_lead(
        &self,
        unit: &mut Unit<'_>,
        id: &'static str,
        row: Option<Loaded<Leader>>,
        resigned: bool,
    ) {
        let leader = Leader {
            id: known(id),
            server: self.lead.server.clone(),
            at: self.now(),
            resigned,
        };
        match row {
            Some(row) => unit.put(row.map(|_| leader)),
            None => unit.insert(leader),
        }
    }

    fn step_down(&self) {
        self.lead.set(State::Following(None));
        tracing::warn!("{TAKEN_OVER}");
    }

    /// Whether what is done here is still its to do: it is no leader's work, or this server leads
    /// in the term that it was begun in.
    pub(super) fn still_leads(&self) -> bool {
        self.term.is_none() || self.term == self.lead.term()
    }

    /// Hands on the lead; this server does not take it again.
    pub async fn resign(&self) {
        let was = std::mem::replace(&mut *self.lead.state(), State::Resigned);
        let State::Leading { term, .. } = was else {
            return;
        };
        let resigned = async {
            let rows = self.lead_rows().await?;
            let mut unit = self.unit();
            unit.recall::<Leader>(&known(Leader::TERM), Some(term));
            self.write_lead(&mut unit, Leader::BEAT, rows.beat, true);
            let committed = unit.commit().await;
            committed.map_err(|e| self.refused(e))
        };
        match resigned.await {
            Ok(_) => tracing::info!("the lead is handed on"),
            Err(error) => {
                tracing::warn!(%error, "the lead was not handed on: another server takes it")
            }
        }
    }
}
