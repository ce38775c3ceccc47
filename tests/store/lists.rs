//! Lists, counts and cursors against what a plain filter over all rows gives.

use super::{id, run};
use certctl::{
    clock::Time,
    id::Id,
    store::{
        Coll, Committer, Cursor, CursorError, Document, Engine, Facet, Index, Key, Keys, List,
        Memory, Redb, Store,
    },
};
use proptest::{collection::vec, prelude::*};
use redb::backends::InMemoryBackend;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const COLL: Coll = Coll("fruit");
const BY_SIZE: Index = Index::new(COLL, "fruit.size").counted_by(0);
const BY_KIND: Index = Index::new(COLL, "fruit.kind").counted();
/// By the ten it belongs to and itself, counted by the ten.
const BY_AGE: Index = Index::new(COLL, "fruit.age").counted_by(8);
const NOW: Time = Time::from_micros(1);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Fruit {
    id: Id,
    size: u64,
    kind: String,
    age: Option<u64>,
}

impl Document for Fruit {
    const COLL: Coll = COLL;
    const FORMAT: u16 = 1;
    const INDEXES: &'static [Index] = &[BY_SIZE, BY_KIND, BY_AGE];
    fn id(&self) -> &Id {
        &self.id
    }
    fn keys(&self, keys: &mut Keys) {
        keys.put(BY_SIZE, Key::new().u64(self.size));
        keys.put(BY_KIND, Key::new().text(&self.kind));
        if let Some(age) = self.age {
            keys.put(BY_AGE, aged(age));
        }
    }
}

fn aged(age: u64) -> Key {
    Key::new().u64(age / 10).u64(age)
}

async fn filled(engine: Arc<dyn Engine>, fruits: &[Fruit]) -> Store {
    let store = Store::start(engine, Committer::Inline, Box::new(|_| {})).unwrap();
    for some in fruits.chunks(500) {
        let mut unit = store.unit(1, NOW);
        for fruit in some {
            unit.insert(fruit.clone());
        }
        unit.commit().await.unwrap();
    }
    store
}

#[test]
fn rows_can_be_passed_over() {
    run(async {
        let of: Vec<_> = (0..6_000)
            .map(|n| (n, (n % 6_000 / 5_500) as u8, None))
            .collect();
        let store = filled(Arc::new(Memory::new()), &fruits(&of)).await;
        // All rows walked, many walked by a filter, few sorted.
        for (facets, first) in [(vec![], 0), (vec!["kind0"], 0), (vec!["kind1"], 5_500)] {
            let facet = |kind: &&str| Facet::is(BY_KIND, Key::new().text(kind));
            let list = List {
                order: BY_SIZE,
                backward: false,
                facets: facets.iter().map(facet).collect(),
                keep: None,
                after: None,
                skip: 400,
                limit: 3,
            };
            let page = store.list::<Fruit>(list).await.unwrap();
            let sizes: Vec<_> = page.rows.iter().map(|f| f.size - first).collect();
            assert_eq!(sizes, [400, 401, 402], "{facets:?}");
            assert!(page.next.is_some());
        }
    });
}

fn fruits(of: &[(u64, u8, Option<u64>)]) -> Vec<Fruit> {
    let fruit = |(n, (size, kind, age)): (usize, &(u64, u8, Option<u64>))| Fruit {
        id: id(&format!("f{n}")),
        size: *size,
        kind: format!("kind{kind}"),
        age: *age,
    };
    of.iter().enumerate().map(fruit).collect()
}

/// All pages of a list, and the total each told.
async fn pages(
    store: &Store,
    facets: &[Facet],
    keep: Option<&(dyn Fn(&Fruit) -> bool + Sync)>,
    backward: bool,
    limit: usize,
) -> (Vec<Id>, Vec<Option<u64>>) {
    let (mut ids, mut totals, mut after) = (vec![], vec![], None);
    loop {
        let list = List {
            order: BY_SIZE,
            backward,
            facets: facets.to_vec(),
            keep,
            after,
            skip: 0,
            limit,
        };
        let page = store.list::<Fruit>(list).await.unwrap();
        assert!(page.rows.len() <= limit);
        ids.extend(page.rows.iter().map(|f| f.id.clone()));
        totals.push(page.total);
        match page.next {
            None => return (ids, totals),
            next => after = next,
        }
    }
}

async fn check(
    store: &Store,
    fruits: &[Fruit],
    kind: Option<u8>,
    ages: Option<(u64, u64)>,
    odd: bool,
    backward: bool,
    limit: usize,
) -> Result<(), TestCaseError> {
    let mut facets = vec![];
    if let Some(kind) = kind {
        facets.push(Facet::is(BY_KIND, Key::new().text(&format!("kind{kind}"))));
    }
    if let Some((from, below)) = ages {
        facets.push(Facet::between(BY_AGE, aged(from), aged(below)));
    }
    let is_odd = |fruit: &Fruit| fruit.size % 2 == 1;
    let mut expected: Vec<_> = fruits
        .iter()
        .filter(|f| kind.is_none_or(|kind| f.kind == format!("kind{kind}")))
        .filter(|f| ages.is_none_or(|(from, below)| f.age.is_some_and(|a| from <= a && a < below)))
        .filter(|f| !odd || is_odd(f))
        .map(|f| (f.size, f.id.clone()))
        .collect();
    expected.sort();
    if backward {
        expected.reverse();
    }
    let keep: Option<&(dyn Fn(&Fruit) -> bool + Sync)> = if odd { Some(&is_odd) } else { None };
    let (ids, totals) = pages(store, &facets, keep, backward, limit).await;
    let expected: Vec<_> = expected.into_iter().map(|(_, id)| id).collect();
    prop_assert_eq!(&ids, &expected);
    for total in totals.into_iter().flatten() {
        prop_assert_eq!(total, expected.len() as u64);
    }
    Ok(())
}

