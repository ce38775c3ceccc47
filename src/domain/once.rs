//! Requests that are carried out once, however often they are sent.

use super::Principal;
use crate::{clock::Time, id::Id};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::{str::FromStr, time::Duration};

/// The caller's name for one request, `Idempotency-Key`: 1 to 128 visible characters of ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnceKey(String);

/// Why a text names no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("1 to 128 visible characters of ASCII are accepted, e.g. a UUID")]
pub struct InvalidOnceKey;

impl FromStr for OnceKey {
    type Err = InvalidOnceKey;

    fn from_str(text: &str) -> Result<Self, InvalidOnceKey> {
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(text.to_owned())).ok_or(InvalidOnceKey)
    }
}

impl OnceKey {
    /// The id under which stands what came of it: each caller has names of its own. A key and an agent
    /// are known by their id, since another may come to have their name.
    pub fn id_of(&self, who: &Principal) -> Id {
        let id = who.key.as_ref().or(who.agent.as_ref()).map(Id::as_str);
        let mut hash = Context::new(&SHA256);
        for part in [
            who.kind.as_str(),
            id.unwrap_or_default(),
            &who.name,
            &self.0,
        ] {
            hash.update(part.as_bytes());
            hash.update(&[0]);
        }
        let digest = hash.finish();
        Id::derived("once", digest.as_ref().get(..16).unwrap_or_default())
    }
}

/// A request under its caller's name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// The name.
    pub key: OnceKey,
    /// SHA-256 of method, path and body, lower hex.
    pub request_sha256: String,
}

/// What came of a request, for a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// See [`OnceKey::id_of`].
    pub id: Id,
    /// SHA-256 of method, path and body, lower hex.
    pub request_sha256: String,
    /// What was made.
    pub made: Id,
    /// When it is forgotten.
    pub until: Time,
}

impl Outcome {
    /// How long the outcome of a request is known.
    pub const KEPT: Duration = Duration::from_secs(86_400);

    /// What came of `once` at `now`.
    pub fn new(who: &Principal, once: &Once, made: &Id, now: Time) -> Self {
        Self {
            id: once.key.id_of(who),
            request_sha256: once.request_sha256.clone(),
            made: made.clone(),
            until: now.plus(Self::KEPT),
        }
    }
}
