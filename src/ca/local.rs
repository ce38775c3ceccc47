//! The CA in this process.

use super::{IssueError, IssueErrorClass, IssueRequest, Issued, Issuer};
use crate::{
    clock::Time,
    crypt::{Crypto, InvalidPrivateKey, PrivateKey},
    pki::{
        Certificate, Chain, KeyAlgorithm, Serial, Signer, constraints,
        issue::{self, Authority, Intermediate, Leaf, Lifetime, Pointers, Subtrees},
        subordinate,
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

    /// Sees whether it can sign at `now`: its certificate and those above it are good, each signed
    /// by the next, with room for leaves below, and its key makes signatures that its certificate
    /// verifies. `nonce` is random.
    ///
    /// # Errors
    /// The first thing that is wrong, for a person.
    pub async fn examine(&self, nonce: [u8; 16], now: Time) -> Result<(), String> {
        let chain = Chain::new(self.certificate.clone(), self.above.clone());
        subordinate::fit(&chain, self.signer.public_key(), now).map_err(|e| e.to_string())?;
        // What begins so is no certificate and no list.
        let message = [b"certctl issuer test ".as_slice(), &nonce].concat();
        let signature = self.signer.sign(&message).await;
        let signature = signature.map_err(|e| e.to_string())?;
        if !self
            .certificate
            .public_key()
            .has_signed(&message, &signature)
        {
            return Err("what its key signs is not verified by its certificate".into());
        }
        Ok(())
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

/// A hierarchy to make: a root (path length 1) and an issuing CA below it (path length 0).
#[derive(Debug, Clone)]
pub struct Hierarchy {
    /// The root's common name.
    pub root_name: String,
    /// The issuing CA's.
    pub issuing_name: String,
    /// How long the root lasts.
    pub root_lifetime: Duration,
    /// How long the issuing CA lasts, with its root at most.
    pub issuing_lifetime: Duration,
    /// What the issuing CA's certificate lets leaves be called.
    pub names: Subtrees,
}

impl Default for Hierarchy {
    /// That of the local CA: 10 and 5 years.
    fn default() -> Self {
        Self {
            root_name: "certctl local root CA".into(),
            issuing_name: "certctl local issuing CA".into(),
            root_lifetime: ROOT_YEARS * YEAR,
            issuing_lifetime: ISSUING_YEARS * YEAR,
            names: Subtrees::default(),
        }
    }
}

impl Hierarchy {
    /// Makes it, with these keys of root and issuing CA.
    pub async fn make(
        &self,
        [root_key, key]: [PrivateKey; 2],
        serials: [[u8; 16]; 2],
        now: Time,
    ) -> Result<(NewNode, NewNode), CreateError> {
        let serial = Serial::random(serials[0]);
        let lifetime = widely(now, self.root_lifetime);
        let certificate = issue::root(&root_key, &self.root_name, &serial, lifetime, 1).await?;
        let root = NewNode {
            certificate,
            key: root_key,
        };
        let by = Authority {
            certificate: &root.certificate,
            signer: &root.key,
        };
        let certificate = issue::intermediate(
            by,
            &Intermediate {
                public_key: key.public_key(),
                common_name: &self.issuing_name,
                serial: &Serial::random(serials[1]),
                lifetime: widely(now, self.issuing_lifetime),
                path_length: 0,
                names: &self.names,
            },
        )
        .await?;
        Ok((root, NewNode { certificate, key }))
    }
}

/// Makes the hierarchy of the local CA, by keys of P-256.
pub async fn create_hierarchy(
    crypto: &dyn Crypto,
    serials: [[u8; 16]; 2],
    now: Time,
) -> Result<(NewNode, NewNode), CreateError> {
    let key = || crypto.generate_key(KeyAlgorithm::EcdsaP256);
    let keys = [key()?, key()?];
    Hierarchy::default().make(keys, serials, now).await
}

/// Makes the system CA (10 years, path length 0), which signs the server's own certificate.
pub async fn create_system_ca(
    crypto: &dyn Crypto,
    serial: [u8; 16],
    now: Time,
) -> Result<NewNode, CreateError> {
    let key = crypto.generate_key(KeyAlgorithm::EcdsaP256)?;
    let serial = Serial::random(serial);
    let lifetime = widely(now, ROOT_YEARS * YEAR);
    let certificate = issue::root(&key, "certctl system CA", &serial, lifetime, 0).await?;
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
