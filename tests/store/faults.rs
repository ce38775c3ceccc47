//! The engine on PostgreSQL where the database, or somebody else in it, does what is not nice.

use super::{Ask, id, run, write, writes};
use crate::support::postgres::{Cluster, Database, PATIENCE};
use certctl::store::{Coll, Engine, EngineError, Expect, Postgres, Query};
use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use std::process::Stdio;
use tokio::{task::yield_now, time::timeout};

const C: Coll = Coll("fault");

fn any() -> Vec<Query> {
    vec![Query::All {
        coll: C,
        after: None,
        limit: 1,
    }]
}

async fn insert(engine: &Postgres, rows: impl Iterator<Item = usize>) {
    let batches: Vec<_> = rows
        .map(|n| {
            writes(vec![write(
                C,
                &format!("r{n}"),
                Expect::Absent,
                "1",
                vec![],
            )])
        })
        .collect();
    for group in batches.chunks(256) {
        Ask(engine).group(group).await;
    }
}

/// Waits until a query has this answer.
async fn until(database: &Database<'_>, sql: &str, answer: &str) {
    let seen = async {
        while database.sql(sql) != answer {
            yield_now().await;
        }
    };
    timeout(PATIENCE, seen).await.expect("it comes");
}

#[test]
fn names_of_old_commits_go_a_few_at_a_time() {
    run(async {
        let database = Cluster::shared().database();
        let engine = database.open().await;
        database.sql(
            "INSERT INTO certctl_store.commits (seq, id, at) SELECT n, '\\x00', now() - \
             CASE WHEN n <= 9000 THEN interval '2 days' ELSE interval '1 hour' END \
             FROM generate_series(1, 12000) n",
        );
        let left = || {
            database.sql(
                "SELECT count(*) FILTER (WHERE seq <= 9000), count(*) FILTER (WHERE seq > 9000) \
                 FROM certctl_store.commits WHERE seq <= 12000",
            )
        };
        // Once in 1,024 numbers.
        insert(&engine, 0..1023).await;
        assert_eq!(left(), "9000|3000");
        insert(&engine, 1023..1024).await;
        assert_eq!(left(), "4904|3000");
        insert(&engine, 1024..3 * 1024).await;
        assert_eq!(left(), "0|3000");
    });
}

#[test]
fn a_notice_says_to_look_and_nothing_else() {
    run(async {
        let database = Cluster::shared().database();
        let (writer, other) = (database.open().await, database.open().await);
        let mut heard = other.notices().unwrap();
        // Whoever has looked listens.
        let looked = heard.wait_for(|seq| *seq > 0);
        assert!(timeout(PATIENCE, looked).await.unwrap().is_ok());
        // Whoever may log in can say so.
        for word in ["18446744073709551615", "9223372036854775807", "x", ""] {
            database.sql(&format!("NOTIFY certctl, '{word}'"));
        }
        insert(&writer, 0..1).await;
        let last = Ask(&writer).row(C, "r0").await.unwrap().version;
        let newer = heard.wait_for(|seq| *seq >= last);
        let heard = *timeout(PATIENCE, newer).await.unwrap().unwrap();
        assert_eq!(heard, last);
    });
}

#[test]
fn a_statement_that_was_ended_is_not_said_again() {
    run(async {
        let cluster = Cluster::shared();
        let database = cluster.database();
        let engine = database.open().await;
        for answer in join_all((0..4).map(|_| engine.read(any()))).await {
            answer.unwrap();
        }
        let mut lock = cluster
            .psql(
                &database.name,
                "BEGIN; LOCK TABLE certctl_store.rows; SELECT pg_sleep(600)",
            )
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let asleep = "SELECT count(*) FROM pg_stat_activity \
                      WHERE datname = current_database() AND wait_event = 'PgSleep'";
        until(&database, asleep, "1").await;
        let ended = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity \
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let both = async { tokio::join!(engine.read(any()), until(&database, ended, "1")) };
        let (read, ()) = timeout(PATIENCE, both).await.expect("it gives up");
        let refused = read.unwrap_err();
        assert!(matches!(refused, EngineError::Away(_)), "{refused}");
        database.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND wait_event = 'PgSleep'",
        );
        lock.wait().unwrap();
        engine.read(any()).await.unwrap();
    });
}

#[test]
fn a_database_that_is_frozen_is_not_waited_for() {
    run(async {
        let database = Cluster::shared().database();
        let engine = database.open().await;
        insert(&engine, 0..1).await;
        engine.read(any()).await.unwrap();
        let sessions = database.sessions();
        let all = |signal| {
            for session in &sessions {
                kill(*session, signal).unwrap();
            }
        };
        all(Signal::SIGSTOP);
        // Nothing comes: time goes on to where that is given up.
        tokio::time::pause();
        let read = engine.read(any()).await.unwrap_err();
        let batch = writes(vec![write(C, "r1", Expect::Absent, "1", vec![])]);
        let commit = engine.commit(&[batch]).await.unwrap_err();
        tokio::time::resume();
        for refused in [read, commit] {
            assert!(matches!(refused, EngineError::Away(_)), "{refused}");
            assert!(refused.to_string().contains("did not answer"), "{refused}");
        }
        all(Signal::SIGCONT);
        let again = async {
            while engine.read(any()).await.is_err() {
                yield_now().await;
            }
        };
        timeout(PATIENCE, again).await.expect("others answer");
        assert!(Ask(&engine).row(C, id("r1").as_str()).await.is_none());
    });
}

#[test]
fn views_are_renewed_by_a_role_that_may_make_no_schema() {
    run(async {
        let database = Cluster::shared().database();
        let name = &database.name;
        database.sql(&format!(
            "CREATE ROLE {name} LOGIN; GRANT CREATE ON DATABASE {name} TO {name}"
        ));
        let login = || {
            let mut login = database.login();
            login.user.clone_from(name);
            login
        };
        drop(database.try_open(login()).await.unwrap());
        // As another version left them.
        database.sql(&format!(
            "REVOKE CREATE ON DATABASE {name} FROM {name}; \
             COMMENT ON SCHEMA certctl IS 'others'; DROP VIEW certctl.teams"
        ));
        drop(database.try_open(login()).await.unwrap());
        assert_eq!(database.sql("SELECT count(*) FROM certctl.teams"), "0");
    });
}

#[test]
fn one_at_a_time_holds_the_store() {
    run(async {
        let database = Cluster::shared().database();
        let (one, other) = (database.open().await, database.open().await);
        let first = one.hold().await.unwrap();
        let mut second = other.hold();
        let waits = "SELECT count(*) FROM pg_stat_activity \
                     WHERE datname = current_database() AND wait_event = 'advisory'";
        tokio::select! {
            biased;
            _ = &mut second => panic!("it is held"),
            () = until(&database, waits, "1") => {}
        }
        drop(first);
        let second = timeout(PATIENCE, second).await.expect("its turn comes");
        assert!(second.unwrap().is_some());
    });
}
