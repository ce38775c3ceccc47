//! One call at the database: whether it answers, and would take commits.

use super::{Connector, Login, Postgres, schema, session::engine_error};
use crate::{
    clock::Time,
    store::{engine::EngineError, migrate::FIRST_FORMAT},
    sys::Tasks,
};
use std::time::Duration;
use tokio::time::Instant;

/// What a database said of itself.
#[derive(Debug, Clone)]
pub struct Ping {
    /// Its version, as it writes it.
    pub version: String,
    /// How long a connection, a login and one question took.
    pub connected: Duration,
    /// How long one question takes.
    pub took: Duration,
    /// The way there is encrypted.
    pub encrypted: bool,
    /// Who is logged in.
    pub role: String,
    /// The database.
    pub database: String,
    /// The format of the store in it; `None`: it holds none.
    pub format: Option<u16>,
    /// Why it would take no commits, if so.
    pub refuses: Option<String>,
    /// Its time.
    pub clock: Time,
    /// Connections that are in use, of all.
    pub sessions: u64,
    /// Connections that it gives.
    pub most_sessions: u64,
    /// Programs of certctl that have it open, but for this one.
    pub others: u64,
}

const SAYS: &str = "SELECT current_setting('server_version'), current_user::text, \
    current_database()::text, (extract(epoch FROM clock_timestamp()) * 1000000)::int8, \
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), \
    current_setting('max_connections')::int8";
/// Whether the role may do all that a commit does.
const MAY_WRITE: &str = "SELECT coalesce(bool_and(has_table_privilege(c.oid, 'SELECT') AND \
    has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') AND \
    has_table_privilege(c.oid, 'DELETE')), false) FROM pg_class c \
    WHERE c.relnamespace = 'certctl_store'::regnamespace AND c.relkind = 'r'";
const MAY_MAKE: &str = "SELECT has_database_privilege(current_database(), 'CREATE')";
const FORMAT: &str = "SELECT (doc ->> 'format')::int FROM certctl_store.rows \
    WHERE coll = 'schema' AND id = 'store'";
/// What each commit begins with.
const TRY: &str = "BEGIN; SET LOCAL lock_timeout = '5s'; \
    SELECT seq FROM certctl_store.meta FOR UPDATE; ROLLBACK";

impl Postgres {
    /// Logs in, and asks. Nothing is changed.
    ///
    /// # Errors
    /// When there is no login, or the database cannot be used at all.
    pub async fn ping(login: Login) -> Result<Ping, EngineError> {
        let tasks = Tasks::new();
        let asked = ask(login, &tasks).await;
        tasks.abort_all();
        asked
    }
}

async fn ask(login: Login, tasks: &Tasks) -> Result<Ping, EngineError> {
    let encrypted = login.dialer.encrypts();
    let connector = Connector::new(login, tasks.clone());
    let began = Instant::now();
    let client = connector.client().await?;
    let connected = began.elapsed();
    let began = Instant::now();
    let row = client.query_one(SAYS, &[]).await.map_err(engine_error)?;
    let took = began.elapsed();
    let said = async {
        let store: bool = client.query_one(schema::FOUND, &[]).await?.try_get(0)?;
        let (mut format, mut refuses) = (None, None);
        if store {
            let may: bool = client.query_one(MAY_WRITE, &[]).await?.try_get(0)?;
            if may {
                let row = client.query_opt(FORMAT, &[]).await?;
                let number: Option<i32> = row.map(|row| row.try_get(0)).transpose()?;
                format = Some(
                    number
                        .and_then(|n| u16::try_from(n).ok())
                        .unwrap_or(FIRST_FORMAT),
                );
                if let Err(e) = client.batch_execute(TRY).await {
                    refuses = Some(engine_error(e).to_string());
                }
            } else {
                refuses =
                    Some("the role lacks rights on the tables of schema certctl_store".to_owned());
            }
        } else if !client.query_one(MAY_MAKE, &[]).await?.try_get(0)? {
            refuses = Some(
                "it holds no store yet, and the role may not make a schema: GRANT CREATE ON \
                 DATABASE to it"
                    .to_owned(),
            );
        }
        let micros: i64 = row.try_get(3)?;
        let count = |n: i64| u64::try_from(n).unwrap_or_default();
        Ok(Ping {
            version: row.try_get(0)?,
            connected,
            took,
            encrypted,
            role: row.try_get(1)?,
            database: row.try_get(2)?,
            format,
            refuses,
            clock: Time::from_micros(micros),
            sessions: count(row.try_get(4)?),
            most_sessions: count(row.try_get(5)?),
            others: 0,
        })
    };
    let mut ping = said.await.map_err(engine_error)?;
    ping.others = connector.others().await?.len() as u64;
    Ok(ping)
}
