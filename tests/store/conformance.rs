//! What every engine must do, as a function over `&dyn Engine`.

use super::{Ask, all, delete, id, index_key, write, writes};
use bytes::Bytes;
use certctl::{
    clock::Time,
    store::{
        Answer, Append, Batch, Change, Coll, CounterChange, CounterOp, Doc, Engine, EngineError,
        Expect, Feed, Index, Memory, Outcome, Query, Redb, Refusal, Scan, Write, link,
    },
};
use std::time::Duration;
use tokio::time::Instant;

#[test]
fn memory_conforms() {
    super::run(async {
        let memory = Memory::new();
        conformance(&memory).await;
        a_snapshot_ends(&memory).await;
    });
}

#[test]
fn redb_conforms() {
    let dir = tempfile::tempdir().unwrap();
    super::run(async {
        let redb = Redb::open(&dir.path().join("s.redb")).unwrap();
        conformance(&redb).await;
        a_snapshot_ends(&redb).await;
    });
}

pub async fn conformance(engine: &dyn Engine) {
    let ask = &Ask(engine);
    expectations(ask).await;
    atomicity(ask).await;
    overlay(ask).await;
    versions(ask).await;
    index_keys_follow_the_row(ask).await;
    scans(ask).await;
    unique(ask).await;
    none(ask).await;
    none_within_a_group(ask).await;
    counters(ask).await;
    buckets(ask).await;
    streams(ask).await;
    counted(ask).await;
    keys_alone(ask).await;
    another_form(ask).await;
    feed(ask).await;
    snapshots(ask).await;
}

const fn plain(name: &'static str, coll: Coll) -> Index {
    Index::new(coll, name)
}

fn conflict(coll: Coll, row: &str) -> Refusal {
    Refusal::Conflict { coll, id: id(row) }
}

async fn expectations(ask: &Ask<'_>) {
    const C: Coll = Coll("expectations");
    let insert = |doc| writes(vec![write(C, "a", Expect::Absent, doc, vec![])]);
    let v = ask.accepted(insert("1")).await.version;
    let row = ask.row(C, "a").await.unwrap();
    assert_eq!((row.version, &row.doc[..]), (v, &b"1"[..]));

    assert_eq!(ask.refused(insert("2")).await, conflict(C, "a"));
    let stale = writes(vec![write(C, "a", Expect::Version(v - 1), "2", vec![])]);
    assert_eq!(ask.refused(stale).await, conflict(C, "a"));
    let missing = writes(vec![write(C, "b", Expect::Version(v), "2", vec![])]);
    assert_eq!(ask.refused(missing).await, conflict(C, "b"));

    let assert = |row: &str, expect| Batch {
        asserts: vec![(C, id(row), expect)],
        ..Batch::default()
    };
    assert_eq!(
        ask.refused(assert("a", Expect::Absent)).await,
        conflict(C, "a")
    );
    assert_eq!(
        ask.refused(assert("b", Expect::Version(v))).await,
        conflict(C, "b")
    );
    ask.accepted(assert("a", Expect::Version(v))).await;
    ask.accepted(assert("b", Expect::Absent)).await;
    assert_eq!(
        ask.row(C, "a").await.unwrap(),
        row,
        "asserting writes nothing"
    );
}

async fn atomicity(ask: &Ask<'_>) {
    const C: Coll = Coll("atomicity");
    const I: Index = plain("atomicity.i", C);
    let mut batch = writes(vec![
        write(C, "a", Expect::Absent, "1", vec![index_key(I, b"k")]),
        write(C, "b", Expect::Version(7), "1", vec![]),
    ]);
    batch.counters.push(CounterChange {
        key: b"atomicity".to_vec(),
        op: CounterOp::Add { n: 1, max: 9 },
    });
    batch.append.push(Append {
        stream: "atomicity",
        doc: Bytes::from_static(b"{}"),
    });
    assert_eq!(ask.refused(batch).await, conflict(C, "b"));
    assert_eq!(ask.row(C, "a").await, None);
    assert!(ask.holders(I, b"").await.is_empty());
    assert_eq!(ask.counter(b"atomicity").await, 0);
    assert!(ask.tail("atomicity", u64::MAX, 9).await.is_empty());
}

