//! An agent whose secret changes every month, against the real control plane, cut at each of its
//! writes and calls.

use super::support::*;
use crate::support::{
    DAY, HOUR, TestApp,
    altered::{Altered, Altering, Op, eio},
};
use async_trait::async_trait;
use bytes::Bytes;
use certctl::{
    agent::{Agent, EnrolWish, Env, Identity, enrol},
    api,
    crypt::secret,
    domain,
    net::{CallError, Transport},
    sys::FileError,
};
use http::{Request, Response};
use serde_json::json;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// The power goes at the `at`-th step of a rotation: a write, or a call's way there or back.
struct Power {
    at: usize,
    steps: AtomicUsize,
    gone: CancellationToken,
}

impl Power {
    fn until(at: usize) -> Arc<Self> {
        Arc::new(Self {
            at,
            steps: AtomicUsize::new(0),
            gone: CancellationToken::new(),
        })
    }

    /// One more step; false when the power is gone.
    fn step(&self) -> bool {
        if self.steps.fetch_add(1, Ordering::SeqCst) + 1 >= self.at {
            self.gone.cancel();
        }
        !self.gone.is_cancelled()
    }
}

/// The way to the control plane.
struct Way {
    router: axum::Router,
    power: Arc<Power>,
}

#[async_trait]
impl Transport for Way {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let path = request.uri().path();
        let counts = path.ends_with("/ping") || path.ends_with("/credential");
        let dead = || std::future::pending();
        if counts && !self.power.step() {
            return dead().await;
        }
        let response = self
            .router
            .clone()
            .oneshot(request.map(axum::body::Body::from));
        let (head, body) = response.await.unwrap().into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        if self.power.gone.is_cancelled() || counts && !self.power.step() {
            return dead().await;
        }
        Ok(Response::from_parts(head, body))
    }
}

/// The disk, on which what concerns the identity is a step.
struct Plugged(Arc<Power>);

impl Plugged {
    fn step(&self, op: Op, path: &Path) -> Result<(), FileError> {
        let counts = path.parent().is_some_and(|dir| dir.ends_with("identity"));
        match counts && matches!(op, Op::Write | Op::Remove) && !self.0.step() {
            true => Err(eio(path)),
            false => Ok(()),
        }
    }
}

impl Altering for Plugged {
    fn before(&self, op: Op, path: &Path) -> Result<(), FileError> {
        self.step(op, path)
    }
    fn after(&self, op: Op, path: &Path) -> Result<(), FileError> {
        self.step(op, path)
    }
}

/// A host that has joined a control plane.
struct Joined {
    app: TestApp,
    host: Host,
}

impl Joined {
    async fn new() -> Self {
        let (app, host) = (TestApp::start().await, Host::new());
        let token = app.join_token(json!({})).await;
        let joined = Self { app, host };
        let (env, way) = joined.process(&Power::until(usize::MAX));
        let wish = EnrolWish {
            token: token.into(),
            ..wish()
        };
        enrol(&env, &joined.host.paths, &*way, URL, wish)
            .await
            .unwrap();
        joined
    }

    fn process(&self, power: &Arc<Power>) -> (Env, Arc<Way>) {
        let (env, _) = self.host.env();
        let env = Env {
            clock: self.app.app.clock.clone(),
            files: Arc::new(Altered(Plugged(power.clone()))),
            ..env
        };
        let way = Way {
            router: api::router(self.app.app.clone()),
            power: power.clone(),
        };
        (env, Arc::new(way))
    }

    /// The agent runs until something is true, or the power goes.
    async fn run(&self, power: &Arc<Power>, until: impl AsyncFn() -> bool) {
        let (env, way) = self.process(power);
        let tasks = env.tasks.clone();
        let agent = Agent::open(env, self.host.paths.clone(), way)
            .await
            .unwrap();
        tasks.spawn("agent", async move {
            agent.run().await;
        });
        let so = async {
            while !until().await {
                tokio::time::sleep(HOUR / 4).await;
            }
        };
        tokio::select! {
            () = power.gone.cancelled() => {}
            end = tokio::time::timeout(10 * DAY, so) => end.expect("it never came"),
        }
        tasks.abort_all();
    }

    fn identity(&self) -> Identity {
        let files = &*self.host.files;
        Identity::load(files, &self.host.paths).unwrap().unwrap()
    }

    /// The hash of the secret on disk.
    fn on_disk(&self) -> String {
        let file = std::fs::read(self.host.state("identity/agent.json")).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
        secret::hash(file["secret"].as_str().unwrap())
    }

