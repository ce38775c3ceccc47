//! What the store says of the work: agents, certificates' plans, jobs, the fence.

use super::{Found, Ground, NAMED, Reading};
use crate::{
    app::{VERSION, known},
    domain::{
        Agent, Certificate, Finding, Grade, Job, Order, OrderState, Plan, Presence, Restoration,
        Skew,
        agent::{self, ONLINE_WITHIN},
    },
    id::Id,
    store::{
        AGENT_ENROLLED, CERT_CREATED, CERT_DUE, Document, Index, JOB_DUE, Key, Loaded, Scan, Store,
        StoreError,
    },
};
use std::{collections::BTreeMap, time::Duration};

/// Rows that are read at once.
const PAGE: usize = 500;
/// What is due is begun within moments: nobody looks when it waits for longer.
const OVERDUE: Duration = Duration::from_secs(3_600);
/// A clock from which most agents' differ by so much is wrong itself.
const CLOCK_IS_WRONG: Duration = Duration::from_secs(60);
/// Jobs that are looked at.
const JOBS: usize = 5_000;

/// Calls `see` with each page of an index's rows.
async fn pages<T: Document>(
    store: &Store,
    index: Index,
    mut see: impl AsyncFnMut(Vec<Loaded<T>>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let scan = Scan {
            after: after.take(),
            ..Scan::all(index, PAGE)
        };
        let page = store.page::<T>(scan).await?;
        tokio::task::yield_now().await;
        see(page.rows).await?;
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// Names the first of many, and says how many more there are.
#[derive(Default)]
struct Named {
    found: Vec<Finding>,
    more: BTreeMap<&'static str, u64>,
    gravest: Option<Grade>,
}

impl Named {
    fn tell(&mut self, finding: Finding) {
        self.gravest = self.gravest.max(Some(finding.grade));
        if self.found.len() < NAMED {
            self.found.push(finding);
        } else {
            *self.more.entry(finding.check).or_default() += 1;
        }
    }

    fn all(mut self, remedy: &str) -> Vec<Finding> {
        for (check, n) in self.more {
            let grade = self.gravest.unwrap_or(Grade::Notice);
            let what = format!("{n} more like these");
            self.found
                .push(Finding::new(grade, check, "", what, remedy));
        }
        self.found
    }
}

/// Whether agents are heard, and how their clocks and versions stand to the server's.
pub(super) async fn agents(ground: &Ground<'_>, store: &Store) -> Found {
    let now = ground.now;
    let mut named = Named::default();
    let (mut all, mut offline, mut versions) = (0_u64, 0_u64, BTreeMap::<String, u64>::new());
    let mut clocks = Vec::new();
    pages::<Agent>(store, AGENT_ENROLLED, async |agents| {
        let ids = agents.iter().map(|agent| agent.id.clone()).collect();
        let heard = store.get_many::<Presence>(ids).await?;
        for (agent, heard) in agents.iter().zip(heard) {
            if agent.retired.is_some() {
                continue;
            }
            all += 1;
            let subject = format!("{} ({})", agent.name, agent.id);
            let heard = heard.as_ref();
            // It is written down a minute later that one was heard.
            let last = heard.map_or(agent.enrolled_at, |heard| heard.heard_at);
            if now.since(last) > ONLINE_WITHIN {
                offline += 1;
                let since = heard.map(|heard| heard.heard_at.whole_seconds().to_string());
                let since = since.unwrap_or_else(|| "its enrolment".to_owned());
                named.tell(Finding::warning(
                    "agents",
                    &subject,
                    format!("it was not heard since {since}"),
                    format!(
                        "on its host: `certctl agent ping` says why; where the host is gone, \
                         `certctl agents retire {}`",
                        agent.id
                    ),
                ));
            }
            if let Skew::Older { far: false } | Skew::Newer { far: false } =
                Skew::between(&agent.version, VERSION)
            {
                *versions.entry(agent.version.clone()).or_default() += 1;
            }
            let said = heard.map(|heard| heard.said.clone()).unwrap_or_default();
            clocks.extend(said.clock_ahead_ms);
            for problem in agent::problems(agent, &said, VERSION, now) {
                let (what, remedy) = match problem.split_once(": ") {
                    Some((what, remedy)) => (what.to_owned(), remedy.to_owned()),
                    None => (problem, String::new()),
                };
                named.tell(Finding::warning("agents", &subject, what, remedy));
            }
        }
        Ok(())
    })
    .await?;
    let mut found = named.all("`certctl agents list` shows them all");
    for (version, n) in versions {
        found.push(Finding::notice(
            "agents",
            format!("version {version}"),
            format!("{n} agents run it, and the server {VERSION}"),
            "install the server's version on their hosts when it suits",
        ));
    }
    found.extend(servers_clock(clocks));
    if found.is_empty() {
        let what = format!(
            "{all} agents, all heard within {} s",
            ONLINE_WITHIN.as_secs()
        );
        found.push(Finding::ok("agents", what));
    } else if offline > 0 {
        let what = format!("{offline} of {all} agents are not heard");
        found.insert(0, Finding::notice("agents", "", what, ""));
    }
    Ok(found)
}

/// Two agents and more whose clocks, as most see it, differ alike from the server's.
fn servers_clock(mut ahead: Vec<i64>) -> Option<Finding> {
    ahead.sort_unstable();
    let median = *ahead.get(ahead.len() / 2).filter(|_| ahead.len() >= 2)?;
    let wrong = Duration::from_millis(median.unsigned_abs()) > CLOCK_IS_WRONG;
    let agree = ahead.iter().filter(|one| (**one - median).abs() < 30_000);
    (wrong && agree.count() * 3 >= ahead.len() * 2).then(|| {
        let side = if median > 0 { "behind" } else { "ahead of" };
        Finding::error(
            "clock",
            "",
            format!(
                "the server's clock is {} s {side} those of its agents",
                median.unsigned_abs() / 1_000
            ),
            "set the server's clock by NTP (`timedatectl set-ntp true`)",
        )
    })
}

/// Whether each certificate is scheduled, in flight or exempt, and what is due is begun.
pub(super) async fn schedule(ground: &Ground<'_>, store: &Store, reading: Reading<'_>) -> Found {
    let mut named = Named::default();
    let mut all = 0;
    pages::<Certificate>(store, CERT_CREATED, async |certificates| {
        all += certificates.len();
        reading("schedule", certificates.len() as u64);
        for certificate in &certificates {
            if certificate.holders.is_empty() && certificate.ended().is_none() {
                named.tell(unplanned(&certificate.id, "it has no plan at all"));
            }
            for line in certificate.holders.values() {
                match &line.plan {
                    Plan::Scheduled { .. } => {}
                    Plan::Exempt { reason, owner } => {
                        if reason.is_empty() || owner.is_empty() {
                            let what = "it is exempt, and nobody says why";
                            named.tell(unplanned(&certificate.id, what));
                        }
                    }
                    Plan::InFlight { order } => {
                        if let Some(what) = lost(store, &certificate.id, order).await? {
                            named.tell(unplanned(&certificate.id, &what));
                        }
                    }
                }
            }
        }
        Ok(())
    })
    .await?;
    let due = Scan {
        below: Some(Key::new().time(ground.now.minus(OVERDUE)).bytes()),
        ..Scan::all(CERT_DUE, NAMED)
    };
    for certificate in store.scan::<Certificate>(due).await? {
        let blocked = certificate.holders.values();
        if certificate.ended().is_some() || blocked.clone().any(|l| l.blocked_since.is_some()) {
            continue;
        }
        named.tell(Finding::warning(
            "schedule",
            &certificate.id,
            "it is due for over an hour, and no order was opened",
            format!(
                "a server that runs opens it: `certctl certs show {}` says what it waits for",
                certificate.id
            ),
        ));
    }
    let mut found = named.all("`certctl certs list` shows them all");
    if found.is_empty() {
        let what = format!("{all} certificates, each scheduled, in flight or exempt");
        found.push(Finding::ok("schedule", what));
    }
    Ok(found)
}

fn unplanned(certificate: &Id, what: &str) -> Finding {
    Finding::error(
        "schedule",
        certificate,
        format!("nothing will renew it: {what}"),
        format!(
            "have it renewed: `certctl certs renew {certificate}`; please report this, it is a \
             fault of certctl's"
        ),
    )
}

/// Why an order that a plan names is none that goes on, if so. A certificate that has moved on
/// meanwhile is well.
async fn lost(store: &Store, certificate: &Id, order: &Id) -> Result<Option<String>, StoreError> {
    let what = match store.get::<Order>(order).await? {
        Some(row) if row.state == OrderState::Open => return Ok(None),
        Some(_) => format!("its order {order} has ended"),
        None => format!("its order {order} is not there"),
    };
    let again = store.get::<Certificate>(certificate).await?;
    let still = again.is_some_and(|certificate| {
        let mut lines = certificate.holders.values();
        lines.any(|line| matches!(&line.plan, Plan::InFlight { order: of } if of == order))
    });
    Ok(still.then_some(what))
}

/// Whether jobs wait for long.
pub(super) async fn jobs(ground: &Ground<'_>, store: &Store) -> Found {
    let late = ground.now.minus(OVERDUE);
    let (mut seen, mut waiting) = (0, BTreeMap::<String, u64>::new());
    let scan = Scan::all(JOB_DUE, JOBS);
    for job in store.scan::<Job>(scan).await? {
        seen += 1;
        if job.ready_at().is_some_and(|at| at < late) {
            *waiting.entry(job.executor.to_string()).or_default() += 1;
        }
    }
    if waiting.is_empty() {
        let more = if seen == JOBS { " or more" } else { "" };
        let what = format!("{seen}{more} may be begun, none for over an hour");
        return Ok(vec![Finding::ok("jobs", what)]);
    }
    let mut named = Named::default();
    for (executor, n) in waiting {
        named.tell(Finding::warning(
            "jobs",
            executor,
            format!("{n} jobs wait for it for over an hour"),
            "see that its agent runs; `certctl jobs list` shows what waits",
        ));
    }
    Ok(named.all("`certctl jobs list` shows what waits"))
}

/// Whether a restored store may be acted on.
pub(super) async fn fence(store: &Store) -> Found {
    let row = store.get::<Restoration>(&known(Restoration::ID)).await?;
    let fenced = row.filter(|row| row.fenced);
    Ok(fenced
        .map(|row| {
            Finding::warning(
                "fence",
                &row.backup,
                format!(
                    "the store was restored {} and nothing is issued or deployed since",
                    row.restored_at.whole_seconds()
                ),
                "see what the server would do (`certctl restore plan`), then let it: `certctl \
                 restore unfence`",
            )
        })
        .into_iter()
        .collect())
}
