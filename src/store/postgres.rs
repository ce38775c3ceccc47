//! The engine of servers that share a PostgreSQL database (15 or later).

mod commit;
mod gather;
mod ping;
mod places;
mod pool;
mod read;
mod reader;
mod replace;
mod schema;
mod secured;
mod session;
mod sql;
mod upkeep;
mod views;
mod watch;

pub use ping::Ping;
pub use replace::Replacement;
pub use session::{Login, LoginBinding, Passwords};
pub use upkeep::TableSize;

use super::{
    batch::{Batch, Outcome},
    commit::{LOADING, epoch_start},
    engine::{Answer, Engine, EngineError, Hold, Load, Query, Snapshot},
};
use crate::sys::Tasks;
use async_trait::async_trait;
use commit::{Failure, Pending};
use gather::Gather;
use reader::Reader;
use schema::Schema;
use session::{Connector, Session, engine_error};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    sync::{Mutex, watch::Receiver},
    time::{Instant, sleep, timeout_at},
};

/// Waits for whoever changes the store as a whole. Many rows may be on their way.
const HOLD: &str = "SET statement_timeout = '10min'; SET idle_session_timeout = 0; \
                    SELECT pg_advisory_lock(8443, 1)";
/// Between attempts at that.
const AGAIN: Duration = Duration::from_millis(200);

/// A store in a database. Any number of processes may have it open.
pub struct Postgres {
    connector: Arc<Connector>,
    reader: Arc<Reader>,
    /// Readers of a few rows.
    gather: Gather,
    /// The session that commits.
    writer: Mutex<Option<Session>>,
    /// The epoch of the first commit: a store of another one is another store.
    life: OnceLock<u64>,
    heard: Receiver<u64>,
    /// Its own: sessions end with the store, which outlives all else that runs.
    tasks: Tasks,
}

impl Postgres {
    /// Opens the store in a database, or makes it. A database that does not answer is given
    /// `patience` to come up.
    ///
    /// # Errors
    /// When it does not, refuses the login, or cannot be used.
    pub async fn open(login: Login, patience: Duration) -> Result<Self, EngineError> {
        Self::opened(login, patience, true).await
    }

    /// As [`open`](Self::open), and makes nothing.
    ///
    /// # Errors
    /// As there; [`EngineError::NoStore`] where there is none.
    pub async fn find(login: Login, patience: Duration) -> Result<Self, EngineError> {
        Self::opened(login, patience, false).await
    }

    async fn opened(login: Login, patience: Duration, new: bool) -> Result<Self, EngineError> {
        let tasks = Tasks::new();
        let connector = Arc::new(Connector::new(login, tasks.clone()));
        let until = Instant::now() + patience;
        let mut told = false;
        loop {
            let there = async {
                match new {
                    true => make(&connector).await,
                    false => find(&connector).await,
                }
            };
            match connector.answer(there).await {
                Ok(()) => break,
                Err(EngineError::Away(why)) if Instant::now() < until => {
                    if !told {
                        tracing::warn!(%why, "waiting for the database");
                        told = true;
                    }
                    sleep(AGAIN).await;
                }
                Err(e) => return Err(e),
            }
        }
        if new {
            connector.answer(make_views(&connector)).await?;
        }
        let size = connector.connections();
        let (heard, hears) = tokio::sync::watch::channel(0);
        tasks.spawn("database watch", watch::watch(connector.clone(), heard));
        let mut store = Self::of(connector, size, tasks);
        store.heard = hears;
        Ok(store)
    }

    /// The store whose tables are there, which hears nothing of others.
    fn of(connector: Arc<Connector>, size: usize, tasks: Tasks) -> Self {
        let reader = Arc::new(Reader::new(connector.clone(), size));
        Self {
            gather: Gather::new(reader.clone(), tasks.clone()),
            reader,
            connector,
            writer: Mutex::default(),
            life: OnceLock::new(),
            heard: tokio::sync::watch::channel(0).1,
            tasks,
        }
    }

