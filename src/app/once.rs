//! Making things once: a request that is repeated under its `Idempotency-Key` is answered with what
//! it made the first time.

use super::{App, AppError, DECISIONS};
use crate::{
    domain::{
        Principal,
        once::{Once, Outcome},
    },
    store::{Document, Loaded, Unit},
};

/// What a request made.
#[derive(Debug, Clone)]
pub(crate) enum Made<T> {
    /// It was made now.
    New(T),
    /// It was made before, and stands so now.
    Again(T),
}

impl<T> Made<T> {
    /// What was made.
    pub(crate) fn into_value(self) -> T {
        match self {
            Self::New(value) | Self::Again(value) => value,
        }
    }
}

impl<T: Document> Made<T> {
    /// What was made with a secret: it was shown then, and is known to nobody else.
    pub(crate) fn with_secret(self) -> Result<T, AppError> {
        match self {
            Self::New(value) => Ok(value),
            Self::Again(value) => {
                let what = format!("it made {}, whose secret is not shown again", value.id());
                Err(reused(&what))
            }
        }
    }
}

impl App {
    /// As [`App::decide`], for what a caller makes. Under a name of the caller's it is made once:
    /// the name is written in the commit that makes it. `decide` inserts what it hands back.
    pub(crate) async fn create<'a, T, F>(
        &'a self,
        who: &Principal,
        once: Option<&Once>,
        mut decide: impl FnMut(Unit<'a>) -> F,
    ) -> Result<Made<T>, AppError>
    where
        T: Document,
        F: Future<Output = Result<(Unit<'a>, T), AppError>>,
    {
        let Some(once) = once else {
            self.has_room()?;
            return self.decide(decide).await.map(Made::New);
        };
        for _ in 0..DECISIONS {
            if let Some(made) = self.made_before(who, once).await? {
                return Ok(Made::Again(made));
            }
            self.has_room()?;
            let attempt = async {
                let (mut unit, made) = decide(self.unit()).await?;
                let outcome = Outcome::new(who, once, made.id(), self.now());
                match unit.load_opt::<Outcome>(&outcome.id).await? {
                    // It is past its time, and not forgotten yet.
                    Some(old) => unit.put(old.map(|_| outcome)),
                    None => unit.insert(outcome),
                }
                match unit.commit().await {
                    Ok(_) => Ok(Some(made)),
                    Err(e) if e.is_conflict() => Ok(None),
                    Err(e) => Err(self.refused(e)),
                }
            };
            match attempt.await {
                Ok(Some(made)) => return Ok(Made::New(made)),
                // What is remembered of the rules may be what is out of date.
                Ok(None) => self.rules.forget(),
                // What stands in the way may be what the same request has just made.
                Err(e) => {
                    let made = self.made_before(who, once).await?;
                    return made.map(Made::Again).ok_or(e);
                }
            }
        }
        Err(AppError::Busy)
    }

    /// What the request has made already.
    pub(super) async fn made_before<T: Document>(
        &self,
        who: &Principal,
        once: &Once,
    ) -> Result<Option<T>, AppError> {
        let outcome = self.store.get::<Outcome>(&once.key.id_of(who)).await?;
        let Some(outcome) = outcome.filter(|outcome| outcome.until > self.now()) else {
            return Ok(None);
        };
        if outcome.request_sha256 != once.request_sha256 {
            return Err(reused("it was used with another request"));
        }
        let made = self.store.get::<T>(&outcome.made).await?;
        let gone = || reused(&format!("{} was made under it, and is gone", outcome.made));
        made.map(Loaded::into_value).ok_or_else(gone).map(Some)
    }
}

/// The key cannot stand for this request.
fn reused(what: &str) -> AppError {
    AppError::Conflict(format!("Idempotency-Key: {what}: take another key"))
}
