//! Random walks: whatever order things happen in, what must hold holds after every step, and
//! once agents do their work again every certificate is well.

use crate::support::{DAY, HOUR, MINUTE, TestAgent, TestApp, fit, text};
use certctl::agent::protocol::{FailureClass, Outcome, Served, WorkItem, WorkKind};
use http::StatusCode;
use serde_json::json;
use std::time::Duration;

const WALKS: u64 = 6;
const STEPS: usize = 150;

/// SplitMix64: the same walk for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        (!of.is_empty()).then(|| &of[self.below(of.len())])
    }
}

struct Walk {
    app: TestApp,
    dice: Dice,
    agents: Vec<TestAgent>,
    targets: Vec<String>,
    certificates: Vec<String>,
    /// All that was ever leased, with the agent's place: most of it is stale.
    leased: Vec<(usize, WorkItem)>,
}

impl Walk {
    async fn new(seed: u64) -> Self {
        let app = TestApp::start().await;
        let agents = vec![app.agent("a").await, app.agent("b").await];
        let mut targets = Vec::new();
        for (agent, name) in [(0, "a1"), (0, "a2"), (1, "b1")] {
            targets.push(app.target(&agents[agent], name).await);
        }
        Self {
            app,
            dice: Dice(seed),
            agents,
            targets,
            certificates: Vec::new(),
            leased: Vec::new(),
        }
    }

    async fn step(&mut self) -> &'static str {
        let app = &self.app;
        match self.dice.below(14) {
            0 if self.certificates.len() < 6 => {
                let id = format!("c{}", self.certificates.len());
                let mut mine: Vec<&str> = self.targets.iter().map(String::as_str).collect();
                mine.truncate(1 + self.dice.below(mine.len()));
                app.certificate(&id, &mine).await;
                self.certificates.push(id);
                "create"
            }
            1 => {
                if let Some(id) = self.dice.pick(&self.certificates) {
                    let path = format!("/api/v1/certificates/{id}/renew");
                    app.post(&path, json!({})).await.expect(202);
                }
                "renew"
            }
            2..=5 => {
                let n = self.dice.below(self.agents.len());
                let jobs = self.agents[n].work(app).await;
                self.leased.extend(jobs.into_iter().map(|job| (n, job)));
                "work"
            }
            6..=9 => {
                let recent = self.leased.len().saturating_sub(12);
                if let Some((n, item)) = self.dice.pick(&self.leased[recent..]).cloned() {
                    self.speak(n, &item).await;
                }
                "speak"
            }
            10 => {
                self.app.restart().await;
                "restart"
            }
            11 => {
                let n = self.dice.below(self.agents.len());
                self.agents[n].run(app).await;
                "run"
            }
            12 => {
                let by = [Duration::from_secs(7), MINUTE, HOUR, DAY, 20 * DAY];
                let by = by[self.dice.below(by.len())];
                app.advance(by);
                "advance"
            }
            _ => {
                app.tick().await;
                "tick"
            }
        }
    }

    /// An agent says something about a job, which may be long over.
    async fn speak(&mut self, n: usize, item: &WorkItem) {
        let (app, agent) = (&self.app, &self.agents[n]);
        let seen = vec![Served {
            endpoint: "127.0.0.1:443".into(),
            serial: None,
            fingerprint_sha256: None,
            error: Some("refused".into()),
        }];
        let failed = |class| Outcome::Failed {
            class,
            reason: "it failed".into(),
        };
        let answer = match (self.dice.below(7), item.kind) {
            (0, _) => agent.about(app, item, "lease", json!({})).await,
            (1, _) => {
                agent
                    .report(app, item, &failed(FailureClass::Transient))
                    .await
            }
            (2, _) => {
                agent
                    .report(app, item, &failed(FailureClass::Permanent))
                    .await
            }
            (3, WorkKind::Deployment) => {
                let (reason, served) = ("it did not work".into(), seen);
                agent
                    .report(app, item, &Outcome::RolledBack { reason, served })
                    .await
            }
            (_, WorkKind::Deployment) => {
                let outcome = agent.confirmed(item);
                agent.report(app, item, &outcome).await
            }
            (_, WorkKind::DryRun | WorkKind::TargetTest) => agent.report(app, item, &fit()).await,
            (_, WorkKind::Issuance | WorkKind::Renewal) => agent.submit_csr(app, item).await,
        };
        let taken = [StatusCode::OK, StatusCode::ACCEPTED, StatusCode::CONFLICT];
        assert!(taken.contains(&answer.status), "{answer:?}");
    }

    /// All agents work well for two days; then every certificate must be well.
    async fn heal(&mut self) {
        for _ in 0..48 {
            self.app.advance(HOUR);
            self.app.tick().await;
            for agent in &self.agents {
                agent.run(&self.app).await;
            }
        }
        self.app.check().await;
        for id in &self.certificates {
            let shown = self.app.shown(id).await;
            let status = text(&shown["status"]);
            assert!(status == "Active" || status == "Expiring", "{shown}");
            assert_eq!(shown.get("problem"), None);
            let at = format!("/api/v1/certificates/{id}/deployments");
            for target in self.app.list(&at).await {
                assert_eq!(target["deployment"]["state"], "confirmed", "{target}");
            }
        }
    }
}

#[tokio::test]
async fn any_order_of_events_keeps_what_must_hold_and_heals() {
    for seed in 0..WALKS {
        let mut walk = Walk::new(seed).await;
        let mut path = Told {
            seed,
            steps: Vec::new(),
        };
        for _ in 0..STEPS {
            let step = walk.step().await;
            path.steps.push(step);
            walk.app.check().await;
        }
        walk.heal().await;
        path.steps.clear();
    }
}

/// Says, when a walk fails, which it was.
struct Told {
    seed: u64,
    steps: Vec<&'static str>,
}

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, steps so far: {:?}", self.seed, self.steps);
        }
    }
}
