//! Programs of different formats on one store at the same time.

use super::{ALL, First, Last, Second, additive, first, insert, migrator, notes, program, rows};
use crate::store::{delete, id, run, writes};
use certctl::store::{
    Coll, CommitError, Engine, Memory, StoreError,
    migrate::{Class, Edit, MigrateError, Migration},
};
use serde_json::json;
use std::sync::Arc;

#[test]
fn an_older_program_lives_with_what_is_added() {
    run(async {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let older = program(&engine, &[]);
        let mut unit = older.unit(1, super::NOW);
        unit.insert(first("a", "red", 1));
        unit.commit().await.unwrap();

        let newer = program(&engine, additive());
        migrator(&newer).up(2, None, false).await.unwrap();
        let mut unit = newer.unit(2, super::NOW);
        let mut row = unit.load::<Second>(&id("a")).await.unwrap();
        row.pinned = true;
        unit.put(row);
        unit.commit().await.unwrap();

        // The older one learns of it by a conflict, and decides again.
        let edit = async || {
            let mut unit = older.unit(3, super::NOW);
            let mut row = unit.load::<First>(&id("a")).await?;
            row.rank = 5;
            unit.put(row);
            unit.commit().await?;
            Ok::<(), StoreError>(())
        };
        let mut tries = 0;
        while let Err(e) = edit().await {
            assert!(e.is_conflict(), "{e}");
            tries += 1;
            assert!(tries < 3, "decided again and again");
        }
        let mut unit = older.unit(4, super::NOW);
        unit.insert(first("b", "red", 2));
        unit.commit().await.unwrap();

        let a = newer.get::<Second>(&id("a")).await.unwrap().unwrap();
        assert_eq!(
            (a.rank, a.pinned),
            (5, true),
            "what it does not know is kept"
        );
        let b = newer.get::<Second>(&id("b")).await.unwrap().unwrap();
        assert!(!b.pinned, "and what it leaves out is the default");
        assert!(!older.is_outdated());
    });
}

#[test]
fn a_writer_that_is_too_old_is_refused_and_knows_it() {
    run(async {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let older = program(&engine, &[]);
        let mut unit = older.unit(1, super::NOW);
        unit.insert(first("a", "red", 1));
        unit.commit().await.unwrap();
        assert!(!older.is_outdated());

        let newer = program(&engine, ALL);
        let refused = migrator(&newer).up(9, None, false).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "migration 3 (a title is a name) needs all servers of older versions stopped: stop \
             them, then try again"
        );
        assert_eq!(
            newer.known().await.unwrap().format(),
            2,
            "what is additive was made"
        );
        migrator(&newer).up(9, None, true).await.unwrap();

        for _ in 0..2 {
            let mut unit = older.unit(3, super::NOW);
            unit.insert(first("b", "red", 2));
            let refused = unit.commit().await.unwrap_err();
            assert!(
                matches!(
                    refused,
                    CommitError::Outdated {
                        format: 9,
                        program: 1
                    }
                ),
                "{refused}"
            );
            assert!(older.is_outdated());
        }
        assert_eq!(notes(&engine).await.len(), 1);
    });
}

#[test]
fn a_changed_migration_is_noticed() {
    run(async {
        const OTHER: &[Migration] = &[Migration::additive(
            2,
            "notes can be pinned",
            "note",
            Class::AddField,
            const { &[Edit::add("pinned", "true")] },
        )];
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        insert(&engine, &[json!({"_format": 1, "id": "a"})]).await;
        let store = program(&engine, additive());
        migrator(&store).up(2, None, true).await.unwrap();

        let other = program(&engine, OTHER);
        let refused = migrator(&other).up(2, None, true).await.unwrap_err();
        assert!(matches!(refused, MigrateError::Altered(2)), "{refused}");
        let refused = migrator(&other).down(1).await.unwrap_err();
        assert!(matches!(refused, MigrateError::Altered(2)), "{refused}");
        // A program that does not know it sees that it still is what it was.
        let none = program(&engine, &[]);
        assert_eq!(none.known().await.unwrap().altered(), [0; 0]);
        migrator(&none).down(1).await.unwrap();
    });
}

#[test]
fn a_store_that_went_down_is_not_written_to_by_the_version_after_it() {
    run(async {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        insert(&engine, &[json!({"_format": 1, "id": "a", "rank": 3})]).await;
        let later = program(&engine, ALL);
        let add = async |commit: u128, row: &str| {
            let mut unit = later.unit(commit, super::NOW);
            unit.insert(Last {
                id: id(row),
                name: "n".into(),
                colour: "red".into(),
                pinned: false,
                origin: "here".into(),
            });
            unit.commit().await
        };
        let behind = |done: Result<_, CommitError>| {
            let refused = done.err().unwrap();
            let behind = matches!(
                refused,
                CommitError::Behind {
                    format: 1,
                    program: 9
                }
            );
            assert!(behind, "{refused}");
            assert!(later.is_behind());
        };
        behind(add(1, "b").await);
        migrator(&later).up(9, None, true).await.unwrap();
        add(2, "b").await.unwrap();
        // It goes on running while somebody takes the store down.
        migrator(&program(&engine, &[])).down(1).await.unwrap();
        behind(add(3, "c").await);
        behind(add(4, "d").await);
        let formats: Vec<_> = notes(&engine).await.into_iter().map(|n| n.1).collect();
        assert_eq!(formats.len(), 2, "{formats:?}");
        assert!(formats.iter().all(|note| note["_format"] == 1));
    });
}

#[test]
fn a_migration_that_the_ledger_lacks_is_noticed() {
    run(async {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        insert(&engine, &[json!({"_format": 1, "id": "a", "rank": 3})]).await;
        let store = program(&engine, ALL);
        migrator(&store).up(9, None, true).await.unwrap();
        migrator(&store).verify().await.unwrap();
        let ledger = rows(&engine, Coll("migration")).await;
        let lost = ledger.iter().find(|row| row.id.as_str() == "m-00006");
        let lost = lost.expect("it has one");
        let gone = delete(Coll("migration"), "m-00006", lost.version);
        engine.commit(&[writes(vec![gone])]).await.unwrap();
        for migrations in [ALL, &[]] {
            let store = program(&engine, migrations);
            let refused = migrator(&store).verify().await.unwrap_err();
            assert!(matches!(refused, MigrateError::Altered(6)), "{refused}");
            let refused = migrator(&store).down(1).await.unwrap_err();
            assert!(matches!(refused, MigrateError::Altered(6)), "{refused}");
        }
    });
}

#[test]
fn two_that_migrate_at_once_make_each_migration_once() {
    run(async {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        insert(&engine, &[json!({"_format": 1, "id": "a", "rank": 3})]).await;
        let (one, two) = (program(&engine, ALL), program(&engine, ALL));
        let (one, two) = (migrator(&one), migrator(&two));
        let (a, b) = tokio::join!(one.up(9, None, true), two.up(9, None, true));
        assert_eq!(a.unwrap().len() + b.unwrap().len(), ALL.len());
        assert_eq!(notes(&engine).await[0].1["_kept"], json!({"4 rank": [3]}));
    });
}
