//! A control plane in memory, under a clock that only the test moves: called through its real
//! router, its loops driven by hand, its agents scripted.

mod agent;
pub mod altered;
pub mod backups;
mod call;
pub mod cutting;
pub mod invariants;
mod kept;
pub mod postgres;

pub use agent::{TestAgent, fit};
pub use call::{Answer, Call};
pub use kept::Kept;

use async_trait::async_trait;
use axum::Router;
use certctl::{
    access::Role,
    api,
    app::{App, Parts, StartError, Started},
    clock::{Clock, Rng, Time},
    config::ServerConfig,
    crypt::{RingCrypto, secret},
    domain::{ApiKey, Grant},
    reconcile,
    store::{
        Answer as EngineAnswer, Batch, Committer, Counting, Engine, EngineError, Load, Memory,
        Outcome, Query, Snapshot, Store, Work, migrate::PROGRAM_FORMAT,
    },
    sys::{Disk, FileError, Files, Room, Rooms, Tasks},
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3_600);
pub const DAY: Duration = Duration::from_secs(86_400);

/// When every test begins: 2026-01-01T00:00:00Z.
const BEGINNING: i64 = 1_767_225_600;

/// A clock that stands until it is moved.
pub struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// The same bytes in every run: SHA-256 of a counter.
#[derive(Default)]
pub struct CountedRng(AtomicU64);

impl Rng for CountedRng {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let n = self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes();
            let digest = ring::digest::digest(&ring::digest::SHA256, &n);
            chunk.copy_from_slice(&digest.as_ref()[..chunk.len()]);
        }
    }
}

/// Memory whose every use lets others go first, so that calls made at once interleave. After a
/// number of commits it fails, as a disk does under a process that is cut there.
struct TestEngine {
    inner: Counting<Arc<dyn Engine>>,
    commits_left: AtomicU64,
    /// How many servers have it open, where several may.
    servers: Option<AtomicU64>,
    /// What the servers hear of each other's commits: nothing, until they look.
    heard: watch::Sender<u64>,
    /// The next commit says that it is there, and waits to be let through.
    gate: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
}

/// A commit that is held back.
pub struct HeldCommit {
    there: oneshot::Receiver<()>,
    through: oneshot::Sender<()>,
}

impl HeldCommit {
    /// Waits until it is there.
    pub async fn there(&mut self) {
        (&mut self.there).await.unwrap();
    }

    /// Lets it through.
    pub fn release(self) {
        self.through.send(()).unwrap();
    }
}

#[async_trait]
impl Engine for TestEngine {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<EngineAnswer>, EngineError> {
        tokio::task::yield_now().await;
        self.inner.read(questions).await
    }

    async fn commit(&self, group: &[Batch]) -> Result<Vec<Outcome>, EngineError> {
        tokio::task::yield_now().await;
        let gate = self.gate.lock().unwrap().take();
        if let Some((there, through)) = gate {
            there.send(()).unwrap();
            through.await.unwrap();
        }
        let left = self.commits_left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(EngineError::Io("cut by the test".into()));
        }
        self.commits_left.store(left - 1, Ordering::SeqCst);
        self.inner.commit(group).await
    }

    async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, EngineError> {
        self.inner.snapshot(deadline).await
    }

    fn notices(&self) -> Option<watch::Receiver<u64>> {
        self.servers.as_ref().map(|_| self.heard.subscribe())
    }

    async fn others(&self) -> Result<Vec<u16>, EngineError> {
        let servers = self
            .servers
            .as_ref()
            .map_or(1, |n| n.load(Ordering::SeqCst));
        let others = usize::try_from(servers.saturating_sub(1)).unwrap();
        Ok(vec![PROGRAM_FORMAT; others])
    }

    async fn load(&self, part: Load) -> Result<(), EngineError> {
        self.inner.load(part).await
    }
}

impl TestEngine {
    fn new(servers: Option<AtomicU64>) -> Self {
        Self::over(Arc::new(Memory::new()), servers)
    }

    fn over(inner: Arc<dyn Engine>, servers: Option<AtomicU64>) -> Self {
        Self {
            inner: Counting::new(inner),
            commits_left: AtomicU64::new(u64::MAX),
            servers,
            heard: watch::channel(0).0,
            gate: Mutex::default(),
        }
    }
}

/// A disk with as much room as the test says.
#[derive(Debug)]
pub struct TestDisk {
    pub free: AtomicU64,
}

