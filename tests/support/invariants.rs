//! What must hold after every step, whatever happened.

use super::TestApp;
use certctl::{
    domain::{
        Agent, Certificate, Deployment, DeploymentState, Executor, Holder, HolderState, Job,
        JobState, Order, OrderState, Plan, Target, Version, job::JobKind,
    },
    id::Id,
    store::{
        AGENT_RETIRED, AUDIT, CERT_AGENT, CERT_BLOCKED, CERT_CREATED, CERT_DUE, DEPLOYMENT_CERT,
        DEPLOYMENT_RETRY, Document, Facet, Index, JOB_DUE, JOB_LEASE, JOB_LEASED, JOB_OPEN,
        JOB_STOPPING, Key, Loaded, ORDER_OPEN, Scan, Store, TARGET_AGENT, VERSION_CERT,
    },
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const ALL: usize = 100_000;

/// Checks everything that is stored against what must always hold.
pub async fn check(store: &Store) {
    Stored(store).check().await;
}

/// What a store holds.
struct Stored<'a>(&'a Store);

impl Stored<'_> {
    async fn all<T: Document>(&self, index: Index) -> Vec<Loaded<T>> {
        self.0.scan(Scan::all(index, ALL)).await.unwrap()
    }

    async fn of<T: Document>(&self, index: Index, certificate: &Id) -> Vec<Loaded<T>> {
        let scan = Scan::under(index, Key::new().text(certificate.as_str()).bytes(), ALL);
        self.0.scan(scan).await.unwrap()
    }

    async fn row<T: Document>(&self, id: &Id) -> Loaded<T> {
        let row = self.0.get(id).await.unwrap();
        row.unwrap_or_else(|| panic!("{}/{id} is gone", T::COLL.0))
    }

    async fn check(&self) {
        let jobs = self.check_jobs().await;
        let mut orders: BTreeMap<Id, Loaded<Order>> = BTreeMap::new();
        for order in self.all::<Order>(ORDER_OPEN).await {
            assert!(order.is_open());
            orders.insert(order.id.clone(), order);
        }
        let due: BTreeSet<Id> = self
            .all::<Certificate>(CERT_DUE)
            .await
            .iter()
            .map(|c| c.id.clone())
            .collect();
        let blocked: BTreeSet<Id> = self
            .all::<Certificate>(CERT_BLOCKED)
            .await
            .iter()
            .map(|c| c.id.clone())
            .collect();
        for certificate in self.all::<Certificate>(CERT_CREATED).await {
            let id = &certificate.id;
            assert!(!certificate.holders.is_empty(), "{id} has no plan");
            for (holder, line) in &certificate.holders {
                let open = orders
                    .values()
                    .filter(|o| o.certificate == certificate.id && o.holder == *holder);
                let open: Vec<_> = open.map(|o| o.id.clone()).collect();
                match &line.plan {
                    Plan::InFlight { order } => {
                        assert_eq!(open, std::slice::from_ref(order), "{}", certificate.id);
                        let job = jobs.get(order);
                        let job = job.unwrap_or_else(|| panic!("{order} is open without a job"));
                        let Executor::Agent(agent) = &job.executor;
                        assert_eq!(*holder, Holder::Agent(agent.clone()));
                    }
                    Plan::Scheduled { .. } => {
                        assert!(open.is_empty(), "{}: scheduled and open", certificate.id);
                        assert!(due.contains(&certificate.id), "no loop would find it");
                    }
                    Plan::Exempt { reason, owner } => {
                        assert!(open.is_empty());
                        assert!(!reason.is_empty() && !owner.is_empty());
                        let waits = line.blocked_since.is_some();
                        assert!(
                            !waits || blocked.contains(&certificate.id),
                            "nobody would look"
                        );
                    }
                }
                self.check_line(&certificate, holder, line).await;
            }
            self.check_deployments(&certificate, &jobs).await;
        }
        self.check_retired().await;
        self.0.verify_stream(AUDIT).await.unwrap();
    }

    /// Nothing hangs on a retired agent, unless a loop will find that.
    async fn check_retired(&self) {
        for agent in self.all::<Agent>(AGENT_RETIRED).await {
            if agent.leaving_since.is_some() {
                continue;
            }
            let executor = Executor::Agent(agent.id.clone()).to_string();
            for (index, key) in [
                (CERT_AGENT, agent.id.as_str()),
                (TARGET_AGENT, agent.id.as_str()),
                (JOB_DUE, &executor),
                (JOB_LEASED, &executor),
            ] {
                let left = Facet::is(index, Key::new().text(key));
                let left = self.0.count(&left).await.unwrap();
                assert_eq!(left, 0, "{} of {}", index.name, agent.id);
            }
        }
    }

    /// Each open job can be found by whoever has to act on it next. By what they are for.
    async fn check_jobs(&self) -> BTreeMap<Id, Loaded<Job>> {
        let found = |jobs: Vec<Loaded<Job>>| -> BTreeSet<Id> {
            jobs.iter().map(|j| j.id.clone()).collect()
        };
        let due = found(self.all(JOB_DUE).await);
        let leased = found(self.all(JOB_LEASE).await);
        let held = found(self.all(JOB_LEASED).await);
        let stopping = found(self.all(JOB_STOPPING).await);
        assert_eq!(held, leased);
        let mut jobs = BTreeMap::new();
        for job in self.all::<Job>(JOB_OPEN).await {
            match &job.state {
                JobState::Ready { .. } | JobState::Backoff { .. } => {
                    assert!(due.contains(&job.id), "no agent would find {}", job.id);
                }
                JobState::Leased(_) | JobState::CancelRequested(_) => {
                    assert!(leased.contains(&job.id), "a lease without end");
                }
                ended => panic!("{ended:?} is not open"),
            }
            assert_eq!(job.is_stopping(), stopping.contains(&job.id));
            let subject = match &job.kind {
                JobKind::Issue { order, .. } => {
                    // An order ends with its certificate, before its agent was told.
                    let open = self.row::<Order>(order).await.is_open();
                    assert!(open || job.is_stopping(), "{} has no order", job.id);
                    order
                }
                JobKind::Deploy { deployment } => {
                    let row = self.row::<Deployment>(deployment).await;
                    let aside = matches!(row.state, DeploymentState::Superseded { .. });
                    assert!(row.is_pending() || aside && job.is_stopping(), "{row:?}");
                    assert_eq!(row.job, job.id);
                    deployment
                }
                JobKind::Rehearse { .. } | JobKind::Test => continue,
            };
            let twin = jobs.insert(subject.clone(), job);
            assert!(twin.is_none(), "two open jobs for one cause: {twin:?}");
        }
        jobs
    }

    /// One version for each cause, each from an order that says so; the newest is current.
    async fn check_line(&self, certificate: &Certificate, holder: &Holder, line: &HolderState) {
        let mut causes = BTreeSet::new();
        let mut newest = None;
        for version in self.of::<Version>(VERSION_CERT, &certificate.id).await {
            if version.holder != *holder {
                continue;
            }
            newest = newest.max(Some((version.version(), version.id.clone())));
            let Some(order) = self.0.get::<Order>(&version.order).await.unwrap() else {
                // Orders are forgotten at last, but for those of versions in force.
                let current = line.current.as_ref().map(|c| &c.version);
                assert_ne!(current, Some(&version.id), "{} is gone", version.order);
                continue;
            };
            assert!(
                matches!(&order.state, OrderState::Issued { version: v, .. } if *v == version.id)
            );
            assert!(
                causes.insert(order.cause.to_string()),
                "two versions for one cause: {}",
                order.cause
            );
        }
        let current = line.current.as_ref().map(|c| c.version.clone());
        assert_eq!(current, newest.map(|(_, id)| id), "the newest is current");
    }

    /// Each target has or awaits its own agent's current version.
    async fn check_deployments(&self, certificate: &Certificate, jobs: &BTreeMap<Id, Loaded<Job>>) {
        let retried: BTreeSet<Id> = self
            .all::<Deployment>(DEPLOYMENT_RETRY)
            .await
            .iter()
            .map(|d| d.id.clone())
            .collect();
        let deployments = self
            .of::<Deployment>(DEPLOYMENT_CERT, &certificate.id)
            .await;
        for deployment in &deployments {
            match deployment.state {
                DeploymentState::Pending => assert!(jobs.contains_key(&deployment.id)),
                DeploymentState::Failed { .. } => assert!(retried.contains(&deployment.id)),
                DeploymentState::Confirmed { .. } | DeploymentState::Superseded { .. } => {}
            }
        }
        for target in &certificate.targets {
            let target = self.row::<Target>(target).await;
            let line = &certificate.holders[&Holder::Agent(target.agent.clone())];
            let Some(current) = &line.current else {
                continue;
            };
            let mine: Vec<_> = deployments
                .iter()
                .filter(|d| d.target == target.id && d.version == current.version)
                .collect();
            assert_eq!(mine.len(), 1, "deployments of the current version");
            let aside = matches!(mine[0].state, DeploymentState::Superseded { .. });
            assert!(!aside || certificate.ended().is_some(), "{:?}", mine[0]);
        }
    }
}

impl TestApp {
    /// Checks everything that is stored against what must always hold.
    pub async fn check(&self) {
        check(&self.app.store).await;
    }

    /// All that the API shows of what is stored.
    pub async fn snapshot(&self) -> Value {
        let mut all = Vec::new();
        for certificate in self.list("/api/v1/certificates?per_page=500").await {
            let at = format!("/api/v1/certificates/{}", super::text(&certificate["id"]));
            all.push(json!({
                "versions": self.get(&format!("{at}/versions")).await,
                "deployments": self.get(&format!("{at}/deployments")).await,
                "certificate": certificate,
            }));
        }
        json!({
            "certificates": all,
            "targets": self.get("/api/v1/targets?per_page=500").await,
            "audit": self.get("/api/v1/audit?per_page=500").await,
        })
    }
}
