//! How much room the store takes, and will take.

use super::{App, AppError, RETENTION, backup::STORE_FILE, require};
use crate::{
    access::Permission,
    clock::Time,
    domain::{Certificate, Plan, Principal},
    store::{
        Answer, CERT_CREATED, COLLECTIONS, Query, Scan, Snapshot, StoreError, day_of, issued_on,
    },
    sys::Room,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// What was counted is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(3_600);
/// Counting takes at most so long.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Rows read at a time: few, since others wait meanwhile.
const PAGE: usize = 256;
/// The days over which issuances are counted.
const DAYS: u64 = 30;
/// The most days that are looked back.
const MOST_DAYS: u64 = 400;
/// How far ahead, in days.
pub const AHEAD: [u64; 3] = [30, 90, 365];
/// What a version takes with its events where there is none yet to go by.
const TYPICAL: u64 = 4_096;
/// What stands beside an entry of the audit log: its number and its link.
const BESIDE: u64 = 40;
/// A byte of documents takes between one and so many bytes on the disk, with indexes and what is
/// free within the file; a small file says nothing of that.
const MOST_OVERHEAD: u64 = 3;
/// A plan that is nearer than this says nothing of how often.
const SHORTEST: Duration = Duration::from_secs(3_600);

/// The last count.
#[derive(Default)]
pub(super) struct Storage(Mutex<StorageState>);

/// How much room the store takes, as far as it was counted.
#[derive(Debug, Clone, Default)]
pub struct StorageState {
    /// It is being counted.
    pub counting: bool,
    /// The last count.
    pub last: Option<Census>,
}

/// A count.
#[derive(Debug, Clone)]
pub struct Census {
    /// When.
    pub at: Time,
    /// What each collection, and the audit log, takes, the largest first.
    pub collections: Vec<Taken>,
    /// The size of the store's file; nothing where a database holds it.
    pub on_disk: Option<u64>,
    /// The disk of the data directory.
    pub room: Room,
    /// Versions that were issued in the last 30 days.
    pub issued: u64,
    /// Versions that were issued within the time for which jobs are kept.
    pub issued_with_jobs: u64,
    /// Versions that will be issued in 30 days, by what is planned.
    pub expected: u64,
}

/// What a collection takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its name.
    pub what: &'static str,
    /// Rows.
    pub rows: u64,
    /// Bytes of their documents.
    pub bytes: u64,
}

impl Storage {
    fn state(&self) -> MutexGuard<'_, StorageState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Census {
    /// Bytes of all documents.
    pub fn documents(&self) -> u64 {
        self.collections.iter().map(|taken| taken.bytes).sum()
    }

    /// What the store takes now: its file, or else its documents.
    pub fn now(&self) -> u64 {
        self.on_disk.unwrap_or_else(|| self.documents())
    }

    fn of(&self, what: &str) -> (u64, u64) {
        let found = self.collections.iter().find(|taken| taken.what == what);
        found.map_or((0, 0), |taken| (taken.rows, taken.bytes))
    }

    /// Issuances in 30 days: as planned, or as it was, whichever is more.
    pub fn a_month(&self) -> u64 {
        self.issued.max(self.expected)
    }

    /// What the store will take in so many days. `kept` is how long orders and jobs are kept, in
    /// days.
    ///
    /// Each issuance leaves a version and its events in the audit log for ever; its order with the
    /// deployments, and its jobs, for as long as they are kept. What a byte of documents takes on
    /// the disk is what it takes now.
    pub fn forecast(&self, days: u64, (orders, jobs): (u64, u64)) -> u64 {
        let (versions, bytes) = self.of("version");
        let for_ever = match versions {
            0 => TYPICAL,
            n => (bytes + self.of("audit log").1) / n,
        };
        let month = self.a_month();
        let in_days = |days: u64, each: u64| month * each * days / 30;
        let mut more = in_days(days, for_ever);
        // An order and its deployments go together; jobs go by themselves.
        let (of_orders, of_jobs) = (self.of("order").0, self.issued_with_jobs);
        for (what, kept, issuances) in [
            ("order", orders, of_orders),
            ("deployment", orders, of_orders),
            ("job", jobs, of_jobs),
        ] {
            let (_, now) = self.of(what);
            // Where nothing was issued, it is not by issuances that it grows.
            let each = now.checked_div(issuances).unwrap_or(0);
            // It grows until as much is forgotten as is made.
            let most = in_days(kept, each);
            more += (now + in_days(days, each)).min(most).saturating_sub(now);
        }
        let documents = self.documents().max(1);
        let overhead = (self.now() / documents).clamp(1, MOST_OVERHEAD);
        self.now() + more * overhead
    }

    /// In how many days the disk is full, where it is ever.
    pub fn full_in(&self, kept: (u64, u64)) -> Option<u64> {
        let a_year = self.forecast(365, kept).saturating_sub(self.now());
        let days = (self.room.free * 365).checked_div(a_year)?;
        (days <= 36_500 && self.on_disk.is_some()).then_some(days)
    }
}

