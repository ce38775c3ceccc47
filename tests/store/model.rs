//! Random groups of batches: every engine answers alike, and a group answers as its batches would
//! one by one.

use super::{Ask, all, id};
use bytes::Bytes;
use certctl::{
    clock::Time,
    store::{
        Append, Batch, Coll, CounterChange, CounterOp, Doc, Engine, Expect, Index, IndexKey,
        Memory, Outcome, Redb, Row, Scan, Write,
    },
};
use proptest::{collection::vec, prelude::*};
use redb::backends::InMemoryBackend;
use std::{collections::BTreeMap, time::Duration};

pub const C: Coll = Coll("c");
const U: Index = Index::new(C, "c.u").unique().counted();
const I: Index = Index::new(C, "c.i").counted_by(2);
pub const ROWS: [&str; 4] = ["a", "b", "c", "d"];

/// Few rows, keys and versions, so that batches meet.
#[derive(Debug, Clone)]
pub struct Step {
    rows: Vec<(usize, Guess, Option<KeyChoices>, How)>,
    asserts: Vec<(usize, Guess)>,
    none: Vec<(bool, u8)>,
    counters: Vec<(bool, u8)>,
    append: u8,
    trim: Option<u64>,
}

/// What is written of a row that is not deleted.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Put,
    Keep,
    Amend,
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

