//! A server whose database fails in other ways than by being away: each has a clear answer, ends
//! by itself, and nothing acknowledged is lost.

use super::{
    home::{Api, Home},
    postgres::{until_ready, url},
};
use crate::support::{
    invariants,
    postgres::{Cluster, PATIENCE},
};
use certctl::store::{Committer, Store};
use http::{Method, StatusCode, header};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::timeout};

const CLIENTS: usize = 4;
const TEAMS: &str = "/api/v1/teams";

/// Clients that make things, and what they were told.
struct Clients {
    made: Mutex<BTreeSet<String>>,
    /// Those of which nobody knows whether they were made.
    unknown: Mutex<BTreeSet<String>>,
    refused: AtomicU64,
    enough: AtomicBool,
}

impl Clients {
    async fn work(self: Arc<Self>, api: Api, client: usize) {
        for n in 0.. {
            if self.enough.load(SeqCst) {
                return;
            }
            let id = format!("t{client}-{n}");
            let body = json!({"id": id, "name": id});
            let answer = api.answer(Method::POST, TEAMS, &body).await.unwrap();
            match answer.status() {
                StatusCode::CREATED => drop(self.made.lock().unwrap().insert(id)),
                StatusCode::SERVICE_UNAVAILABLE => {
                    let text = String::from_utf8_lossy(answer.body()).into_owned();
                    if text.contains("may or may not") {
                        self.unknown.lock().unwrap().insert(id);
                    } else {
                        let after = answer.headers().get(header::RETRY_AFTER);
                        assert!(after.is_some(), "{text}");
                        self.refused.fetch_add(1, SeqCst);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                status => panic!("{status}: {:?}", answer.body()),
            }
        }
    }

    fn count(&self) -> usize {
        self.made.lock().unwrap().len()
    }

    /// Waits until more is made.
    async fn go_on(&self) {
        let wanted = self.count() + 10;
        self.comes(|| self.count() >= wanted).await;
    }

    /// Waits until clients were told that nothing is made now.
    async fn told(&self) {
        let wanted = self.refused.load(SeqCst) + CLIENTS as u64;
        self.comes(|| self.refused.load(SeqCst) >= wanted).await;
    }

    async fn comes(&self, so: impl Fn() -> bool) {
        let waited = timeout(PATIENCE, async {
            while !so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.expect("it comes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_a_database_is_said_and_ends_by_itself() {
    let cluster = Cluster::start("");
    let database = cluster.database();
    let home = Home::new();
    let url = url(&database);
    let server = home.server_with(&[
        ("CERTCTL_DATABASE_URL", url.as_str()),
        ("CERTCTL_DATABASE_TIMEOUT", "2"),
    ]);
    let clients = Arc::new(Clients {
        made: Mutex::default(),
        unknown: Mutex::default(),
        refused: AtomicU64::new(0),
        enough: AtomicBool::new(false),
    });
    let mut running = JoinSet::new();
    for client in 0..CLIENTS {
        running.spawn(clients.clone().work(home.api(), client));
    }
    clients.go_on().await;

    // Sessions end.
    for _ in 0..10 {
        database.end_sessions();
    }
    clients.go_on().await;
    until_ready(&home, StatusCode::OK).await;

    // It is restarted.
    cluster.down();
    until_ready(&home, StatusCode::SERVICE_UNAVAILABLE).await;
    clients.told().await;
    cluster.up();
    until_ready(&home, StatusCode::OK).await;
    clients.go_on().await;

    // It stands still.
    cluster.signal_all(Signal::SIGSTOP);
    until_ready(&home, StatusCode::SERVICE_UNAVAILABLE).await;
    clients.told().await;
    let read = home.api().answer(Method::GET, TEAMS, &Value::Null).await;
    let read = read.unwrap();
    assert_eq!(read.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(read.headers().contains_key(header::RETRY_AFTER));
    cluster.signal_all(Signal::SIGCONT);
    until_ready(&home, StatusCode::OK).await;
    clients.go_on().await;

    // It takes no writes: reads are answered, and it is said that no work is taken.
    cluster.sql(
        "postgres",
        "ALTER SYSTEM SET default_transaction_read_only = on",
    );
    cluster.reload();
    clients.told().await;
    until_ready(&home, StatusCode::SERVICE_UNAVAILABLE).await;
    let read = home.api().answer(Method::GET, TEAMS, &Value::Null).await;
    assert_eq!(read.unwrap().status(), StatusCode::OK);
    cluster.sql(
        "postgres",
        "ALTER SYSTEM RESET default_transaction_read_only",
    );
    cluster.reload();
    until_ready(&home, StatusCode::OK).await;
    clients.go_on().await;

    clients.enough.store(true, SeqCst);
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    server.signal(Signal::SIGTERM);
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(0));
    // Each outage is told of once, and not by each loop at each look.
    let log = ended.stderr.lines().filter(|line| line.contains("ERROR"));
    let (loops, others): (Vec<_>, Vec<_>) = log.partition(|line| line.contains("loop_name"));
    assert!(loops.len() < 10, "{loops:#?}");
    assert!(
        others
            .iter()
            .any(|line| line.contains("the database is away"))
    );
    let there: BTreeSet<String> = {
        let found = database.sql("SELECT id FROM certctl.teams");
        found.lines().map(str::to_owned).collect()
    };
    let made = std::mem::take(&mut *clients.made.lock().unwrap());
    let unknown = std::mem::take(&mut *clients.unknown.lock().unwrap());
    println!(
        "{} made, {} refused, {} unknown",
        made.len(),
        clients.refused.load(SeqCst),
        unknown.len()
    );
    let lost: Vec<_> = made.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let more: Vec<_> = there
        .difference(&made)
        .filter(|id| !unknown.contains(*id))
        .collect();
    assert!(more.is_empty(), "refused and there: {more:?}");
    let engine = Arc::new(database.open().await);
    let store = Store::start(engine, Committer::Inline, Box::new(|_| ())).unwrap();
    invariants::check(&store).await;
}