impl Rooms for TestDisk {
    fn room(&self, _: &Path) -> Result<Room, FileError> {
        Ok(Room {
            free: self.free.load(Ordering::SeqCst),
            total: 100 << 30,
        })
    }
}

/// What a process leaves behind when it dies, and what is outside of it.
#[derive(Clone)]
struct World {
    disk: Arc<TestDisk>,
    dir: Arc<tempfile::TempDir>,
    engine: Arc<TestEngine>,
    clock: Arc<ManualClock>,
    rng: Arc<CountedRng>,
    files: Arc<dyn Files>,
    settings: fn(&mut ServerConfig),
}

impl World {
    fn new() -> Self {
        Self {
            settings: |_| (),
            files: Arc::new(Disk),
            disk: Arc::new(TestDisk {
                free: AtomicU64::new(50 << 30),
            }),
            dir: Arc::new(tempfile::tempdir().unwrap()),
            engine: Arc::new(TestEngine::new(None)),
            clock: Arc::new(ManualClock(AtomicI64::new(BEGINNING * 1_000_000))),
            rng: Arc::default(),
        }
    }

    async fn start(&self) -> Result<Started, StartError> {
        let engine: Arc<dyn Engine> = self.engine.clone();
        let store = Store::start(engine, Committer::Inline, Box::new(|_| ())).unwrap();
        let data_dir = self.dir.path().to_owned();
        let mut config = ServerConfig::new(data_dir, ([127, 0, 0, 1], 8443).into());
        (self.settings)(&mut config);
        App::start(Parts {
            store,
            clock: self.clock.clone(),
            rng: self.rng.clone(),
            crypto: Arc::new(RingCrypto),
            files: self.files.clone(),
            rooms: self.disk.clone(),
            tasks: Tasks::new(),
            config,
            names: Vec::new(),
            alone: None,
        })
        .await
    }
}

/// The control plane.
pub struct TestApp {
    world: World,
    pub app: Arc<App>,
    router: Router,
    admin: String,
    /// [`step`](Self::step) ends the process and starts another.
    crashes: bool,
}

impl TestApp {
    /// The disk has so many bytes left from now on, as a look of the server's finds.
    pub async fn has_room(&self, free: u64) {
        self.world.disk.free.store(free, Ordering::SeqCst);
        self.tick().await;
    }

    /// The first start on an empty store.
    pub async fn start() -> Self {
        Self::first(World::new()).await
    }

    /// As [`start`](Self::start), with these settings.
    pub async fn start_with(settings: fn(&mut ServerConfig)) -> Self {
        Self::first(World {
            settings,
            ..World::new()
        })
        .await
    }

    /// As [`start_with`](Self::start_with), on a disk of the test's.
    pub async fn start_on(files: Arc<dyn Files>, settings: fn(&mut ServerConfig)) -> Self {
        Self::first(World {
            settings,
            files,
            ..World::new()
        })
        .await
    }

    /// As [`start`](Self::start), on a store that other servers may share.
    pub async fn start_shared() -> Self {
        Self::start_shared_with(|_| ()).await
    }

    /// As [`start_shared`](Self::start_shared), with these settings.
    pub async fn start_shared_with(settings: fn(&mut ServerConfig)) -> Self {
        let servers = Some(AtomicU64::new(1));
        Self::first(World {
            settings,
            engine: Arc::new(TestEngine::new(servers)),
            ..World::new()
        })
        .await
    }

    /// Another server of the same store, with the same machine key.
    pub async fn beside(&self) -> Self {
        self.beside_in(self.world.clone()).await
    }

    async fn beside_in(&self, world: World) -> Self {
        let servers = world.engine.servers.as_ref();
        servers.unwrap().fetch_add(1, Ordering::SeqCst);
        let Started { app, admin_key } = world.start().await.unwrap();
        assert_eq!(admin_key, None, "a later start made another administrator");
        Self {
            router: api::router(app.clone()),
            world,
            app,
            admin: self.admin.clone(),
            crashes: false,
        }
    }

    /// As [`start_shared_with`](Self::start_shared_with), on an engine of the test's.
    pub async fn start_over(
        engine: impl Engine + 'static,
        settings: fn(&mut ServerConfig),
    ) -> Self {
        let servers = Some(AtomicU64::new(1));
        Self::first(World {
            settings,
            engine: Arc::new(TestEngine::over(Arc::new(engine), servers)),
            ..World::new()
        })
        .await
    }

