//! What the program and the store together know of formats, by which rows are read.

use super::{
    Edit, FIRST_FORMAT, Ledger, Migration, Record, Schema,
    edit::{EditError, kept_fields},
    ledger::schema_id,
};
use crate::{
    id::Id,
    store::{
        Coll, Document, Expect, Loaded, Row, StoreError,
        document::{self, FORMAT_FIELD},
    },
};
use bytes::Bytes;
use serde_json::{Map, Value};

/// A program's migrations, and a store's as they were last read.
#[derive(Debug)]
pub struct Known {
    program: &'static [Migration],
    schema: Option<Schema>,
    ledger: Ledger,
    /// What the row of the [`Schema`] is taken to be.
    row: Expect,
    /// It was read, or a commit has shown that it is as taken.
    certain: bool,
}

/// Why a row cannot be brought to another format.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum BringError {
    /// Neither program nor store, as it was last read, know this migration.
    #[error("it has format {0}, which neither this program nor the store's ledger knows")]
    Unknown(u16),
    /// It cannot be edited.
    #[error("it cannot be brought to another format: {0}")]
    Edit(#[from] EditError),
    /// It is not an object.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// A document in another format.
pub(super) struct Brought {
    pub doc: Bytes,
    /// The fields that this form has no place for.
    pub hidden: Vec<String>,
}

impl Known {
    /// Nothing of the store yet.
    pub(in crate::store) fn of(program: &'static [Migration]) -> Self {
        Self {
            program,
            schema: None,
            ledger: Ledger::new(),
            row: Expect::Absent,
            certain: false,
        }
    }

    /// With what was read of the store.
    pub(in crate::store) fn with(
        &self,
        schema: Option<Loaded<Schema>>,
        records: impl IntoIterator<Item = Record>,
    ) -> Self {
        let records = records.into_iter();
        Self {
            program: self.program,
            row: schema
                .as_ref()
                .map_or(Expect::Absent, |row| Expect::Version(row.version())),
            schema: schema.map(Loaded::into_value),
            ledger: records.map(|r| (r.migration.number, r)).collect(),
            certain: true,
        }
    }

    /// The format of the program's own rows: the number of its newest migration.
    pub fn program_format(&self) -> u16 {
        let newest = self.program.last();
        newest.map_or(FIRST_FORMAT, |migration| migration.number)
    }

    /// The program's migrations.
    pub fn program(&self) -> &'static [Migration] {
        self.program
    }

    /// The store's format.
    pub fn format(&self) -> u16 {
        self.schema.as_ref().map_or(FIRST_FORMAT, |s| s.format)
    }

    /// The oldest format of programs that may read the store.
    pub fn min_reader(&self) -> u16 {
        self.schema.as_ref().map_or(FIRST_FORMAT, |s| s.min_reader)
    }

    /// The oldest format of programs that may write to the store.
    pub fn min_writer(&self) -> u16 {
        self.schema.as_ref().map_or(FIRST_FORMAT, |s| s.min_writer)
    }

    /// Whether this program may write to the store.
    pub fn may_write(&self) -> bool {
        self.min_writer() <= self.program_format()
    }

    /// Whether a later version has changed the store.
    pub fn is_ahead(&self) -> bool {
        self.format() > self.program_format()
    }

    /// Whether the store, as it was read, lacks migrations of this program, which writes rows that
    /// it has no ledger for.
    pub fn is_behind(&self) -> bool {
        self.certain && self.format() < self.program_format()
    }

    /// The store's migrations.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The program's migrations that the store does not have.
    pub fn pending(&self) -> impl Iterator<Item = &'static Migration> {
        let format = self.format();
        self.program.iter().filter(move |m| m.number > format)
    }

    /// The store's migrations that do not say what they said when they were made, or not what this
    /// program says of them; and those that the ledger lacks.
    pub fn altered(&self) -> Vec<u16> {
        let differs = |record: &&Record| {
            let number = record.migration.number;
            let own = self.program.iter().find(|m| m.number == number);
            !record.is_sound()
                || own.is_some_and(|own| own.checksum(&own.inverse()) != record.checksum)
        };
        let differing = self.ledger.values().filter(differs);
        let lacking = FIRST_FORMAT + 1..=self.format();
        let lacking = lacking.filter(|number| !self.ledger.contains_key(number));
        let mut altered: Vec<u16> = differing
            .map(|record| record.migration.number)
            .chain(lacking)
            .collect();
        altered.sort_unstable();
        altered
    }

    /// Whether rows are still to be written in another format, up or down.
    pub fn is_unfinished(&self) -> bool {
        self.ledger.values().any(|r| r.undoing || !r.swept)
    }

    /// What a commit asserts.
    pub(in crate::store) fn assertion(&self) -> (Coll, Id, Expect) {
        (Schema::COLL, schema_id(), self.row)
    }

    pub(in crate::store) fn is_certain(&self) -> bool {
        self.certain
    }

    /// The same, once a commit has shown that it is as taken.
    pub(in crate::store) fn proved(&self) -> Self {
        Self {
            program: self.program,
            schema: self.schema.clone(),
            ledger: self.ledger.clone(),
            row: self.row,
            certain: true,
        }
    }

    /// Whether rows of this format can be read.
    pub(in crate::store) fn knows(&self, format: u16) -> bool {
        let newest = self.ledger.keys().next_back().copied();
        format <= self.program_format().max(newest.unwrap_or(FIRST_FORMAT))
    }

    /// A stored row as a document, whatever format it has.
    pub(in crate::store) fn decode<T: Document>(&self, row: Row) -> Result<Loaded<T>, StoreError> {
        let brought = match document::format(&row.doc) {
            Ok(format) if format == T::FORMAT => return Loaded::decode(row),
            Ok(format) => self.bring(T::COLL.0, &row.doc, format, T::FORMAT),
            Err(e) => Err(e.into()),
        };
        match brought {
            Ok(doc) => Loaded::decode(Row { doc, ..row }),
            Err(e) => Err(document::corrupt::<T>(row.id, e.to_string())),
        }
    }

    /// The format that the store's ledger gives to a collection's rows.
    pub(super) fn stored_format(&self, collection: &str) -> u16 {
        let of = self.ledger.values().rev();
        let newest = of
            .filter(|record| !record.undoing && record.migration.collection == collection)
            .map(|record| record.migration.number);
        newest.max().unwrap_or(FIRST_FORMAT)
    }

    /// A document in another format of its collection.
    pub(in crate::store) fn bring(
        &self,
        collection: &str,
        doc: &[u8],
        from: u16,
        to: u16,
    ) -> Result<Bytes, BringError> {
        Ok(self.brought(collection, doc, from, to)?.doc)
    }

    /// As [`bring`](Self::bring), telling what gets out of sight.
    pub(super) fn brought(
        &self,
        collection: &str,
        doc: &[u8],
        from: u16,
        to: u16,
    ) -> Result<Brought, BringError> {
        let mut doc: Map<String, Value> = serde_json::from_slice(doc)?;
        let mut hidden = Vec::new();
        let numbers: Vec<u16> = if from < to {
            (from + 1..=to).collect()
        } else {
            (to + 1..=from).rev().collect()
        };
        for number in numbers {
            let edits = self.edits(number, collection, from < to)?;
            for edit in edits {
                edit.apply(number, &mut doc)?;
                if let Edit::Drop { field, .. } = &edit
                    && kept_fields(number, &doc).iter().any(|kept| kept == field)
                {
                    hidden.push(field.to_string());
                }
            }
        }
        doc.insert(FORMAT_FIELD.to_owned(), to.into());
        Ok(Brought {
            doc: Value::Object(doc).to_string().into(),
            hidden,
        })
    }

    /// What a migration does to a collection's documents, up or down.
    fn edits(&self, number: u16, collection: &str, up: bool) -> Result<Vec<Edit>, BringError> {
        let (migration, down) = match self.ledger.get(&number) {
            Some(record) => (&record.migration, record.down.clone()),
            None => {
                let own = self.program.iter().find(|m| m.number == number);
                let own = own.ok_or(BringError::Unknown(number))?;
                (own, own.inverse())
            }
        };
        Ok(match migration.collection == collection {
            true if up => migration.edits.to_vec(),
            true => down,
            false => Vec::new(),
        })
    }
}
