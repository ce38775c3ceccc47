//! Reading by a session that is free.

use super::{
    pool::Pool,
    read::{self, Wanted},
    session::{Connector, Session, silent},
};
use crate::store::engine::{Answer, EngineError, Query, Row};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// What is asked of a session.
#[async_trait]
pub trait Ask: Sync {
    /// What it says.
    type Answer;

    /// Asks it.
    async fn of(&self, session: &Session) -> Result<Self::Answer, EngineError>;
}

#[async_trait]
impl Ask for [Query] {
    type Answer = Vec<Answer>;

    async fn of(&self, session: &Session) -> Result<Self::Answer, EngineError> {
        read::answers(session, self).await
    }
}

#[async_trait]
impl Ask for [Wanted<'_>] {
    type Answer = Vec<Vec<Option<Row>>>;

    async fn of(&self, session: &Session) -> Result<Self::Answer, EngineError> {
        read::rows(session, self).await
    }
}

/// Reads by one of a few sessions, as long as an answer may take.
pub struct Reader {
    connector: Arc<Connector>,
    pool: Pool,
}

impl Reader {
    /// By so many sessions at most.
    pub fn new(connector: Arc<Connector>, size: usize) -> Self {
        let pool = Pool::new(connector.clone(), size);
        Self { connector, pool }
    }

    /// How long an answer may take.
    pub fn patience(&self) -> Duration {
        self.connector.patience()
    }

    /// A session that nobody uses, to keep.
    pub fn idle(&self) -> Option<Session> {
        self.pool.take()
    }

    /// Asks once a session is free; asks another one where it had ended while nobody used it.
    pub async fn read<A: Ask + ?Sized>(&self, asked: &A) -> Result<A::Answer, EngineError> {
        let patience = self.patience();
        let until = Instant::now() + patience;
        let late = |_| silent(patience);
        loop {
            let lease = timeout_at(until, self.pool.lease()).await.map_err(late)??;
            let session = lease.session()?;
            match timeout_at(until, asked.of(session)).await {
                // What it still says is for nobody.
                Err(e) => {
                    lease.give_up();
                    return Err(late(e));
                }
                Ok(answered) => {
                    let is_gone = session.is_gone();
                    match answered {
                        // It ended while nobody used it: a new one may do.
                        Err(EngineError::Away(_)) if lease.used && is_gone => lease.give_up(),
                        Err(e @ EngineError::Away(_)) => {
                            lease.give_up();
                            return Err(e);
                        }
                        answered => return answered,
                    }
                }
            }
        }
    }
}