    /// As [`beside`](Self::beside), with a clock of its own that is ahead by so many seconds, and
    /// with an engine of its own where it is given one.
    pub async fn beside_ahead(&self, seconds: i64, engine: Option<Arc<dyn Engine>>) -> Self {
        let mut world = self.world.clone();
        let micros = self.now().micros() + seconds * 1_000_000;
        world.clock = Arc::new(ManualClock(AtomicI64::new(micros)));
        if let Some(engine) = engine {
            world.engine = Arc::new(TestEngine::over(engine, Some(AtomicU64::new(1))));
        }
        self.beside_in(world).await
    }

    async fn first(world: World) -> Self {
        let Started { app, admin_key } = world.start().await.unwrap();
        Self {
            router: api::router(app.clone()),
            world,
            app,
            admin: admin_key.expect("a first start makes the administrator's key"),
            crashes: false,
        }
    }

    /// A first start that is cut after so many commits, and the start after it; `None` when there
    /// were no more commits to cut.
    pub async fn start_cut_after(commits: u64) -> Option<Self> {
        let world = World::new();
        let left = &world.engine.commits_left;
        left.store(commits, Ordering::SeqCst);
        let cut = world.start().await;
        left.store(u64::MAX, Ordering::SeqCst);
        match cut {
            Ok(_) => None,
            Err(_) => Some(Self::first(world).await),
        }
    }

    /// As [`start`](Self::start), with a crash and a restart at every step.
    pub async fn start_crashing() -> Self {
        Self {
            crashes: true,
            ..Self::start().await
        }
    }

    /// The process dies, without a last word, and another starts on what was stored.
    pub async fn restart(&mut self) {
        self.app.tasks.abort_all();
        let left = &self.world.engine.commits_left;
        left.store(u64::MAX, Ordering::SeqCst);
        let Started { app, admin_key } = self.start_again().await.unwrap();
        assert_eq!(admin_key, None, "a later start made another administrator");
        self.router = api::router(app.clone());
        self.app = app;
    }

    /// The store fails after so many commits, until [`restart`](Self::restart).
    pub fn cut_after(&self, commits: u64) {
        self.world
            .engine
            .commits_left
            .store(commits, Ordering::SeqCst);
    }

    /// Holds back the next commit, whoever's it is.
    pub fn hold_next_commit(&self) -> HeldCommit {
        let (here, there) = oneshot::channel();
        let (through, go) = oneshot::channel();
        *self.world.engine.gate.lock().unwrap() = Some((here, go));
        HeldCommit { there, through }
    }

    /// Another process starts on what is stored.
    pub async fn start_again(&self) -> Result<Started, StartError> {
        self.world.start().await
    }

