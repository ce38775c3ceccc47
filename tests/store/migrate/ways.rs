//! The way up and down on each engine: what a sweep changes, what it leaves, and what a cut at any
//! point leaves.

use super::{ALL, BY_RANK, First, Last, NOTES, first, insert, migrator, notes, program, rows};
use crate::store::{
    Ask,
    crash::Crashing,
    disk::{LosingDisk, Loss},
    id, run,
};
use crate::support::postgres::Cluster;
use certctl::store::{
    Coll, Engine, Feed, Memory, Redb, Store,
    migrate::{MigrateError, Migration},
};
use redb::backends::InMemoryBackend;
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Engines that need nothing of the machine.
fn engines() -> Vec<(&'static str, Arc<dyn Engine>)> {
    vec![
        ("memory", Arc::new(Memory::new())),
        (
            "redb",
            Arc::new(Redb::open_on(InMemoryBackend::new()).unwrap()),
        ),
        ("redb that loses power", Arc::new(Crashing::new())),
    ]
}

fn some_notes(n: usize) -> Vec<Value> {
    let colours = ["red", "blue", "green", "crimson", "pink"];
    (0..n)
        .map(|n| {
            json!({
                "_format": 1,
                "id": format!("note-{n:04}"),
                "title": format!("about {n}"),
                "colour": colours[n % 5],
                "rank": n % 3,
                "stray": n,
            })
        })
        .collect()
}

async fn held(engine: &Arc<dyn Engine>) -> Vec<(Vec<u8>, u64)> {
    Ask(&**engine).counts(BY_RANK, b"", None).await
}

#[test]
fn up_changes_documents_and_nothing_else_and_down_puts_them_back() {
    for (name, engine) in engines() {
        run(up_and_down(name, engine));
    }
}

#[test]
fn postgres_goes_up_and_down() {
    run(async {
        let database = Cluster::shared().database();
        up_and_down("postgres", Arc::new(database.open().await)).await;
        let database = Cluster::shared().database();
        read_unswept("postgres", Arc::new(database.open().await)).await;
    });
}

/// On a database that several may have open, those that a change would break are seen.
#[test]
fn older_programs_that_are_at_work_are_seen() {
    run(async {
        let database = Cluster::shared().database();
        let engine: Arc<dyn Engine> = Arc::new(database.open().await);
        let store = program(&engine, ALL);
        assert_eq!(store.others().await.unwrap(), [0; 0]);
        let other = program(&(Arc::new(database.open().await) as Arc<dyn Engine>), &[]);
        other.get::<First>(&id("a")).await.unwrap();
        assert_eq!(store.others().await.unwrap(), [1]);
        other.close().await;
        drop(other);
        while !store.others().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    });
}

async fn up_and_down(name: &str, engine: Arc<dyn Engine>) {
    insert(&engine, &some_notes(450)).await;
    let before = notes(&engine).await;
    let keys = held(&engine).await;
    let last_insert = before.iter().map(|(version, _)| *version).max().unwrap();

    let store = program(&engine, ALL);
    let made = migrator(&store).up(9, Some("b-1"), true).await.unwrap();
    assert_eq!(made.len(), 8, "{name}");
    let after = notes(&engine).await;
    assert_eq!(
        after[0].1,
        json!({
            "_format": 9, "id": "note-0000", "name": "about 0", "stray": 0,
            "colour": "crimson", "pinned": false, "origin": "here",
        }),
        "rank 0 is the default: nothing is kept of it"
    );
    assert_eq!(
        after[13].1,
        json!({
            "_format": 9, "id": "note-0013", "name": "about 13", "stray": 13,
            "colour": "crimson", "pinned": false, "origin": "here",
            "_kept": {"4 rank": [1], "5 colour": ["crimson"]},
        }),
        "a colour that others become is told apart"
    );
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.0, after.0, "{name}: a sweep gives no new version");
    }
    assert_eq!(held(&engine).await, keys, "{name}: nor other keys");
    let Feed::Changes(changes) = Ask(&*engine).feed(last_insert, 500).await else {
        panic!("nothing was trimmed");
    };
    let told = changes.iter().flat_map(|change| &change.rows);
    assert_eq!(
        told.filter(|(coll, _)| coll == NOTES.0).count(),
        0,
        "{name}"
    );

    let known = store.known().await.unwrap();
    assert_eq!(
        (known.format(), known.min_reader(), known.min_writer()),
        (9, 9, 9)
    );
    assert!(!known.is_unfinished());
    let record = &known.ledger()[&3];
    assert_eq!(record.backup.as_deref(), Some("b-1"));
    assert_eq!(record.applied_by, "a test");
    assert!(record.is_sound());
    let left = migrator(&store).verify().await.unwrap();
    assert_eq!(left["note"], 0);

    let losses = migrator(&store).losses(1).await.unwrap();
    assert_eq!(
        losses,
        [],
        "{name}: no program wrote what the first has no place for"
    );

    // A program that has never heard of any of them.
    let older = program(&engine, &[]);
    let undone = migrator(&older).down(1).await.unwrap();
    assert_eq!(undone.len(), 8);
    assert_eq!(notes(&engine).await, before, "{name}");
    let since = Ask(&*engine).feed(last_insert, 500).await;
    assert!(
        matches!(since, Feed::Trimmed { .. }),
        "{name}: nobody may build on a state from before: {since:?}"
    );
    assert_eq!(held(&engine).await, keys);
    assert!(rows(&engine, Coll("migration")).await.is_empty());
    let known = older.known().await.unwrap();
    assert_eq!(
        (known.format(), known.min_reader(), known.min_writer()),
        (1, 1, 1)
    );

    migrator(&store).up(9, None, true).await.unwrap();
    assert_eq!(notes(&engine).await, after, "{name}");
}

