//! A credential that stays young: every month another secret takes the place of the present one.
//!
//! The next secret is on disk before the server hears of its hash, and the present one stays
//! beside it until the next one was accepted. Whatever is cut in between leaves two secrets of
//! which the server takes one: [`Rotation::settle`] finds out which.

use super::{
    Env, Identity, IdentityError, Paths,
    backoff::{Backoff, fraction},
    enrol::{new_secret, read, write},
    server::{Refusal, Server},
};
use crate::{crypt::secret, sys::Files};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::sleep};
use zeroize::Zeroizing;

/// A secret is in use for this long, less up to a fifth: agents that joined together do not come
/// together.
const PERIOD: Duration = Duration::from_secs(30 * 86_400);
/// The age is looked at this often: a clock may be set, a machine may sleep.
const LOOK: Duration = Duration::from_secs(3_600);
/// A server that does not know the call is asked again after this time.
const ANOTHER_DAY: Duration = Duration::from_secs(86_400);
/// A secret that is younger than nothing by this much was made under a wrong clock.
const FROM_THE_FUTURE: Duration = Duration::from_secs(86_400);

/// Keeps an agent's secret young.
pub struct Rotation {
    env: Env,
    paths: Paths,
    server: Arc<Server>,
    identity: Mutex<Identity>,
    period: Duration,
}

/// `identity/next.json`
#[derive(Deserialize)]
struct Next {
    secret: SecretString,
}

/// Which of two secrets the server takes.
enum Taken {
    /// The next one; it is the only one now.
    Next,
    /// Not the next one.
    Present,
}

/// Why nothing came of it.
enum Fault {
    /// The agent is retired, the server says why.
    Retired(String),
    /// The identity cannot be kept.
    Identity(IdentityError),
    /// The server.
    Refused(Refusal),
}

impl From<IdentityError> for Fault {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Retired(why) => Self::Retired(why),
            other => Self::Refused(other),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Retired(why) => f.write_str(why),
            Self::Identity(error) => error.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl Rotation {
    /// For the agent of an identity.
    pub fn new(env: &Env, paths: &Paths, server: Arc<Server>, identity: Identity) -> Self {
        Self {
            period: PERIOD - (PERIOD / 5).mul_f64(fraction(&*env.rng)),
            env: env.clone(),
            paths: paths.clone(),
            server,
            identity: Mutex::new(identity),
        }
    }

    /// Where a crash or a lost answer left two secrets, finds out which one the server takes.
    /// Nothing else is to call the server meanwhile: a call by a secret that is over looks like a
    /// thief's.
    ///
    /// # Errors
    /// When the agent is retired, with what the server says.
    pub async fn settle(&self) -> Result<(), String> {
        let mut backoff = Backoff::default();
        loop {
            let fault = match self.settle_once().await {
                Ok(()) => return Ok(()),
                Err(Fault::Retired(why)) => return Err(why),
                Err(Fault::Identity(error)) => {
                    // The present secret may well be good.
                    tracing::error!(%error, "the next credential cannot be read");
                    return Ok(());
                }
                Err(Fault::Refused(refusal)) => refusal,
            };
            let pause = backoff.next(&*self.env.rng, fault.retry_after());
            tracing::warn!(error = %fault, ?pause, "which credential counts is not known yet");
            sleep(pause).await;
        }
    }

    async fn settle_once(&self) -> Result<(), Fault> {
        let Some(next) = self.next()? else {
            return Ok(());
        };
        let present = self.identity.lock().await.secret().expose_secret() == next.expose_secret();
        if present {
            self.forget_next()?;
        } else if let Taken::Next = self.try_next(&next).await? {
            tracing::info!("a new credential is in use, agreed before this start");
        }
        Ok(())
    }

    /// Takes a new secret whenever the present one is old, until the agent is retired; returns
    /// what the server says of that.
    pub async fn keep_young(&self) -> String {
        let mut backoff = Backoff::default();
        loop {
            if !self.is_due().await {
                sleep(LOOK).await;
                continue;
            }
            let pause = match self.rotate().await {
                Ok(Taken::Next) => {
                    tracing::info!("a new credential is in use");
                    backoff = Backoff::default();
                    continue;
                }
                Ok(Taken::Present) => {
                    let pause = backoff.next(&*self.env.rng, None);
                    tracing::warn!(?pause, "the server does not know the new credential");
                    pause
                }
                Err(Fault::Retired(why)) => return why,
                Err(Fault::Refused(Refusal::Rejected { status, problem })) => {
                    tracing::warn!(%status, problem, "the server takes no new credential");
                    ANOTHER_DAY
                }
                Err(fault) => {
                    let wish = match &fault {
                        Fault::Refused(refusal) => refusal.retry_after(),
                        _ => None,
                    };
                    let pause = backoff.next(&*self.env.rng, wish);
                    tracing::warn!(error = %fault, ?pause, "no new credential yet");
                    pause
                }
            };
            sleep(pause).await;
        }
    }

    async fn is_due(&self) -> bool {
        let identity = self.identity.lock().await;
        let (now, since) = (self.env.clock.now(), identity.secret_since());
        now.since(since) >= self.period || since.since(now) > FROM_THE_FUTURE
    }

    async fn rotate(&self) -> Result<Taken, Fault> {
        let next = match self.next()? {
            Some(next) => next,
            None => self.make_next()?,
        };
        let hash = secret::hash(next.expose_secret());
        match self.server.offer_secret(&hash).await {
            // The present one is over already when the answer to the first use was lost.
            Ok(()) | Err(Refusal::Credential(_)) => {}
            Err(refusal) => return Err(refusal.into()),
        }
        self.try_next(&next).await
    }

    /// Uses the next secret. From then on all calls do; when the server does not take it, the
    /// present one again.
    async fn try_next(&self, next: &SecretString) -> Result<Taken, Fault> {
        let mut identity = self.identity.lock().await;
        let younger = identity.with_secret(next.clone(), self.env.clock.now());
        self.server.act_as(&younger);
        match self.server.ping().await {
            Ok(_) => {}
            Err(Refusal::Credential(_)) => {
                self.server.act_as(&identity);
                return Ok(Taken::Present);
            }
            Err(refusal) => return Err(refusal.into()),
        }
        *identity = younger;
        identity.save(self.files(), &self.paths)?;
        self.forget_next()?;
        Ok(Taken::Next)
    }

    fn next(&self) -> Result<Option<SecretString>, IdentityError> {
        next(self.files(), &self.paths)
    }

    fn make_next(&self) -> Result<SecretString, IdentityError> {
        #[derive(Serialize)]
        struct Written<'a> {
            secret: &'a str,
        }
        let secret = Zeroizing::new(new_secret(&*self.env.rng));
        let written = Written { secret: &secret };
        write(self.files(), self.path(), &written)?;
        Ok(secret.as_str().into())
    }

    fn forget_next(&self) -> Result<(), IdentityError> {
        Ok(self.files().remove(&self.path())?)
    }

    fn path(&self) -> PathBuf {
        next_path(&self.paths)
    }

    fn files(&self) -> &dyn Files {
        &*self.env.files
    }
}

/// The secret that the server was perhaps told to take next.
pub fn next(files: &dyn Files, paths: &Paths) -> Result<Option<SecretString>, IdentityError> {
    let next = read::<Next>(files, next_path(paths))?;
    Ok(next.map(|next| next.secret))
}

fn next_path(paths: &Paths) -> PathBuf {
    paths.state.join("identity/next.json")
}