    /// The collections that have a view in schema `certctl`, each with the view's name.
    pub fn views() -> impl Iterator<Item = (&'static str, &'static str)> {
        views::names()
    }

    /// Asks a new session, until the database answers, whether a commit took place.
    async fn resolve(&self, pending: Pending) -> Result<Vec<Outcome>, EngineError> {
        tracing::warn!(
            seq = pending.seq,
            "the answer to a commit was lost: looking it up"
        );
        let until = Instant::now() + self.connector.timeout();
        loop {
            let found = async {
                let session = Box::pin(self.connector.session_now()).await?;
                let asked = commit::took_place(&session, &pending);
                self.connector.answer(asked).await
            };
            match found.await {
                Ok(true) => return Ok(pending.outcomes),
                Ok(false) => {
                    return Err(EngineError::Away(
                        "the connection broke before the change took place".to_owned(),
                    ));
                }
                Err(e) if e.is_away() && Instant::now() < until => sleep(AGAIN).await,
                Err(error) => {
                    tracing::error!(%error, seq = pending.seq, "what became of a commit is unknown");
                    return Err(EngineError::Unresolved);
                }
            }
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

/// Refuses a database that holds no store.
async fn find(connector: &Connector) -> Result<(), EngineError> {
    let client = connector.client().await?;
    let found = client.query_one(schema::FOUND, &[]).await;
    match found.and_then(|row| row.try_get(0)).map_err(engine_error)? {
        true => make(connector).await,
        false => Err(EngineError::NoStore("the database".to_owned())),
    }
}

/// Makes the tables of a new store, as one durable step.
async fn make(connector: &Connector) -> Result<(), EngineError> {
    let client = connector.client().await?;
    let schema = connector.schema();
    let is_there = schema.of(schema::FOUND);
    let made = async {
        let found: bool = client.query_one(&*is_there, &[]).await?.try_get(0)?;
        if found {
            return seq(&client, schema).await;
        }
        client
            .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            .await?;
        client.query_one(schema::LOCK, &[]).await?;
        let found: bool = client.query_one(&*is_there, &[]).await?.try_get(0)?;
        if !found {
            client.batch_execute(&schema.of(schema::CREATE)).await?;
            let seq = read::signed(epoch_start(1));
            let begin = schema.of(schema::BEGIN);
            client.execute(&*begin, &[&schema::FORMAT, &seq]).await?;
        }
        let seq = seq(&client, schema).await?;
        client.batch_execute("COMMIT").await?;
        Ok(seq)
    };
    match made.await.map_err(engine_error)? {
        seq if seq == read::signed(LOADING) => Err(EngineError::HalfLoaded),
        _ => Ok(()),
    }
}

/// Makes the views, where this program knows others than there are. Nothing of ours reads them:
/// where they cannot be made, as over those of a newer program, the store is as good without.
async fn make_views(connector: &Connector) -> Result<(), EngineError> {
    let client = connector.client().await?;
    let sql = views::create();
    let mark = views::mark(&sql);
    let made = async {
        if found(&client, &mark).await? {
            return Ok(());
        }
        client.batch_execute("BEGIN").await?;
        client.query_one(schema::LOCK, &[]).await?;
        if found(&client, &mark).await? {
            return client.batch_execute("ROLLBACK").await;
        }
        client.batch_execute(&sql).await?;
        let comment = format!("COMMENT ON SCHEMA certctl IS '{mark}'; COMMIT");
        client.batch_execute(&comment).await
    };
    if let Err(error) = made.await.map_err(engine_error) {
        tracing::warn!(%error, "the views for reading with SQL were not brought up to date");
    }
    Ok(())
}

/// Whether the views are those of this mark.
async fn found(client: &tokio_postgres::Client, mark: &str) -> Result<bool, tokio_postgres::Error> {
    let row = client.query_opt(views::FOUND, &[]).await?;
    let said: Option<Option<String>> = row.map(|row| row.try_get(0)).transpose()?;
    Ok(said.flatten().as_deref() == Some(mark))
}

async fn seq(
    client: &tokio_postgres::Client,
    schema: Schema,
) -> Result<i64, tokio_postgres::Error> {
    let asked = schema.of("SELECT seq FROM certctl_store.meta");
    client.query_one(&*asked, &[]).await?.try_get(0)
}

#[async_trait]
impl Engine for Postgres {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        match &*questions {
            [Query::Get { coll, ids }] if ids.len() <= gather::FEW => {
                let rows = self.gather.get(*coll, ids.clone()).await?;
                Ok(vec![Answer::Rows(rows)])
            }
            questions => self.reader.read(questions).await,
        }
    }

    async fn commit(&self, group: &[Batch]) -> Result<Vec<Outcome>, EngineError> {
        let mut writer = self.writer.lock().await;
        loop {
            let kept = writer.take().filter(|session| !session.is_gone());
            let used = kept.is_some();
            let session = match kept {
                Some(session) => session,
                None => match self.connector.session().await {
                    Ok(session) => session,
                    // The database may have no room for one more.
                    Err(e) => self.reader.idle().ok_or(e)?,
                },
            };
            // Whoever stops waiting here takes the session along, and an open transaction with it.
            let patience = self.connector.patience();
            match commit::commit(&session, group, &self.life, patience).await {
                Ok(outcomes) => {
                    *writer = Some(session);
                    return Ok(outcomes);
                }
                Err(Failure::Lost(pending)) => {
                    drop(session);
                    return self.resolve(pending).await;
                }
                // Nothing was changed: it ended while nobody used it.
                Err(Failure::Before(EngineError::Away(_))) if used && session.is_gone() => {}
                Err(Failure::Before(e)) => return Err(e),
            }
        }
    }

    async fn snapshot(&self, deadline: Instant) -> Result<Box<dyn Snapshot>, EngineError> {
        let session = self.connector.session().await?;
        // The transaction's moment is that of its first statement. One that nobody reads on is
        // ended by the database.
        let left = deadline
            .saturating_duration_since(Instant::now())
            .as_millis();
        let begin = format!(
            "SET idle_in_transaction_session_timeout = {}; SET statement_timeout = '10min'; \
             BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            left.clamp(1, i32::MAX as u128)
        );
        let begun = async {
            session.client.batch_execute(&begin).await?;
            session.client.query_one(&session.sql.seq, &[]).await
        };
        // A session that ended at once is one whose deadline is over.
        if let Err(e) = begun.await.map_err(engine_error)
            && Instant::now() < deadline
        {
            return Err(e);
        }
        Ok(Box::new(Past {
            session: Mutex::new(Some(session)),
            deadline,
        }))
    }

    async fn load(&self, part: Load) -> Result<(), EngineError> {
        let session = self.connector.session().await?;
        commit::load(&session, &part).await
    }

    async fn hold(&self) -> Result<Option<Hold>, EngineError> {
        let client = self.connector.client().await?;
        // The lock ends with the session.
        client.batch_execute(HOLD).await.map_err(engine_error)?;
        Ok(Some(Box::new(client)))
    }

    async fn others(&self) -> Result<Vec<u16>, EngineError> {
        self.connector.others().await
    }

    fn notices(&self) -> Option<Receiver<u64>> {
        Some(self.heard.clone())
    }
}

/// A transaction that sees what was, until its deadline.
struct Past {
    session: Mutex<Option<Session>>,
    deadline: Instant,
}

#[async_trait]
impl Snapshot for Past {
    async fn read(&self, questions: Vec<Query>) -> Result<Vec<Answer>, EngineError> {
        let mut held = self.session.lock().await;
        if Instant::now() >= self.deadline {
            held.take();
        }
        let session = held.as_ref().ok_or(EngineError::SnapshotEnded)?;
        let mut answers = Vec::with_capacity(questions.len());
        for question in &questions {
            let answer = timeout_at(self.deadline, Box::pin(read::answer(session, question))).await;
            match answer.unwrap_or(Err(EngineError::SnapshotEnded)) {
                Ok(answer) => answers.push(answer),
                Err(_) if Instant::now() >= self.deadline => {
                    return Err(EngineError::SnapshotEnded);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(answers)
    }
}