pub fn steps() -> impl Strategy<Value = Step> {
    let keys = vec((any::<bool>(), 0..6_u8), 0..3);
    let row = (
        0..ROWS.len(),
        guess(),
        proptest::option::weighted(0.8, keys),
        prop_oneof![6 => Just(How::Put), 1 => Just(How::Keep), 1 => Just(How::Amend)],
    );
    let maybe = |n| vec((any::<bool>(), 0..6_u8), 0..n);
    (
        vec(row, 0..3),
        vec((0..ROWS.len(), guess()), 0..2),
        maybe(2),
        maybe(2),
        0..2_u8,
        proptest::option::weighted(0.1, 0..20_u64),
    )
        .prop_map(|(rows, asserts, none, counters, append, trim)| Step {
            rows,
            asserts,
            none,
            counters,
            append,
            trim,
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

/// JSON, written as every engine writes it.
fn json(keys: &KeyChoices) -> String {
    format!("{keys:?}").replace('(', "[").replace(')', "]")
}

impl Step {
    /// Without what goes by the time, which an engine that several servers share has of its own.
    pub fn timeless(mut self) -> Self {
        for (take, _) in &mut self.counters {
            *take = false;
        }
        self
    }

    pub fn batch(&self, now: &[Option<Row>], seq: u64) -> Batch {
        let expect = |row: usize, guess| match guess {
            Guess::Right => now[row]
                .as_ref()
                .map_or(Expect::Absent, |r| Expect::Version(r.version)),
            Guess::Absent => Expect::Absent,
            Guess::Later(n) => Expect::Version(seq + n),
        };
        let mut used = std::collections::BTreeSet::new();
        let mut batch = Batch {
            at: Time::from_seconds(self.counters.first().map_or(7, |(_, n)| (*n).into())),
            trim: self.trim.map_or(0, |n| (1 << 40) + n),
            ..Batch::default()
        };
        for (row, guess, keys, how) in &self.rows {
            let expect = expect(*row, *guess);
            let absent = expect == Expect::Absent;
            if (absent && (keys.is_none() || *how != How::Put)) || !used.insert(*row) {
                continue;
            }
            batch.writes.push(Write {
                coll: C,
                id: id(ROWS[*row]),
                expect,
                doc: match keys {
                    Some(_) if *how == How::Keep => Doc::Keep,
                    Some(keys) if *how == How::Amend => {
                        Doc::Amend(Bytes::from(format!("[\"amended\", {}]", json(keys))))
                    }
                    Some(keys) => Doc::Put(Bytes::from(json(keys))),
                    None => Doc::Delete,
                },
                keys: match how {
                    How::Amend => vec![],
                    _ => keys.iter().flatten().copied().map(key).collect(),
                },
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
        CounterOp::Take {
            cost: 1,
            per: Duration::from_secs(1),
            burst: 2,
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

/// Before the first commit.
fn seq_zero() -> u64 {
    1 << 40
}

/// All that can be read.
pub async fn state(engine: &dyn Engine) -> String {
    let ask = Ask(engine);
    let mut rows = vec![];
    for row in ROWS {
        rows.push(ask.row(C, row).await);
    }
    let (unique, plain) = (ask.scan(all(U, b"")).await, ask.scan(all(I, b"k")).await);
    let mut backward = Scan {
        backward: true,
        ..all(I, b"k")
    };
    let back = ask.scan(backward.clone()).await;
    assert!(back.iter().rev().eq(&plain), "backward is forward reversed");
    if let Some(hit) = back.first() {
        backward.after = Some((hit.key.clone(), hit.row.id.clone()));
        assert_eq!(ask.scan(backward).await, back[1..]);
    }
    for (index, length) in [(U, usize::MAX), (I, 2)] {
        let mut walked = BTreeMap::new();
        for hit in ask.scan(all(index, b"")).await {
            let start = hit.key[..length.min(hit.key.len())].to_vec();
            *walked.entry(start).or_insert(0) += 1;
        }
        let counts = ask.counts(index, b"", None).await;
        assert_eq!(counts, walked.into_iter().collect::<Vec<_>>());
        let some: u64 = ask.held(index, b"k1", Some(b"k2")).await;
        let walk = ask.scan(all(index, b"k1")).await;
        assert_eq!(some, walk.len() as u64);
    }
    let keyed = ask.keys(all(I, b"k"), &[I, U]).await;
    for (hit, (id, keys)) in plain.iter().zip(&keyed) {
        assert_eq!(hit.row.id, *id, "the same walk");
        let own = IndexKey {
            index: I,
            key: hit.key.clone(),
        };
        assert!(keys.contains(&own), "with the keys held");
    }
    assert_eq!(plain.len(), keyed.len());
    let (every, feed) = (
        ask.all_rows(C, None, 1000).await,
        ask.feed(seq_zero(), 1000).await,
    );
    let counters = (ask.counter(&[0]).await, ask.counter(&[1]).await);
    let entries = ask.tail("s", u64::MAX, 1000).await;
    format!(
        "{keyed:?}\n{every:?}\n{feed:?}\n{rows:?}\n{unique:?}\n{plain:?}\n{counters:?}\n{entries:?}"
    )
}

/// Plays groups on an engine and on memory, there also batch by batch.
pub async fn play(groups: Vec<Vec<Step>>, engine: &dyn Engine) -> Result<(), TestCaseError> {
    let (memory, single) = (Memory::new(), Memory::new());
    let mut seq = 1 << 40;
    for steps in groups {
        let mut now = vec![];
        for row in ROWS {
            now.push(Ask(&memory).row(C, row).await);
        }
        let group: Vec<_> = steps.iter().map(|step| step.batch(&now, seq)).collect();
        let outcomes = Ask(&memory).group(&group).await;
        prop_assert_eq!(&Ask(engine).group(&group).await, &outcomes);
        for (batch, outcome) in group.iter().zip(&outcomes) {
            prop_assert_eq!(&Ask(&single).outcome(batch.clone()).await, outcome);
            if let Outcome::Committed(committed) = outcome {
                seq += 1;
                prop_assert_eq!(committed.version, seq);
            }
        }
        let expected = state(&memory).await;
        prop_assert_eq!(&state(engine).await, &expected);
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
    fn engines_and_groupings_agree(groups in vec(vec(steps(), 1..5), 1..12)) {
        let redb = Redb::open_on(InMemoryBackend::new()).unwrap();
        super::run(play(groups, &redb))?;
    }
}
