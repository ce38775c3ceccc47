//! Numbers for a dashboard: sums of counts that commits keep, the same as the lists have.

use super::{App, AppError, require};
use crate::{
    access::Permission,
    clock::Time,
    domain::{Principal, Status, agent::ONLINE_WITHIN},
    store::{
        AGENT_ENROLLED, CERT_EXPIRY, Facet, JOB_STATUS, Key, day_of, expiry_key, issued_on,
        jobs_ended_on,
    },
};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// When this was true.
    pub now: Time,
    /// Certificates.
    pub certificates: u64,
    /// Certificates by status: several may be true of one.
    pub by_status: Vec<(Status, u64)>,
    /// Agents that are not retired.
    pub agents: u64,
    /// Agents heard within [`ONLINE_WITHIN`].
    pub agents_online: u64,
    /// Jobs that have not ended.
    pub open_jobs: u64,
    /// Jobs that failed and are not forgotten.
    pub failed_jobs: u64,
    /// Jobs that were completed and are not forgotten.
    pub completed_jobs: u64,
}

impl Summary {
    /// How many certificates a status is true of.
    pub fn with_status(&self, status: Status) -> u64 {
        let found = self.by_status.iter().find(|(s, _)| *s == status);
        found.map_or(0, |(_, n)| *n)
    }
}

/// A number, or several, of one day of UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day<T> {
    /// Its beginning.
    pub begins: Time,
    /// The number.
    pub value: T,
}

impl App {
    /// How things stand.
    pub async fn summary(&self, who: &Principal) -> Result<Summary, AppError> {
        require(who, Permission::StatsRead)?;
        let jobs = async |status: &str| {
            let jobs = Facet::is(JOB_STATUS, Key::new().text(status));
            self.store.count(&jobs).await
        };
        let mut open_jobs = 0;
        for status in super::metrics::OPEN_JOBS {
            open_jobs += jobs(status).await?;
        }
        let counts = self.certificate_counts().await?;
        let now = self.now();
        Ok(Summary {
            now,
            certificates: counts.total,
            by_status: counts.by_status,
            agents: self.store.count(&Facet::any(AGENT_ENROLLED)).await?,
            agents_online: self.heard.count_after(now.minus(ONLINE_WITHIN)),
            open_jobs,
            failed_jobs: jobs("Failed").await?,
            completed_jobs: jobs("Completed").await?,
        })
    }

    /// How many certificates end on each of the coming days, today first: of today those that
    /// have not ended yet.
    pub async fn expirations(&self, who: &Principal, days: u32) -> Result<Vec<Day<u64>>, AppError> {
        require(who, Permission::StatsRead)?;
        let now = self.now();
        let mut begins = today(now);
        let mut timeline = Vec::new();
        for _ in 0..days {
            let end = begins.plus(DAY);
            let from = begins.max(now.next());
            let on = Facet::between(CERT_EXPIRY, expiry_key(false, from), expiry_key(false, end));
            let value = self.store.count(&on).await?;
            timeline.push(Day { begins, value });
            begins = end;
        }
        Ok(timeline)
    }

    /// How many jobs were completed and failed on each of the last days, today last.
    pub async fn job_trends(
        &self,
        who: &Principal,
        days: u32,
    ) -> Result<Vec<Day<(u64, u64)>>, AppError> {
        require(who, Permission::StatsRead)?;
        let mut trends = Vec::new();
        for begins in last_days(self.now(), days) {
            let total = async |status: &str| {
                let ended = jobs_ended_on(status, day_of(begins));
                self.store.total(ended).await
            };
            let value = (total("Completed").await?, total("Failed").await?);
            trends.push(Day { begins, value });
        }
        Ok(trends)
    }

    /// How many versions were issued on each of the last days, today last.
    pub async fn issuance_rate(
        &self,
        who: &Principal,
        days: u32,
    ) -> Result<Vec<Day<u64>>, AppError> {
        require(who, Permission::StatsRead)?;
        let mut rate = Vec::new();
        for begins in last_days(self.now(), days) {
            let value = self.store.total(issued_on(day_of(begins))).await?;
            rate.push(Day { begins, value });
        }
        Ok(rate)
    }
}

/// The beginning of the day of `now`.
fn today(now: Time) -> Time {
    Time::from_seconds(day_of(now) * 86_400)
}

fn last_days(now: Time, days: u32) -> impl Iterator<Item = Time> {
    (0..days).rev().map(move |ago| today(now).minus(DAY * ago))
}