#[test]
fn rows_are_read_in_the_readers_format_before_any_sweep() {
    for (name, engine) in engines() {
        run(read_unswept(name, engine));
    }
}

async fn read_unswept(name: &str, engine: Arc<dyn Engine>) {
    let older = program(&engine, &[]);
    let mut unit = older.unit(1, super::NOW);
    unit.insert(first("a", "blue", 7));
    unit.commit().await.unwrap();
    // Made in the ledger alone: the row is as it was.
    let store = program(&engine, ALL);
    let row = store.get::<Last>(&id("a")).await.unwrap().unwrap();
    let expected = Last {
        id: id("a"),
        name: "about a".into(),
        colour: "red".into(),
        pinned: false,
        origin: "here".into(),
    };
    assert_eq!(*row, expected, "{name}");
    assert_eq!(notes(&engine).await[0].1["_format"], 1);

    migrator(&store).up(9, None, true).await.unwrap();
    let mut unit = store.unit(2, super::NOW);
    let mut row = unit.load::<Last>(&id("a")).await.unwrap();
    row.pinned = true;
    row.colour = "crimson".into();
    unit.put(row);
    unit.commit().await.unwrap();

    // The other way too, by the ledger: this program has no such migrations.
    let row = older.get::<First>(&id("a")).await.unwrap().unwrap();
    assert_eq!(*row, first("a", "red", 7), "{name}");
    let losses = migrator(&older).losses(1).await.unwrap();
    let losses: Vec<_> = losses.iter().map(|l| (&*l.field, l.rows)).collect();
    assert_eq!(losses, [("pinned", 1)], "{name}");
    migrator(&older).down(1).await.unwrap();
    migrator(&store).up(9, None, true).await.unwrap();
    let row = store.get::<Last>(&id("a")).await.unwrap().unwrap();
    assert!(row.pinned, "{name}: what was out of sight is back");
}

/// A store whose power goes at each sync of the way `go`: whoever opens what is found and goes
/// that way again comes to the same end.
fn cut_everywhere(
    prepare: impl AsyncFn(&Arc<dyn Engine>),
    go: impl AsyncFn(&Arc<dyn Engine>) -> Result<(), MigrateError>,
) {
    run(async {
        let disk = LosingDisk::default();
        let engine: Arc<dyn Engine> = Arc::new(Redb::open_on(disk.clone()).unwrap());
        prepare(&engine).await;
        disk.watch(vec![Loss::All, Loss::None, Loss::Torn(7)]);
        go(&engine).await.unwrap();
        let expected = notes(&engine).await;
        let images = disk.images();
        assert!(images.len() > 30, "only {} cuts", images.len());
        for (n, image) in images.into_iter().enumerate() {
            let found: Arc<dyn Engine> = Arc::new(Redb::open_on(LosingDisk::found(image)).unwrap());
            go(&found).await.unwrap();
            assert_eq!(notes(&found).await, expected, "cut {n}");
            let known = program(&found, ALL).refresh_known().await.unwrap();
            assert!(!known.is_unfinished(), "cut {n}");
        }
    });
}

#[test]
fn a_way_up_that_is_cut_at_any_write_is_gone_on_with() {
    cut_everywhere(
        async |engine| insert(engine, &some_notes(300)).await,
        async |engine| {
            let store = program(engine, ALL);
            migrator(&store).up(9, None, true).await.map(drop)
        },
    );
}

#[test]
fn a_way_down_that_is_cut_at_any_write_is_gone_on_with() {
    cut_everywhere(
        async |engine| {
            insert(engine, &some_notes(900)).await;
            let store = program(engine, ALL);
            migrator(&store).up(9, None, true).await.unwrap();
        },
        async |engine| {
            let store = program(engine, &[]);
            migrator(&store).down(1).await.map(drop)
        },
    );
}

