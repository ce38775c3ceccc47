//! Keys of people and programs, the roles that they are granted, and browser sessions.

use super::access::{Holdings, Scope};
use crate::{
    access::{Permission, Role},
    clock::Time,
    id::Id,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A session ends when it is not used for this long.
pub const SESSION_IDLE: Duration = Duration::from_secs(3600);
/// A session ends at this age.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(8 * 3600);

/// A key for programs and people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct ApiKey {
    /// Its id.
    pub id: Id,
    /// Its name, unique among keys.
    pub name: String,
    /// SHA-256 of the key, lower hex.
    pub secret_sha256: String,
    /// Since when that is its secret.
    pub secret_since: Time,
    /// The secret before the present one, while it is still good.
    pub former: Option<Former>,
    /// The roles it is granted.
    pub grants: Vec<Grant>,
    /// From then on it is refused.
    pub expires_at: Option<Time>,
    /// When it was made.
    pub created_at: Time,
}

/// A secret whose place was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// SHA-256 of it, lower hex.
    pub secret_sha256: String,
    /// From then on it is refused.
    pub until: Time,
}

/// The secret that somebody shows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretShown {
    /// Its secret.
    Present,
    /// The one before, until then.
    Former(Time),
}

/// A role granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The role's id.
    pub role: String,
    /// Where it counts.
    pub scope: Scope,
    /// From then on it does not.
    pub expires_at: Option<Time>,
}

/// A key as it is stored. The first form had one role in the place of grants.
#[derive(Deserialize)]
struct Stored {
    id: Id,
    name: String,
    secret_sha256: String,
    secret_since: Option<Time>,
    former: Option<Former>,
    /// Read only where there are no grants: a row keeps the field for ever.
    role: Option<String>,
    grants: Option<Vec<Grant>>,
    expires_at: Option<Time>,
    created_at: Time,
}

impl From<Stored> for ApiKey {
    fn from(stored: Stored) -> Self {
        let only = || stored.role.iter().map(Grant::of).collect();
        Self {
            grants: stored.grants.unwrap_or_else(only),
            id: stored.id,
            name: stored.name,
            secret_sha256: stored.secret_sha256,
            secret_since: stored.secret_since.unwrap_or(stored.created_at),
            former: stored.former,
            expires_at: stored.expires_at,
            created_at: stored.created_at,
        }
    }
}

impl Grant {
    /// A role, everywhere and for ever.
    pub fn of(role: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            scope: Scope::Global,
            expires_at: None,
        }
    }

    /// Whether it is in force.
    pub fn holds(&self, now: Time) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

impl ApiKey {
    /// Whether it has ended.
    pub fn ended(&self, now: Time) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Which of its secrets is the one with this hash, which led here; `None` when that is not good.
    pub fn takes(&self, is: impl Fn(&str) -> bool, now: Time) -> Option<SecretShown> {
        let former = self.former.as_ref().filter(|former| now < former.until);
        if is(&self.secret_sha256) {
            return Some(SecretShown::Present);
        }
        let former = former.filter(|former| is(&former.secret_sha256));
        former.map(|former| SecretShown::Former(former.until))
    }

    /// Whether it administrates for ever: as long as there is one such key nobody is locked out.
    pub fn is_permanent_admin(&self) -> bool {
        let admin = Grant::of(Role::Admin.id());
        self.expires_at.is_none() && self.grants.contains(&admin)
    }
}

/// A role that was made here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomRole {
    /// Its id, `r-…`.
    pub id: Id,
    /// Its name, unique among roles.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it holds; each once.
    pub permissions: Vec<RolePermission>,
    /// When it was made.
    pub created_at: Time,
    /// When it was last edited.
    pub updated_at: Time,
}

/// A permission of a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RolePermission {
    /// The permission.
    pub permission: Permission,
    /// Where it counts.
    pub scope: Scope,
}

impl CustomRole {
    /// What it holds, by where it counts.
    pub fn holdings(&self) -> Holdings {
        let mut holdings = Holdings::new();
        for RolePermission { permission, scope } in &self.permissions {
            let held = holdings.entry(scope.clone()).or_default();
            *held = *held | [*permission].into_iter().collect();
        }
        holdings
    }
}

/// When a key was last used. Apart from the key, so that its use conflicts with nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// The key's id.
    pub id: Id,
    /// When.
    pub last_used_at: Time,
}

/// A browser session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: Id,
    /// SHA-256 of the cookie's value, lower hex.
    pub secret_sha256: String,
    /// The key it was opened with; it ends with it.
    pub key: Id,
    /// SHA-256 of the secret that the key had; it ends with it too.
    #[serde(default)]
    pub key_sha256: Option<String>,
    /// The key's name.
    #[serde(default)]
    pub actor: String,
    /// From where it was opened; may be empty.
    #[serde(default)]
    pub address: String,
    /// What the browser calls itself; may be empty.
    #[serde(default)]
    pub user_agent: String,
    /// When it was last used, to the minute.
    #[serde(default)]
    pub last_seen_at: Option<Time>,
    /// From then on it is refused, however much it is used.
    pub expires_at: Time,
    /// When it was opened.
    pub created_at: Time,
}

/// Why a session is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// It was not used for [`SESSION_IDLE`].
    Idle,
    /// It reached its end.
    Absolute,
    /// There is none, or none any more.
    Unknown,
}

impl Session {
    /// When it was last used, given when this process saw it last.
    pub fn last_seen(&self, seen: Option<Time>) -> Time {
        let stored = self.last_seen_at.unwrap_or(self.created_at);
        seen.map_or(stored, |seen| seen.max(stored))
    }

    /// Refuses it when it has ended.
    ///
    /// # Errors
    /// By what it has.
    pub fn alive(&self, seen: Option<Time>, now: Time) -> Result<(), SessionEnd> {
        if self.expires_at <= now {
            Err(SessionEnd::Absolute)
        } else if self.last_seen(seen).plus(SESSION_IDLE) <= now {
            Err(SessionEnd::Idle)
        } else {
            Ok(())
        }
    }
}
