//! The gate before a store is served, and what is asked before its format is changed.

use super::{ALL, Last, additive, first, migrator, notes, program};
use crate::{
    store::{Ask, id, run},
    support::postgres::Cluster,
};
use certctl::{
    app::{StartError, Upkeep, backup::BackupFailure},
    clock::{Clock, Rng, Time},
    crypt::{KeyRing, MachineKey, OsRng},
    domain::AuditEvent,
    store::{AUDIT, Engine, Memory, RingRow, Store, migrate::Migration},
};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, Ordering},
};

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Time {
        super::NOW
    }
}

fn upkeep(engine: &Arc<dyn Engine>, migrations: &'static [Migration]) -> Upkeep {
    Upkeep::of(
        program(engine, migrations),
        Arc::new(Fixed),
        Arc::new(OsRng),
    )
}

/// A store of the first format that a server has used.
async fn used() -> Arc<dyn Engine> {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    begin(&engine).await;
    engine
}

async fn begin(engine: &Arc<dyn Engine>) {
    let store = program(engine, &[]);
    let mut seed = [0; 32];
    OsRng.fill(&mut seed);
    let machine = MachineKey::generate(&OsRng);
    let (ring, _) = KeyRing::create(&machine, &OsRng, super::NOW);
    let mut unit = store.unit(1, super::NOW);
    unit.insert(RingRow {
        id: id("ring"),
        ring,
    });
    unit.insert(first("a", "blue", 3));
    unit.commit().await.unwrap();
}

/// Others that may open the store are kept away while its format is changed, or seen.
#[test]
fn the_format_of_a_database_is_changed_by_one_alone() {
    run(async {
        let database = Cluster::shared().database();
        let engine: Arc<dyn Engine> = Arc::new(database.open().await);
        begin(&engine).await;
        let held = || {
            database.sql(
                "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                 WHERE d.datname = current_database() AND l.locktype = 'advisory' \
                 AND l.classid = 8443 AND l.objid = 1 AND l.granted",
            )
        };
        let backup = async |_: &Store| {
            assert_eq!(held(), "1");
            Ok(None)
        };
        let later = upkeep(&engine, ALL);
        later.up(None, backup, NOTHING).await.unwrap();
        assert_eq!(later.status().await.unwrap().format, 9);

        // Somebody opens the store while the backup is made.
        let other = OnceLock::new();
        let backup = async |_: &Store| {
            assert_eq!(held(), "1");
            let engine = database.open().await;
            Ask(&engine).row(super::NOTES, "a").await;
            assert!(other.set(engine).is_ok());
            Ok(None)
        };
        let refused = later.down(1, true, backup, NOTHING).await.unwrap_err();
        assert!(matches!(refused, StartError::OthersAtWork(1)), "{refused}");
        assert_eq!(later.status().await.unwrap().format, 9);
    });
}

async fn actions(engine: &Arc<dyn Engine>) -> Vec<(String, String)> {
    let store = program(engine, &[]);
    let entries = store.tail(AUDIT, u64::MAX, 50).await.unwrap();
    let events = entries.iter().rev().map(|entry| {
        let event: AuditEvent = serde_json::from_slice(&entry.doc).unwrap();
        (event.action, event.resource_id)
    });
    events.collect()
}

const NOTHING: &(dyn Fn(&str, u64) + Sync) = &|_, _| {};

#[test]
fn a_store_that_is_behind_is_migrated_after_a_backup_and_the_log_says_so() {
    run(async {
        let engine = used().await;
        let backups = AtomicU32::new(0);
        let ahead = upkeep(&engine, additive())
            .admit(false, async |_: &Store| {
                backups.fetch_add(1, Ordering::Relaxed);
                Ok(Some("b-7".to_owned()))
            })
            .await
            .unwrap();
        assert!(!ahead);
        assert_eq!(backups.load(Ordering::Relaxed), 1);
        assert_eq!(notes(&engine).await[0].1["_format"], 2);
        assert_eq!(
            actions(&engine).await,
            [("schema_migrated".into(), "2".into())]
        );
        let status = upkeep(&engine, additive()).status().await.unwrap();
        assert_eq!(status.migrations[0].backup.as_deref(), Some("b-7"));

        // Nothing is to be done: nothing is backed up.
        let none = async |_: &Store| panic!("there is nothing to do");
        assert!(
            !upkeep(&engine, additive())
                .admit(false, none)
                .await
                .unwrap()
        );
        let change = upkeep(&engine, additive())
            .down(1, false, async |_: &Store| Ok(None), NOTHING)
            .await
            .unwrap();
        assert_eq!((change.from, change.to, change.migrations.len()), (2, 1, 1));
        assert_eq!(
            actions(&engine).await[1],
            ("schema_reverted".into(), "2".into())
        );
    });
}