#[test]
fn a_row_that_is_written_during_the_sweep_keeps_what_was_written() {
    run(async {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        insert(&engine, &some_notes(450)).await;
        let writer = program(&engine, ALL);
        let store = program(&engine, ALL);
        let told = AtomicU64::new(0);
        let progress = |_: &str, n: u64| {
            told.fetch_add(n, Ordering::Relaxed);
        };
        let migrator = certctl::store::migrate::Migrator {
            progress: &progress,
            ..super::migrator(&store)
        };
        migrator.up(9, None, true).await.unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 450);
        let mut unit = writer.unit(9, super::NOW);
        let mut row = unit.load::<Last>(&id("note-0449")).await.unwrap();
        row.name = "another".into();
        unit.put(row);
        unit.commit().await.unwrap();
        migrator.down(1).await.unwrap();
        let row = store.get::<First>(&id("note-0449")).await.unwrap().unwrap();
        assert_eq!(row.title, "another");
    });
}

#[test]
fn irreversible_migrations_stop_the_way_down_and_name_their_backup() {
    run(async {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        insert(&engine, &some_notes(3)).await;
        let list: Vec<Migration> = vec![ALL[0].clone(), ALL[1].clone().irreversible()];
        let list: &'static [Migration] = list.leak();
        let store = program(&engine, list);
        migrator(&store)
            .up(3, Some("backup-7"), true)
            .await
            .unwrap();
        let after = notes(&engine).await;
        let refused = migrator(&store).down(1).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "migration 3 (a title is a name) cannot be undone: restore backup-7"
        );
        assert_eq!(notes(&engine).await, after);
        let nowhere = migrator(&store).down(7).await.unwrap_err();
        assert!(
            matches!(nowhere, MigrateError::NoSuchFormat { asked: 7, .. }),
            "{nowhere}"
        );
        let nowhere = migrator(&store).up(9, None, true).await.unwrap_err();
        assert!(
            matches!(nowhere, MigrateError::NoSuchFormat { asked: 9, .. }),
            "{nowhere}"
        );
    });
}

/// A disk that fails at the k-th write or sync of a way, for each k, and then for good. Whatever was
/// lost of what was not synced: every document can be read, in the form before or the one after, and
/// the way is gone to its end then.
#[test]
fn a_disk_that_fails_at_any_write_of_a_way_loses_nothing() {
    run(async {
        let low = LosingDisk::default();
        let engine: Arc<dyn Engine> = Arc::new(Redb::open_on(low.clone()).unwrap());
        insert(&engine, &some_notes(40)).await;
        let before = notes(&engine).await;
        drop(engine);
        let low = low.lose_power(Loss::None);
        let high = LosingDisk::found(low.clone());
        let engine: Arc<dyn Engine> = Arc::new(Redb::open_on(high.clone()).unwrap());
        let store = program(&engine, ALL);
        migrator(&store).up(9, None, true).await.unwrap();
        let after = notes(&engine).await;
        drop((store, engine));
        let high = high.lose_power(Loss::None);

        for (from, to, wanted) in [(low, 9, &after), (high, 1, &before)] {
            let way = async |store: &Store| match to {
                1 => migrator(store).down(1).await.map(drop),
                to => migrator(store).up(to, None, true).await.map(drop),
            };
            let mut failed = 0;
            loop {
                let disk = LosingDisk::found(from.clone());
                let engine: Arc<dyn Engine> = Arc::new(Redb::open_on(disk.clone()).unwrap());
                let store = program(&engine, ALL);
                disk.fail_after(failed);
                let went = way(&store).await;
                drop((store, engine));
                for loss in [Loss::All, Loss::None, Loss::Torn(failed as u64)] {
                    let found = LosingDisk::found(disk.lose_power(loss));
                    let engine: Arc<dyn Engine> = Arc::new(Redb::open_on(found).unwrap());
                    let store = program(&engine, ALL);
                    let all = store.every::<Last>().await.unwrap();
                    assert_eq!(all.len(), before.len(), "{failed} {loss:?}");
                    if went.is_err() {
                        let way = way(&store).await;
                        way.unwrap_or_else(|e| panic!("{failed} {loss:?}: {e}"));
                        migrator(&store).finish().await.unwrap();
                    }
                    assert_eq!(notes(&engine).await, *wanted, "{failed} {loss:?}");
                }
                if went.is_ok() {
                    break;
                }
                failed += 1;
            }
            assert!(failed > 20, "to {to}: {failed} writes");
        }
    });
}
