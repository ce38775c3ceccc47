//! A store that takes the place of another in its database.
//!
//! The new one is made in a schema of its own, and nobody sees it before [`Replacement::switch`]
//! gives that the name which servers look for. What is cut before leaves the store that is there,
//! and a schema that the next replacement removes.

use super::{
    Postgres, make,
    schema::{self, Schema},
    session::{Connector, Login, engine_error},
    views,
};
use crate::{store::engine::EngineError, sys::Tasks};
use std::sync::Arc;
use tokio_postgres::Client;

/// Held by a session as long as it replaces the store.
const ONLY: &str = "SELECT pg_try_advisory_lock(8443, 2)";

/// The whole of a store is moved at once, and copied never: a minute is long.
const SETTINGS: &str = "SET statement_timeout = '10min'; SET lock_timeout = '10s'";

/// A replacement of a database's store. Whoever drops it replaces nothing.
pub struct Replacement {
    connector: Arc<Connector>,
    /// The session that has the lock.
    client: Client,
    /// Ends its sessions with it.
    tasks: Tasks,
}

impl Replacement {
    /// Begins one.
    ///
    /// # Errors
    /// [`EngineError::InUse`] where servers or commands have the store open, or another
    /// replacement was begun; and when the database cannot be used.
    pub async fn begin(login: Login) -> Result<Self, EngineError> {
        let tasks = Tasks::new();
        let connector = Arc::new(Connector::new(login, tasks.clone()));
        let client = connector.client().await?;
        client.batch_execute(SETTINGS).await.map_err(engine_error)?;
        let locked = client.query_one(ONLY, &[]).await.map_err(engine_error)?;
        let replacement = Self {
            connector,
            client,
            tasks,
        };
        if !locked.try_get::<_, bool>(0).map_err(engine_error)? {
            return Err(replacement.in_use());
        }
        replacement.is_alone().await?;
        Ok(replacement)
    }

    /// The store that is there, if one is. It may be one that cannot be read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn old(&self) -> Result<Option<Postgres>, EngineError> {
        if !self.is_there().await? {
            return Ok(None);
        }
        Ok(Some(self.store(Schema::SERVED)))
    }

    /// An empty store beside it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn new_store(&self) -> Result<Postgres, EngineError> {
        self.forget().await?;
        let store = self.store(Schema::RESTORED);
        make(&store.connector).await?;
        Ok(store)
    }

    /// Gives the new store, which must be closed, the place of the old one, and the old one's
    /// schema the name `kept`; says whether there was one.
    ///
    /// # Errors
    /// [`EngineError::InUse`] where somebody opened the store meanwhile. Nothing has changed.
    pub async fn switch(&self, kept: &str) -> Result<bool, EngineError> {
        let switched = self.switched(kept).await;
        let end = ["ROLLBACK", "COMMIT"][usize::from(switched.is_ok())];
        let ended = self.client.batch_execute(end).await.map_err(engine_error);
        let there = switched?;
        ended.map(|()| there)
    }

    async fn switched(&self, kept: &str) -> Result<bool, EngineError> {
        let there = self.is_there().await?;
        let run = async |sql: &str| self.client.batch_execute(sql).await.map_err(engine_error);
        run("BEGIN").await?;
        run(schema::LOCK).await?;
        let (served, restored) = (Schema::SERVED.name(), Schema::RESTORED.name());
        if there {
            // Whoever opens the store from now on waits here, and then finds the new one.
            run(&format!(
                "LOCK TABLE {served}.meta IN ACCESS EXCLUSIVE MODE"
            ))
            .await?;
        }
        self.is_alone().await?;
        if there {
            run(&format!("ALTER SCHEMA {served} RENAME TO {kept}")).await?;
        }
        run(&format!("ALTER SCHEMA {restored} RENAME TO {served}")).await?;
        // Those that there are look at the old store's tables still. A later program's cannot be
        // made anew: the server makes its own.
        run("SAVEPOINT views").await?;
        if run(&views::create()).await.is_err() {
            run("ROLLBACK TO views; DROP SCHEMA IF EXISTS certctl CASCADE").await?;
        }
        Ok(there)
    }

    /// Ends it: the store that is there stays.
    ///
    /// # Errors
    /// When what was made beside it cannot be removed; the next replacement does.
    pub async fn forget(&self) -> Result<(), EngineError> {
        let gone = format!("DROP SCHEMA IF EXISTS {} CASCADE", Schema::RESTORED.name());
        self.client.batch_execute(&gone).await.map_err(engine_error)
    }

    /// Removes the store that is there, its views and all stores that others took the place of.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub async fn erase(&self) -> Result<(), EngineError> {
        let found = "SELECT quote_ident(nspname) FROM pg_catalog.pg_namespace \
                     WHERE nspname IN ('certctl', 'certctl_restore') \
                     OR nspname ~ '^certctl_store(_pre_restore_|$)'";
        let found = self.client.query(found, &[]).await.map_err(engine_error)?;
        for row in found {
            let name: String = row.try_get(0).map_err(engine_error)?;
            let gone = format!("DROP SCHEMA {name} CASCADE");
            self.client
                .batch_execute(&gone)
                .await
                .map_err(engine_error)?;
        }
        Ok(())
    }

    /// The name of the database.
    pub fn database(&self) -> &str {
        self.connector.database()
    }

    fn store(&self, schema: Schema) -> Postgres {
        let tasks = Tasks::new();
        let connector = Arc::new(self.connector.within(schema, tasks.clone()));
        Postgres::of(connector, 1, tasks)
    }

    async fn is_there(&self) -> Result<bool, EngineError> {
        let found = self.client.query_one(schema::FOUND, &[]).await;
        found.and_then(|row| row.try_get(0)).map_err(engine_error)
    }

    async fn is_alone(&self) -> Result<(), EngineError> {
        match self.connector.others_by(&self.client).await?.len() {
            0 => Ok(()),
            _ => Err(self.in_use()),
        }
    }

    fn in_use(&self) -> EngineError {
        EngineError::InUse(format!("of the database {}", self.database()))
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}