async fn overlay(ask: &Ask<'_>) {
    const C: Coll = Coll("overlay");
    const U: Index = Index::new(C, "overlay.u").unique();
    let add = |n| {
        vec![CounterChange {
            key: b"overlay".to_vec(),
            op: CounterOp::Add { n, max: 10 },
        }]
    };
    let log = || {
        vec![Append {
            stream: "overlay",
            doc: Bytes::from_static(b"{}"),
        }]
    };
    let first = Batch {
        writes: vec![write(C, "a", Expect::Absent, "1", vec![index_key(U, b"k")])],
        counters: add(6),
        append: log(),
        ..Batch::default()
    };
    let same_row = first.clone();
    let same_key = writes(vec![write(
        C,
        "b",
        Expect::Absent,
        "1",
        vec![index_key(U, b"k")],
    )]);
    let too_many = Batch {
        counters: add(6),
        append: log(),
        ..Batch::default()
    };
    let sees_row = Batch {
        asserts: vec![(C, id("b"), Expect::Absent)],
        counters: add(4),
        append: log(),
        ..Batch::default()
    };
    let outcomes = ask
        .group(&[first, same_row, same_key, too_many, sees_row])
        .await;
    let Outcome::Committed(first) = &outcomes[0] else {
        panic!("{:?}", outcomes[0])
    };
    assert_eq!(outcomes[1], Outcome::Refused(conflict(C, "a")));
    let duplicate = Refusal::Duplicate {
        index: U,
        holder: id("a"),
    };
    assert_eq!(outcomes[2], Outcome::Refused(duplicate));
    let exhausted = Refusal::Exhausted {
        counter: 0,
        retry_in: None,
    };
    assert_eq!(outcomes[3], Outcome::Refused(exhausted));
    let Outcome::Committed(last) = &outcomes[4] else {
        panic!("{:?}", outcomes[4])
    };
    assert_eq!(
        (last.version, &last.counters[..]),
        (first.version + 1, &[10][..])
    );
    assert_eq!(ask.counter(b"overlay").await, 10);
    let numbers: Vec<_> = ask
        .tail("overlay", 9, 9)
        .await
        .iter()
        .map(|e| e.number)
        .collect();
    assert_eq!(numbers, [2, 1], "a refused batch takes no number");

    // A later batch of a group builds on the version that an earlier one gets.
    let v = last.version;
    let group = [
        writes(vec![write(
            C,
            "a",
            Expect::Version(first.version),
            "2",
            vec![],
        )]),
        writes(vec![delete(C, "a", v + 1)]),
        writes(vec![write(
            C,
            "c",
            Expect::Absent,
            "1",
            vec![index_key(U, b"k")],
        )]),
        writes(vec![write(
            C,
            "a",
            Expect::Absent,
            "3",
            vec![index_key(U, b"other")],
        )]),
    ];
    for outcome in ask.group(&group).await {
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    }
    assert_eq!(ask.row(C, "a").await.unwrap().version, v + 4);
    assert_eq!(ask.holders(U, b"").await, ["c", "a"]);
}

async fn versions(ask: &Ask<'_>) {
    const C: Coll = Coll("versions");
    let mut seen = vec![];
    for _ in 0..3 {
        let v = ask
            .accepted(writes(vec![write(C, "a", Expect::Absent, "1", vec![])]))
            .await;
        seen.push(v.version);
        seen.push(
            ask.accepted(writes(vec![delete(C, "a", v.version)]))
                .await
                .version,
        );
        assert_eq!(ask.row(C, "a").await, None);
        let old = writes(vec![write(C, "a", Expect::Version(v.version), "2", vec![])]);
        assert_eq!(ask.refused(old).await, conflict(C, "a"));
    }
    assert!(
        seen.is_sorted_by(|a, b| a < b),
        "versions only grow: {seen:?}"
    );
    assert!(seen[0] > 1 << 40, "the epoch is the upper part");
}

