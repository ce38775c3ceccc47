//! What is done to a database beside commits: a role's password, and the space of tables.

use super::{Connector, Login, Postgres, schema, session::engine_error};
use crate::{store::engine::EngineError, sys::Tasks};
use postgres_protocol::password::scram_sha_256;
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use tokio_postgres::Client;

/// How large a table is with its indexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSize {
    /// Its name.
    pub name: String,
    /// In bytes, before.
    pub before: u64,
    /// In bytes, after.
    pub after: u64,
}

const SIZES: &str = "SELECT c.relname::text, pg_total_relation_size(c.oid) FROM pg_class c \
    WHERE c.relnamespace = 'certctl_store'::regnamespace AND c.relkind = 'r' ORDER BY 1";

impl Postgres {
    /// Gives the role of a login another password, and shows that it logs in; one that does not is
    /// taken back. The database is told a verifier (SCRAM-SHA-256), so that no log can hold the
    /// password. Sessions that are open stay.
    ///
    /// # Errors
    /// When the login is refused or broken, and when the new password does not log in. When the
    /// connection breaks, whether the password was changed is unknown.
    pub async fn change_password(login: Login, new: &SecretString) -> Result<(), EngineError> {
        let tasks = Tasks::new();
        let changed = change(login, new, &tasks).await;
        tasks.abort_all();
        changed
    }

    /// Gives the space of rows that are gone to those that come; gives the sizes of the tables.
    /// Servers may run meanwhile.
    ///
    /// # Errors
    /// When there is no store, or the database refuses.
    pub async fn vacuum(login: Login) -> Result<Vec<TableSize>, EngineError> {
        let tasks = Tasks::new();
        let connector = Connector::new(login, tasks.clone());
        let done = async {
            let client = connector.client().await?;
            let there = client.query_one(schema::FOUND, &[]).await;
            let there: bool = there.and_then(|row| row.try_get(0)).map_err(engine_error)?;
            if !there {
                return Err(EngineError::NoStore("the database".to_owned()));
            }
            let before = sizes(&client).await?;
            let set = client.batch_execute("SET statement_timeout = 0").await;
            set.map_err(engine_error)?;
            for (name, _) in &before {
                // Names are of the catalog; those of ours need no quotes.
                let vacuum = format!("VACUUM (ANALYZE) certctl_store.{name}");
                client.batch_execute(&vacuum).await.map_err(engine_error)?;
            }
            let after = sizes(&client).await?;
            let pairs = before.into_iter().zip(after);
            let table = |((name, before), (_, after))| TableSize {
                name,
                before,
                after,
            };
            Ok(pairs.map(table).collect())
        };
        let done = done.await;
        tasks.abort_all();
        done
    }
}

async fn sizes(client: &Client) -> Result<Vec<(String, u64)>, EngineError> {
    let rows = client.query(SIZES, &[]).await.map_err(engine_error)?;
    let size = |row: &tokio_postgres::Row| {
        let bytes: i64 = row.try_get(1)?;
        Ok((row.try_get(0)?, u64::try_from(bytes).unwrap_or_default()))
    };
    let sizes: Result<_, tokio_postgres::Error> = rows.iter().map(size).collect();
    sizes.map_err(engine_error)
}

async fn change(login: Login, new: &SecretString, tasks: &Tasks) -> Result<(), EngineError> {
    let passwords = (login.passwords)();
    let with_new = {
        let new = new.clone();
        Login {
            passwords: Arc::new(move || vec![new.clone()]),
            connections: 1,
            ..login.clone()
        }
    };
    let mut refused = None;
    for old in passwords {
        let one = old.clone();
        let with_old = Login {
            passwords: Arc::new(move || vec![one.clone()]),
            connections: 1,
            ..login.clone()
        };
        let client = match Connector::new(with_old, tasks.clone()).client().await {
            Ok(client) => client,
            Err(e @ EngineError::Password(_)) => {
                refused = Some(e);
                continue;
            }
            Err(e) => return Err(e),
        };
        set(&client, new).await?;
        return match Connector::new(with_new, tasks.clone()).client().await {
            Ok(_) => Ok(()),
            Err(e @ EngineError::Password(_)) => {
                set(&client, &old).await?;
                Err(EngineError::Refused(format!(
                    "the new password does not log in, and the old one was put back: {e}"
                )))
            }
            Err(e) => Err(e),
        };
    }
    Err(refused.unwrap_or_else(|| {
        EngineError::Unusable("no password is configured, so there is none to change".to_owned())
    }))
}

async fn set(client: &Client, password: &SecretString) -> Result<(), EngineError> {
    let verifier = scram_sha_256(password.expose_secret().as_bytes());
    // A verifier holds no quote.
    let alter = format!("ALTER ROLE CURRENT_USER PASSWORD '{verifier}'");
    client.batch_execute(&alter).await.map_err(engine_error)
}
