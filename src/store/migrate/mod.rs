//! Migrations as data: how a stored shape becomes another, and back.
//!
//! A migration edits top-level fields of one collection's documents. It is kept in the store, in
//! both directions ([`Ledger`]), so that a program that never heard of it can still undo it. Each
//! row says which format it has; a row of another format than the reader's is brought to that when
//! it is read ([`Known`]), and a sweep writes it so ([`Migrator`]) at leisure.

mod edit;
mod known;
mod ledger;
mod list;
mod migrator;

pub use edit::{Edit, EditError};
pub use known::Known;
pub use ledger::{Ledger, Record, Schema};
pub use list::{MIGRATIONS, PROGRAM_FORMAT, format_of};
pub use migrator::{Loss, MigrateError, Migrator};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The format of rows before the first migration.
pub const FIRST_FORMAT: u16 = 1;

/// A text that the program or the store holds.
pub type Text = Cow<'static, str>;

/// A change of the form in which one collection is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Its number, one more than that of the one before it; the first is 2. Rows of its collection
    /// that it was done to have this format.
    pub number: u16,
    /// What it does, in a few words.
    pub name: Text,
    /// The collection.
    pub collection: Text,
    /// What it does to a document, in order. No field is named twice.
    pub edits: Cow<'static, [Edit]>,
    /// What kind of change it is.
    pub class: Class,
    /// Whether it can be undone; otherwise the backup made before it is restored.
    pub reversible: bool,
    /// Programs of an older format than this may not read a store that has it.
    pub min_reader: u16,
    /// Programs of an older format than this may not write to a store that has it.
    pub min_writer: u16,
}

/// The kinds of changes, and how safe it is to run the program before one on a store that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A new field with a default.
    AddField,
    /// A new collection.
    AddCollection,
    /// A new index.
    AddIndex,
    /// Values for a field that had none.
    Backfill,
    /// Less is allowed than before.
    AddConstraint,
    /// More is allowed than before.
    WidenType,
    /// A field, or its values, have other names.
    Rename,
    /// A field goes.
    Drop,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AddField,
        Self::AddCollection,
        Self::AddIndex,
        Self::Backfill,
        Self::AddConstraint,
        Self::WidenType,
        Self::Rename,
        Self::Drop,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AddField => "add field",
            Self::AddCollection => "add collection",
            Self::AddIndex => "add index",
            Self::Backfill => "backfill",
            Self::AddConstraint => "add constraint",
            Self::WidenType => "widen type",
            Self::Rename => "rename",
            Self::Drop => "drop",
        }
    }

    /// How safe the program before it is on a store that has it.
    pub fn safety(self) -> &'static str {
        match self {
            Self::AddField | Self::AddCollection | Self::AddIndex | Self::Backfill => "safe",
            Self::AddConstraint | Self::WidenType => "usually safe",
            Self::Rename | Self::Drop => "not safe",
        }
    }

    /// Whether programs that do not know it may go on writing while it is made.
    pub fn is_additive(self) -> bool {
        self.safety() == "safe"
    }
}

impl Migration {
    /// A change that programs of every format live with.
    pub const fn additive(
        number: u16,
        name: &'static str,
        collection: &'static str,
        class: Class,
        edits: &'static [Edit],
    ) -> Self {
        Self {
            number,
            name: Cow::Borrowed(name),
            collection: Cow::Borrowed(collection),
            edits: Cow::Borrowed(edits),
            class,
            reversible: true,
            min_reader: FIRST_FORMAT,
            min_writer: FIRST_FORMAT,
        }
    }

    /// A change that only programs live with that know it.
    pub const fn breaking(
        number: u16,
        name: &'static str,
        collection: &'static str,
        class: Class,
        edits: &'static [Edit],
    ) -> Self {
        let mut migration = Self::additive(number, name, collection, class, edits);
        migration.min_reader = number;
        migration.min_writer = number;
        migration
    }

    /// The same, never to be undone.
    #[must_use]
    pub const fn irreversible(mut self) -> Self {
        self.reversible = false;
        self
    }

    /// The edits that undo it, in order.
    pub fn inverse(&self) -> Vec<Edit> {
        self.edits.iter().rev().map(Edit::inverse).collect()
    }

    /// What is wrong with it, whatever is stored.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        let fields: Vec<&str> = self.edits.iter().flat_map(Edit::fields).collect();
        for (n, field) in fields.iter().enumerate() {
            if fields[..n].contains(field) {
                return Err(format!("it names {field} twice"));
            }
            if field.starts_with('_') || *field == "id" {
                return Err(format!("{field} is not a document's own"));
            }
        }
        let sound = self.edits.iter().try_for_each(Edit::check);
        sound.map_err(|e| e.to_string())?;
        let drops = |edit: &Edit| matches!(edit, Edit::Drop { .. });
        let adds = |edit: &Edit| matches!(edit, Edit::Add { .. });
        let fits = match self.class {
            Class::AddField | Class::Backfill => self.edits.iter().all(adds),
            Class::AddCollection | Class::AddIndex => self.edits.is_empty(),
            Class::AddConstraint | Class::WidenType | Class::Rename => {
                !self.edits.iter().any(drops)
            }
            Class::Drop => self.edits.iter().any(drops),
        };
        if !fits {
            return Err(format!(
                "its edits are not of class {}",
                self.class.as_str()
            ));
        }
        if self.number <= FIRST_FORMAT
            || self.min_reader > self.number
            || self.min_writer > self.number
        {
            return Err("its numbers are not in order".to_owned());
        }
        Ok(())
    }

    /// SHA-256 over all of it, in both directions, in lower hex. Lengths go before what varies.
    pub fn checksum(&self, down: &[Edit]) -> String {
        let mut hash = Context::new(&SHA256);
        let mut part = |text: &str| {
            hash.update(&(text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        part("certctl migration v1");
        part(&self.name);
        part(&self.collection);
        part(self.class.as_str());
        for number in [self.number, self.min_reader, self.min_writer] {
            part(&number.to_string());
        }
        part(if self.reversible { "reversible" } else { "" });
        for edits in [&self.edits, down] {
            part(&edits.len().to_string());
            for words in edits.iter().map(Edit::words) {
                part(&words.len().to_string());
                words.iter().for_each(|word| part(word));
            }
        }
        data_encoding::HEXLOWER.encode(hash.finish().as_ref())
    }
}