#[test]
fn a_backup_that_fails_stops_the_change() {
    run(async {
        let engine = used().await;
        let before = notes(&engine).await;
        let fails = async |_: &Store| Err(BackupFailure::Capture("the disk is full".to_owned()));
        let refused = upkeep(&engine, ALL).admit(false, fails).await.unwrap_err();
        assert!(matches!(refused, StartError::Backup(_)), "{refused}");
        assert_eq!(notes(&engine).await, before);
        migrator(&program(&engine, ALL))
            .up(9, None, true)
            .await
            .unwrap();
        let before = notes(&engine).await;
        let refused = upkeep(&engine, &[])
            .down(1, true, fails, NOTHING)
            .await
            .unwrap_err();
        assert!(
            refused.to_string().contains("the disk is full"),
            "{refused}"
        );
        assert_eq!(notes(&engine).await, before);
    });
}

#[test]
fn an_empty_store_needs_neither_a_hook_nor_a_backup() {
    run(async {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let none = async |_: &Store| panic!("there is nothing to lose");
        assert!(!upkeep(&engine, ALL).admit(true, none).await.unwrap());
        let status = upkeep(&engine, ALL).status().await.unwrap();
        assert_eq!((status.format, status.unfinished), (9, false));
    });
}

#[test]
fn with_a_hook_a_store_that_is_behind_stays_as_it_is() {
    run(async {
        let engine = used().await;
        let before = notes(&engine).await;
        let none = async |_: &Store| panic!("nothing is changed");
        let refused = upkeep(&engine, ALL).admit(true, none).await.unwrap_err();
        assert!(
            matches!(
                refused,
                StartError::SchemaBehind {
                    format: 1,
                    program: 9
                }
            ),
            "{refused}"
        );
        assert_eq!(notes(&engine).await, before);
    });
}

#[test]
fn a_store_that_is_ahead_is_used_or_refused() {
    run(async {
        let engine = used().await;
        let none = async |_: &Store| panic!("nothing is changed");
        migrator(&program(&engine, ALL))
            .up(2, None, true)
            .await
            .unwrap();
        assert!(
            upkeep(&engine, &[]).admit(false, none).await.unwrap(),
            "it is ahead"
        );
        migrator(&program(&engine, ALL))
            .up(9, None, true)
            .await
            .unwrap();
        let refused = upkeep(&engine, additive())
            .admit(false, none)
            .await
            .unwrap_err();
        assert!(
            matches!(
                refused,
                StartError::SchemaTooNew {
                    format: 9,
                    program: 2,
                    since: 9
                }
            ),
            "{refused}"
        );
        let said = refused.to_string();
        assert!(said.contains("`certctl migrate down --to 2`"), "{said}");
        assert!(said.contains("`certctl restore`"), "{said}");
    });
}

#[test]
fn what_gets_out_of_sight_must_be_accepted() {
    run(async {
        let engine = used().await;
        let store = program(&engine, ALL);
        migrator(&store).up(9, None, true).await.unwrap();
        let mut unit = store.unit(3, super::NOW);
        let mut note = unit.load::<Last>(&id("a")).await.unwrap();
        note.pinned = true;
        unit.put(note);
        unit.commit().await.unwrap();

        let older = upkeep(&engine, &[]);
        let plan = older.plan_down(1).await.unwrap();
        let hidden: Vec<_> = plan.hidden.iter().map(|h| (&*h.field, h.rows)).collect();
        assert_eq!(hidden, [("pinned", 1)]);
        let backup = async |_: &Store| Ok(Some("b".to_owned()));
        let refused = older.down(1, false, backup, NOTHING).await.unwrap_err();
        assert!(
            refused.to_string().contains("note.pinned (1 rows)"),
            "{refused}"
        );
        assert_eq!(older.status().await.unwrap().format, 9);
        let change = older.down(1, true, backup, NOTHING).await.unwrap();
        assert_eq!(change.backup.as_deref(), Some("b"));
        assert_eq!(older.status().await.unwrap().format, 1);
        assert_eq!(older.verify().await.unwrap().len(), 0);
    });
}
