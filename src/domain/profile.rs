//! What may be issued, and when it is renewed.

use crate::{
    clock::Time,
    id::Id,
    pki::{Eku, KeyAlgorithm},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What may be issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its id.
    pub id: Id,
    /// Its name, unique.
    pub name: String,
    /// The kinds of key accepted; the first is what agents make.
    pub key_algorithms: Vec<KeyAlgorithm>,
    /// The lifetime asked for, in seconds.
    pub lifetime_seconds: u64,
    /// What the certificate may be used for.
    pub ekus: Vec<Eku>,
    /// When it was made.
    pub created_at: Time,
    /// When it was last edited.
    pub updated_at: Time,
}

impl Profile {
    /// The lifetime asked for.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime_seconds)
    }
}

/// When to renew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalPolicy {
    /// Its id.
    pub id: Id,
    /// Its name, unique.
    pub name: String,
    /// Renew when this many thousandths of the lifetime are left.
    pub renew_left_permille: u32,
    /// Renew when this many days are left, though never before half the lifetime is over;
    /// 0 leaves the fraction alone to decide.
    pub renewal_window_days: u32,
    /// When it was made.
    pub created_at: Time,
    /// When it was last edited.
    pub updated_at: Time,
}
