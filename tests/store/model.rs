//! Random groups of batches: every engine answers alike, and a group answers as its batches would
//! one by one.

use super::{Ask, all, id};
use bytes::Bytes;
use certctl::{
    clock::Time,
    store::{
        Append, Batch, Coll, CounterChange, CounterOp, Engine, Expect, Index, IndexKey, Memory,
        Outcome, Redb, Row, Write,
    },
};
use proptest::{collection::vec, prelude::*};
use redb::backends::InMemoryBackend;
use std::time::Duration;

const C: Coll = Coll("c");
const U: Index = Index {
    name: "c.u",
    coll: C,
    unique: true,
};
const I: Index = Index {
    name: "c.i",
    coll: C,
    unique: false,
};
const ROWS: [&str; 4] = ["a", "b", "c", "d"];

/// Few rows, keys and versions, so that batches meet.
#[derive(Debug, Clone)]
struct Step {
    rows: Vec<(usize, Guess, Option<KeyChoices>)>,
    asserts: Vec<(usize, Guess)>,
    none: Vec<(bool, u8)>,
    counters: Vec<(bool, u8)>,
    append: u8,
}

/// Keys as (unique, which).
type KeyChoices = Vec<(bool, u8)>;

/// What the batch takes a row to be: right when the group began, absent, or written so many commits later.
#[derive(Debug, Clone, Copy)]
enum Guess {
    Right,
    Absent,
    Later(u64),
}

fn guess() -> impl Strategy<Value = Guess> {
    prop_oneof![6 => Just(Guess::Right), 1 => Just(Guess::Absent), 2 => (1..6_u64).prop_map(Guess::Later)]
}

fn step() -> impl Strategy<Value = Step> {
    let keys = vec((any::<bool>(), 0..6_u8), 0..3);
    let row = (
        0..ROWS.len(),
        guess(),
        proptest::option::weighted(0.8, keys),
    );
    let maybe = |n| vec((any::<bool>(), 0..6_u8), 0..n);
    (
        vec(row, 0..3),
        vec((0..ROWS.len(), guess()), 0..2),
        maybe(2),
        maybe(2),
        0..2_u8,
    )
        .prop_map(|(rows, asserts, none, counters, append)| Step {
            rows,
            asserts,
            none,
            counters,
            append,
        })
}

fn key((unique, n): (bool, u8)) -> IndexKey {
    // Keys that are prefixes of each other.
    let key = [&b""[..], b"k", b"k1", b"k11", b"k2", b"z"][usize::from(n)];
    IndexKey {
        index: if unique { U } else { I },
        key: key.to_vec(),
    }
}

impl Step {
    fn batch(&self, now: &[Option<Row>], seq: u64) -> Batch {
        let expect = |row: usize, guess| match guess {
            Guess::Right => now[row]
                .as_ref()
                .map_or(Expect::Absent, |r| Expect::Version(r.version)),
            Guess::Absent => Expect::Absent,
            Guess::Later(n) => Expect::Version(seq + n),
        };
        let mut used = std::collections::BTreeSet::new();
        let mut batch = Batch::default();
        for (row, guess, keys) in &self.rows {
            let expect = expect(*row, *guess);
            if (keys.is_none() && expect == Expect::Absent) || !used.insert(*row) {
                continue;
            }
            batch.writes.push(Write {
                coll: C,
                id: id(ROWS[*row]),
                expect,
                doc: keys.as_ref().map(|keys| Bytes::from(format!("{keys:?}"))),
                keys: keys.iter().flatten().copied().map(key).collect(),
            });
        }
        for (row, guess) in &self.asserts {
            if used.insert(*row) {
                batch
                    .asserts
                    .push((C, id(ROWS[*row]), expect(*row, *guess)));
            }
        }
        batch.none = self
            .none
            .iter()
            .copied()
            .map(key)
            .map(|k| (k.index, k.key))
            .collect();
        batch.counters = self
            .counters
            .iter()
            .map(|(take, n)| counter(*take, *n))
            .collect();
        let entry = |n| Append {
            stream: "s",
            doc: Bytes::from(vec![n]),
        };
        batch.append = (0..self.append).map(entry).collect();
        batch
    }
}

fn counter(take: bool, n: u8) -> CounterChange {
    let op = if take {
        let (per, now) = (Duration::from_secs(1), Time::from_seconds(n.into()));
        CounterOp::Take {
            cost: 1,
            per,
            burst: 2,
            now,
        }
    } else {
        CounterOp::Add {
            n: i64::from(n) + 1,
            max: 9,
        }
    };
    CounterChange {
        key: vec![u8::from(take)],
        op,
    }
}

/// All that can be read.
async fn state(engine: &dyn Engine) -> String {
    let ask = Ask(engine);
    let mut rows = vec![];
    for row in ROWS {
        rows.push(ask.row(C, row).await);
    }
    let (unique, plain) = (ask.scan(all(U, b"")).await, ask.scan(all(I, b"k")).await);
    let counters = (ask.counter(&[0]).await, ask.counter(&[1]).await);
    let entries = ask.tail("s", u64::MAX, 1000).await;
    format!("{rows:?}\n{unique:?}\n{plain:?}\n{counters:?}\n{entries:?}")
}

async fn play(groups: Vec<Vec<Step>>) -> Result<(), TestCaseError> {
    let (memory, single) = (Memory::new(), Memory::new());
    let redb = Redb::open_on(InMemoryBackend::new()).unwrap();
    let mut seq = 1 << 40;
    for steps in groups {
        let mut now = vec![];
        for row in ROWS {
            now.push(Ask(&memory).row(C, row).await);
        }
        let group: Vec<_> = steps.iter().map(|step| step.batch(&now, seq)).collect();
        let outcomes = Ask(&memory).group(&group).await;
        prop_assert_eq!(&Ask(&redb).group(&group).await, &outcomes);
        for (batch, outcome) in group.iter().zip(&outcomes) {
            prop_assert_eq!(&Ask(&single).outcome(batch.clone()).await, outcome);
            if let Outcome::Committed(committed) = outcome {
                seq += 1;
                prop_assert_eq!(committed.version, seq);
            }
        }
        let expected = state(&memory).await;
        prop_assert_eq!(&state(&redb).await, &expected);
        prop_assert_eq!(&state(&single).await, &expected);
        let unique = Ask(&memory).scan(all(U, b"")).await;
        prop_assert!(
            unique.is_sorted_by(|a, b| a.key < b.key),
            "two rows share a unique key"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn engines_and_groupings_agree(groups in vec(vec(step(), 1..5), 1..12)) {
        super::run(play(groups))?;
    }
}