async fn index_keys_follow_the_row(ask: &Ask<'_>) {
    const C: Coll = Coll("follow");
    const I: Index = plain("follow.i", C);
    const J: Index = plain("follow.j", C);
    let put = |expect, keys| writes(vec![write(C, "a", expect, "1", keys)]);
    let keys = vec![index_key(I, b"1"), index_key(I, b"2"), index_key(J, b"1")];
    let v = ask.accepted(put(Expect::Absent, keys)).await.version;
    assert_eq!(ask.holders(I, b"").await, ["a", "a"]);
    let keys = vec![index_key(I, b"2"), index_key(I, b"3")];
    let v = ask.accepted(put(Expect::Version(v), keys)).await.version;
    let hits = ask.scan(all(I, b"")).await;
    let found: Vec<_> = hits.iter().map(|h| (&h.key[..], h.row.version)).collect();
    assert_eq!(found, [(&b"2"[..], v), (&b"3"[..], v)]);
    assert!(ask.holders(J, b"").await.is_empty());
    // A key given up can be taken again.
    let v = ask
        .accepted(put(Expect::Version(v), vec![index_key(I, b"2")]))
        .await
        .version;
    let keys = vec![index_key(I, b"2"), index_key(I, b"3")];
    let v = ask.accepted(put(Expect::Version(v), keys)).await.version;
    assert_eq!(ask.holders(I, b"3").await, ["a"]);
    ask.accepted(writes(vec![delete(C, "a", v)])).await;
    assert!(ask.holders(I, b"").await.is_empty());
    // Nothing of the deleted row's keys comes back with a new row.
    ask.accepted(put(Expect::Absent, vec![])).await;
    assert!(ask.holders(I, b"").await.is_empty());
}

async fn scans(ask: &Ask<'_>) {
    const C: Coll = Coll("scans");
    const I: Index = plain("scans.i", C);
    const NEXT: Index = plain("scans.i2", C);
    let rows = [
        ("d", "p1"),
        ("c", "p1"),
        ("b", "p2"),
        ("a", "p3"),
        ("e", "q"),
        ("f", "o"),
    ];
    let rows = rows.map(|(row, key)| {
        let keys = vec![index_key(I, key.as_bytes()), index_key(NEXT, b"p")];
        write(C, row, Expect::Absent, "1", keys)
    });
    ask.accepted(writes(rows.to_vec())).await;
    assert_eq!(
        ask.holders(I, b"").await,
        ["f", "c", "d", "b", "a", "e"],
        "by key, then id"
    );
    assert_eq!(ask.holders(I, b"p").await, ["c", "d", "b", "a"]);
    assert_eq!(ask.holders(I, b"z").await, [""; 0]);

    let ids = async |scan| {
        let hits = ask.scan(scan).await;
        hits.into_iter()
            .map(|h| h.row.id.to_string())
            .collect::<Vec<_>>()
    };
    let after = |key: &[u8], row| Some((key.to_vec(), id(row)));
    let p = || all(I, b"p");
    assert_eq!(
        ids(Scan {
            below: Some(b"p2".to_vec()),
            ..p()
        })
        .await,
        ["c", "d"]
    );
    assert_eq!(
        ids(Scan {
            below: Some(b"p".to_vec()),
            ..p()
        })
        .await,
        [""; 0]
    );
    assert_eq!(ids(Scan { limit: 3, ..p() }).await, ["c", "d", "b"]);
    assert_eq!(ids(Scan { limit: 0, ..p() }).await, [""; 0]);
    assert_eq!(
        ids(Scan {
            after: after(b"p1", "c"),
            ..p()
        })
        .await,
        ["d", "b", "a"]
    );
    assert_eq!(
        ids(Scan {
            after: after(b"p1", "z"),
            ..p()
        })
        .await,
        ["b", "a"]
    );
    assert_eq!(
        ids(Scan {
            after: after(b"a", "z"),
            ..p()
        })
        .await,
        ["c", "d", "b", "a"]
    );
    assert_eq!(
        ids(Scan {
            after: after(b"q", "a"),
            ..p()
        })
        .await,
        [""; 0]
    );
    let both = Scan {
        after: after(b"p1", "c"),
        below: Some(b"p3".to_vec()),
        limit: 9,
        ..p()
    };
    assert_eq!(ids(both).await, ["d", "b"]);
}

