//! The engine on PostgreSQL, on a cluster whose texts are sorted as people sort them.

use super::{
    Ask,
    conformance::conformance,
    indexing::changes_with_the_program,
    lists::lists_conform,
    model::{Step, play, steps},
    run,
    whole::{in_parts, moves},
    write, writes,
};
use crate::support::{
    cutting::Cutting,
    postgres::{Cluster, Database, PATIENCE},
};
use async_trait::async_trait;
use certctl::{
    net::{DatabasePlace, Secrecy},
    store::{
        Answer, Batch, Coll, Committer, Engine, EngineError, Expect, Load, Memory, Outcome,
        Postgres, Query, Snapshot, Store,
    },
};
use futures_util::future::join_all;
use proptest::{collection::vec, prelude::*};
use std::{
    io::{Read, Write},
    process::{Child, Stdio},
    sync::Arc,
};
use tokio::{sync::watch, task::yield_now, time::Instant};

#[test]
fn postgres_conforms() {
    run(async {
        let database = Cluster::shared().database();
        conformance(&database.open().await).await;
    });
}

#[test]
fn lists_on_postgres() {
    run(async {
        let database = Cluster::shared().database();
        lists_conform(Arc::new(database.open().await)).await;
    });
}

#[test]
fn indexes_on_postgres_follow_the_program() {
    run(async {
        let database = Cluster::shared().database();
        changes_with_the_program(Arc::new(database.open().await)).await;
    });
}

#[test]
fn whole_stores_move_to_and_from_postgres() {
    run(async {
        let cluster = Cluster::shared();
        let (a, b) = (cluster.database(), cluster.database());
        moves(&Memory::new(), &a.open().await).await;
        moves(&b.open().await, &Memory::new()).await;
        let parts = cluster.database();
        in_parts(&parts.open().await).await;
        // One that was cut is no store.
        let cut = cluster.database();
        cut.open().await.load(Load::default()).await.unwrap();
        let refused = cut.try_open(cut.login()).await.err().unwrap();
        assert!(matches!(refused, EngineError::HalfLoaded), "{refused}");
    });
}

/// A session that keeps everybody else from the rows, until it is dropped.
fn keep_off_rows(database: &Database<'_>) -> Child {
    let mut psql = database.cluster.psql(&database.name, "");
    psql.args(["-f", "-"]);
    let mut psql = psql
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lock = b"BEGIN; LOCK TABLE certctl_store.rows; SELECT 'kept';\n";
    psql.stdin.as_mut().unwrap().write_all(lock).unwrap();
    let mut said = [0; 4];
    psql.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"kept");
    psql
}

/// However many ask for a few rows, two sessions are enough, and each gets its own.
#[test]
fn readers_that_wait_are_answered_together() {
    const READERS: usize = 100;
    run(async {
        let database = Cluster::shared().database();
        let engine = database.open().await;
        let colls = [Coll("gathered"), Coll("others")];
        for n in 0..10 {
            for coll in colls {
                let doc = format!(r#"{{"of":"{}","n":{n}}}"#, coll.0);
                let write = write(coll, &format!("id{n}"), Expect::Absent, &doc, Vec::new());
                engine.commit(&[writes(vec![write])]).await.unwrap();
            }
        }
        // A session is prepared while the rows can be looked at.
        let sessions = (0..4).map(|_| engine.read(vec![Query::Sequence]));
        join_all(sessions)
            .await
            .into_iter()
            .for_each(|answer| drop(answer.unwrap()));
        let mut kept = keep_off_rows(&database);
        let reads = join_all((0..READERS).map(|n| {
            let ids = [n % 10, 10 + n % 10, 9 - n % 10];
            let ids = ids.map(|n| format!("id{n}").parse().unwrap());
            engine.read(vec![Query::Get {
                coll: colls[n % 2],
                ids: ids.to_vec(),
            }])
        }));
        let waiting = || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                           AND datname = current_database() AND application_name LIKE 'certctl%'";
            database.sql(waiting)
        };
        let others = async {
            while waiting() != "2" {
                yield_now().await;
            }
            // Who asks for something else has a session.
            engine.read(vec![Query::Sequence]).await.unwrap();
            assert_eq!(waiting(), "2");
            drop(kept.stdin.take());
            assert!(kept.wait().unwrap().success());
        };
        let (answers, ()) = tokio::join!(reads, others);
        for (n, answers) in answers.into_iter().enumerate() {
            let answers = answers.unwrap();
            let [Answer::Rows(rows)] = &*answers else {
                panic!("{answers:?}");
            };
            let [Some(one), None, Some(other)] = &**rows else {
                panic!("{rows:?}");
            };
            for (row, n, coll) in [
                (one, n % 10, colls[n % 2]),
                (other, 9 - n % 10, colls[n % 2]),
            ] {
                assert_eq!(row.id.as_str(), format!("id{n}"));
                let doc: serde_json::Value = serde_json::from_slice(&row.doc).unwrap();
                assert_eq!(doc, serde_json::json!({"of": coll.0, "n": n}));
            }
        }
    });
}

/// Asks again where nothing was changed.
struct Stubborn(Postgres);

