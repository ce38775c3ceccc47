//! What a scrape says: what the store counts, and what the process measures of itself.
//!
//! A scrape costs a fixed number of reads of counts and counters, however many rows there are.

use super::{App, AppError, BackupState, require};
use crate::{
    access::Permission,
    clock::Time,
    domain::{
        FailureClass, Issuer, Presence, Principal, Status, agent::ONLINE_WITHIN,
        order::ERROR_CLASSES,
    },
    id::Id,
    store::{
        AGENT_ENROLLED, CERT_NAME, DEPLOYMENT_RETRY, Facet, ISSUER_NAME, JOB_STATUS, Key,
        PRESENCE_HEARD, Scan, StoreError, Unit, attempts_total, issued_total, jobs_total,
        refused_total,
    },
    sys::{Room, Usage},
    telemetry::{Series, Sheet},
};
use std::collections::BTreeMap;

/// Issuers that are told apart; there are a handful.
const ISSUERS: usize = 1_000;
/// Agents read at a time.
const PAGE: usize = 1_000;
/// The statuses of jobs that have not ended, by their words on the wire.
pub(super) const OPEN_JOBS: [&str; 4] = ["Pending", "AwaitingCSR", "AwaitingApproval", "Running"];
/// How attempts at deployments end, by the words on the wire.
const ENDINGS: [&str; 6] = [
    "changed",
    "unchanged",
    "rolled_back",
    "rollback_failed",
    "failed",
    "lost",
];

/// The numbers that a scrape and `GET /metrics` tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// When they were true.
    pub now: Time,
    /// When this process began.
    pub started_at: Time,
    /// The disk of the data directory.
    pub room: Room,
    /// Too little of it is left to begin anything.
    pub disk_low: bool,
    /// The store was restored, and nobody has lifted the fence.
    pub fenced: bool,
    /// Certificates.
    pub certificates: u64,
    /// Certificates by status: several may be true of one.
    pub by_status: Vec<(Status, u64)>,
    /// Agents that are not retired.
    pub agents: u64,
    /// Agents heard within [`ONLINE_WITHIN`].
    pub agents_online: u64,
    /// Jobs that have not ended, by status on the wire.
    pub open_jobs: Vec<(&'static str, u64)>,
    /// Jobs that were ever completed.
    pub jobs_completed: u64,
    /// Jobs that ever failed.
    pub jobs_failed: u64,
    /// Jobs that were ever cancelled.
    pub jobs_cancelled: u64,
    /// Deployments that failed and are tried again.
    pub failed_deployments: u64,
    /// Attempts at deployments that ever ended, by how.
    pub deploy_attempts: Vec<(&'static str, u64)>,
    /// What issuers did, by type.
    pub issuance: BTreeMap<&'static str, Issuance>,
}

/// What the issuers of a type did, since the store began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issuance {
    /// Certificates issued.
    pub issued: u64,
    /// Failures by class; every class is there.
    pub failures: BTreeMap<String, u64>,
}

impl Numbers {
    /// How many certificates a status is true of.
    pub fn with_status(&self, status: &str) -> u64 {
        let found = self.by_status.iter().find(|(s, _)| s.as_str() == status);
        found.map_or(0, |(_, n)| *n)
    }

    /// Jobs that have not ended.
    pub fn jobs_pending(&self) -> u64 {
        self.open_jobs.iter().map(|(_, n)| n).sum()
    }
}

impl App {
    /// The numbers of a scrape.
    pub async fn numbers(&self, who: &Principal) -> Result<Numbers, AppError> {
        require(who, Permission::MetricsRead)?;
        let store = &self.store;
        let mut open_jobs = Vec::with_capacity(OPEN_JOBS.len());
        for status in OPEN_JOBS {
            let jobs = Facet::is(JOB_STATUS, Key::new().text(status));
            open_jobs.push((status, store.count(&jobs).await?));
        }
        let mut deploy_attempts = Vec::with_capacity(ENDINGS.len());
        for ending in ENDINGS {
            deploy_attempts.push((ending, store.total(attempts_total(ending)).await?));
        }
        let certificates = self.certificate_counts().await?;
        let now = self.now();
        Ok(Numbers {
            now,
            started_at: self.started_at,
            room: self.room(),
            disk_low: self.low_disk().is_some(),
            fenced: self.is_fenced(),
            certificates: store.count(&Facet::any(CERT_NAME)).await?,
            by_status: certificates.by_status,
            agents: store.count(&Facet::any(AGENT_ENROLLED)).await?,
            agents_online: self.heard.count_after(now.minus(ONLINE_WITHIN)),
            open_jobs,
            jobs_completed: store.total(jobs_total("Completed")).await?,
            jobs_failed: store.total(jobs_total("Failed")).await?,
            jobs_cancelled: store.total(jobs_total("Cancelled")).await?,
            failed_deployments: store.count(&Facet::any(DEPLOYMENT_RETRY)).await?,
            deploy_attempts,
            issuance: self.issuance().await?,
        })
    }

