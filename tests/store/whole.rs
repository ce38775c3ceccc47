//! A whole store, read out of one engine and loaded into another, is the same store.

use super::{
    Ask,
    conformance::conformance,
    crash::Crashing,
    disk::{LosingDisk, Loss},
    id, run, write, writes,
};
use certctl::store::{
    Answer, Coll, Committed, Engine, EngineError, Expect, Load, Memory, Query, Redb, Row,
};
use redb::backends::InMemoryBackend;
use std::time::Duration;
use tokio::time::Instant;

/// How much is asked for at a time.
const PAGES: [usize; 2] = [3, 1_000];

/// A row's place and the row; a counter; an entry.
type Whole = Load;

/// Everything that a store holds, asked for in pages of one size.
pub async fn read(engine: &dyn Engine, limit: usize) -> Whole {
    let snapshot = engine
        .snapshot(Instant::now() + Duration::from_secs(60))
        .await
        .unwrap();
    let ask = async |question| snapshot.read(vec![question]).await.unwrap().remove(0);
    let mut whole = Whole::default();
    loop {
        let after = whole.rows.last();
        let after = after.map(|(coll, row)| (coll.clone(), row.id.clone()));
        match ask(Query::EveryRow { after, limit }).await {
            Answer::EveryRow(rows) if rows.is_empty() => break,
            Answer::EveryRow(rows) => whole.rows.extend(rows),
            other => panic!("{other:?}"),
        }
    }
    loop {
        let after = whole.counters.last().map(|(name, _)| name.clone());
        match ask(Query::EveryCounter { after, limit }).await {
            Answer::EveryCounter(counters) if counters.is_empty() => break,
            Answer::EveryCounter(counters) => whole.counters.extend(counters),
            other => panic!("{other:?}"),
        }
    }
    loop {
        let after = whole.entries.last();
        let after = after.map(|(stream, entry)| (stream.clone(), entry.number));
        match ask(Query::EveryEntry { after, limit }).await {
            Answer::EveryEntry(entries) if entries.is_empty() => break,
            Answer::EveryEntry(entries) => whole.entries.extend(entries),
            other => panic!("{other:?}"),
        }
    }
    match ask(Query::Sequence).await {
        Answer::Sequence(last) => whole.last = Some(last),
        other => panic!("{other:?}"),
    }
    whole
}

/// Loads all of a store, a few things at a time.
async fn load(engine: &dyn Engine, whole: &Whole) -> Result<(), EngineError> {
    for rows in whole.rows.chunks(7) {
        let rows = rows.to_vec();
        engine
            .load(Load {
                rows,
                ..Load::default()
            })
            .await?;
    }
    for entries in whole.entries.chunks(5) {
        let entries = entries.to_vec();
        engine
            .load(Load {
                entries,
                ..Load::default()
            })
            .await?;
    }
    engine
        .load(Load {
            counters: whole.counters.clone(),
            last: whole.last,
            ..Load::default()
        })
        .await
}

/// What conformance leaves in `from`, loaded into `to`, which is empty.
pub async fn moves(from: &dyn Engine, to: &dyn Engine) {
    const C: Coll = Coll("whole");
    conformance(from).await;
    let whole = read(from, PAGES[0]).await;
    assert_eq!(read(from, PAGES[1]).await, whole, "whatever the page");
    assert!(
        whole
            .rows
            .is_sorted_by_key(|(coll, row)| (coll.clone(), row.id.clone())),
        "by (collection, id)"
    );
    let streams: Vec<_> = whole.entries.iter().map(|(s, e)| (s, e.number)).collect();
    assert!(streams.is_sorted(), "{streams:?}");
    assert!(whole.rows.len() > 7 && whole.entries.len() > 5 && whole.counters.len() > 3);

    load(to, &whole).await.unwrap();
    assert_eq!(read(to, PAGES[0]).await, whole);
    let refused = to.load(Load::default()).await;
    assert!(
        matches!(refused, Err(EngineError::NotEmpty)),
        "{refused:?}: a load is over when it was ended"
    );
    let refused = from.load(Load::default()).await;
    assert!(matches!(refused, Err(EngineError::NotEmpty)), "{refused:?}");

    // It goes on where the other one was: with its sequence numbers, streams and counters.
    for (stream, entry) in &whole.entries {
        if stream == "streams" {
            let last = Ask(to).tail("streams", u64::MAX, 1).await.remove(0);
            assert!(last.number >= entry.number);
        }
    }
    let next = async |engine| -> Committed {
        let mut batch = writes(vec![write(C, "new", Expect::Absent, "1", vec![])]);
        batch.append.push(certctl::store::Append {
            stream: "streams",
            doc: bytes::Bytes::from_static(b"{}"),
        });
        Ask(engine).accepted(batch).await
    };
    assert_eq!(next(to).await, next(from).await);
    let told = Ask(to).feed(whole.last.unwrap() - 1, 9).await;
    let upto = whole.last.unwrap();
    assert_eq!(
        told,
        certctl::store::Feed::Trimmed { upto },
        "it knows no past"
    );
    let (mut a, mut b) = (read(from, 50).await, read(to, 50).await);
    assert_eq!(a.last, Some(whole.last.unwrap() + 1));
    assert_eq!(a.entries.pop(), b.entries.pop(), "linked to the one before");
    assert_eq!(a, b);
}

