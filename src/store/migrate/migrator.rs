//! Making migrations and undoing them: one commit that says so, then a sweep over the rows that can
//! be cut at any point and is gone on with by whoever comes next.

use super::{
    FIRST_FORMAT, Ledger, Migration, Record, Schema,
    known::{BringError, Known},
    ledger::id_of,
};
use crate::{
    clock::Time,
    store::{
        Answer, Batch, Coll, CommitError, Doc, EngineError, Expect, Query, Row, Store, StoreError,
        Unit, Write, document,
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// Rows that one commit of a sweep writes.
const PAGE: usize = 200;

/// Makes and undoes migrations in one store.
pub struct Migrator<'a> {
    /// The store.
    pub store: &'a Store,
    /// When.
    pub now: Time,
    /// Which program, for the ledger.
    pub by: &'a str,
    /// Names commits.
    pub commit_id: Box<dyn Fn() -> u128 + Send + Sync + 'a>,
    /// Adds to the commit that makes (true) or undoes a migration.
    pub note: &'a (dyn Fn(&mut Unit<'_>, Time, &Migration, bool) + Sync),
    /// Is told of rows that were written in another format, and of which collection.
    pub progress: &'a (dyn Fn(&str, u64) + Sync),
}

/// Values that an older format has no place for. They stay in their rows, out of its sight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The collection.
    pub collection: String,
    /// The field.
    pub field: String,
    /// How many rows hold another value there than the default.
    pub rows: u64,
}

/// Why a migration was not made or undone.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Reading or committing failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A migration in the ledger is not what was made, not what this program knows, or gone.
    #[error(
        "migration {0} in the store's ledger was altered, is another than this program's, or is \
         missing: use the version that made it, or restore a backup"
    )]
    Altered(u16),
    /// There is no such format.
    #[error(
        "the store has format {format}, and this program knows up to {known}: there is no way to {asked}"
    )]
    NoSuchFormat {
        /// What was asked for.
        asked: u16,
        /// The store's.
        format: u16,
        /// The program's.
        known: u16,
    },
    /// It cannot be undone.
    #[error("migration {number} ({name}) cannot be undone: restore {}", backup.as_deref().unwrap_or("a backup from before it"))]
    Irreversible {
        /// Its number.
        number: u16,
        /// Its name.
        name: String,
        /// The backup that was made before it.
        backup: Option<String>,
    },
    /// Programs that do not know it are at work.
    #[error(
        "migration {number} ({name}) needs all servers of older versions stopped: stop them, then try again"
    )]
    OthersAtWork {
        /// Its number.
        number: u16,
        /// Its name.
        name: String,
    },
    /// A row cannot be brought to another format.
    #[error("{collection}/{id}: {reason}")]
    Row {
        /// The collection.
        collection: String,
        /// The row.
        id: String,
        /// What is wrong.
        reason: String,
    },
}

impl From<CommitError> for MigrateError {
    fn from(e: CommitError) -> Self {
        Self::Store(e.into())
    }
}