    async fn row(&self) -> domain::Agent {
        let id = self.identity().agent_id().clone();
        let row = self.app.app.store.get::<domain::Agent>(&id).await;
        row.unwrap().unwrap().into_value()
    }

    /// Whether disk and control plane know one secret, another than `old`.
    async fn rotated_from(&self, old: &str) -> bool {
        let (row, disk) = (self.row().await, self.on_disk());
        row.secret_sha256 == disk
            && disk != old
            && row.next_secret_sha256.is_none()
            && self.host.names("identity") == ["agent.json"]
    }

    async fn alarms(&self) -> usize {
        let actions = self.app.actions().await;
        let of = |a: &&String| a.as_str() == "agent_credential_superseded_used";
        actions.iter().filter(of).count()
    }
}

#[tokio::test(start_paused = true)]
async fn each_month_has_its_own_secret() {
    let joined = Joined::new().await;
    let power = Power::until(usize::MAX);
    for _ in 0..4 {
        let old = joined.on_disk();
        joined.app.advance(23 * DAY);
        joined.run(&power, async || joined.heard()).await;
        assert_eq!(joined.on_disk(), old, "too early");
        joined.app.advance(8 * DAY);
        joined
            .run(&power, async || joined.rotated_from(&old).await)
            .await;
    }
    let rotations = joined.app.actions().await;
    let of = |a: &&String| a.as_str() == "agent_credential_rotated";
    assert_eq!(rotations.iter().filter(of).count(), 4);
    assert_eq!(joined.alarms().await, 0);
}

impl Joined {
    /// Whether the agent was heard at the present moment.
    fn heard(&self) -> bool {
        let id = self.identity().agent_id().clone();
        self.app.app.heard.last(&id) == Some(self.app.now())
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_is_cut_anywhere_ends_with_one_secret() {
    let mut cuts = 0;
    loop {
        let joined = Joined::new().await;
        let old = joined.on_disk();
        joined.app.advance(31 * DAY);
        let power = Power::until(cuts + 1);
        joined
            .run(&power, async || joined.rotated_from(&old).await)
            .await;
        let cut = power.gone.is_cancelled();
        // Perhaps hours later, so that whoever uses what is over is told of.
        joined.app.advance(HOUR);
        let power = Power::until(usize::MAX);
        joined
            .run(&power, async || {
                joined.rotated_from(&old).await && joined.heard()
            })
            .await;
        assert_eq!(joined.alarms().await, 0, "cut at step {cuts}");
        if !cut {
            break;
        }
        cuts += 1;
    }
    // Write, offer, use, write, remove: each before and after.
    assert!(cuts >= 10, "only {cuts} steps were cut");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lost_what_was_offered_is_offered_it_again() {
    let joined = Joined::new().await;
    let old = joined.on_disk();
    joined.app.advance(31 * DAY);
    // The power goes when the offer was answered and the secret was not yet used ...
    let power = Power::until(5);
    joined.run(&power, async || false).await;
    assert_eq!(joined.host.names("identity"), ["agent.json", "next.json"]);
    // ... and the server is set back to before that.
    let app = &joined.app;
    let mut unit = app.app.store.unit(app.unit_id(), app.now());
    let id = joined.identity().agent_id().clone();
    let mut row = unit.load::<domain::Agent>(&id).await.unwrap();
    assert!(
        row.next_secret_sha256.take().is_some(),
        "nothing was offered"
    );
    unit.put(row);
    unit.commit().await.unwrap();
    joined
        .run(&Power::until(usize::MAX), async || {
            joined.rotated_from(&old).await
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_wrong_by_a_year_makes_no_secret_old_or_eternal() {
    let joined = Joined::new().await;
    let power = Power::until(usize::MAX);
    let first = joined.on_disk();
    // Made "in a year": the clock is set right, and the next look rotates.
    let path = joined.host.state("identity/agent.json");
    let file = std::fs::read(&path).unwrap();
    let mut file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    file["secret_since"] = joined.app.now().plus(365 * DAY).micros().into();
    std::fs::write(&path, file.to_string()).unwrap();
    joined
        .run(&power, async || joined.rotated_from(&first).await)
        .await;
    let second = joined.on_disk();
    // A year passes at once; so it does for the secret, once.
    joined.app.advance(365 * DAY);
    joined
        .run(&power, async || joined.rotated_from(&second).await)
        .await;
    let third = joined.on_disk();
    joined.app.advance(DAY);
    joined.run(&power, async || joined.heard()).await;
    assert_eq!(joined.on_disk(), third);
}
