//! What happened, for ever.

use super::access::{Principal, PrincipalKind};
use crate::clock::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An entry of the audit log. Number and hash link are set by the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// When.
    pub at: Time,
    /// Who.
    pub actor: String,
    /// What the actor is.
    pub actor_type: PrincipalKind,
    /// What was done, e.g. `certificate_created`.
    pub action: String,
    /// The kind of thing it was done to.
    pub resource_type: String,
    /// The thing.
    pub resource_id: String,
    /// Which part of the product it concerns.
    pub category: Category,
    /// More, by name. Never a secret.
    pub details: BTreeMap<String, String>,
}

/// Which part of the product an event concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Certificates, orders, deployments.
    CertLifecycle,
    /// Keys, sessions, agents' identities.
    Auth,
    /// Issuers, targets, profiles, policies.
    Config,
}

impl Category {
    /// Every category.
    pub const ALL: [Self; 3] = [Self::CertLifecycle, Self::Auth, Self::Config];

    /// The category of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|category| category.as_str() == word)
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CertLifecycle => "cert_lifecycle",
            Self::Auth => "auth",
            Self::Config => "config",
        }
    }
}

impl AuditEvent {
    /// An event without details.
    pub fn new(
        actor: &Principal,
        category: Category,
        action: &str,
        resource: (&str, &str),
        at: Time,
    ) -> Self {
        Self {
            at,
            actor: actor.name.clone(),
            actor_type: actor.kind,
            action: action.into(),
            resource_type: resource.0.into(),
            resource_id: resource.1.into(),
            category,
            details: BTreeMap::new(),
        }
    }

    /// With one more detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.details.insert(name.into(), value.to_string());
        self
    }
}