async fn unique(ask: &Ask<'_>) {
    const C: Coll = Coll("unique");
    const U: Index = Index::new(C, "unique.u").unique();
    let key = |k: &str| vec![index_key(U, k.as_bytes())];
    let put = |row, expect, k| write(C, row, expect, "1", key(k));
    let v = ask
        .accepted(writes(vec![
            put("a", Expect::Absent, "1"),
            put("b", Expect::Absent, "2"),
        ]))
        .await
        .version;
    let duplicate = |holder| Refusal::Duplicate {
        index: U,
        holder: id(holder),
    };
    let taken = writes(vec![put("c", Expect::Absent, "1")]);
    assert_eq!(ask.refused(taken).await, duplicate("a"));
    let moved = writes(vec![put("a", Expect::Version(v), "2")]);
    assert_eq!(ask.refused(moved).await, duplicate("b"));
    let twice = writes(vec![
        put("c", Expect::Absent, "3"),
        put("d", Expect::Absent, "3"),
    ]);
    assert_eq!(ask.refused(twice).await, duplicate("c"));
    // A longer key is another key.
    ask.accepted(writes(vec![put("e", Expect::Absent, "11")]))
        .await;

    // Two rows trade keys in one batch; a row keeps its own; a deleted row's key is free at once.
    let trade = vec![
        put("a", Expect::Version(v), "2"),
        put("b", Expect::Version(v), "1"),
    ];
    let v = ask.accepted(writes(trade)).await.version;
    let v2 = ask
        .accepted(writes(vec![put("a", Expect::Version(v), "2")]))
        .await
        .version;
    let inherit = vec![delete(C, "a", v2), put("c", Expect::Absent, "2")];
    ask.accepted(writes(inherit)).await;
    assert_eq!(ask.holders(U, b"").await, ["b", "e", "c"]);
}

async fn none(ask: &Ask<'_>) {
    const C: Coll = Coll("none");
    const I: Index = plain("none.open", C);
    let key = |k: &str| vec![index_key(I, k.as_bytes())];
    let open = |row, k| write(C, row, Expect::Absent, "1", key(k));
    let none = |prefix: &str, writes| Batch {
        none: vec![(I, prefix.as_bytes().to_vec())],
        writes,
        ..Batch::default()
    };
    let occupied = |holder| Refusal::Occupied {
        index: I,
        holder: id(holder),
    };

    // Open one if none is open: the batch's own row does not count.
    let v = ask.accepted(none("x", vec![open("a", "x1")])).await.version;
    assert_eq!(
        ask.refused(none("x", vec![open("b", "x2")])).await,
        occupied("a")
    );
    assert_eq!(ask.refused(none("x1", vec![])).await, occupied("a"));
    ask.accepted(none("x2", vec![])).await;
    ask.accepted(none("w", vec![])).await;
    ask.accepted(none("y", vec![])).await;

    // Rewritten, but still there: occupied. Moved away or deleted: free.
    let put = |k, v| write(C, "a", Expect::Version(v), "2", key(k));
    assert_eq!(
        ask.refused(none("x", vec![put("x9", v)])).await,
        occupied("a")
    );
    let v = ask
        .accepted(none("x", vec![put("y", v), open("b", "x")]))
        .await
        .version;
    let swap = vec![delete(C, "b", v), open("c", "x")];
    ask.accepted(none("x", swap)).await;
    assert_eq!(ask.holders(I, b"x").await, ["c"]);

    // With a second holder behind the one that goes.
    let two = writes(vec![open("d", "z1"), open("e", "z2"), open("f", "z3")]);
    let v = ask.accepted(two).await.version;
    let clear = vec![delete(C, "d", v), delete(C, "e", v)];
    assert_eq!(ask.refused(none("z", clear)).await, occupied("f"));
}

