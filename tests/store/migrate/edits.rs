//! Any edits of any documents can be undone, and what was undone can be done again.

use super::{ALL, insert, migrator, notes, program};
use crate::store::run;
use certctl::store::{
    Engine, Memory, Redb,
    migrate::{Class, Edit, MIGRATIONS, Migration, Text, format_of},
};
use proptest::{collection::vec, prelude::*, sample::select};
use redb::backends::InMemoryBackend;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const FIELDS: [&str; 4] = ["a", "b", "c", "d"];

fn value() -> impl Strategy<Value = Value> {
    select(vec![
        json!(0),
        json!(1),
        json!("x"),
        json!("y"),
        json!(null),
        json!([1]),
    ])
}

/// One edit on fields that no other edit of the migration names.
fn edit() -> impl Strategy<Value = Edit> {
    let pair = select(vec![("a", "b"), ("b", "a"), ("c", "d"), ("a", "d")]);
    let text = |value: Value| Some(value.to_string().into());
    prop_oneof![
        (select(&FIELDS[..]), value()).prop_map(move |(field, default)| Edit::Add {
            field: field.into(),
            default: text(default),
        }),
        (select(&FIELDS[..]), proptest::option::of(value())).prop_map(move |(field, default)| {
            Edit::Drop {
                field: field.into(),
                default: default.and_then(text),
            }
        }),
        pair.prop_map(|(from, to)| Edit::rename(from, to)),
        (select(&FIELDS[..]), select(vec![0, 1, 2])).prop_map(|(field, n)| {
            let all: [&[(&str, &str)]; 3] = [
                &[("0", "1")],
                &[("\"x\"", "\"y\""), ("\"y\"", "\"x\"")],
                &[("null", "[1]"), ("[1]", "0")],
            ];
            let pairs = all[n].iter().map(|(a, b)| ((*a).into(), (*b).into()));
            Edit::Map {
                field: field.into(),
                pairs: pairs.collect(),
            }
        }),
    ]
}

fn migrations() -> impl Strategy<Value = Vec<Migration>> {
    vec(edit(), 1..6).prop_map(|edits| {
        let numbered = (2..).zip(edits);
        numbered
            .map(|(number, edit)| Migration {
                edits: vec![edit].into(),
                ..Migration::additive(number, "any", "note", Class::Drop, &[])
            })
            .collect()
    })
}

fn documents() -> impl Strategy<Value = Vec<Value>> {
    let fields = proptest::collection::btree_map(select(&FIELDS[..]), value(), 0..4);
    vec(fields, 1..12).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(n, fields)| {
                let mut doc: Map<String, Value> = Map::new();
                doc.extend(
                    fields
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value)),
                );
                doc.insert("id".into(), format!("n{n}").into());
                doc.insert("_format".into(), 1.into());
                doc.into()
            })
            .collect()
    })
}

/// Up, down and up again, by way of a format in between.
async fn there_and_back(engine: Arc<dyn Engine>, list: Vec<Migration>, docs: Vec<Value>) {
    let list: &'static [Migration] = list.leak();
    let last = list.last().expect("some").number;
    insert(&engine, &docs).await;
    let before = notes(&engine).await;
    let store = program(&engine, list);
    migrator(&store).up(last, None, true).await.unwrap();
    let after = notes(&engine).await;
    // A program that knows none of them undoes them one by one.
    let older = program(&engine, &[]);
    for to in (1..last).rev() {
        migrator(&older).down(to).await.unwrap();
    }
    assert_eq!(notes(&engine).await, before, "{list:#?}");
    let store = program(&engine, list);
    migrator(&store).up(last, None, true).await.unwrap();
    assert_eq!(notes(&engine).await, after, "{list:#?}");
    // The way back began with the rows as the first program wrote them. It may also begin with
    // rows that the last one wrote.
    let docs: Vec<Value> = docs
        .into_iter()
        .map(|mut doc| {
            doc["id"] = format!("late-{}", doc["id"].as_str().expect("an id")).into();
            doc["_format"] = last.into();
            doc
        })
        .collect();
    insert(&engine, &docs).await;
    let late = notes(&engine).await;
    migrator(&store).down(1).await.unwrap();
    migrator(&store).up(last, None, true).await.unwrap();
    assert_eq!(notes(&engine).await, late, "{list:#?}");
}

proptest! {
    #[test]
    fn any_edits_of_any_documents_can_be_undone_and_done_again(
        list in migrations(), docs in documents(), on_redb in prop::bool::weighted(0.1)
    ) {
        let engine: Arc<dyn Engine> = if on_redb {
            Arc::new(Redb::open_on(InMemoryBackend::new()).unwrap())
        } else {
            Arc::new(Memory::new())
        };
        run(there_and_back(engine, list, docs));
    }
}

#[test]
fn what_stands_in_the_lists_is_sound() {
    for list in [MIGRATIONS, ALL] {
        for (n, migration) in list.iter().enumerate() {
            assert_eq!(usize::from(migration.number), n + 2, "numbers have no gaps");
            assert_eq!(migration.check(), Ok(()), "{}", migration.name);
            let back: Vec<Edit> = migration
                .inverse()
                .iter()
                .rev()
                .map(Edit::inverse)
                .collect();
            assert_eq!(back, migration.edits.to_vec(), "the inverse of the inverse");
        }
    }
    let classes: Vec<Class> = ALL.iter().map(|m| m.class).collect();
    for class in Class::ALL {
        assert!(classes.contains(&class), "{} is not tried", class.as_str());
    }
    assert_eq!(format_of("note", ALL), 9);
    assert_eq!(format_of("picture", ALL), 7);
    assert_eq!(format_of("other", ALL), 1);
}

#[test]
fn a_migration_that_cannot_be_is_refused() {
    let with = |class, edits| Migration::additive(2, "x", "note", class, edits).check();
    let said = |found: Result<(), String>| found.unwrap_err();
    assert_eq!(
        said(with(
            Class::AddField,
            const { &[Edit::add("a", "1"), Edit::add("a", "2")] }
        )),
        "it names a twice"
    );
    assert_eq!(
        said(with(Class::AddField, const { &[Edit::add("_kept", "1")] })),
        "_kept is not a document's own"
    );
    assert_eq!(
        said(with(Class::AddField, const { &[Edit::drop("a", "1")] })),
        "its edits are not of class add field"
    );
    assert_eq!(
        said(with(Class::Rename, const { &[Edit::drop("a", "1")] })),
        "its edits are not of class rename"
    );
    assert!(
        said(with(Class::AddField, const { &[Edit::add("a", "x")] })).starts_with("x is not JSON")
    );
    const PAIRS: &[(Text, Text)] = &[
        (super::text("1"), super::text("3")),
        (super::text("2"), super::text("3")),
    ];
    const TWICE: &[Edit] = &[Edit::map("a", PAIRS)];
    assert_eq!(
        said(with(Class::WidenType, TWICE)),
        "a is not mapped one to one"
    );
}
