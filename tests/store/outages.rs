//! A database that fails under writers: what was acknowledged is there, what was refused is not,
//! and all goes on by itself.

use super::{
    Ask, run, write, writes,
    written::{beside_writers, comes},
};
use crate::support::{
    cutting::{Cut, Cutting},
    postgres::{Cluster, Database, PATIENCE},
};
use certctl::{
    net::{DatabasePlace, Secrecy},
    store::{Coll, Committer, Engine, EngineError, Expect, Login, Postgres, Query, Store},
};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, timeout};

const C: Coll = Coll("faults");

async fn opened(database: &Database<'_>) -> Arc<Postgres> {
    let opened = database.try_open(database.impatient()).await;
    Arc::new(opened.unwrap())
}

async fn reads(engine: &dyn Engine) -> Result<(), EngineError> {
    let asked = engine.read(vec![Query::Sequence]).await;
    asked.map(drop)
}

#[track_caller]
fn away(outcome: Result<(), EngineError>, part: &str) {
    match outcome {
        Err(EngineError::Away(why)) => assert!(why.contains(part), "{part:?} in {why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_database_that_dies_and_comes_back() {
    run(async {
        let cluster = Cluster::start("");
        let database = cluster.database();
        let engine = opened(&database).await;
        beside_writers(engine.clone(), async |writing| {
            for _ in 0..3 {
                writing.go_on(100).await;
                cluster.kill();
                writing.told().await;
                assert!(writing.store.is_refusing());
                cluster.up();
                writing.go_on(100).await;
                assert!(!writing.store.is_refusing());
            }
        })
        .await;
    });
}

#[test]
fn sessions_that_are_ended_under_load() {
    run(async {
        let database = Cluster::shared().database();
        let engine = opened(&database).await;
        beside_writers(engine.clone(), async |writing| {
            for n in 0..30 {
                database.end_sessions();
                if n % 3 == 0 {
                    writing.go_on(30).await;
                    reads(&*engine).await.unwrap();
                }
            }
            writing.go_on(200).await;
        })
        .await;
    });
}

/// `CERTCTL_TEST_PAUSE` says for how many seconds, under the ordinary limits.
#[test]
fn a_database_that_stands_still() {
    run(async {
        let cluster = Cluster::start("");
        let database = cluster.database();
        let whole = std::env::var("CERTCTL_TEST_PAUSE").ok();
        let whole: Option<u64> = whole.map(|text| text.parse().unwrap());
        let login = match whole {
            Some(_) => database.login(),
            None => database.impatient(),
        };
        let engine = Arc::new(database.try_open(login).await.unwrap());
        beside_writers(engine.clone(), async |writing| {
            for _ in 0..3 {
                writing.go_on(100).await;
                cluster.signal_all(Signal::SIGSTOP);
                let paused = Instant::now();
                // Nobody waits for ever: a reader is told, and so is each writer.
                away(reads(&*engine).await, "");
                writing.told().await;
                if let Some(seconds) = whole {
                    let until = paused + Duration::from_secs(seconds);
                    tokio::time::sleep_until(until).await;
                }
                cluster.signal_all(Signal::SIGCONT);
                writing.go_on(200).await;
                timeout(PATIENCE, async {
                    while reads(&*engine).await.is_err() {
                        tokio::task::yield_now().await;
                    }
                })
                .await
                .unwrap();
            }
        })
        .await;
    });
}

#[test]
fn a_database_with_few_connections() {
    run(async {
        let cluster = Cluster::shared();
        let database = cluster.database();
        let name = &database.name;
        database.sql(&format!(
            "CREATE ROLE few_{name} LOGIN CONNECTION LIMIT 3; GRANT CREATE ON DATABASE {name} TO \
             few_{name}"
        ));
        let limit = |n: i32| database.sql(&format!("ALTER ROLE few_{name} CONNECTION LIMIT {n}"));
        let login = Login {
            user: format!("few_{name}"),
            connections: 8,
            ..database.login()
        };
        let engine = Arc::new(database.try_open(login).await.unwrap());
        beside_writers(engine.clone(), async |writing| {
            writing.go_on(100).await;
            // There is room for one reader, once a session that was given up has ended; then all are
            // answered.
            let answered = timeout(PATIENCE, async {
                loop {
                    let all = join_all((0..32).map(|_| reads(&*engine))).await;
                    if all.iter().all(Result::is_ok) {
                        break;
                    }
                }
            });
            answered.await.unwrap();
            writing.go_on(100).await;
            // None at all, and back.
            limit(0);
            database.end_sessions();
            writing.told().await;
            let said = timeout(PATIENCE, async {
                loop {
                    if let Err(e) = reads(&*engine).await {
                        break e;
                    }
                }
            });
            let said = said.await.unwrap().to_string();
            assert!(said.contains("53300"), "{said}");
            limit(3);
            writing.go_on(100).await;
            // Whoever comes first, readers and the writer both find a place.
            for _ in 0..10 {
                database.end_sessions();
                let mut all = join_all((0..16).map(|_| reads(&*engine))).await;
                while all.iter().any(Result::is_err) {
                    all = join_all((0..16).map(|_| reads(&*engine))).await;
                }
                writing.go_on(20).await;
            }
        })
        .await;
    });
}

#[test]
fn a_database_that_takes_no_writes() {
    run(async {
        let cluster = Cluster::start("");
        let database = cluster.database();
        let engine = opened(&database).await;
        beside_writers(engine.clone(), async |writing| {
            writing.go_on(100).await;
            // By its administrator's word, as where a disk runs full elsewhere.
            cluster.sql(
                "postgres",
                "ALTER SYSTEM SET default_transaction_read_only = on",
            );
            cluster.reload();
            writing.told().await;
            comes(|| writing.store.is_refusing()).await;
            reads(&*engine).await.unwrap();
            cluster.sql(
                "postgres",
                "ALTER SYSTEM RESET default_transaction_read_only",
            );
            cluster.reload();
            writing.go_on(100).await;

            // It becomes a standby, and is promoted again.
            cluster.down();
            let signal = cluster.data().join("standby.signal");
            fs::write(&signal, "").unwrap();
            cluster.up();
            writing.told().await;
            let said = timeout(PATIENCE, async {
                loop {
                    if let Err(EngineError::Away(why)) = reads(&*engine).await
                        && why.contains("standby")
                    {
                        break;
                    }
                }
            });
            said.await.expect("it says what it is");
            cluster.sql("postgres", "SELECT pg_promote()");
            writing.go_on(100).await;
        })
        .await;
    });
}

/// A small file system in memory, removed with it. Mounting needs root.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        let block = [0; 4096];
        while file.write_all(&block).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_database_whose_disk_is_full() {
    run(async {
        let cluster = Cluster::start("");
        let dir = cluster.socket_dir().join("small");
        fs::create_dir(&dir).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m,mode=0755", "certctl-test"]);
        assert!(mount.arg(&dir).status().unwrap().success());
        let disk = SmallDisk(dir.clone());
        let place = dir.join("tables");
        fs::create_dir(&place).unwrap();
        cluster.give(&place);
        let place = place.display();
        cluster.sql(
            "postgres",
            &format!("CREATE TABLESPACE small LOCATION '{place}'"),
        );
        cluster.sql("postgres", "CREATE DATABASE small TABLESPACE small");
        let database = Database {
            cluster: &cluster,
            name: "small".to_owned(),
        };
        let engine = opened(&database).await;
        beside_writers(engine.clone(), async |writing| {
            for _ in 0..2 {
                writing.go_on(100).await;
                disk.fill();
                // There is room within the tables' files for some more.
                writing.told().await;
                let store = &writing.store;
                comes(|| store.is_refusing()).await;
                reads(&*engine).await.unwrap();
                disk.free();
                writing.go_on(200).await;
            }
        })
        .await;
        drop(engine);
        cluster.kill();
        drop(disk);
    });
}

#[test]
fn what_nobody_was_told_of_is_found() {
    run(async {
        let database = Cluster::shared().database();
        let [first, second] = [opened(&database).await, opened(&database).await];
        let start = |engine: &Arc<Postgres>| {
            let engine: Arc<dyn Engine> = engine.clone();
            Store::start(engine, Committer::Thread, Box::new(|_| {})).unwrap()
        };
        let (writes_to, hears) = (start(&first), start(&second));
        let insert = |row: &str| writes(vec![write(C, row, Expect::Absent, "1", vec![])]);
        let mut wake = hears.wake();
        let last = writes_to.commit(insert("a")).await.unwrap().version;
        let heard = timeout(PATIENCE, wake.wait_for(|seq| *seq >= last)).await;
        drop(heard.unwrap().unwrap());
        // Nobody listens while the next is written.
        database.end_sessions();
        let last = loop {
            match writes_to.commit(insert("b")).await {
                Ok(committed) => break committed.version,
                Err(e) => assert!(e.is_away(), "{e}"),
            }
        };
        let heard = timeout(PATIENCE, wake.wait_for(|seq| *seq >= last)).await;
        drop(heard.unwrap().unwrap());
        for store in [writes_to, hears] {
            store.close().await;
        }
    });
}

/// The answer to a commit is lost, and so is the database, for longer than anybody waits.
#[test]
fn a_commit_of_which_nothing_is_known_is_said_to_be_one() {
    run(async {
        let cluster = Cluster::shared();
        let database = cluster.database();
        drop(database.open().await);
        let proxy = Cutting::at_will(cluster.socket());
        let place = DatabasePlace::Tcp("127.0.0.1".to_owned(), proxy.address.port());
        let login = Login {
            timeout: Duration::from_secs(1),
            ..database.login_at(place, &Secrecy::Plain)
        };
        let engine = database.try_open(login).await.unwrap();
        let insert = |row: &str| [writes(vec![write(C, row, Expect::Absent, "1", vec![])])];
        Ask(&engine).group(&insert("first")).await;
        for (row, cut, there) in [("done", Cut::After, true), ("not-done", Cut::Before, false)] {
            proxy.cut_and_close(cut);
            let said = engine.commit(&insert(row)).await;
            assert!(matches!(said, Err(EngineError::Unresolved)), "{said:?}");
            // It is away, and says so, until it is back.
            let said = engine.commit(&insert("refused")).await;
            assert!(matches!(said, Err(EngineError::Away(_))), "{said:?}");
            proxy.open();
            let found = timeout(PATIENCE, async {
                loop {
                    let question = vec![Query::Get {
                        coll: C,
                        ids: vec![super::id(row), super::id("refused")],
                    }];
                    if let Ok(answers) = engine.read(question).await {
                        break answers;
                    }
                }
            });
            let found = format!("{:?}", found.await.unwrap());
            assert_eq!(found.contains(row), there, "{found}");
            assert!(!found.contains("refused"), "{found}");
            let again = Ask(&engine).outcome(insert(row)[0].clone()).await;
            let taken = matches!(again, certctl::store::Outcome::Committed(_));
            assert_eq!(taken, !there, "{again:?}");
        }
    });
}