async fn none_within_a_group(ask: &Ask<'_>) {
    const C: Coll = Coll("none2");
    const I: Index = plain("none2.open", C);
    let open = |row: &str| Batch {
        none: vec![(I, b"k".to_vec())],
        writes: vec![write(
            C,
            row,
            Expect::Absent,
            "1",
            vec![index_key(I, b"k1")],
        )],
        ..Batch::default()
    };
    let outcomes = ask.group(&[open("a"), open("b"), open("c")]).await;
    let Outcome::Committed(first) = &outcomes[0] else {
        panic!("{:?}", outcomes[0])
    };
    let occupied = Outcome::Refused(Refusal::Occupied {
        index: I,
        holder: id("a"),
    });
    assert_eq!(outcomes[1..], [occupied.clone(), occupied]);
    let outcomes = ask
        .group(&[writes(vec![delete(C, "a", first.version)]), open("b")])
        .await;
    assert!(
        matches!(outcomes[1], Outcome::Committed(_)),
        "{:?}",
        outcomes[1]
    );
    assert_eq!(ask.holders(I, b"k").await, ["b"]);
}

async fn counters(ask: &Ask<'_>) {
    let add = |key: &str, n, max| CounterChange {
        key: key.as_bytes().to_vec(),
        op: CounterOp::Add { n, max },
    };
    let batch = |counters| Batch {
        counters,
        ..Batch::default()
    };
    let values = ask
        .accepted(batch(vec![
            add("c1", 2, 5),
            add("c2", 1, 1),
            add("c1", 3, 5),
        ]))
        .await;
    assert_eq!(values.counters, [2, 1, 5]);
    let exhausted = |counter| Refusal::Exhausted {
        counter,
        retry_in: None,
    };
    assert_eq!(
        ask.refused(batch(vec![add("c1", 1, 5)])).await,
        exhausted(0)
    );
    assert_eq!(
        ask.refused(batch(vec![add("c1", 1, 9), add("c2", 1, 1)]))
            .await,
        exhausted(1)
    );
    assert_eq!(
        ask.refused(batch(vec![add("c1", i64::MAX, i64::MAX)]))
            .await,
        exhausted(0)
    );
    assert_eq!((ask.counter(b"c1").await, ask.counter(b"c2").await), (5, 1));
    assert_eq!(
        ask.refused(batch(vec![add("c1", -6, 9)])).await,
        exhausted(0)
    );
    let values = ask.accepted(batch(vec![add("c1", -5, 9)])).await;
    assert_eq!(values.counters, [0]);
    let all = ask.one(Query::EveryCounter {
        after: None,
        limit: usize::MAX,
    });
    let Answer::EveryCounter(all) = all.await else {
        panic!("another answer");
    };
    let named = |name: &[u8]| all.iter().any(|(known, _)| known == name);
    assert!(named(b"c1") && named(b"c2") && !named(b"c3"), "{all:?}");
}

/// A bucket of three, of which one comes back in ten seconds.
fn take(cost: u32, seconds: i64) -> Batch {
    bucket(
        CounterOp::Take {
            cost,
            per: Duration::from_secs(10),
            burst: 3,
        },
        seconds,
    )
}

fn bucket(op: CounterOp, seconds: i64) -> Batch {
    Batch {
        at: Time::from_seconds(1_000_000 + seconds),
        counters: vec![CounterChange {
            key: b"bucket".to_vec(),
            op,
        }],
        ..Batch::default()
    }
}

