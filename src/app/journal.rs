//! What came since the newest backup, in small increments that are made within seconds, so that
//! little is lost with the machine.

use super::{
    App, AppError,
    backup::{BackupFailure, Locking, Sink, Source, Stored, Ways, covered, create, machine_key},
    known,
};
use crate::{
    clock::Time,
    domain::{KeyUse, Leader, Look, Presence, Restoration},
    id::Id,
    store::{AUDIT, Document, Feed, RingRow, StoreError, backup::Since},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// So many small increments are followed by a long one that takes their place, so that a restore
/// reads few.
const SMALL: u64 = 60;
/// A long increment goes back no farther: the feed forgets what is older than an hour.
const FARTHEST: Duration = Duration::from_secs(1_800);
/// When agents were last heard, and keys last used, alone is worth an increment after this long.
/// It must be less than what the feed remembers, for an increment begins where the last one ended.
const SLOW: Duration = Duration::from_secs(900);
/// Commits that are looked at at a time.
const PAGE: usize = 500;

/// The increments that follow the backups of this server.
pub(super) struct Journal {
    sink: Sink,
    every: Duration,
    locking: Locking,
    course: Mutex<Option<Course>>,
}

/// Where the journal is.
#[derive(Debug, Clone)]
struct Course {
    /// What is in it, or in the base.
    last: Since,
    /// Where the next long increment begins.
    anchor: Since,
    /// The increments since there.
    small: Vec<String>,
}

/// How the journal stands.
#[derive(Debug, Clone)]
pub struct JournalState {
    /// Where it goes.
    pub sink: String,
    /// How often an increment is made.
    pub every: Duration,
    /// What was committed before this is in it, or in the newest backup, but for when agents were
    /// last heard and keys last used.
    pub covers: Option<Time>,
    /// The newest increment that this server made.
    pub newest: Option<Stored>,
    /// How many it made.
    pub made: u64,
    /// How many were not made.
    pub failures: u64,
    /// When the last one was not made, and why; nothing once one was made after that.
    pub failed: Option<(Time, String)>,
    /// Why none is made now.
    pub waits: Option<&'static str>,
}

/// What the feed tells of what came since an increment.
enum News {
    /// Nothing.
    None,
    /// Nothing that is worth an increment yet.
    Slow,
    /// Something.
    Some,
}

impl Journal {
    /// One in a sink. Who can open a backup can open what follows it: by the machine key that is in
    /// the backup, where a passphrase opens that, since deriving a key from a passphrase takes a
    /// second.
    pub fn new(sink: Sink, every: Duration, locking: &Locking) -> Self {
        let locking = match locking {
            Locking::Passphrase(_) => Locking::Recipients(Vec::new()),
            other => other.clone(),
        };
        Self {
            sink,
            every,
            locking,
            course: Mutex::new(None),
        }
    }

    /// How it stands at the start.
    pub fn begun(&self) -> JournalState {
        JournalState {
            sink: self.sink.to_string(),
            every: self.every,
            covers: None,
            newest: None,
            made: 0,
            failures: 0,
            failed: None,
            waits: None,
        }
    }

    /// Has the sink tell where it is: another process may have gone on with it.
    pub fn find_again(&self) {
        self.go_on(None);
    }

    fn course(&self) -> Option<Course> {
        let course = self.course.lock();
        course.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn go_on(&self, course: Option<Course>) {
        *self.course.lock().unwrap_or_else(PoisonError::into_inner) = course;
    }

    /// How many small increments make a long one.
    fn most_small(&self) -> usize {
        let most = FARTHEST.as_secs() / self.every.as_secs().max(1);
        usize::try_from(most.clamp(1, SMALL)).unwrap_or(1)
    }
}

impl Course {
    fn at(last: Since) -> Self {
        Self {
            last,
            anchor: last,
            small: Vec::new(),
        }
    }
}

fn end_of(stored: &Stored) -> Since {
    Since {
        seq: stored.seq,
        audit_entries: stored.audit_entries,
    }
}

impl App {
    /// How often an increment is made, where any is.
    pub(crate) fn journal_every(&self) -> Option<Duration> {
        self.backups.journal.as_ref().map(|journal| journal.every)
    }

    /// Makes an increment of what came since the last one, if anything did; for the reconciler.
    pub(crate) async fn due_journal(self: &Arc<Self>) -> Result<(), AppError> {
        let Some(journal) = &self.backups.journal else {
            return Ok(());
        };
        let went = self.write_journal(journal).await;
        let mut state = self.backups.state();
        let Some(state) = &mut state.journal else {
            return Ok(());
        };
        match went {
            Ok(waits) => {
                state.waits = waits;
                if waits.is_none() {
                    state.failed = None;
                }
            }
            Err(e @ BackupFailure::Stopped) => {
                tracing::info!(reason = %e, "the journal was not written");
            }
            Err(e) => {
                // Once, and not at each try.
                if state.failed.is_none() {
                    tracing::error!(error = %e, "the journal was not written");
                }
                state.failures += 1;
                state.failed = Some((self.now(), e.to_string()));
            }
        }
        Ok(())
    }

    /// Why none is made now, if so.
    async fn write_journal(
        self: &Arc<Self>,
        journal: &Journal,
    ) -> Result<Option<&'static str>, BackupFailure> {
        if self.is_fenced() {
            // What is in the sink may be what the restore should have taken.
            return Ok(Some("the store was restored, and the fence stands"));
        }
        let course = match journal.course() {
            Some(course) => course,
            None => match self.find_course(journal).await? {
                Ok(course) => course,
                Err(waits) => return Ok(Some(waits)),
            },
        };
        let began = self.now();
        let news = self.news_since(course.last).await;
        match news.map_err(|e| BackupFailure::Capture(e.to_string()))? {
            Some(News::None | News::Slow) => self.covers(began, None),
            Some(News::Some) => match self.increment(journal, &course).await {
                Ok((made, course)) => {
                    journal.go_on(Some(course));
                    self.covers(began, Some(made));
                    return Ok(None);
                }
                Err(BackupFailure::Gap(why)) => return Ok(Some(self.gap(journal, &why))),
                Err(e) => return Err(e),
            },
            None => {
                return Ok(Some(
                    self.gap(journal, "the store has forgotten what came since"),
                ));
            }
        }
        journal.go_on(Some(course));
        Ok(None)
    }

    fn gap(&self, journal: &Journal, why: &str) -> &'static str {
        journal.go_on(None);
        self.want_base(why)
    }

    /// Has a full backup made now, which increments can follow.
    fn want_base(&self, why: &str) -> &'static str {
        let mut state = self.backups.state();
        if !state.base_wanted {
            tracing::warn!(
                why,
                "nothing can follow the newest backup any more: another one is made"
            );
        }
        state.base_wanted = true;
        "nothing can follow the newest backup any more: another one is made"
    }

    fn covers(&self, began: Time, made: Option<Stored>) {
        let mut state = self.backups.state();
        if let Some(state) = &mut state.journal {
            state.covers = Some(began);
            if made.is_some() {
                state.made += 1;
                state.newest = made;
            }
        }
    }

    /// Where the process before this one left it, by the newest backup and by what is in its sink;
    /// by the latter alone while that of the backups cannot be read. Otherwise why it waits.
    async fn find_course(
        self: &Arc<Self>,
        journal: &Journal,
    ) -> Result<Result<Course, &'static str>, BackupFailure> {
        let (base, looked, unread) = {
            let state = self.backups.state();
            let looked = state.held.is_some();
            let base = state.newest.clone().filter(|_| looked);
            (base, looked, state.unread.is_some())
        };
        if base.is_none() && (looked || !unread) {
            return Ok(Err("there is no backup yet that it would follow"));
        }
        let restored = self.store.get::<Restoration>(&known(Restoration::ID)).await;
        let restored = restored.map_err(BackupFailure::capture)?;
        let after = |stored: &&Stored| {
            let restored = restored.as_ref().map(|r| r.restored_at.whole_seconds());
            restored.is_none_or(|at| stored.created_at >= at)
        };
        if base.as_ref().is_some_and(|base| !after(&base)) {
            return Ok(Err(self.want_base("the store was restored since")));
        }
        // What opens increments elsewhere is the machine key that is in their base.
        let ring = self.store.get::<RingRow>(&known("ring")).await;
        let ring = ring.map_err(BackupFailure::capture)?;
        let sealed = ring.map_or(0, |ring| ring.version());
        if base.as_ref().is_some_and(|base| base.seq < sealed) {
            return Ok(Err(
                self.want_base("the keys of the store were changed since")
            ));
        }
        let store = self.store_name().await?;
        let all = self.in_sink(&journal.sink).await?;
        let increments = all
            .iter()
            .filter(|s| s.counts() && s.increment && s.is_of(&store));
        let ends = increments.filter(after).chain(&base).map(end_of);
        let last = ends.max_by_key(|end| end.seq).map(Course::at);
        Ok(last.ok_or("the sink of the backups cannot be read, and it has nothing to follow"))
    }

    /// What came since; `None` where the store does not know any more.
    async fn news_since(&self, since: Since) -> Result<Option<News>, StoreError> {
        let slow = [Presence::COLL.0, KeyUse::COLL.0];
        // Which server leads, and who waits for a look, is nothing to be kept.
        let passing = [Leader::COLL.0, Look::COLL.0];
        let kept = |row: &&(String, Id)| !passing.contains(&row.0.as_str());
        let newest = self.store.tail(AUDIT, u64::MAX, 1).await?;
        let told = newest.first().map_or(0, |entry| entry.number) > since.audit_entries;
        let mut after = since.seq;
        let (mut first, mut oldest) = (None, None);
        loop {
            let changes = match self.store.changes(after, PAGE).await? {
                Feed::Changes(changes) => changes,
                Feed::Trimmed { .. } => return Ok(None),
            };
            let rows = changes.iter().flat_map(|change| &change.rows);
            let mut rows = rows.filter(kept);
            if told || rows.any(|(coll, _)| !slow.contains(&coll.as_str())) {
                return Ok(Some(News::Some));
            }
            oldest = oldest.or(changes.first().map(|change| change.at));
            // Forgetting is a commit, too, of which nothing is left.
            let touched = changes
                .iter()
                .find(|change| change.rows.iter().any(|row| kept(&row)));
            first = first.or(touched.map(|change| change.at));
            let Some(last) = changes.last() else { break };
            after = last.seq;
        }
        let waited = |since: Option<Time>, long: Duration| {
            since.is_some_and(|since| self.now().since(since) >= long)
        };
        Ok(Some(match first {
            Some(_) if waited(first, SLOW) => News::Some,
            Some(_) => News::Slow,
            // An increment without content, before the feed forgets where it would begin.
            None if waited(oldest, FARTHEST) => News::Some,
            None => News::None,
        }))
    }

    /// Makes an increment; where the journal is then.
    async fn increment(
        self: &Arc<Self>,
        journal: &Journal,
        course: &Course,
    ) -> Result<(Stored, Course), BackupFailure> {
        let long = course.small.len() >= journal.most_small();
        if long {
            match self.increment_since(journal, course.anchor).await {
                Ok(made) => {
                    let (sink, small) = (journal.sink.clone(), course.small.clone());
                    let remove = async move |app: &Arc<Self>| {
                        let s3 = app.s3()?;
                        for name in &small {
                            sink.remove(app.ways(s3.as_ref()), name).await?;
                        }
                        Ok(())
                    };
                    self.at_sink("journal", remove).await?;
                    let course = Course::at(end_of(&made));
                    return Ok((made, course));
                }
                // Then the small ones stay.
                Err(BackupFailure::Gap(_)) => {}
                Err(e) => return Err(e),
            }
        }
        let made = self.increment_since(journal, course.last).await?;
        let mut course = if long {
            Course::at(course.last)
        } else {
            course.clone()
        };
        course.last = end_of(&made);
        course.small.push(made.name.clone());
        Ok((made, course))
    }

    async fn increment_since(
        self: &Arc<Self>,
        journal: &Journal,
        since: Since,
    ) -> Result<Stored, BackupFailure> {
        let (sink, locking) = (journal.sink.clone(), journal.locking.clone());
        let make = async move |app: &Arc<Self>| {
            let machine = machine_key(&*app.files, &app.config)?;
            let machine = machine.ok_or_else(|| {
                let why = "the machine.key is not in the data directory";
                BackupFailure::Refused(why.to_owned())
            })?;
            let (s3, stop) = (app.s3()?, app.tasks.token());
            let source = Source {
                store: &app.store,
                machine: Some(&machine),
                ways: app.ways(s3.as_ref()),
                clock: &*app.clock,
                stop: &stop,
            };
            create(source, &sink, &locking, Some(since), &mut |_| {}).await
        };
        self.at_sink("journal", make).await
    }

    /// Removes the increments that a new backup holds all of; not behind a fence, where they may be
    /// what the restore should have taken.
    pub(super) async fn prune_journal(
        &self,
        new: &Stored,
        beside: &[Stored],
        ways: Ways<'_>,
    ) -> Result<(), BackupFailure> {
        let Some(journal) = self.backups.journal.as_ref().filter(|_| !self.is_fenced()) else {
            return Ok(());
        };
        let all = journal.sink.held(ways).await?;
        for stored in covered(&all, new, beside) {
            journal.sink.remove(ways, &stored.name).await?;
        }
        Ok(())
    }
}