    async fn issuance(&self) -> Result<BTreeMap<&'static str, Issuance>, StoreError> {
        let mut by_kind = BTreeMap::new();
        let issuers = Scan::all(ISSUER_NAME, ISSUERS);
        for issuer in self.store.scan::<Issuer>(issuers).await? {
            let kind = issuer.kind.as_str();
            if !by_kind.contains_key(kind) {
                by_kind.insert(kind, self.issuance_of(&deleted(kind)).await?);
            }
            let of: &mut Issuance = by_kind.entry(kind).or_default();
            let more = self.issuance_of(&issuer.id).await?;
            of.issued += more.issued;
            for (class, total) in more.failures {
                *of.failures.entry(class).or_default() += total;
            }
        }
        Ok(by_kind)
    }

    async fn issuance_of(&self, issuer: &Id) -> Result<Issuance, StoreError> {
        let mut of = Issuance {
            issued: self.store.total(issued_total(issuer)).await?,
            failures: BTreeMap::new(),
        };
        for class in ERROR_CLASSES {
            for class in [class.to_owned(), format!("renewal_{class}")] {
                let total = self.store.total(refused_total(issuer, &class)).await?;
                of.failures.insert(class, total);
            }
        }
        Ok(of)
    }

    /// Keeps what an issuer did that is deleted in this unit: totals never fall. Whoever takes its
    /// id begins at 0.
    pub(super) async fn keep_totals(
        &self,
        unit: &mut Unit<'_>,
        issuer: &Issuer,
    ) -> Result<(), StoreError> {
        let (did, keeper) = (
            self.issuance_of(&issuer.id).await?,
            deleted(issuer.kind.as_str()),
        );
        let mut totals = vec![(issued_total(&keeper), issued_total(&issuer.id), did.issued)];
        let failures = did.failures.iter();
        totals.extend(failures.map(|(class, n)| {
            let of = |issuer| refused_total(issuer, class);
            (of(&keeper), of(&issuer.id), *n)
        }));
        for (kept, left, n) in totals {
            if let Ok(n @ 1..) = i64::try_from(n) {
                unit.add(kept, n, i64::MAX);
                unit.add(left, -n, i64::MAX);
            }
        }
        Ok(())
    }

    /// Counts a failure that leaves no order behind: whoever sent the CSR is told, and asks again.
    pub(super) async fn count_refusal(
        &self,
        issuer: &Id,
        class: FailureClass,
    ) -> Result<(), AppError> {
        let Some(class) = class.error_class(false) else {
            return Ok(());
        };
        let total = &refused_total(issuer, &class);
        self.decide(|mut unit| async move {
            unit.count_towards([total.clone()]);
            Ok((unit, ()))
        })
        .await
    }

    /// Makes the series of all issuers, at 0.
    pub(super) async fn know_issuers(&self) -> Result<(), StoreError> {
        for kind in self.issuance().await?.keys() {
            self.metrics.has_issuers(kind);
        }
        Ok(())
    }

    /// All series, in the text format of Prometheus.
    pub async fn scrape(&self, who: &Principal) -> Result<String, AppError> {
        let numbers = self.numbers(who).await?;
        let mut sheet = Sheet::default();
        write(&mut sheet, &numbers);
        let backups = self.backup_numbers();
        write_backups(&mut sheet, &backups, (numbers.now, self.started_at));
        let leads = self.leads() != Some(false);
        write_journal(&mut sheet, &backups, leads, (numbers.now, self.started_at));
        let keys = super::secrets::data_keys(&self.store).await?;
        let sealed = keys.iter();
        let sealed = sealed.map(|key| labelled("key", &key.name, key.values));
        sheet.gauges(
            "certctl_sealed_values",
            "Secrets in the store, by the data key that seals them.",
            &sealed.collect::<Vec<_>>(),
        );
        write_usage(&mut sheet, &Usage::now(), self.started_at);
        sheet.gauge(
            "certctl_leader",
            "1 on the server that renews, retries and makes the scheduled backups; 0 on others of the same database.",
            f64::from(u8::from(self.leads() != Some(false))),
        );
        self.metrics.schema_ahead(self.store.is_ahead());
        Ok(sheet.into_text() + &self.metrics.text())
    }

    /// Takes up from the store which agents were heard of late: from then on this process knows.
    pub(super) async fn remember_heard(&self) -> Result<(), StoreError> {
        let mut after = None;
        let of_late = Key::new().time(self.now().minus(ONLINE_WITHIN)).bytes();
        loop {
            let page = self
                .store
                .page::<Presence>(Scan {
                    from: of_late.clone(),
                    after,
                    ..Scan::all(PRESENCE_HEARD, PAGE)
                })
                .await?;
            for presence in &page.rows {
                self.heard.remember(&presence.id, presence.heard_at);
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// In whose name the totals of deleted issuers of a type are kept.
fn deleted(kind: &str) -> Id {
    Id::derived("deleted", kind.as_bytes())
}

/// One value by one label.
fn labelled(label: &'static str, of: &str, value: u64) -> Series {
    Series {
        labels: vec![(label, of.to_owned())],
        value: value as f64,
    }
}

fn write(sheet: &mut Sheet, numbers: &Numbers) {
    let with = |status| numbers.with_status(status);
    for (name, help, value) in [
        (
            "certctl_certificate_total",
            "Certificates.",
            numbers.certificates,
        ),
        (
            "certctl_certificate_active",
            "Certificates that end in more than 30 days.",
            with("Active"),
        ),
        (
            "certctl_certificate_expiring_soon",
            "Certificates that end within 30 days and have not ended.",
            with("Expiring"),
        ),
        (
            "certctl_certificate_expired",
            "Certificates that have ended.",
            with("Expired"),
        ),
        (
            "certctl_certificate_revoked",
            "Certificates that were revoked.",
            with("Revoked"),
        ),
        (
            "certctl_certificate_failing",
            "Certificates of which the last attempt at a version failed.",
            with("Failed"),
        ),
        (
            "certctl_deployment_failing",
            "Deployments that failed and are tried again.",
            numbers.failed_deployments,
        ),
        (
            "certctl_agent_total",
            "Agents that are not retired.",
            numbers.agents,
        ),
        (
            "certctl_agent_online",
            "Agents heard within the last 5 minutes.",
            numbers.agents_online,
        ),
        (
            "certctl_job_pending",
            "Jobs that have not ended.",
            numbers.jobs_pending(),
        ),
        (
            "certctl_uptime_seconds",
            "Seconds since this process began.",
            numbers.now.since(numbers.started_at).as_secs(),
        ),
        (
            "certctl_disk_free_bytes",
            "Bytes left on the disk of the data directory.",
            numbers.room.free,
        ),
        (
            "certctl_disk_total_bytes",
            "Bytes of the disk of the data directory.",
            numbers.room.total,
        ),
        (
            "certctl_disk_low",
            "1 while so little is left that nothing new is begun.",
            u64::from(numbers.disk_low),
        ),
        (
            "certctl_fenced",
            "1 after a restore until `certctl restore unfence`: nothing is begun meanwhile.",
            u64::from(numbers.fenced),
        ),
    ] {
        sheet.gauge(name, help, value as f64);
    }
    let open = numbers.open_jobs.iter();
    let open: Vec<Series> = open
        .map(|(status, n)| labelled("status", status, *n))
        .collect();
    sheet.gauges(
        "certctl_job_open",
        "Jobs that have not ended, by status.",
        &open,
    );
    for (name, help, value) in [
        (
            "certctl_job_completed_total",
            "Jobs that were completed.",
            numbers.jobs_completed,
        ),
        (
            "certctl_job_failed_total",
            "Jobs that failed.",
            numbers.jobs_failed,
        ),
        (
            "certctl_job_cancelled_total",
            "Jobs that were cancelled.",
            numbers.jobs_cancelled,
        ),
    ] {
        sheet.counter(name, help, value as f64);
    }
    let attempts = numbers.deploy_attempts.iter();
    let attempts: Vec<Series> = attempts
        .map(|(ending, n)| labelled("result", ending, *n))
        .collect();
    sheet.counters(
        "certctl_deploy_attempts_total",
        "Attempts at deployments, by how they ended.",
        &attempts,
    );
    write_issuance(sheet, numbers);
    let build = labelled("version", env!("CARGO_PKG_VERSION"), 1);
    sheet.gauges("certctl_build_info", "The running version.", &[build]);
}

/// How the backups of this server stand; 0 where there is none yet.
fn write_backups(sheet: &mut Sheet, state: &BackupState, (now, started_at): (Time, Time)) {
    let newest = state.newest.as_ref();
    let seconds = |at: Option<Time>| at.map_or(0.0, |at| at.micros() as f64 / 1e6);
    let made = newest.map(|stored| stored.created_at);
    for (name, help, value) in [
        (
            "certctl_backup_last_success_timestamp_seconds",
            "The state that the newest backup holds, in seconds since 1970.",
            seconds(made),
        ),
        (
            "certctl_backup_age_seconds",
            "How old the newest backup is; where there is none, how long the server runs.",
            now.since(made.unwrap_or(started_at)).as_secs_f64(),
        ),
        (
            "certctl_backup_last_proven_restore_timestamp_seconds",
            "When a backup was last restored to prove it, in seconds since 1970.",
            seconds(state.proven_at),
        ),
        (
            "certctl_backup_size_bytes",
            "The size of the newest backup.",
            newest.map_or(0.0, |stored| stored.bytes as f64),
        ),
        (
            "certctl_backup_duration_seconds",
            "How long making the newest backup took.",
            state.took.map_or(0.0, |took| took.as_secs_f64()),
        ),
    ] {
        sheet.gauge(name, help, value);
    }
    sheet.counter(
        "certctl_backup_failures_total",
        "Backups that were not made, or not proven.",
        state.failures as f64,
    );
}

/// How what follows the backups stands, where that is configured.
fn write_journal(sheet: &mut Sheet, state: &BackupState, leads: bool, (now, began): (Time, Time)) {
    let Some(journal) = &state.journal else {
        return;
    };
    // Of servers that share a store, the one that leads keeps the journal.
    if leads {
        let covers = journal.covers.unwrap_or(began);
        sheet.gauge(
            "certctl_backup_journal_lag_seconds",
            "What was committed longer ago is in the journal or the newest backup.",
            now.since(covers).as_secs_f64(),
        );
    }
    sheet.counter(
        "certctl_backup_journal_increments_total",
        "Increments that the journal got.",
        journal.made as f64,
    );
    sheet.counter(
        "certctl_backup_journal_failures_total",
        "Increments that the journal did not get.",
        journal.failures as f64,
    );
}

/// What the process uses, under the names that all programs use.
fn write_usage(sheet: &mut Sheet, usage: &Usage, started_at: Time) {
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Resident memory.",
            usage.resident_bytes,
        ),
        ("process_open_fds", "Open files.", usage.open_files),
        (
            "process_max_fds",
            "Files that may be open.",
            usage.max_files,
        ),
    ] {
        if let Some(value) = value {
            sheet.gauge(name, help, value as f64);
        }
    }
    if let Some(micros) = usage.cpu_micros {
        let seconds = micros as f64 / 1e6;
        sheet.counter("process_cpu_seconds_total", "Processor time.", seconds);
    }
    sheet.gauge(
        "process_start_time_seconds",
        "When the process began, in seconds since 1970.",
        started_at.micros() as f64 / 1e6,
    );
}

fn write_issuance(sheet: &mut Sheet, numbers: &Numbers) {
    let (mut outcomes, mut failures) = (Vec::new(), Vec::new());
    for (kind, issuance) in &numbers.issuance {
        let series = |label, of: &str, value: u64| Series {
            labels: vec![("issuer_type", (*kind).to_owned()), (label, of.to_owned())],
            value: value as f64,
        };
        let failed = issuance.failures.values().sum();
        outcomes.push(series("outcome", "success", issuance.issued));
        outcomes.push(series("outcome", "failure", failed));
        for (class, n) in &issuance.failures {
            failures.push(series("error_class", class, *n));
        }
    }
    sheet.counters(
        "certctl_issuance_total",
        "Attempts at a version that ended, by issuer type and outcome.",
        &outcomes,
    );
    sheet.counters(
        "certctl_issuance_failures_total",
        "Attempts at a version that failed, by issuer type and class of the error; classes that \
         begin with renewal_ are of renewals.",
        &failures,
    );
}