async fn buckets(ask: &Ask<'_>) {
    if ask.0.notices().is_some() {
        return shared_buckets(ask).await;
    }
    let retry = |seconds: Option<u64>| Refusal::Exhausted {
        counter: 0,
        retry_in: seconds.map(Duration::from_secs),
    };
    for _ in 0..3 {
        ask.accepted(take(1, 0)).await;
    }
    assert_eq!(ask.refused(take(1, 0)).await, retry(Some(10)));
    assert_eq!(ask.refused(take(1, 9)).await, retry(Some(1)));
    ask.accepted(take(1, 10)).await;
    assert_eq!(ask.refused(take(3, 15)).await, retry(Some(25)));
    ask.accepted(take(3, 40)).await;
    assert_eq!(
        ask.refused(take(4, 10_000)).await,
        retry(None),
        "more than the bucket holds"
    );
    // A clock that runs back finds a bucket for once, then an empty one, and never one that owes
    // years.
    ask.accepted(take(3, 10_000)).await;
    ask.accepted(take(1, 0)).await;
    assert_eq!(ask.refused(take(1, 0)).await, retry(Some(10)));
    ask.accepted(take(1, 10)).await;
    // Only one that is full is forgotten.
    let forget = |seconds| bucket(CounterOp::Forget, seconds);
    assert_eq!(ask.refused(forget(39)).await, retry(None));
    assert_ne!(ask.counter(b"bucket").await, 0);
    ask.accepted(forget(40)).await;
    assert_eq!(ask.counter(b"bucket").await, 0);
    ask.accepted(take(3, 40)).await;
}

/// Where several servers share the engine, its own time counts: theirs may differ.
async fn shared_buckets(ask: &Ask<'_>) {
    for server_is_ahead in [0, 300, -300] {
        ask.accepted(take(1, server_is_ahead)).await;
    }
    for server_is_ahead in [0, 300, -300, 1_000_000_000] {
        let refused = ask.refused(take(1, server_is_ahead)).await;
        let Refusal::Exhausted { retry_in, .. } = refused else {
            panic!("{refused:?}")
        };
        let waits = retry_in.unwrap();
        assert!(Duration::ZERO < waits && waits <= Duration::from_secs(10));
        ask.refused(bucket(CounterOp::Forget, server_is_ahead))
            .await;
    }
}

