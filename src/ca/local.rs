//! The CA in this process.

use super::{IssueError, IssueErrorClass, IssueRequest, Issued, Issuer};
use crate::{
    clock::Time,
    crypt::{Crypto, InvalidPrivateKey, PrivateKey},
    pki::{
        Certificate, Chain, KeyAlgorithm, Serial, Signer, constraints,
        issue::{self, Authority, Leaf, Lifetime, Pointers},
    },
};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};

/// A leaf begins this long before it is made: clocks differ.
pub const BACKDATED: Duration = Duration::from_secs(300);
/// What our own parts must trust begins this long before it is made: clocks that are set wrong, or
/// set right later, do not part them.
pub const WIDELY_BACKDATED: Duration = Duration::from_secs(86_400);

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const ROOT_YEARS: u32 = 10;
const ISSUING_YEARS: u32 = 5;

/// An issuing CA whose key is here.
pub struct LocalCa {
    certificate: Certificate,
    signer: Arc<dyn Signer>,
    /// The CAs above it, nearest first.
    above: Vec<Certificate>,
    pointers: Option<Pointers>,
}

/// A CA node just made: its certificate and its key.
pub struct NewNode {
    /// The certificate.
    pub certificate: Certificate,
    /// The key.
    pub key: PrivateKey,
}

/// A CA that was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// No key.
    #[error(transparent)]
    Key(#[from] InvalidPrivateKey),
    /// No certificate.
    #[error(transparent)]
    Issue(#[from] issue::IssueError),
}

impl LocalCa {
    /// From its certificate and key.
    pub fn new(certificate: Certificate, signer: Arc<dyn Signer>) -> Self {
        Self {
            certificate,
            signer,
            above: Vec::new(),
            pointers: None,
        }
    }

    /// Below these CAs, nearest first. Leaves come with those of them that are no roots, and have
    /// names that all of them allow.
    #[must_use]
    pub fn below(mut self, above: Vec<Certificate>) -> Self {
        self.above = above;
        self
    }

    /// Its leaves say where its CRL and its certificate are to be had.
    #[must_use]
    pub fn published(mut self, pointers: Option<Pointers>) -> Self {
        self.pointers = pointers;
        self
    }

    /// Itself and the CAs above it.
    fn path(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.certificate).chain(&self.above)
    }

    /// A leaf ends with its CA at the latest. One that would have less than half of what was asked
    /// is refused: ever shorter ones, renewed ever sooner, would hide that the CA is at its end.
    fn outlasts(&self, request: &IssueRequest) -> Result<(), IssueError> {
        let end = self.certificate.not_after();
        if end.since(request.now) >= request.lifetime / 2 {
            return Ok(());
        }
        Err(IssueError {
            class: IssueErrorClass::NeedsOperator,
            message: format!(
                "the local CA ends at {end}, before half of the lifetime of {} days asked for: \
                 replace the CA",
                request.lifetime.as_secs() / 86_400
            ),
        })
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The CA as one that signs.
    pub fn authority(&self) -> Authority<'_> {
        Authority {
            certificate: &self.certificate,
            signer: &*self.signer,
        }
    }
}

#[async_trait]
impl Issuer for LocalCa {
    async fn issue(&self, request: &IssueRequest) -> Result<Issued, IssueError> {
        self.outlasts(request)?;
        constraints::allow(self.path(), &request.sans).map_err(|e| IssueError {
            class: IssueErrorClass::Permanent,
            message: e.to_string(),
        })?;
        let serial = Serial::random(request.serial_seed);
        let leaf = issue::leaf(
            self.authority(),
            &Leaf {
                serial: &serial,
                common_name: request.common_name.as_deref(),
                sans: &request.sans,
                public_key: &request.public_key,
                lifetime: from(request.now, request.lifetime),
                ekus: &request.ekus,
                pointers: self.pointers.as_ref(),
            },
        )
        .await
        .map_err(|e| IssueError {
            class: IssueErrorClass::NeedsOperator,
            message: e.to_string(),
        })?;
        let issuers = self.path().filter(|ca| !ca.is_self_issued());
        Ok(Issued::Now(Chain::new(leaf, issuers.cloned().collect())))
    }

    fn anchor(&self) -> Option<&Certificate> {
        Some(&self.certificate)
    }
}

/// Makes a root (10 years, path length 1) and an issuing CA below it (5 years, path length 0).
pub async fn create_hierarchy(
    crypto: &dyn Crypto,
    serials: [[u8; 16]; 2],
    now: Time,
) -> Result<(NewNode, NewNode), CreateError> {
    let root = self_signed(crypto, "certctl local root CA", serials[0], now, 1).await?;
    let key = crypto.generate_key(KeyAlgorithm::EcdsaP256)?;
    let by = Authority {
        certificate: &root.certificate,
        signer: &root.key,
    };
    let certificate = issue::intermediate(
        by,
        key.public_key(),
        "certctl local issuing CA",
        &Serial::random(serials[1]),
        widely(now, ISSUING_YEARS * YEAR),
        0,
    )
    .await?;
    Ok((root, NewNode { certificate, key }))
}

/// Makes the system CA (10 years, path length 0), which signs the server's own certificate.
pub async fn create_system_ca(
    crypto: &dyn Crypto,
    serial: [u8; 16],
    now: Time,
) -> Result<NewNode, CreateError> {
    self_signed(crypto, "certctl system CA", serial, now, 0).await
}

async fn self_signed(
    crypto: &dyn Crypto,
    name: &str,
    serial: [u8; 16],
    now: Time,
    path_length: u8,
) -> Result<NewNode, CreateError> {
    let key = crypto.generate_key(KeyAlgorithm::EcdsaP256)?;
    let serial = Serial::random(serial);
    let lifetime = widely(now, ROOT_YEARS * YEAR);
    let certificate = issue::root(&key, name, &serial, lifetime, path_length).await?;
    Ok(NewNode { certificate, key })
}

/// From a little before `now` until `lasting` after it.
pub fn from(now: Time, lasting: Duration) -> Lifetime {
    Lifetime {
        not_before: now.minus(BACKDATED).whole_seconds(),
        not_after: now.plus(lasting).whole_seconds(),
    }
}

/// As [`from`], begun [a day](WIDELY_BACKDATED) before.
pub fn widely(now: Time, lasting: Duration) -> Lifetime {
    Lifetime {
        not_before: now.minus(WIDELY_BACKDATED).whole_seconds(),
        ..from(now, lasting)
    }
}
