//! Issuers and the CA nodes behind our own.

use crate::{clock::Time, id::Id};
use serde::{Deserialize, Serialize};

/// A configured connection to a certification authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// Its id.
    pub id: Id,
    /// Its name, unique.
    pub name: String,
    /// How it is reached.
    pub kind: IssuerKind,
    /// Whether it may be asked.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Time,
    /// When it was last edited.
    pub updated_at: Time,
}

/// How an issuer is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum IssuerKind {
    /// A CA in this process.
    GenericCA {
        /// The CA node that signs.
        issuing_node: Id,
    },
}

impl IssuerKind {
    /// The type on the wire.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::GenericCA { .. } => "GenericCA",
        }
    }
}

/// The last test of an issuer. A row apart: who issues rests on the issuer's own row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerTest {
    /// The issuer's id.
    pub id: Id,
    /// When it was tested.
    pub at: Time,
    /// Why it cannot issue; none when it can.
    pub fault: Option<String>,
}

/// A certification authority whose key we hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaNode {
    /// Its id.
    pub id: Id,
    /// The node above it; a root has none.
    pub parent: Option<Id>,
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// The CAs above it that are no nodes of ours, PEM, nearest first; empty where there are none.
    #[serde(default)]
    pub above_pem: String,
    /// Its private key, PKCS#8, sealed for (`ca_node`, id, `key`), in the sealed value's text form.
    pub sealed_key: String,
    /// When it was made.
    pub created_at: Time,
}
