//! A few sessions for reading.

use super::session::{Connector, Session};
use crate::store::engine::EngineError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Sessions that wait to be used, and how many there may be.
pub struct Pool {
    connector: Arc<Connector>,
    permits: Semaphore,
    idle: Mutex<Vec<Session>>,
}

/// A session in use by one reader; it goes back when dropped.
pub struct Lease<'a> {
    session: Option<Session>,
    /// It has been in use before, so the database may have ended it meanwhile.
    pub used: bool,
    pool: &'a Pool,
    _permit: SemaphorePermit<'a>,
}

impl Pool {
    pub fn new(connector: Arc<Connector>, size: usize) -> Self {
        Self {
            connector,
            permits: Semaphore::new(size.max(1)),
            idle: Mutex::default(),
        }
    }

    /// Waits for a session that is free.
    pub async fn lease(&self) -> Result<Lease<'_>, EngineError> {
        let permit = self.permits.acquire().await;
        let permit = permit.map_err(|_| EngineError::Away("the pool is closed".to_owned()))?;
        let idle = self.take();
        let used = idle.is_some();
        let session = match idle {
            Some(session) => session,
            None => self.connector.session().await?,
        };
        Ok(Lease {
            session: Some(session),
            used,
            pool: self,
            _permit: permit,
        })
    }

    /// One that waits and is not known to be gone.
    fn take(&self) -> Option<Session> {
        let mut idle = self.idle();
        idle.retain(|session| !session.is_gone());
        idle.pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    pub fn session(&self) -> Result<&Session, EngineError> {
        let gone = || EngineError::Away("the session was given up".to_owned());
        self.session.as_ref().ok_or_else(gone)
    }

    /// Ends the session.
    pub fn give_up(mut self) {
        self.session.take();
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && !session.is_gone()
        {
            self.pool.idle().push(session);
        }
    }
}
