//! Rows of other formats than the program's, and commits to a store whose format may change under
//! it.

use super::{
    Answer, Batch, CommitError, Committed, Document, EngineError, Hold, Loaded, Query, Refusal,
    Row, Store, StoreError, document,
    migrate::{Known, Record, Schema},
    mismatch,
};
use std::sync::Arc;

/// No ledger has so many migrations.
const ALL: usize = 10_000;

impl Store {
    /// What is known of formats, read from the store if that was not done yet.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn known(&self) -> Result<Arc<Known>, StoreError> {
        let known = self.known.load_full();
        if known.is_certain() {
            return Ok(known);
        }
        self.refresh_known().await
    }

    /// What is known of formats, read anew.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn refresh_known(&self) -> Result<Arc<Known>, StoreError> {
        let (coll, id, _) = self.known.load().assertion();
        let questions = vec![
            Query::Get {
                coll,
                ids: vec![id],
            },
            Query::All {
                coll: Record::COLL,
                after: None,
                limit: ALL,
            },
        ];
        let mut answers = self.engine.read(questions).await?.into_iter();
        let (Some(Answer::Rows(schema)), Some(Answer::All(records))) =
            (answers.next(), answers.next())
        else {
            return Err(mismatch());
        };
        let schema = schema.into_iter().flatten().next();
        let schema = schema.map(Loaded::<Schema>::decode).transpose()?;
        let mut ledger = Vec::with_capacity(records.len());
        for row in records {
            ledger.push(Loaded::<Record>::decode(row)?.into_value());
        }
        let known = Arc::new(self.known.load().with(schema, ledger));
        self.known.store(Arc::clone(&known));
        Ok(known)
    }

    /// Waits until nobody else holds the store, and holds it for who changes its format, until
    /// what is given is dropped.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn hold(&self) -> Result<Option<Hold>, StoreError> {
        Ok(self.engine.hold().await?)
    }

    /// The formats of other programs that have the store open.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub async fn others(&self) -> Result<Vec<u16>, StoreError> {
        Ok(self.engine.others().await?)
    }

    /// Whether a later version has changed the store so that this program may no longer write.
    pub fn is_outdated(&self) -> bool {
        !self.known.load().may_write()
    }

    /// Whether a later version has changed the store, as far as this process has noticed.
    pub fn is_ahead(&self) -> bool {
        self.known.load().is_ahead()
    }

    /// Whether the store has the format of an earlier version, as far as this process has noticed.
    pub fn is_behind(&self) -> bool {
        self.known.load().is_behind()
    }

    /// Why this program may not write.
    fn unfit(&self) -> CommitError {
        let known = self.known.load();
        let (format, program) = (known.format(), known.program_format());
        if known.is_behind() {
            CommitError::Behind { format, program }
        } else {
            CommitError::Outdated { format, program }
        }
    }

    /// Commits, also as a program that may write nothing but migrations.
    pub(super) async fn commit_migrating(&self, batch: Batch) -> Result<Committed, CommitError> {
        self.commit_as_known(batch, |_| true).await
    }

    /// Commits where what is known of the store allows it. The batch asserts that the store's
    /// format is as it is known here; one that changed is a conflict like any other, and known from
    /// then on.
    pub(super) async fn commit_as_known(
        &self,
        mut batch: Batch,
        allows: fn(&Known) -> bool,
    ) -> Result<Committed, CommitError> {
        let mut known = self.known.load_full();
        // To take a store for one without a ledger is a guess that such a program cannot make.
        if !known.is_certain() && known.format() < known.program_format() {
            known = self.refreshed(true).await?;
        }
        if !allows(&known) {
            return Err(self.unfit());
        }
        let (coll, id, expect) = known.assertion();
        let written = batch.writes.iter().any(|w| (w.coll, &w.id) == (coll, &id));
        let asserted = batch.asserts.iter().any(|a| (a.0, &a.1) == (coll, &id));
        let own = !written && !asserted;
        if own {
            batch.asserts.push((coll, id, expect));
        }
        // Until a commit has shown it, that there is no such row is a guess.
        let again = (own && !known.is_certain()).then(|| batch.clone());
        let outcome = self.queue.commit(batch).await;
        match &outcome {
            Err(CommitError::Refused(Refusal::Conflict { coll: of, .. })) if *of == coll => {}
            Ok(_) if again.is_some() || written => {
                self.refreshed(written).await?;
                return outcome;
            }
            _ => return outcome,
        }
        let known = self.refreshed(true).await?;
        match again {
            _ if !allows(&known) && own => Err(self.unfit()),
            Some(mut batch) => {
                batch.asserts.pop();
                batch.asserts.push(known.assertion());
                self.queue.commit(batch).await
            }
            None => outcome,
        }
    }

    /// What is known after a commit: what was guessed has proved right, or it is read anew.
    async fn refreshed(&self, read: bool) -> Result<Arc<Known>, CommitError> {
        if !read {
            let known = Arc::new(self.known.load().proved());
            self.known.store(Arc::clone(&known));
            return Ok(known);
        }
        self.refresh_known().await.map_err(|e| match e {
            StoreError::Engine(e) => CommitError::Engine(e),
            e => CommitError::Engine(EngineError::Corrupt(e.to_string())),
        })
    }

    /// A stored row as a document, whatever format it has.
    pub(super) async fn decode<T: Document>(&self, row: Row) -> Result<Loaded<T>, StoreError> {
        match document::format(&row.doc) {
            Ok(format) if format == T::FORMAT => return Loaded::decode(row),
            // Of a migration that was made meanwhile, perhaps.
            Ok(newer) if !self.known.load().knows(newer) => drop(self.refresh_known().await?),
            _ => {}
        }
        self.known().await?.decode(row)
    }
}