impl App {
    /// How much room the store takes. What is older than an hour is counted again meanwhile.
    pub fn storage(self: &Arc<Self>, who: &Principal) -> Result<StorageState, AppError> {
        require(who, Permission::MetricsRead)?;
        let now = self.now();
        let state = {
            let mut state = self.storage.state();
            let good = |last: &Census| now < last.at.plus(GOOD_FOR);
            if state.counting || state.last.as_ref().is_some_and(good) {
                return Ok(state.clone());
            }
            state.counting = true;
            state.clone()
        };
        let (app, stop) = (Arc::clone(self), self.tasks.token());
        self.tasks.spawn("storage", async move {
            let Some(counted) = stop.run_until_cancelled(app.census()).await else {
                return;
            };
            let mut state = app.storage.state();
            state.counting = false;
            match counted {
                Ok(census) => state.last = Some(census),
                Err(error) => tracing::warn!(%error, "what the store holds was not counted"),
            }
        });
        Ok(state)
    }

    /// How long orders and jobs are kept, in days.
    pub fn kept_days(&self) -> (u64, u64) {
        let days = |time: Duration| time.as_secs() / 86_400;
        (days(self.config.keep.orders), days(self.config.keep.jobs))
    }

    async fn census(&self) -> Result<Census, StoreError> {
        let at = self.now();
        let state = self.store.snapshot(Instant::now() + LONGEST).await?;
        let mut collections = rows(&*state).await?;
        collections.push(entries(&*state).await?);
        drop(state);
        collections.retain(|taken| taken.rows > 0);
        collections.sort_by_key(|taken| (std::cmp::Reverse(taken.bytes), taken.what));
        let (_, jobs) = self.kept_days();
        let issued = self.issued_within(DAYS, at).await?;
        let issued_with_jobs = self.issued_within(jobs.min(MOST_DAYS), at).await?;
        let file = self.files.metadata(&self.config.data_dir.join(STORE_FILE));
        let file = file.ok().flatten().map(|file| file.len);
        Ok(Census {
            at,
            collections,
            on_disk: file.filter(|_| self.config.database.is_none()),
            room: self.room(),
            issued,
            issued_with_jobs,
            expected: self.expected().await?,
        })
    }

    /// Versions that were issued in the last so many days.
    async fn issued_within(&self, days: u64, now: Time) -> Result<u64, StoreError> {
        let mut issued = 0;
        for (_, day) in (0..days).zip((0..=day_of(now)).rev()) {
            issued += self.store.total(issued_on(day)).await?;
        }
        Ok(issued)
    }

    /// Versions that are issued in 30 days, as what is planned now repeats itself.
    async fn expected(&self) -> Result<u64, StoreError> {
        let (mut after, mut expected) = (None, 0.0);
        loop {
            let page = self
                .store
                .page::<Certificate>(Scan {
                    after,
                    ..Scan::all(CERT_CREATED, PAGE)
                })
                .await?;
            for line in page.rows.iter().flat_map(|c| c.holders.values()) {
                if let (Plan::Scheduled { at }, Some(current)) = (&line.plan, &line.current) {
                    let pause = at.since(current.not_before).max(SHORTEST);
                    expected += 30.0 * 86_400.0 / pause.as_secs_f64();
                }
            }
            after = page.next;
            if after.is_none() {
                // Not below 0, and below what there are certificates.
                return Ok(expected.ceil() as u64);
            }
            tokio::task::yield_now().await;
        }
    }
}

/// What each collection takes.
async fn rows(state: &dyn Snapshot) -> Result<Vec<Taken>, StoreError> {
    let mut found: BTreeMap<&'static str, Taken> = BTreeMap::new();
    let mut after = None;
    loop {
        let limit = PAGE;
        let answers = state.read(vec![Query::EveryRow { after, limit }]).await?;
        let Some(Answer::EveryRow(rows)) = answers.into_iter().next() else {
            return Ok(found.into_values().collect());
        };
        for (coll, row) in &rows {
            let known = COLLECTIONS.iter().map(|c| c.name());
            let what = known.into_iter().find(|name| name == coll);
            let what = what.unwrap_or("layout");
            let taken = found.entry(what).or_insert(Taken {
                what,
                rows: 0,
                bytes: 0,
            });
            taken.rows += 1;
            taken.bytes += (row.doc.len() + row.id.as_str().len()) as u64;
        }
        match rows.into_iter().next_back() {
            Some((coll, row)) => after = Some((coll, row.id)),
            None => return Ok(found.into_values().collect()),
        }
        tokio::task::yield_now().await;
    }
}

/// What the audit log takes.
async fn entries(state: &dyn Snapshot) -> Result<Taken, StoreError> {
    let mut taken = Taken {
        what: "audit log",
        rows: 0,
        bytes: 0,
    };
    let mut after = None;
    loop {
        let limit = PAGE;
        let answers = state.read(vec![Query::EveryEntry { after, limit }]).await?;
        let Some(Answer::EveryEntry(entries)) = answers.into_iter().next() else {
            return Ok(taken);
        };
        for (_, entry) in &entries {
            taken.rows += 1;
            taken.bytes += entry.doc.len() as u64 + BESIDE;
        }
        match entries.into_iter().next_back() {
            Some((stream, entry)) => after = Some((stream, entry.number)),
            None => return Ok(taken),
        }
        tokio::task::yield_now().await;
    }
}

/// How long something is kept, for people.
pub fn kept(what: &str) -> String {
    let found = RETENTION.iter().find(|(name, ..)| *name == what);
    found.map_or_else(String::new, |(_, kept, _)| kept.to_string())
}
