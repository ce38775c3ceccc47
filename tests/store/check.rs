//! A store that is looked at: what is damaged is found, and nothing is changed.

use super::{id, run};
use crate::support::postgres::Cluster;
use certctl::{
    clock::Time,
    domain::Team,
    store::{
        Batch, COLLECTIONS, Coll, Committer, Doc, Engine, EngineError, Expect, Fault, Key, Memory,
        Redb, Store, TEAM_NAME, Write,
    },
};
use std::{fs, sync::Arc, time::Duration};
use tokio::time::Instant;

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

fn store(engine: Arc<dyn Engine>) -> Store {
    Store::start(engine, Committer::Inline, Box::new(|_| {})).unwrap()
}

fn team(name: &str) -> Team {
    Team {
        id: id(name),
        name: name.to_owned(),
        description: String::new(),
        created_at: Time::from_seconds(0),
        updated_at: Time::from_seconds(0),
    }
}

async fn filled(engine: Arc<dyn Engine>) -> Store {
    let store = store(engine);
    let mut next = 1;
    store
        .build_indexes(COLLECTIONS, Time::from_seconds(0), || {
            next += 1;
            next
        })
        .await
        .unwrap();
    let mut unit = store.unit(1, Time::from_seconds(0));
    for n in 0..700 {
        unit.insert(team(&format!("team-{n:03}")));
    }
    unit.commit().await.unwrap();
    store
}

async fn faults(store: &Store) -> Vec<Fault> {
    let checked = store
        .check(COLLECTIONS, deadline(), &|_, _| {})
        .await
        .unwrap();
    assert!(checked.rows >= 700, "{checked:?}");
    assert!(checked.unbuilt.is_empty(), "{checked:?}");
    checked.faults
}

/// The index of one team lost, and one more that follows from no row.
async fn moved(store: &Store) {
    let row = store.get::<Team>(&id("team-007")).await.unwrap().unwrap();
    let key = |name: &str| super::index_key(TEAM_NAME, &Key::new().text(name).bytes());
    let batch = Batch {
        id: 77,
        writes: vec![Write {
            coll: Coll("team"),
            id: id("team-007"),
            expect: Expect::Version(row.version()),
            doc: Doc::Keep,
            keys: vec![key("elsewhere")],
        }],
        ..Batch::default()
    };
    store.commit(batch).await.unwrap();
}

async fn what_is_amiss_is_found(engine: Arc<dyn Engine>) {
    let store = filled(engine).await;
    assert_eq!(faults(&store).await, []);
    moved(&store).await;
    assert_eq!(
        faults(&store).await,
        [Fault::Index {
            index: TEAM_NAME.name,
            missing: 1,
            stray: 1,
            example: Some(id("team-007")),
        }]
    );
    // A row of another shape.
    let row = store.get::<Team>(&id("team-009")).await.unwrap().unwrap();
    let batch = Batch {
        id: 78,
        writes: vec![Write {
            coll: Coll("team"),
            id: id("team-009"),
            expect: Expect::Version(row.version()),
            doc: Doc::Put(r#"{"_format":1,"id":"team-009","name":7}"#.into()),
            keys: vec![],
        }],
        ..Batch::default()
    };
    store.commit(batch).await.unwrap();
    let found = faults(&store).await;
    let [
        Fault::Row {
            coll: "team",
            id: at,
            reason,
        },
    ] = &found[..]
    else {
        panic!("{found:?}");
    };
    assert_eq!(at, &id("team-009"));
    assert!(reason.contains("string"), "{reason}");
}

#[test]
fn memory() {
    run(what_is_amiss_is_found(Arc::new(Memory::new())));
}

#[test]
fn redb() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Redb::open(&dir.path().join("s.redb")).unwrap();
    run(what_is_amiss_is_found(Arc::new(engine)));
}

#[test]
fn postgres() {
    let database = Cluster::shared().database();
    run(async {
        what_is_amiss_is_found(Arc::new(database.open().await)).await;
        // Tables that somebody has edited by hand.
        let database = Cluster::shared().database();
        let store = filled(Arc::new(database.open().await)).await;
        database.sql(
            "DELETE FROM certctl_store.entries WHERE name = 'team.name' AND id = 'team-001';
             UPDATE certctl_store.counts SET n = n + 1 WHERE name = 'team.name'",
        );
        let wrong = Fault::Counts {
            index: TEAM_NAME.name,
            wrong: 1,
        };
        let index = |missing, stray, example| Fault::Index {
            index: TEAM_NAME.name,
            missing,
            stray,
            example,
        };
        let lost = index(1, 0, Some(id("team-001")));
        assert_eq!(faults(&store).await, [lost, wrong.clone()]);
        database.sql("INSERT INTO certctl_store.entries VALUES ('team.name', 'x', 'nobody')");
        assert_eq!(faults(&store).await, [index(0, 1, None), wrong]);
    });
}

#[test]
fn a_look_changes_no_byte_and_finds_flipped_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    run(async {
        drop(filled(Arc::new(Redb::open(&path).unwrap())).await);
    });
    let whole = fs::read(&path).unwrap();
    {
        let mut looked = Redb::look(&path).unwrap();
        looked.verify_pages().unwrap();
        assert!(matches!(Redb::open(&path), Err(EngineError::InUse(_))));
        // Also what is written to it is not written.
        run(async {
            let store = store(Arc::new(looked));
            moved(&store).await;
            assert_eq!(faults(&store).await.len(), 1);
        });
    }
    assert!(fs::read(&path).unwrap() == whole, "it was changed");

    let mut seen = 0;
    for n in 1..40 {
        let mut damaged = whole.clone();
        let at = n * (damaged.len() / 40);
        for byte in &mut damaged[at..at + 64] {
            *byte ^= 0x55;
        }
        fs::write(&path, &damaged).unwrap();
        // A part that holds nothing may be anything.
        match Redb::look(&path) {
            Err(EngineError::InUse(_)) => panic!("it is in nobody's use"),
            Err(_) => seen += 1,
            Ok(mut looked) => seen += usize::from(looked.verify_pages().is_err()),
        }
        assert!(fs::read(&path).unwrap() == damaged, "it was changed");
    }
    assert!(seen >= 3, "only {seen} of 39 damages were seen");
}