/// What a list, its pages, totals and counts are on an engine that is empty.
pub async fn lists_conform(engine: Arc<dyn Engine>) {
    let of: Vec<_> = (0..700)
        .map(|n| (n * 7 % 40, (n % 3) as u8, (n % 4 > 0).then_some(n % 45)))
        .collect();
    let fruits = fruits(&of);
    let store = filled(engine, &fruits).await;
    for (kind, ages) in [
        (None, None),
        (Some(1), None),
        (None, Some((3, 27))),
        (Some(2), Some((20, 21))),
        (Some(3), None),
    ] {
        for (odd, backward, limit) in [(false, false, 50), (true, true, 7), (false, true, 1_000)] {
            check(&store, &fruits, kind, ages, odd, backward, limit)
                .await
                .unwrap();
        }
    }
    let expected = |from, below| {
        let aged = fruits.iter().filter_map(|f| f.age);
        aged.filter(|age| (from..below).contains(age)).count() as u64
    };
    for (from, below) in [(0, 45), (3, 7), (3, 13), (10, 20)] {
        let facet = Facet::between(BY_AGE, aged(from), aged(below));
        assert_eq!(store.count(&facet).await.unwrap(), expected(from, below));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn a_list_is_what_a_filter_over_all_rows_gives(
        of in vec((0..9_u64, 0..3_u8, prop::option::of(0..40_u64)), 0..40),
        kind in prop::option::of(0..4_u8),
        ages in prop::option::of((0..45_u64, 0..45_u64)),
        (odd, backward) in any::<(bool, bool)>(),
        limit in 1..9_usize,
    ) {
        let fruits = fruits(&of);
        run(async {
            let redb = Redb::open_on(InMemoryBackend::new()).unwrap();
            for engine in [Arc::new(Memory::new()) as Arc<dyn Engine>, Arc::new(redb)] {
                let store = filled(engine, &fruits).await;
                check(&store, &fruits, kind, ages, odd, backward, limit).await?;
            }
            Ok::<_, TestCaseError>(())
        })?;
    }
}

#[test]
fn a_long_list_is_walked_and_its_total_is_counted() {
    run(async {
        let of: Vec<_> = (0..12_000).map(|n| (n, (n % 2) as u8, Some(n))).collect();
        let fruits = fruits(&of);
        let store = filled(Arc::new(Memory::new()), &fruits).await;
        for (kind, odd) in [(None, false), (Some(0), false), (Some(0), true)] {
            check(&store, &fruits, kind, None, odd, true, 900)
                .await
                .unwrap();
        }
        let facet = Facet::is(BY_KIND, Key::new().text("kind1"));
        let (_, totals) = pages(&store, &[facet], None, false, 5_000).await;
        assert!(
            totals.iter().all(|total| *total == Some(6_000)),
            "known unread"
        );

        let none = |_: &Fruit| false;
        let list = List {
            order: BY_SIZE,
            backward: false,
            facets: vec![],
            keep: Some(&none),
            after: None,
            skip: 0,
            limit: 10,
        };
        let page = store.list::<Fruit>(list).await.unwrap();
        assert!(
            page.rows.is_empty() && page.next.is_some(),
            "a page's cost is bounded"
        );
        assert_eq!(page.total, None);
    });
}

#[test]
fn counts_of_a_range_are_exact_at_its_edges() {
    run(async {
        let of: Vec<_> = (0..1_000).map(|n| (n, 0, Some(n))).collect();
        let store = filled(Arc::new(Memory::new()), &fruits(&of)).await;
        for (from, below) in [
            (0, 1_000),
            (3, 7),
            (3, 13),
            (10, 20),
            (9, 21),
            (990, 2_000),
            (7, 3),
        ] {
            let n = store
                .count(&Facet::between(BY_AGE, aged(from), aged(below)))
                .await
                .unwrap();
            assert_eq!(
                n,
                below.min(1_000_u64).saturating_sub(from),
                "{from}..{below}"
            );
        }
        assert_eq!(store.count(&Facet::any(BY_AGE)).await.unwrap(), 1_000);
        assert_eq!(store.counts(BY_KIND, 9).await.unwrap().len(), 1);
    });
}

#[test]
fn a_cursor_is_for_the_question_that_made_it() {
    let cursor = Cursor {
        key: vec![0, 255, 7],
        id: id("cert-1"),
    };
    let text = cursor.to_text("status=Active order=name");
    assert_eq!(
        Cursor::from_text(&text, "status=Active order=name"),
        Ok(cursor)
    );
    assert_eq!(
        Cursor::from_text(&text, "status=Failed order=name"),
        Err(CursorError::Question)
    );
    for bad in [
        "",
        "AQ",
        "!",
        "AQID",
        &text[..12],
        &format!("{text}*"),
        "AQ==",
    ] {
        assert_eq!(
            Cursor::from_text(bad, ""),
            Err(CursorError::Malformed),
            "{bad}"
        );
    }
    let other_version = format!("B{}", &text[1..]);
    assert_eq!(
        Cursor::from_text(&other_version, ""),
        Err(CursorError::Version)
    );
}

proptest! {
    #[test]
    fn cursors_come_back_and_garbage_is_refused(key in vec(any::<u8>(), 0..512), text in ".{0,80}") {
        let cursor = Cursor { key, id: id("x") };
        prop_assert_eq!(&Cursor::from_text(&cursor.to_text("q"), "q"), &Ok(cursor));
        let _ = Cursor::from_text(&text, "q");
    }
}
