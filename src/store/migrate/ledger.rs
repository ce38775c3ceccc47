//! What a store says of its own format: rows like all others, so that every engine keeps them and
//! every backup has them. Their own form never changes.

use super::{Edit, FIRST_FORMAT, Migration};
use crate::{
    clock::Time,
    id::Id,
    store::{Coll, Document, Index, Keys},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format of a store, and who may use it. There is one such row, and none in a store of the
/// first format. Every commit asserts that it is still as the committer knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// `store`.
    pub id: Id,
    /// The number of the newest migration.
    pub format: u16,
    /// Programs of an older format may not read it.
    pub min_reader: u16,
    /// Programs of an older format may not write to it.
    pub min_writer: u16,
    /// When that was last changed.
    pub changed_at: Time,
}

impl Document for Schema {
    const COLL: Coll = Coll("schema");
    const FORMAT: u16 = FIRST_FORMAT;
    const INDEXES: &'static [Index] = &[];
    fn id(&self) -> &Id {
        &self.id
    }
    fn keys(&self, _: &mut Keys) {}
}

/// A migration that was made in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its id, which follows from its number.
    pub id: Id,
    /// The migration.
    pub migration: Migration,
    /// What undoes it.
    pub down: Vec<Edit>,
    /// Over both; see [`Migration::checksum`].
    pub checksum: String,
    /// When it was made.
    pub applied_at: Time,
    /// Which program made it.
    pub applied_by: String,
    /// The backup that was made before it.
    pub backup: Option<String>,
    /// All rows were written in its format.
    pub swept: bool,
    /// It is being undone: rows are still being written in the format before it.
    pub undoing: bool,
}

impl Document for Record {
    const COLL: Coll = Coll("migration");
    const FORMAT: u16 = FIRST_FORMAT;
    const INDEXES: &'static [Index] = &[];
    fn id(&self) -> &Id {
        &self.id
    }
    fn keys(&self, _: &mut Keys) {}
}

/// The migrations of a store by number.
pub type Ledger = BTreeMap<u16, Record>;

impl Record {
    /// A migration that is being made now.
    pub(super) fn new(migration: &Migration, now: Time, by: &str, backup: Option<&str>) -> Self {
        let down = migration.inverse();
        Self {
            id: id_of(migration.number),
            checksum: migration.checksum(&down),
            migration: migration.clone(),
            down,
            applied_at: now,
            applied_by: by.to_owned(),
            backup: backup.map(str::to_owned),
            swept: false,
            undoing: false,
        }
    }

    /// Whether it says what it said when it was made.
    pub fn is_sound(&self) -> bool {
        self.checksum == self.migration.checksum(&self.down)
    }
}

impl Schema {
    /// What the migrations of a ledger that are not being undone make of a store.
    pub(super) fn of(ledger: &Ledger, now: Time) -> Self {
        let made = || {
            let records = ledger.values().filter(|record| !record.undoing);
            records.map(|record| &record.migration)
        };
        let most = |number: fn(&Migration) -> u16| made().map(number).max();
        Self {
            id: schema_id(),
            format: most(|m| m.number).unwrap_or(FIRST_FORMAT),
            min_reader: most(|m| m.min_reader).unwrap_or(FIRST_FORMAT),
            min_writer: most(|m| m.min_writer).unwrap_or(FIRST_FORMAT),
            changed_at: now,
        }
    }
}

/// The id of the one [`Schema`].
pub(in crate::store) fn schema_id() -> Id {
    fixed("store".to_owned())
}

/// The id of a migration's record.
pub(super) fn id_of(number: u16) -> Id {
    fixed(format!("m-{number:05}"))
}

fn fixed(text: String) -> Id {
    let id = text.parse();
    id.unwrap_or_else(|_| Id::derived("schema", text.as_bytes()))
}