#[async_trait]
impl Engine for Stubborn {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        loop {
            match self.0.read(questions.clone()).await {
                Err(EngineError::Away(_)) => yield_now().await,
                answered => return answered,
            }
        }
    }

    async fn commit(&self, group: &[Batch]) -> Result<Vec<Outcome>, EngineError> {
        loop {
            match self.0.commit(group).await {
                Err(EngineError::Away(_)) => yield_now().await,
                done => return done,
            }
        }
    }

    async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, EngineError> {
        self.0.snapshot(deadline).await
    }

    async fn load(&self, part: Load) -> Result<(), EngineError> {
        self.0.load(part).await
    }

    fn notices(&self) -> Option<watch::Receiver<u64>> {
        self.0.notices()
    }
}

#[test]
fn postgres_behind_connections_that_break_conforms() {
    run(async {
        let cluster = Cluster::shared();
        let database = cluster.database();
        // A new store's own commit is not what is looked at.
        drop(database.open().await);
        let proxy = Cutting::before(cluster.socket());
        let place = DatabasePlace::Tcp("127.0.0.1".to_owned(), proxy.address.port());
        let login = database.login_at(place, &Secrecy::Plain);
        let engine = Stubborn(database.try_open(login).await.unwrap());
        conformance(&engine).await;
        assert!(proxy.commits() > 60, "{} commits", proxy.commits());
    });
}

/// Processes that share a database see each other's commits, in one order, and are woken by them.
#[test]
fn several_processes_share_a_database() {
    const C: Coll = Coll("shared");
    run(async {
        let database = Cluster::shared().database();
        let opened = join_all((0..3).map(|_| database.open())).await;
        let engines: Vec<Arc<Postgres>> = opened.into_iter().map(Arc::new).collect();
        let stores: Vec<Store> = engines
            .iter()
            .map(|engine| {
                let engine: Arc<dyn Engine> = engine.clone();
                Store::start(engine, Committer::Thread, Box::new(|_| {})).unwrap()
            })
            .collect();
        let insert = |n: usize| {
            writes(vec![write(
                C,
                &format!("r{n}"),
                Expect::Absent,
                "1",
                vec![],
            )])
        };
        let commits = (0..150).map(|n| stores[n % 3].commit(insert(n)));
        let versions = join_all(commits).await;
        let mut versions: Vec<u64> = versions.into_iter().map(|c| c.unwrap().version).collect();
        versions.sort_unstable();
        assert!(
            versions.is_sorted_by(|a, b| a + 1 == *b),
            "each number once"
        );
        for engine in &engines {
            assert_eq!(Ask(&**engine).all_rows(C, None, 1_000).await.len(), 150);
        }
        // One of them alone writes; the others hear of it.
        let mut wake = stores[2].wake();
        let last = stores[0].commit(insert(150)).await.unwrap().version;
        let heard = tokio::time::timeout(PATIENCE, wake.wait_for(|seq| *seq >= last)).await;
        assert!(heard.unwrap().is_ok());
        let again = stores[1].commit(insert(150)).await.unwrap_err();
        assert!(again.is_conflict(), "{again}");
        for store in &stores {
            store.close().await;
        }
    });
}

/// A database that stops and comes back: what was refused was not done, and nobody opens anew.
#[test]
fn an_outage_ends_by_itself() {
    const C: Coll = Coll("outage");
    run(async {
        let cluster = Cluster::start("");
        let database = cluster.database();
        let engine = database.open().await;
        let insert = |row: &str| [writes(vec![write(C, row, Expect::Absent, "1", vec![])])];
        Ask(&engine).group(&insert("before")).await;
        cluster.kill();
        for _ in 0..20 {
            let refused = engine.commit(&insert("during")).await;
            assert!(matches!(refused, Err(EngineError::Away(_))), "{refused:?}");
            let question = vec![Query::Counter(b"c".to_vec())];
            let refused = engine.read(question).await;
            assert!(matches!(refused, Err(EngineError::Away(_))), "{refused:?}");
        }
        cluster.up();
        let engine = Stubborn(engine);
        Ask(&engine).group(&insert("after")).await;
        let rows = Ask(&engine).all_rows(C, None, 9).await;
        let found: Vec<_> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(found, ["after", "before"]);
    });
}

#[test]
fn a_database_of_another_encoding_is_refused() {
    run(async {
        let cluster = Cluster::shared();
        cluster.sql(
            "postgres",
            "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' LOCALE_PROVIDER libc \
             TEMPLATE template0",
        );
        let mut login = cluster.database().login();
        login.database = "ascii".to_owned();
        let refused = Postgres::open(login, PATIENCE).await.err().unwrap();
        assert!(refused.to_string().contains("ENCODING 'UTF8'"), "{refused}");
        let mut login = cluster.database().login();
        login.database = "nosuch".to_owned();
        let refused = Postgres::open(login, PATIENCE).await.err().unwrap();
        let said = refused.to_string();
        assert!(said.contains("3D000") && said.contains("nosuch"), "{said}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn postgres_and_memory_agree(groups in vec(vec(steps(), 1..5), 1..12)) {
        run(async {
            let database = Cluster::shared().database();
            let group = |steps: Vec<Step>| steps.into_iter().map(Step::timeless).collect();
            let groups = groups.into_iter().map(group).collect();
            play(groups, &database.open().await).await
        })?;
    }
}
