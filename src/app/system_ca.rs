//! The system CA, and the server's own certificate.

use super::{App, AppError, StartError};
use crate::{
    ca::local,
    clock::{Rng, Time},
    crypt::{Crypto, PrivateKey},
    net::{AGENT_NAME, Identity, ServerIdentity, SpkiPin},
    pki::{
        self, Certificate, Eku, KeyAlgorithm, San, Serial,
        issue::{Authority, Leaf},
    },
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A CA's end is told from this long before it.
const CA_WARNED_BEFORE: Duration = Duration::from_secs(365 * 86_400);
const LEAF_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// The CA that signs the server's own certificate, apart from the issuers of users. Agents trust
/// it from their enrolment on.
pub struct SystemCa {
    certificate: Certificate,
    pem: String,
    key: Arc<PrivateKey>,
    names: Vec<San>,
    /// The names in the order they were given, but that of agents.
    given: Vec<San>,
    /// When the present leaf begins and ends.
    leaf: Mutex<(Time, Time)>,
}

impl SystemCa {
    /// The name by which others reach this server, as far as it knows: the last that it was given.
    pub fn known_as(&self) -> Option<&str> {
        let named = self.given.iter().rev();
        named
            .filter_map(|name| match name {
                San::Dns(name) if name != "localhost" => Some(name.as_str()),
                _ => None,
            })
            .next()
    }

    /// From its certificate and key, for a server with these names.
    pub(super) fn new(
        certificate: Certificate,
        key: Arc<PrivateKey>,
        names: Vec<San>,
        now: Time,
    ) -> Self {
        Self {
            pem: certificate.pem(),
            certificate,
            key,
            given: names
                .iter()
                .filter(|name| !matches!(name, San::Dns(name) if name == AGENT_NAME))
                .cloned()
                .collect(),
            names: pki::Sans::new(names).into_vec(),
            leaf: Mutex::new((now, now)),
        }
    }

    /// The certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// Its public key, as agents pin it: `sha256:` and lower hex.
    pub fn pin(&self) -> String {
        SpkiPin::of_spki(self.certificate.public_key().spki_der()).to_string()
    }

    /// When the present leaf begins and ends.
    pub(super) fn leaf_validity(&self) -> (Time, Time) {
        *self.leaf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh key and leaf for the server. They live in memory only: agents pin the CA.
    pub(super) async fn identity(
        &self,
        crypto: &dyn Crypto,
        rng: &dyn Rng,
        now: Time,
    ) -> Result<Identity, StartError> {
        let key = crypto
            .generate_key(KeyAlgorithm::EcdsaP256)
            .map_err(local::CreateError::from)?;
        let mut seed = [0; 16];
        rng.fill(&mut seed);
        let leaf = pki::issue::leaf(
            Authority {
                certificate: &self.certificate,
                signer: &*self.key,
            },
            &Leaf {
                serial: &Serial::random(seed),
                common_name: Some(AGENT_NAME),
                sans: &self.names,
                public_key: key.public_key(),
                lifetime: local::widely(now, LEAF_LIFETIME),
                ekus: &[Eku::ServerAuth],
                pointers: None,
            },
        )
        .await
        .map_err(local::CreateError::from)?;
        let validity = (leaf.not_before(), leaf.not_after());
        *self.leaf.lock().unwrap_or_else(PoisonError::into_inner) = validity;
        let chain = vec![leaf.der().to_vec(), self.certificate.der().to_vec()];
        Identity::from_der(chain, key.pkcs8_der().to_vec()).map_err(|e| StartError::Stored {
            what: "the system CA",
            reason: e.to_string(),
        })
    }
}

/// A certificate for a server that cannot yet open its store: of a CA that nobody else has, for as
/// long as this process waits.
pub async fn passing_identity(
    names: Vec<San>,
    crypto: &dyn Crypto,
    rng: &dyn Rng,
    now: Time,
) -> Result<Arc<ServerIdentity>, StartError> {
    let mut seed = [0; 16];
    rng.fill(&mut seed);
    let node = local::create_system_ca(crypto, seed, now).await?;
    let ca = SystemCa::new(node.certificate, Arc::new(node.key), names, now);
    Ok(ServerIdentity::new(ca.identity(crypto, rng, now).await?))
}

impl App {
    /// Says in the log which CAs end within a year: what they issued must be followed by others.
    pub(crate) fn warn_of_ends(&self) {
        let system = (
            "the system CA".to_owned(),
            self.system_ca.certificate.not_after(),
        );
        let nodes = self.nodes.opened().into_iter();
        let nodes = nodes.map(|(id, ca)| (id.to_string(), ca.certificate().not_after()));
        for (ca, end) in nodes.chain([system]) {
            if end.since(self.now()) < CA_WARNED_BEFORE {
                tracing::warn!(ca, %end, "the CA ends within a year: replace it");
            }
        }
    }

    /// Gives the server a new certificate of its own when a third of the present one is left, or
    /// when the clock was set back before its beginning.
    pub(crate) async fn renew_server_certificate(&self) -> Result<(), AppError> {
        let (begin, end) = self.system_ca.leaf_validity();
        let now = self.now();
        if begin <= now && end.since(now) > LEAF_LIFETIME / 3 {
            return Ok(());
        }
        let fresh = self
            .system_ca
            .identity(&*self.crypto, &*self.rng, self.now())
            .await;
        let fresh = fresh.map_err(|e| AppError::Issuer(e.to_string()))?;
        self.identity.set_system(fresh);
        tracing::info!("the server has a new certificate of its own");
        Ok(())
    }
}
