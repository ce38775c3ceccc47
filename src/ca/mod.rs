//! Connections to certification authorities.

pub mod local;

use crate::{
    clock::Time,
    pki::{Certificate, Chain, Eku, PublicKey, San},
};
use async_trait::async_trait;
use std::time::Duration;

pub use local::LocalCa;

/// What an issuer is asked: content that was approved, and the CSR that proves possession of the
/// key.
#[derive(Debug, Clone)]
pub struct IssueRequest {
    /// Random bits for the serial number, where the issuer lets us choose it.
    pub serial_seed: [u8; 16],
    /// The CSR as it came, DER.
    pub csr_der: Vec<u8>,
    /// The key.
    pub public_key: PublicKey,
    /// The subject's common name.
    pub common_name: Option<String>,
    /// The names.
    pub sans: Vec<San>,
    /// What the certificate may be used for.
    pub ekus: Vec<Eku>,
    /// The moment of the request.
    pub now: Time,
    /// How long it is to last, from `now` on.
    pub lifetime: Duration,
}

/// What an issuer answers.
#[derive(Debug, Clone)]
pub enum Issued {
    /// The certificate, with its issuers but without the root.
    Now(Chain),
}

/// Why nothing was issued.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct IssueError {
    /// What may help.
    pub class: IssueErrorClass,
    /// What happened, for a person.
    pub message: String,
}

/// What may help after an issuer's refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssueErrorClass {
    /// Trying again.
    Transient {
        /// Not before this has passed, if the issuer said so.
        retry_after: Option<Duration>,
    },
    /// Nothing in this form.
    Permanent,
    /// A change made by an operator.
    NeedsOperator,
}

/// A certification authority that issues for us.
#[async_trait]
pub trait Issuer: Send + Sync {
    /// Issues what was approved.
    async fn issue(&self, request: &IssueRequest) -> Result<Issued, IssueError>;

    /// The CA that every chain ends in or below, where it is known beforehand.
    fn anchor(&self) -> Option<&Certificate> {
        None
    }
}