async fn streams(ask: &Ask<'_>) {
    let append = |stream, doc: &str| Append {
        stream,
        doc: Bytes::from(format!("{doc:?}")),
    };
    let batch = |append| Batch {
        append,
        ..Batch::default()
    };
    ask.accepted(batch(vec![
        append("s1", "a"),
        append("s2", "x"),
        append("s1", "b"),
    ]))
    .await;
    ask.group(&[
        batch(vec![append("s1", "c")]),
        batch(vec![append("s1", "d")]),
    ])
    .await;
    let entries = ask.tail("s1", u64::MAX, 9).await;
    let found: Vec<_> = entries.iter().map(|e| (e.number, &e.doc[..])).collect();
    let told = [
        (4, &br#""d""#[..]),
        (3, br#""c""#),
        (2, br#""b""#),
        (1, br#""a""#),
    ];
    assert_eq!(found, told);
    let mut previous = [0; 32];
    for entry in entries.iter().rev() {
        assert_eq!(entry.link, link("s1", &previous, entry.number, &entry.doc));
        previous = entry.link;
    }
    assert_eq!(ask.tail("s1", 4, 2).await, entries[1..3]);
    assert!(ask.tail("s1", 1, 9).await.is_empty());
    let other = ask.tail("s2", u64::MAX, 9).await;
    assert_eq!((other.len(), other[0].number), (1, 1));
    assert!(ask.tail("s", u64::MAX, 9).await.is_empty());
}

async fn counted(ask: &Ask<'_>) {
    const C: Coll = Coll("counted");
    const N: Index = Index::new(C, "counted.n").counted_by(2);
    let put = |row: &str, expect, key: &[u8]| write(C, row, expect, "1", vec![index_key(N, key)]);
    let rows = ["a", "b", "c", "d"]
        .iter()
        .zip([&b"k1x"[..], b"k1y", b"k2", b"k"]);
    let rows = rows.map(|(row, key)| put(row, Expect::Absent, key));
    let v = ask.accepted(writes(rows.collect())).await.version;
    let counts = async || ask.counts(N, b"", None).await;
    let n = |key: &[u8], n: u64| (key.to_vec(), n);
    assert_eq!(counts().await, [n(b"k", 1), n(b"k1", 2), n(b"k2", 1)]);
    assert_eq!(ask.counts(N, b"k1", Some(b"k2")).await, [n(b"k1", 2)]);
    // Moved within its count, moved to another, gone; and one that is refused changes nothing.
    let moved = writes(vec![
        put("a", Expect::Version(v), b"k1z"),
        put("c", Expect::Version(v), b"k1"),
        delete(C, "d", v),
    ]);
    let stale = writes(vec![put("b", Expect::Version(v - 1), b"zz")]);
    ask.group(&[moved, stale]).await;
    assert_eq!(counts().await, [n(b"k1", 3)]);
}

async fn keys_alone(ask: &Ask<'_>) {
    const C: Coll = Coll("keys_alone");
    const I: Index = plain("keys_alone.i", C);
    let v = ask
        .accepted(writes(vec![write(
            C,
            "a",
            Expect::Absent,
            "1",
            vec![index_key(I, b"1")],
        )]))
        .await
        .version;
    let row = ask.row(C, "a").await;
    let keep = |expect| Write {
        coll: C,
        id: id("a"),
        expect,
        doc: Doc::Keep,
        keys: vec![index_key(I, b"2")],
    };
    assert_eq!(
        ask.refused(writes(vec![keep(Expect::Version(v + 9))]))
            .await,
        conflict(C, "a")
    );
    let done = ask.accepted(writes(vec![keep(Expect::Version(v))])).await;
    assert_eq!(ask.row(C, "a").await, row, "document and version stay");
    assert!(ask.holders(I, b"1").await.is_empty());
    assert_eq!(ask.holders(I, b"2").await, ["a"]);
    assert_eq!(ask.all_rows(C, None, 9).await.len(), 1);
    assert!(ask.all_rows(C, Some("a"), 9).await.is_empty());
    let Feed::Changes(told) = ask.feed(done.version - 1, 9).await else {
        panic!("nothing was trimmed");
    };
    assert_eq!(told[0].rows, [], "nothing that anybody reads has changed");
    ask.accepted(writes(vec![delete(C, "a", v)])).await;
    assert!(ask.holders(I, b"").await.is_empty());
}

async fn another_form(ask: &Ask<'_>) {
    const C: Coll = Coll("another_form");
    const I: Index = plain("another_form.i", C).unique().counted();
    let key = index_key(I, b"1");
    let insert = write(C, "a", Expect::Absent, "1", vec![key.clone()]);
    let v = ask.accepted(writes(vec![insert])).await.version;
    let amend = |version, doc: &'static str| Write {
        doc: Doc::Amend(doc.into()),
        ..write(C, "a", Expect::Version(version), "", vec![])
    };
    let late = writes(vec![amend(v + 9, "2")]);
    assert_eq!(ask.refused(late).await, conflict(C, "a"));
    let done = ask.accepted(writes(vec![amend(v, "2")])).await;
    let row = ask.row(C, "a").await.unwrap();
    assert_eq!(
        (row.version, &row.doc[..]),
        (v, &b"2"[..]),
        "the version stays"
    );
    assert_eq!(ask.holders(I, b"").await, ["a"], "and so do the keys");
    assert_eq!(ask.counts(I, b"", None).await, [(b"1".to_vec(), 1)]);
    let Feed::Changes(told) = ask.feed(done.version - 1, 9).await else {
        panic!("nothing was trimmed");
    };
    assert_eq!(told[0].rows, [], "it says the same as before");

    // Its keys are held against others of the batch and against later batches of the group, and it
    // is seen by them.
    let rival = write(C, "b", Expect::Absent, "1", vec![key]);
    for both in [
        vec![amend(v, "3"), rival.clone()],
        vec![rival.clone(), amend(v, "3")],
    ] {
        let refused = ask.refused(writes(both)).await;
        assert!(matches!(refused, Refusal::Duplicate { .. }), "{refused:?}");
    }
    let put = write(C, "a", Expect::Version(v), "4", vec![index_key(I, b"2")]);
    let group = [
        writes(vec![amend(v, "3")]),
        writes(vec![rival.clone()]),
        writes(vec![put]),
    ];
    let outcomes = ask.group(&group).await;
    let refused = Refusal::Duplicate {
        index: I,
        holder: id("a"),
    };
    assert_eq!(outcomes[1], Outcome::Refused(refused));
    let Outcome::Committed(put) = &outcomes[2] else {
        panic!("{outcomes:?}");
    };
    let amended = amend(put.version, "5");
    ask.group(&[writes(vec![amended]), writes(vec![rival])])
        .await;
    let row = ask.row(C, "a").await.unwrap();
    assert_eq!((row.version, &row.doc[..]), (put.version, &b"5"[..]));
    assert_eq!(ask.holders(I, b"").await, ["b", "a"]);
}

async fn feed(ask: &Ask<'_>) {
    const C: Coll = Coll("feed");
    let at = Time::from_seconds(9);
    let put = |row: &str| Batch {
        at,
        ..writes(vec![write(C, row, Expect::Absent, "1", vec![])])
    };
    let first = ask.accepted(put("a")).await.version;
    ask.refused(put("a")).await;
    ask.group(&[put("b"), writes(vec![delete(C, "a", first)])])
        .await;
    let change = |seq, at, row: &str| Change {
        seq,
        at,
        rows: vec![("feed".to_owned(), id(row))],
    };
    let all = [
        change(first, at, "a"),
        change(first + 1, at, "b"),
        change(first + 2, Time::default(), "a"),
    ];
    let told = Feed::Changes(all.to_vec());
    assert_eq!(
        ask.feed(first - 1, 9).await,
        told,
        "every commit, once, in order"
    );
    assert_eq!(
        ask.feed(first, 1).await,
        Feed::Changes(vec![all[1].clone()])
    );
    assert_eq!(ask.feed(first + 2, 9).await, Feed::Changes(vec![]));

    let trim = Batch {
        trim: first + 1,
        ..Batch::default()
    };
    let trimmed = ask.accepted(trim).await.version;
    assert_eq!(ask.feed(first, 9).await, Feed::Trimmed { upto: first + 1 });
    let Feed::Changes(left) = ask.feed(first + 1, 9).await else {
        panic!("what is kept is told");
    };
    assert_eq!(left.len(), 2);
    assert_eq!((left[0].seq, left[1].seq), (first + 2, trimmed));
    let beyond = Batch {
        trim: u64::MAX,
        ..Batch::default()
    };
    let beyond = ask.accepted(beyond).await.version;
    assert_eq!(ask.feed(beyond, 9).await, Feed::Changes(vec![]));
    assert_eq!(ask.feed(0, 9).await, Feed::Trimmed { upto: beyond });
}

async fn snapshots(ask: &Ask<'_>) {
    const C: Coll = Coll("snapshots");
    let v = ask
        .accepted(writes(vec![write(C, "a", Expect::Absent, "1", vec![])]))
        .await
        .version;
    let question = || {
        vec![Query::All {
            coll: C,
            after: None,
            limit: 9,
        }]
    };
    let minute = Duration::from_secs(60);
    let held = ask.0.snapshot(Instant::now() + minute).await.unwrap();
    let before = held.read(question()).await.unwrap();
    ask.accepted(writes(vec![
        write(C, "a", Expect::Version(v), "2", vec![]),
        write(C, "b", Expect::Absent, "1", vec![]),
    ]))
    .await;
    assert_eq!(held.read(question()).await.unwrap(), before);
    let over = ask.0.snapshot(Instant::now()).await.unwrap();
    let ended = over.read(question()).await;
    assert!(
        matches!(ended, Err(EngineError::SnapshotEnded)),
        "{ended:?}"
    );
}

/// As time passes; for engines that no network stands before.
async fn a_snapshot_ends(engine: &dyn Engine) {
    tokio::time::pause();
    let minute = Duration::from_secs(60);
    let held = engine.snapshot(Instant::now() + minute).await.unwrap();
    let question = || vec![Query::Counter(b"c".to_vec())];
    held.read(question()).await.unwrap();
    tokio::time::advance(minute).await;
    let ended = held.read(question()).await;
    assert!(
        matches!(ended, Err(EngineError::SnapshotEnded)),
        "{ended:?}"
    );
    tokio::time::resume();
}
