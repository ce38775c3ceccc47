//! A few sessions for reading.

use super::session::{Connector, Session};
use crate::store::engine::EngineError;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// Sessions that wait to be used, and how many there may be.
pub struct Pool {
    connector: Arc<Connector>,
    permits: Semaphore,
    idle: Mutex<Vec<Session>>,
    /// Sessions in use or about to be.
    lent: AtomicUsize,
    /// One of them came back, or has ended.
    returned: Notify,
}

/// A session in use by one reader; it goes back when dropped.
pub struct Lease<'a> {
    session: Option<Session>,
    /// It has been in use before, so the database may have ended it meanwhile.
    pub used: bool,
    lent: Lent<'a>,
    _permit: SemaphorePermit<'a>,
}

/// A place among the sessions in use or about to be. Whoever waits for one to come back is told when
/// there is none left that could.
struct Lent<'a>(&'a Pool);

impl<'a> Lent<'a> {
    fn of(pool: &'a Pool) -> Self {
        pool.lent.fetch_add(1, Ordering::SeqCst);
        Self(pool)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if self.0.lent.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.returned.notify_waiters();
        }
    }
}

impl Pool {
    pub fn new(connector: Arc<Connector>, size: usize) -> Self {
        Self {
            connector,
            permits: Semaphore::new(size.max(1)),
            idle: Mutex::default(),
            lent: AtomicUsize::new(0),
            returned: Notify::new(),
        }
    }

    /// Waits for a session that is free.
    pub async fn lease(&self) -> Result<Lease<'_>, EngineError> {
        let permit = self.permits.acquire().await;
        let permit = permit.map_err(|_| EngineError::Away("the pool is closed".to_owned()))?;
        let returned = self.returned.notified();
        tokio::pin!(returned);
        loop {
            returned.as_mut().enable();
            let lent = Lent::of(self);
            let e = match self.take() {
                Some(idle) => {
                    return Ok(Lease {
                        session: Some(idle),
                        used: true,
                        lent,
                        _permit: permit,
                    });
                }
                None => match self.connector.session().await {
                    Ok(session) => {
                        return Ok(Lease {
                            session: Some(session),
                            used: false,
                            lent,
                            _permit: permit,
                        });
                    }
                    Err(e) => e,
                },
            };
            drop(lent);
            // The database may have no room for one more: those that there are will do.
            if self.lent.load(Ordering::SeqCst) == 0 {
                return Err(e);
            }
            returned.as_mut().await;
            returned.set(self.returned.notified());
        }
    }

    /// One that waits and is not known to be gone.
    pub fn take(&self) -> Option<Session> {
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
            self.lent.0.idle().push(session);
        }
        self.lent.0.returned.notify_waiters();
    }
}