#[test]
fn a_store_moves_between_engines() {
    run(async {
        let redb = || Redb::open_on(InMemoryBackend::new()).unwrap();
        moves(&Memory::new(), &redb()).await;
        moves(&redb(), &Memory::new()).await;
        moves(&Crashing::new(), &Crashing::new()).await;
    });
}

fn row(name: &str, version: u64, doc: &'static [u8]) -> (String, Row) {
    let row = Row {
        id: id(name),
        version,
        doc: bytes::Bytes::from_static(doc),
    };
    ("c".to_owned(), row)
}

/// Later parts hold over earlier ones, and a store in between is no store.
pub async fn in_parts(engine: &dyn Engine) {
    const C: Coll = Coll("c");
    let first = Load {
        rows: vec![row("a", 5, b"1"), row("b", 6, b"1"), row("c", 7, b"1")],
        counters: vec![(b"n".to_vec(), 4)],
        ..Load::default()
    };
    engine.load(first).await.unwrap();
    let early = engine.commit(&[writes(vec![])]).await;
    assert!(matches!(early, Err(EngineError::HalfLoaded)), "{early:?}");
    let second = Load {
        rows: vec![row("b", 9, b"2")],
        gone: vec![("c".into(), id("c")), ("nothing".into(), id("x"))],
        counters: vec![(b"n".to_vec(), 5)],
        last: Some(2 << 40),
        ..Load::default()
    };
    engine.load(second).await.unwrap();
    let rows = Ask(engine).all_rows(C, None, 9).await;
    assert_eq!(rows, [row("a", 5, b"1").1, row("b", 9, b"2").1]);
    assert_eq!(Ask(engine).counter(b"n").await, 5);
    let next = Ask(engine)
        .accepted(writes(vec![write(C, "b", Expect::Version(9), "3", vec![])]))
        .await;
    assert_eq!(next.version, (2 << 40) + 1);
}

#[test]
fn a_load_has_parts_and_an_end() {
    run(async {
        in_parts(&Memory::new()).await;
        in_parts(&Redb::open_on(InMemoryBackend::new()).unwrap()).await;
    });
}

#[test]
fn a_load_that_was_cut_leaves_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.redb");
    let part = || Load {
        rows: vec![row("a", 5, b"1")],
        ..Load::default()
    };
    let redb = Redb::open(&file).unwrap();
    run(redb.load(part())).unwrap();
    drop(redb);
    match Redb::open(&file) {
        Err(EngineError::HalfLoaded) => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("half a store is no store"),
    }

    // Without power: as if nothing had been loaded, or no store, or all of it.
    let disk = LosingDisk::default();
    let redb = Redb::open_on(disk.clone()).unwrap();
    disk.watch(vec![Loss::All, Loss::None, Loss::Torn(1), Loss::Torn(2)]);
    run(async {
        for _ in 0..3 {
            redb.load(part()).await.unwrap();
        }
        let last = Some(7 << 40);
        redb.load(Load { last, ..part() }).await.unwrap();
        let whole = read(&redb, 9).await;
        for image in disk.images() {
            match Redb::open_on(LosingDisk::found(image)) {
                Err(EngineError::HalfLoaded) => {}
                Err(other) => panic!("{other}"),
                Ok(found) => {
                    let found = read(&found, 9).await;
                    let empty = Load {
                        last: Some(1 << 40),
                        ..Load::default()
                    };
                    assert!(found == whole || found == empty, "{found:?}");
                }
            }
        }
    });
}
