//! Who acts.

use crate::{clock::Time, id::Id};
use serde::{Deserialize, Serialize};

/// Who acts, as the audit log names it. What a principal may do is in
/// [`access`](crate::access).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// What it is.
    pub kind: PrincipalKind,
    /// Its name: a key's name, `local:1000`, `agent:web-1`, `join_token:tok-1`, `system:renewals`.
    pub name: String,
    /// The role that says what it may do; an agent and the system have none.
    pub role: Option<String>,
    /// The agent's id, when it is one.
    pub agent: Option<Id>,
}

/// What acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PrincipalKind {
    /// An API key.
    APIKey,
    /// A person, through a browser session or the local socket.
    User,
    /// An agent.
    Agent,
    /// The server itself.
    System,
}

impl PrincipalKind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::APIKey => "APIKey",
            Self::User => "User",
            Self::Agent => "Agent",
            Self::System => "System",
        }
    }
}

impl Principal {
    /// The server itself.
    pub fn system(part: &str) -> Self {
        Self {
            kind: PrincipalKind::System,
            name: format!("system:{part}"),
            role: None,
            agent: None,
        }
    }
}

/// A key for programs and people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// SHA-256 of the key, lower hex.
    pub secret_sha256: String,
    /// The id of its role, e.g. `r-admin`.
    pub role: String,
    /// From then on it is refused.
    pub expires_at: Option<Time>,
    /// When it was made.
    pub created_at: Time,
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
    /// From then on it is refused.
    pub expires_at: Time,
    /// When it was opened.
    pub created_at: Time,
}