impl Migrator<'_> {
    /// Makes the program's migrations up to a number that the store does not have, and finishes
    /// what was cut. `alone` says that no program is at work on the store that does not know them.
    ///
    /// # Errors
    /// What was made before the one at fault stays.
    pub async fn up(
        &self,
        to: u16,
        backup: Option<&str>,
        alone: bool,
    ) -> Result<Vec<&'static Migration>, MigrateError> {
        self.finish().await?;
        let mut made = Vec::new();
        loop {
            let known = self.sound().await?;
            self.reaches_up(to, &known)?;
            let Some(next) = known.pending().next().filter(|next| next.number <= to) else {
                break;
            };
            if !alone && !next.class.is_additive() {
                return Err(MigrateError::OthersAtWork {
                    number: next.number,
                    name: next.name.to_string(),
                });
            }
            if self.make(&known, next, backup).await? {
                made.push(next);
            }
        }
        self.finish().await?;
        Ok(made)
    }

    /// Whether there is such a format to go up to.
    ///
    /// # Errors
    /// When there is none.
    pub fn reaches_up(&self, to: u16, known: &Known) -> Result<(), MigrateError> {
        let reach = known.program_format().max(known.format());
        in_reach(to, to <= reach, known)
    }

    /// Whether it was this program that made it.
    async fn make(
        &self,
        known: &Known,
        migration: &'static Migration,
        backup: Option<&str>,
    ) -> Result<bool, MigrateError> {
        let record = Record::new(migration, self.now, self.by, backup);
        let mut ledger = known.ledger().clone();
        ledger.insert(migration.number, record.clone());
        let mut unit = self.unit();
        unit.insert(record);
        self.put_schema(&mut unit, &ledger).await?;
        (self.note)(&mut unit, self.now, migration, true);
        self.committed(unit).await
    }

    /// Undoes the store's migrations above a number, the newest first, whether or not this program
    /// knows them. Nobody else may be at work on the store.
    ///
    /// # Errors
    /// Nothing was changed, save when the sweep was cut: [`finish`](Self::finish) goes on.
    pub async fn down(&self, to: u16) -> Result<Vec<Migration>, MigrateError> {
        self.finish().await?;
        loop {
            let known = self.sound().await?;
            let undone = self.undone_by(to, &known)?;
            if undone.is_empty() {
                return Ok(undone);
            }
            let mut ledger = known.ledger().clone();
            let mut unit = self.unit();
            for migration in &undone {
                if let Some(record) = ledger.get_mut(&migration.number) {
                    record.undoing = true;
                }
                let mut record = unit.load::<Record>(&id_of(migration.number)).await?;
                record.undoing = true;
                unit.put(record);
                (self.note)(&mut unit, self.now, migration, false);
            }
            self.put_schema(&mut unit, &ledger).await?;
            if self.committed(unit).await? {
                self.finish().await?;
                return Ok(undone);
            }
        }
    }

    /// The migrations that going down to a number undoes, the newest first.
    ///
    /// # Errors
    /// When there is no such format, or one of them cannot be undone.
    pub fn undone_by(&self, to: u16, known: &Known) -> Result<Vec<Migration>, MigrateError> {
        in_reach(to, to <= known.format(), known)?;
        let records = known.ledger().values().rev();
        let undone: Vec<&Record> = records.filter(|r| r.migration.number > to).collect();
        if let Some(stop) = undone.iter().find(|r| !r.migration.reversible) {
            return Err(MigrateError::Irreversible {
                number: stop.migration.number,
                name: stop.migration.name.to_string(),
                backup: stop.backup.clone(),
            });
        }
        Ok(undone.into_iter().map(|r| r.migration.clone()).collect())
    }

    /// The values that going down to a number would put out of sight.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn losses(&self, to: u16) -> Result<Vec<Loss>, MigrateError> {
        let known = self.sound().await?;
        let mut rows = BTreeMap::new();
        for migration in self.undone_by(to, &known)? {
            rows.insert(migration.collection.into_owned(), BTreeMap::new());
        }
        for (collection, fields) in &mut rows {
            let target = target_below(&known, collection, to);
            self.each_row(collection, |row, from| {
                let brought = known
                    .brought(collection, &row.doc, from, target)
                    .map_err(|e| at_fault(collection, row, e))?;
                for field in brought.hidden {
                    *fields.entry(field).or_default() += 1;
                }
                Ok(())
            })
            .await?;
        }
        let losses = rows.into_iter().flat_map(|(collection, fields)| {
            fields.into_iter().map(move |(field, rows)| Loss {
                collection: collection.clone(),
                field,
                rows,
            })
        });
        Ok(losses.collect())
    }

    /// Reads every row of the collections that have migrations; gives how many rows of each are
    /// still to be written in the store's format.
    ///
    /// # Errors
    /// The first thing at fault: a migration that was altered, or a row that cannot be read.
    pub async fn verify(&self) -> Result<BTreeMap<String, u64>, MigrateError> {
        let known = self.sound().await?;
        let mut left = BTreeMap::new();
        for record in known.ledger().values() {
            left.insert(record.migration.collection.to_string(), 0);
        }
        for (collection, left) in &mut left {
            let target = known.stored_format(collection);
            self.each_row(collection, |row, from| {
                known
                    .bring(collection, &row.doc, from, target)
                    .map_err(|e| at_fault(collection, row, e))?;
                *left += u64::from(from != target);
                Ok(())
            })
            .await?;
        }
        Ok(left)
    }

    /// Goes on with sweeps that were cut, up or down; gives the number of rows written.
    ///
    /// # Errors
    /// When the store fails; calling it again goes on.
    pub async fn finish(&self) -> Result<u64, MigrateError> {
        let mut rows = 0;
        loop {
            let known = self.sound().await?;
            let work = |r: &&Record| r.undoing || !r.swept;
            let Some(next) = known.ledger().values().find(work) else {
                return Ok(rows);
            };
            let collection = &next.migration.collection;
            rows += self.sweep(collection, &known).await?;
            let mut unit = self.unit();
            let (_, schema, row) = known.assertion();
            unit.recall::<Schema>(&schema, version(row));
            let same = |r: &&Record| r.migration.collection == *collection;
            for record in known.ledger().values().filter(same).filter(work) {
                let mut row = unit.load::<Record>(&record.id).await?;
                if record.undoing {
                    // Rows were written back that the feed does not tell of, and what read them
                    // in their later form is gone: nobody may build on a state from before.
                    unit.forget_feed();
                    unit.delete(row);
                } else {
                    row.swept = true;
                    unit.put(row);
                }
            }
            self.committed(unit).await?;
        }
    }

    /// Writes the rows of a collection in the store's format, for as long as that is what it was
    /// when this began.
    async fn sweep(&self, collection: &str, began: &Known) -> Result<u64, MigrateError> {
        let (coll, mut after, mut done) = (named(collection), None, 0);
        let target = began.stored_format(collection);
        loop {
            let known = self.store.known().await?;
            if known.assertion() != began.assertion() {
                return Ok(done);
            }
            let rows = self.page(coll, after.clone()).await?;
            let Some(last) = rows.last().map(|row| row.id.clone()) else {
                return Ok(done);
            };
            let mut writes = Vec::new();
            for row in rows {
                let failed = |e| at_fault(collection, &row, e);
                let from = document::format(&row.doc).map_err(|e| failed(e.into()))?;
                if from != target {
                    let doc = known.bring(collection, &row.doc, from, target);
                    writes.push(Write {
                        coll,
                        doc: Doc::Amend(doc.map_err(failed)?),
                        expect: Expect::Version(row.version),
                        id: row.id,
                        keys: Vec::new(),
                    });
                }
            }
            let n = writes.len() as u64;
            if n > 0 {
                let batch = Batch {
                    id: (self.commit_id)(),
                    at: self.now,
                    writes,
                    ..Batch::default()
                };
                match self.store.commit_migrating(batch).await {
                    Ok(_) => {}
                    // A row was written meanwhile: the page is read again.
                    Err(e) if e.is_conflict() => continue,
                    Err(e) => return Err(e.into()),
                }
            }
            done += n;
            (self.progress)(collection, n);
            after = Some(last);
        }
    }

    /// Shows all rows of a collection, each with its format.
    async fn each_row(
        &self,
        collection: &str,
        mut see: impl FnMut(&Row, u16) -> Result<(), MigrateError>,
    ) -> Result<(), MigrateError> {
        let (coll, mut after) = (named(collection), None);
        loop {
            let rows = self.page(coll, after).await?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = Some(last.id.clone());
            for row in &rows {
                let format = document::format(&row.doc);
                see(
                    row,
                    format.map_err(|e| at_fault(collection, row, e.into()))?,
                )?;
            }
        }
    }

    async fn page(&self, coll: Coll, after: Option<crate::id::Id>) -> Result<Vec<Row>, StoreError> {
        let limit = PAGE;
        match self.store.ask(Query::All { coll, after, limit }).await? {
            Answer::All(rows) => Ok(rows),
            _ => Err(EngineError::Corrupt("the engine answered another question".into()).into()),
        }
    }

    /// What is known now, once it was seen that nobody altered it.
    async fn sound(&self) -> Result<Arc<Known>, MigrateError> {
        let known = self.store.refresh_known().await?;
        match known.altered().first() {
            None => Ok(known),
            Some(number) => Err(MigrateError::Altered(*number)),
        }
    }

    fn unit(&self) -> Unit<'_> {
        self.store.unit((self.commit_id)(), self.now)
    }

    async fn put_schema(&self, unit: &mut Unit<'_>, ledger: &Ledger) -> Result<(), StoreError> {
        let schema = Schema::of(ledger, self.now);
        match unit.load_opt::<Schema>(&schema.id).await? {
            Some(row) => unit.put(row.map(|_| schema)),
            None => unit.insert(schema),
        }
        Ok(())
    }

    /// Commits; `false` when somebody else was faster, and what is to be done has to be seen anew.
    async fn committed(&self, unit: Unit<'_>) -> Result<bool, MigrateError> {
        match unit.commit_migrating().await {
            Ok(_) => Ok(true),
            Err(e) if e.is_conflict() => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

fn in_reach(asked: u16, reach: bool, known: &Known) -> Result<(), MigrateError> {
    if reach && asked >= FIRST_FORMAT {
        return Ok(());
    }
    Err(MigrateError::NoSuchFormat {
        asked,
        format: known.format(),
        known: known.program_format(),
    })
}

/// The format of a collection's rows once the store went down to a number.
fn target_below(known: &Known, collection: &str, to: u16) -> u16 {
    let below = known.ledger().range(..=to).rev();
    let mut of = below.filter(|(_, record)| record.migration.collection == collection);
    of.next().map_or(FIRST_FORMAT, |(number, _)| *number)
}

fn version(row: Expect) -> Option<u64> {
    match row {
        Expect::Absent => None,
        Expect::Version(version) => Some(version),
    }
}

fn at_fault(collection: &str, row: &Row, e: BringError) -> MigrateError {
    MigrateError::Row {
        collection: collection.to_owned(),
        id: row.id.to_string(),
        reason: e.to_string(),
    }
}

/// A collection by name, which may be one that only a later program has: a name is never given
/// back, and there are few.
fn named(collection: &str) -> Coll {
    let known = crate::store::COLLECTIONS.iter().map(|c| c.coll());
    let mut named = known.filter(|coll| coll.0 == collection);
    named
        .next()
        .unwrap_or_else(|| Coll(collection.to_owned().leak()))
}