    /// A file of the data directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.world.dir.path().join(name)
    }

    /// The end of a step of a story: all that must always hold is checked; with
    /// [`start_crashing`](Self::start_crashing) also across a restart, which loses nothing.
    pub async fn step(&mut self) {
        self.check().await;
        if self.crashes {
            let before = self.snapshot().await;
            self.restart().await;
            pretty_eq(&self.snapshot().await, &before);
            self.check().await;
        }
    }

    pub fn now(&self) -> Time {
        self.world.clock.now()
    }

    /// Moves the clock, and nothing else.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap();
        self.world.clock.0.fetch_add(micros, Ordering::SeqCst);
    }

    /// Sets the clock back, as somebody does who finds it ahead.
    pub fn set_back(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap();
        self.world.clock.0.fetch_sub(micros, Ordering::SeqCst);
    }

    /// Moves the clock to `at`, which lies ahead.
    pub fn advance_to(&self, at: Time) {
        assert!(at >= self.now(), "{at} has passed, it is {}", self.now());
        self.advance(at.since(self.now()));
    }

    /// Every loop looks once.
    pub async fn tick(&self) {
        reconcile::look(&self.app).await.unwrap();
    }

    /// As [`tick`](Self::tick), over a disk that may fail.
    pub async fn tick_cut(&self) {
        let _ = reconcile::look(&self.app).await;
    }

    /// Time passes, with a look of every loop at each `every`.
    pub async fn pass(&self, time: Duration, every: Duration) {
        let end = self.now().plus(time);
        while self.now() < end {
            self.advance(every.min(end.since(self.now())));
            self.tick().await;
        }
    }

    /// The work asked of the engine so far.
    pub fn work(&self) -> Work {
        self.world.engine.inner.work()
    }

    /// A number that every commit changes.
    pub fn seq(&self) -> u64 {
        *self.app.store.wake().borrow()
    }

    /// All that the server serves.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// A call without any credential, from the network.
    pub fn call(&self, method: &str, path: &str) -> Call<'_> {
        Call::new(&self.router, method, path)
    }

    /// A call of the administrator.
    pub fn admin(&self, method: &str, path: &str) -> Call<'_> {
        self.call(method, path).bearer(&self.admin)
    }

    /// What the administrator reads.
    pub async fn get(&self, path: &str) -> Value {
        self.admin("GET", path).send().await.expect(200)
    }

    /// The administrator's `POST`.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.admin("POST", path).json(&body).send().await
    }

    /// The administrator's key.
    pub fn admin_key(&self) -> &str {
        &self.admin
    }

    /// A key of this role.
    pub async fn key(&self, role: Role) -> String {
        self.key_until(role, None).await
    }

    /// A key of this role with an end.
    pub async fn key_until(&self, role: Role, expires_at: Option<Time>) -> String {
        let key = secret::generate("ctl_", &*self.app.rng).to_string();
        let mut unit = self.app.store.unit(self.unit_id(), self.app.now());
        let id = self.app.new_id("key");
        unit.insert(ApiKey {
            name: format!("test-{}-{id}", role.id()),
            id,
            secret_sha256: secret::hash(&key),
            secret_since: self.now(),
            former: None,
            grants: vec![Grant::of(role.id())],
            expires_at,
            created_at: self.now(),
        });
        unit.commit().await.unwrap();
        key
    }

    /// A key of this name and with these roles, made through the API; its name and secret.
    pub async fn made_key(&self, name: &str, roles: &[&str]) -> (String, String) {
        let wish = json!({"name": name, "role_ids": roles});
        let made = self.post("/api/v1/auth/keys", wish).await.expect(201);
        (text(&made["name"]), text(&made["key_value"]))
    }

    /// A name for a commit.
    pub fn unit_id(&self) -> u128 {
        let mut id = [0; 16];
        self.app.rng.fill(&mut id);
        u128::from_be_bytes(id)
    }

    /// A join token made with these fields.
    pub async fn join_token(&self, fields: Value) -> String {
        let made = self.post("/api/v1/agents/tokens", fields).await.expect(201);
        text(&made["token"])
    }

    /// An agent that has just enrolled.
    pub async fn agent(&self, name: &str) -> TestAgent {
        let token = self.join_token(json!({})).await;
        TestAgent::enrol(self, name, &token).await
    }

    /// A target of type `File` on an agent; its id.
    pub async fn target(&self, agent: &TestAgent, name: &str) -> String {
        let body = json!({"name": name, "type": "File", "agent_id": agent.id, "config": {}});
        let made = self.post("/api/v1/targets", body).await.expect(201);
        text(&made["id"])
    }

    /// A target of type `Site` on an agent; its id.
    pub async fn site(&self, agent: &TestAgent, name: &str) -> String {
        let config = json!({"listen": "127.0.0.1:9443"});
        let body = json!({"name": name, "type": "Site", "agent_id": agent.id, "config": config});
        let made = self.post("/api/v1/targets", body).await.expect(201);
        text(&made["id"])
    }

    /// A certificate for `<id>.example.org` on these targets.
    pub async fn certificate(&self, id: &str, targets: &[&str]) -> Value {
        let body = json!({
            "id": id, "name": id, "common_name": format!("{id}.example.org"),
            "target_ids": targets,
        });
        let made = self.post("/api/v1/certificates", body).await;
        made.expect(201)
    }

    /// A certificate, as the API shows it.
    pub async fn shown(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/certificates/{id}")).await
    }

    /// A certificate's status.
    pub async fn status(&self, id: &str) -> String {
        text(&self.shown(id).await["status"])
    }

    /// The rows of a list of the API.
    pub async fn list(&self, path: &str) -> Vec<Value> {
        let list = self.get(path).await;
        list["data"].as_array().unwrap().clone()
    }

    /// The actions of the audit log, oldest first.
    pub async fn actions(&self) -> Vec<String> {
        let mut events = self.list("/api/v1/audit?per_page=500").await;
        events.reverse();
        events.iter().map(|e| text(&e["action"])).collect()
    }
}

/// A text of an answer.
#[track_caller]
pub fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => panic!("a text is expected, not {value}"),
    }
}

/// A time of an answer.
#[track_caller]
pub fn time(value: &Value) -> Time {
    text(value).parse().unwrap()
}

#[track_caller]
fn pretty_eq(found: &Value, expected: &Value) {
    let pretty = |v| serde_json::to_string_pretty(v).unwrap();
    assert_eq!(pretty(found), pretty(expected));
}
