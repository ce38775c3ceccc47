//! TLS as the server speaks it: version 1.3 only (RFC 8446), ring's ciphers, certificates that can
//! be changed while it runs.

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{fmt, sync::Arc};

/// The server name (SNI, RFC 6066 section 3) that agents ask for and the system's own certificate
/// answers.
pub const AGENT_NAME: &str = "agents.certctl.internal";

/// The one source of TLS primitives.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A certificate chain, leaf first, with the key of its leaf.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

/// Why a pair cannot be served.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// The certificate file is no PEM chain.
    #[error("the certificate is not readable PEM: {0}; give the chain, leaf first")]
    Chain(String),
    /// The key file is no PEM key.
    #[error(
        "the private key is not readable PEM: {0}; give an unencrypted PKCS#8, PKCS#1 or SEC1 key"
    )]
    Key(String),
    /// They do not belong together.
    #[error("the private key does not belong to the first certificate of the chain")]
    Mismatch,
    /// The key is of a kind that cannot sign TLS 1.3 handshakes here.
    #[error("the pair cannot be used for TLS: {0}; use RSA 2048 to 8192, P-256, P-384 or Ed25519")]
    Unusable(String),
}

impl Identity {
    /// From PEM text.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| IdentityError::Chain(e.to_string()))?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|e| IdentityError::Key(e.to_string()))?;
        Self::new(chain, key)
    }

    /// From DER: certificates and a PKCS#8, PKCS#1 or SEC1 key.
    pub fn from_der(chain: Vec<Vec<u8>>, key: Vec<u8>) -> Result<Self, IdentityError> {
        let key = PrivateKeyDer::try_from(key).map_err(|e| IdentityError::Key(e.into()))?;
        Self::new(chain.into_iter().map(CertificateDer::from).collect(), key)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        if chain.is_empty() {
            return Err(IdentityError::Chain("it holds no certificate".into()));
        }
        match CertifiedKey::from_der(chain, key, &provider()) {
            Ok(pair) => Ok(Self(Arc::new(pair))),
            Err(rustls::Error::InconsistentKeys(_)) => Err(IdentityError::Mismatch),
            Err(error) => Err(IdentityError::Unusable(error.to_string())),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.0.cert.len())
    }
}

/// The server's certificates: the system's own for agents, and the operator's, if there is one, for
/// all other names. Both can be replaced at any time; the next handshake sees the new one.
#[derive(Debug)]
pub struct ServerIdentity {
    system: ArcSwap<CertifiedKey>,
    operator: ArcSwapOption<CertifiedKey>,
}

impl ServerIdentity {
    /// With the system's own certificate only.
    pub fn new(system: Identity) -> Arc<Self> {
        Arc::new(Self {
            system: ArcSwap::new(system.0),
            operator: ArcSwapOption::empty(),
        })
    }

    /// Replaces the system's own certificate.
    pub fn set_system(&self, system: Identity) {
        self.system.store(system.0);
    }

    /// Replaces or takes away the operator's certificate.
    pub fn set_operator(&self, operator: Option<Identity>) {
        self.operator.store(operator.map(|i| i.0));
    }

    /// The TLS configuration that serves these.
    pub(super) fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_agent = hello
            .server_name()
            .is_some_and(|name| name.eq_ignore_ascii_case(AGENT_NAME));
        match self.operator.load_full() {
            Some(operator) if !is_agent => Some(operator),
            _ => Some(self.system.load_full()),
        }
    }
}
