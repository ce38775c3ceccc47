//! Migrations: a collection of the tests alone goes through every kind of edit and every class of
//! change, there and back, on every engine.

mod edits;
mod fixture;
mod programs;
mod upkeep;
mod ways;

pub use fixture::unpack;

use super::{id, index_key, writes};
use bytes::Bytes;
use certctl::{
    clock::Time,
    id::Id,
    store::{
        Answer, Coll, Committer, Doc, Document, Engine, Expect, Index, Key, Keys, Query, Row,
        Store, Write,
        migrate::{Class, Edit, Migration, Migrator},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{borrow::Cow, sync::Arc};

pub const NOTES: Coll = Coll("note");
pub const BY_RANK: Index = Index::new(NOTES, "note.rank").counted();
pub const NOW: Time = Time::from_seconds(1_800_000_000);

const fn text(text: &'static str) -> Cow<'static, str> {
    Cow::Borrowed(text)
}

/// A migration of each class.
pub const ALL: &[Migration] = &[
    Migration::additive(
        2,
        "notes can be pinned",
        "note",
        Class::AddField,
        const { &[Edit::add("pinned", "false")] },
    ),
    Migration::breaking(
        3,
        "a title is a name",
        "note",
        Class::Rename,
        const { &[Edit::rename("title", "name")] },
    ),
    Migration::breaking(
        4,
        "no more rank",
        "note",
        Class::Drop,
        const { &[Edit::drop("rank", "0")] },
    ),
    Migration::breaking(
        5,
        "colours have other words",
        "note",
        Class::WidenType,
        const {
            &[Edit::map(
                "colour",
                const {
                    &[
                        (text("\"red\""), text("\"crimson\"")),
                        (text("\"blue\""), text("\"red\"")),
                    ]
                },
            )]
        },
    ),
    Migration::additive(6, "notes by name", "note", Class::AddIndex, &[]),
    Migration::additive(7, "pictures", "picture", Class::AddCollection, &[]),
    Migration::additive(
        8,
        "where a note is from",
        "note",
        Class::Backfill,
        const { &[Edit::add("origin", "\"here\"")] },
    ),
    Migration::breaking(
        9,
        "colours are upper case",
        "note",
        Class::AddConstraint,
        const {
            &[Edit::map(
                "colour",
                const { &[(text("\"green\""), text("\"GREEN\""))] },
            )]
        },
    ),
];

/// The first of them, which older programs live with.
pub fn additive() -> &'static [Migration] {
    &ALL[..1]
}

/// A note as the first program has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct First {
    pub id: Id,
    pub title: String,
    pub colour: String,
    pub rank: u32,
}

impl Document for First {
    const COLL: Coll = NOTES;
    const FORMAT: u16 = 1;
    const INDEXES: &'static [Index] = &[BY_RANK];
    fn id(&self) -> &Id {
        &self.id
    }
    fn keys(&self, keys: &mut Keys) {
        keys.put(BY_RANK, Key::new().u64(self.rank.into()));
    }
}

/// A note as a program after the first migration has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Second {
    pub id: Id,
    pub title: String,
    pub colour: String,
    pub rank: u32,
    pub pinned: bool,
}

impl Document for Second {
    const COLL: Coll = NOTES;
    const FORMAT: u16 = 2;
    const INDEXES: &'static [Index] = &[BY_RANK];
    fn id(&self) -> &Id {
        &self.id
    }
    fn keys(&self, keys: &mut Keys) {
        keys.put(BY_RANK, Key::new().u64(self.rank.into()));
    }
}

/// A note as the last program has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Last {
    pub id: Id,
    pub name: String,
    pub colour: String,
    pub pinned: bool,
    pub origin: String,
}

impl Document for Last {
    const COLL: Coll = NOTES;
    const FORMAT: u16 = 9;
    const INDEXES: &'static [Index] = &[];
    fn id(&self) -> &Id {
        &self.id
    }
    fn keys(&self, _: &mut Keys) {}
}

pub fn first(name: &str, colour: &str, rank: u32) -> First {
    First {
        id: id(name),
        title: format!("about {name}"),
        colour: colour.to_owned(),
        rank,
    }
}

/// A program with these migrations.
pub fn program(engine: &Arc<dyn Engine>, migrations: &'static [Migration]) -> Store {
    let committer = Committer::Inline;
    Store::start_with(engine.clone(), committer, Box::new(|_| {}), migrations).unwrap()
}

pub fn migrator(store: &Store) -> Migrator<'_> {
    Migrator {
        store,
        now: NOW,
        by: "a test",
        commit_id: Box::new(|| 5),
        note: &|_, _, _, _| {},
        progress: &|_, _| {},
    }
}

/// Documents as they are, under their ids and with a key each.
pub async fn insert(engine: &Arc<dyn Engine>, docs: &[Value]) {
    for docs in docs.chunks(500) {
        let rows = docs.iter().map(|doc| Write {
            coll: NOTES,
            id: id(doc["id"].as_str().expect("an id")),
            expect: Expect::Absent,
            doc: Doc::Put(Bytes::from(doc.to_string())),
            keys: vec![index_key(BY_RANK, &[doc.to_string().len() as u8])],
        });
        let batch = writes(rows.collect());
        batch.validate().unwrap();
        engine.commit(&[batch]).await.unwrap();
    }
}

/// All rows of a collection.
pub async fn rows(engine: &Arc<dyn Engine>, coll: Coll) -> Vec<Row> {
    let question = Query::All {
        coll,
        after: None,
        limit: 10_000,
    };
    match engine.read(vec![question]).await.unwrap().remove(0) {
        Answer::All(rows) => rows,
        other => panic!("{other:?}"),
    }
}

/// All notes, whatever an engine makes of the order of their fields.
pub async fn notes(engine: &Arc<dyn Engine>) -> Vec<(u64, Value)> {
    let rows = rows(engine, NOTES).await.into_iter();
    rows.map(|row| (row.version, serde_json::from_slice(&row.doc).expect("JSON")))
        .collect()
}
