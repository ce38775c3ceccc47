//! Indexes follow the program: what it derives in another way is built from the rows.

use super::{Ask, id, run};
use certctl::{
    clock::Time,
    id::Id,
    store::{
        Coll, Collection, Committer, Document, Engine, Facet, Feed, Index, Key, Keys, Memory, Redb,
        Scan, Store,
    },
};
use redb::backends::InMemoryBackend;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const COLL: Coll = Coll("pet");
const NOW: Time = Time::from_micros(1);
const OLD: Index = Index::new(COLL, "pet.old");
const PLAIN: Index = Index::new(COLL, "pet.name");
const COUNTED: Index = Index::new(COLL, "pet.name").counted();
const NEW: Index = Index::new(COLL, "pet.new").counted_by(0);

macro_rules! program {
    ($name:ident, [$($index:ident),*]) => {
        #[derive(Debug, Serialize, Deserialize)]
        struct $name { id: Id, name: String }
        impl Document for $name {
            const COLL: Coll = COLL;
            const FORMAT: u16 = 1;
            const INDEXES: &'static [Index] = &[$($index),*];
            fn id(&self) -> &Id { &self.id }
            fn keys(&self, keys: &mut Keys) {
                $(keys.put($index, Key::new().text(&self.name));)*
            }
        }
    };
}
program!(Before, [OLD, PLAIN]);
program!(After, [COUNTED, NEW]);

async fn build<T: Document>(store: &Store) -> u64 {
    let mut n = 0;
    let commit_id = || {
        n += 1;
        n
    };
    store
        .build_indexes(&[Collection::of::<T>()], NOW, commit_id)
        .await
        .unwrap()
}

pub async fn changes_with_the_program(engine: Arc<dyn Engine>) {
    let ask = Ask(&*engine);
    let store = Store::start(engine.clone(), Committer::Inline, Box::new(|_| {})).unwrap();
    assert_eq!(
        build::<Before>(&store).await,
        0,
        "a new store has nothing to build"
    );
    let mut unit = store.unit(1, NOW);
    for n in 0..1_200 {
        let name = format!("n{}", n % 3);
        unit.insert(Before {
            id: id(&format!("p{n}")),
            name,
        });
    }
    let version = unit.commit().await.unwrap().version;
    assert_eq!(build::<Before>(&store).await, 0);

    assert_eq!(build::<After>(&store).await, 1_200);
    assert_eq!(build::<After>(&store).await, 0, "once");
    let n0 = Facet::is(COUNTED, Key::new().text("n0"));
    assert_eq!(store.count(&n0).await.unwrap(), 400);
    assert_eq!(store.count(&Facet::any(NEW)).await.unwrap(), 1_200);
    assert!(ask.holders(OLD, b"").await.is_empty(), "given up");
    let row = store.get::<After>(&id("p7")).await.unwrap().unwrap();
    assert_eq!(row.version(), version, "rows are not written");
    let Feed::Changes(told) = ask.feed(version, 100).await else {
        panic!("nothing was trimmed");
    };
    assert!(
        told.iter()
            .all(|c| c.rows.iter().all(|(coll, _)| coll != COLL.0)),
        "nor told of"
    );

    // A program that does not know the counted index writes and deletes; the counts stay right.
    assert_eq!(build::<Before>(&store).await, 1_200);
    assert_eq!(
        store
            .scan::<Before>(Scan::all(OLD, 2_000))
            .await
            .unwrap()
            .len(),
        1_200
    );
    let mut unit = store.unit(2, NOW);
    let gone = unit.load::<Before>(&id("p0")).await.unwrap();
    unit.delete(gone);
    unit.commit().await.unwrap();
    build::<After>(&store).await;
    assert_eq!(store.count(&n0).await.unwrap(), 399);
    assert_eq!(ask.counts(NEW, b"", None).await, [(vec![], 1_199)]);
}

#[test]
fn indexes_are_built_when_the_program_changes() {
    run(changes_with_the_program(Arc::new(Memory::new())));
    run(changes_with_the_program(Arc::new(
        Redb::open_on(InMemoryBackend::new()).unwrap(),
    )));
}

#[test]
fn a_build_that_was_cut_is_done_again() {
    run(async {
        let engine = Arc::new(Memory::new());
        let store = Store::start(engine.clone(), Committer::Inline, Box::new(|_| {})).unwrap();
        build::<Before>(&store).await;
        let mut unit = store.unit(1, NOW);
        for n in 0..1_200 {
            unit.insert(Before {
                id: id(&format!("p{n}")),
                name: "n".into(),
            });
        }
        unit.commit().await.unwrap();
        // The commits of a build: the mark, three of rows, the end. Any may be the last.
        for last in 1..5 {
            let mut left = last;
            let commit_id = || {
                left -= 1;
                assert!(left >= 0, "the process ends here");
                1
            };
            let after = [Collection::of::<After>()];
            let build_it = store.build_indexes(&after, NOW, commit_id);
            let cut = std::panic::AssertUnwindSafe(build_it);
            let cut = futures_util::FutureExt::catch_unwind(cut).await;
            assert!(cut.is_err(), "cut before commit {last}");
            assert_eq!(
                build::<Before>(&store).await,
                1_200,
                "neither program trusts what is there"
            );
            assert_eq!(
                store
                    .scan::<Before>(Scan::all(OLD, 2_000))
                    .await
                    .unwrap()
                    .len(),
                1_200
            );
        }
        assert_eq!(build::<After>(&store).await, 1_200);
        assert_eq!(store.count(&Facet::any(NEW)).await.unwrap(), 1_200);
    });
}

#[test]
fn a_unique_index_is_not_built_over_duplicates() {
    const ONE: Index = Index::new(COLL, "pet.one").unique();
    program!(Unique, [ONE]);
    run(async {
        let store =
            Store::start(Arc::new(Memory::new()), Committer::Inline, Box::new(|_| {})).unwrap();
        let mut unit = store.unit(1, NOW);
        for n in 0..2 {
            unit.insert(Before {
                id: id(&format!("p{n}")),
                name: "same".into(),
            });
        }
        unit.commit().await.unwrap();
        let refused = store
            .build_indexes(&[Collection::of::<Unique>()], NOW, || 1)
            .await;
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("pet.one"), "{said}");
    });
}
