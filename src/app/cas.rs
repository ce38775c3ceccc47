//! CAs that come to sign here: made here, or made elsewhere and brought in.

use super::{App, AppError, IssuerView, audit, birth::key_place, free, printable, require};
use crate::{
    access::Permission,
    ca::local::{CreateError, Hierarchy, NewNode},
    clock::Time,
    crypt::{KeyRing, PrivateKey},
    domain::{AuditEvent, CaNode, Category, Issuer, IssuerKind, Principal, once::Once},
    id::Id,
    pki::{Certificate, Chain, KeyAlgorithm, San, issue::Subtrees, subordinate},
    store::Unit,
};
use secrecy::{ExposeSecret, SecretString};
use std::{sync::Arc, time::Duration};

/// The longest life of a CA: 30 years.
const MOST_DAYS: u32 = 30 * 365;
/// The most names under which a CA may be constrained.
const MOST_SUBTREES: usize = 100;
/// The longest common name of a CA, in characters, with room for what is added to it.
const MAX_NAME: usize = 48;

/// A CA to bring in.
#[derive(Debug, Clone)]
pub struct ImportedCa {
    /// The issuer's id; made when absent.
    pub id: Option<Id>,
    /// The issuer's name, unique.
    pub name: String,
    /// The CA's certificate, then those of the CAs above it, PEM.
    pub chain_pem: String,
    /// The CA's private key, PEM.
    pub key_pem: SecretString,
    /// The passphrase of an encrypted key.
    pub passphrase: Option<SecretString>,
}

/// A CA to make: a root, and an issuing CA below it that signs.
#[derive(Debug, Clone)]
pub struct NewCa {
    /// The issuer's id; made when absent.
    pub id: Option<Id>,
    /// The issuer's name, unique.
    pub name: String,
    /// What root and issuing CA are called; the issuer's name when absent.
    pub common_name: Option<String>,
    /// The kind of both keys.
    pub key_algorithm: KeyAlgorithm,
    /// How long the root lasts, in days.
    pub root_days: u32,
    /// How long the issuing CA lasts, in days.
    pub issuing_days: u32,
    /// DNS names under which certificates may be issued; none: under all.
    pub permitted: Vec<String>,
    /// DNS names under which none may be issued.
    pub excluded: Vec<String>,
}

impl App {
    /// Makes a CA: its keys are made here, and sealed before they are stored.
    pub async fn create_issuer(
        &self,
        who: &Principal,
        new: &NewCa,
        once: Option<&Once>,
    ) -> Result<IssuerView, AppError> {
        require(who, Permission::IssuerEdit)?;
        printable("name", &new.name, 1..=255)?;
        let hierarchy = &hierarchy(new)?;
        // Keys cost too much to be made for a request that is repeated.
        if let Some(once) = once
            && let Some(issuer) = self.made_before::<Issuer>(who, once).await?
        {
            return self.stored_issuer(&issuer.id).await;
        }
        let (root, issuing) = &self.make_hierarchy(hierarchy, new.key_algorithm).await?;
        let issuer = self
            .create(who, once, |mut unit| async move {
                let now = self.now();
                if let Some(id) = &new.id {
                    free::<Issuer>(&mut unit, "issuer", id).await?;
                }
                let ring = self.sealing(&mut unit).await?;
                let above = self.node_of(&ring, root, None, now);
                let node = self.node_of(&ring, issuing, Some(above.id.clone()), now);
                let issuer = self.issuer_of(new.id.clone(), &new.name, &node, now);
                announce(
                    &mut unit,
                    who,
                    &issuer,
                    "issuer_created",
                    &issuing.certificate,
                    now,
                );
                unit.insert(above);
                unit.insert(node);
                unit.insert(issuer.clone());
                Ok((unit, issuer))
            })
            .await?
            .into_value();
        self.metrics.has_issuers(issuer.kind.as_str());
        self.stored_issuer(&issuer.id).await
    }

    async fn make_hierarchy(
        &self,
        hierarchy: &Hierarchy,
        algorithm: KeyAlgorithm,
    ) -> Result<(NewNode, NewNode), AppError> {
        let failed = |e: CreateError| AppError::Issuer(e.to_string());
        let crypto = Arc::clone(&self.crypto);
        // Primes take their time.
        let keys = self.tasks.spawn_blocking("CA keys", move || {
            Ok::<_, CreateError>([
                crypto.generate_key(algorithm)?,
                crypto.generate_key(algorithm)?,
            ])
        });
        let keys = keys.await.map_err(|e| AppError::Issuer(e.to_string()))?;
        let (mut root, mut issuing) = ([0; 16], [0; 16]);
        self.rng.fill(&mut root);
        self.rng.fill(&mut issuing);
        let made = hierarchy.make(keys.map_err(failed)?, [root, issuing], self.now());
        made.await.map_err(failed)
    }

    fn node_of(&self, ring: &KeyRing, made: &NewNode, parent: Option<Id>, now: Time) -> CaNode {
        let id = node_id(&made.certificate);
        let place = key_place(id.as_str());
        let sealed = ring.seal(place, made.key.pkcs8_der(), &*self.rng);
        CaNode {
            parent,
            certificate_pem: made.certificate.pem(),
            above_pem: String::new(),
            sealed_key: sealed.to_string(),
            created_at: now,
            id,
        }
    }

    fn issuer_of(&self, id: Option<Id>, name: &str, node: &CaNode, now: Time) -> Issuer {
        Issuer {
            id: id.unwrap_or_else(|| self.new_id("iss")),
            name: name.to_owned(),
            kind: IssuerKind::GenericCA {
                issuing_node: node.id.clone(),
            },
            enabled: true,
            created_at: now,
            updated_at: now,
        }
    }

    /// Brings in a CA that was made elsewhere. Its key is sealed before it is stored.
    pub async fn import_issuer(
        &self,
        who: &Principal,
        new: &ImportedCa,
        once: Option<&Once>,
    ) -> Result<IssuerView, AppError> {
        require(who, Permission::IssuerEdit)?;
        printable("name", &new.name, 1..=255)?;
        let chain = Chain::from_pem(&new.chain_pem);
        let chain = chain.map_err(|e| AppError::invalid("config.ca_cert_pem", e))?;
        let passphrase = new.passphrase.as_ref().map(ExposeSecret::expose_secret);
        let key = PrivateKey::import(new.key_pem.expose_secret(), passphrase)
            .map_err(|e| AppError::invalid("config.ca_key_pem", e))?;
        subordinate::fit(&chain, key.public_key(), self.now())
            .map_err(|e| AppError::invalid("config.ca_cert_pem", e))?;
        let (chain, key) = (&chain, &Arc::new(key));
        let issuer = self
            .create(who, once, |mut unit| async move {
                let now = self.now();
                if let Some(id) = &new.id {
                    free::<Issuer>(&mut unit, "issuer", id).await?;
                }
                let certificate = chain.leaf();
                // One node for one CA, whatever its issuers are called: serial numbers and lists
                // of revocations belong to it.
                let node = CaNode {
                    id: node_id(certificate),
                    parent: None,
                    certificate_pem: certificate.pem(),
                    above_pem: chain.chain_pem(),
                    sealed_key: String::new(),
                    created_at: now,
                };
                if unit.load_opt::<CaNode>(&node.id).await?.is_some() {
                    return Err(AppError::Conflict(format!(
                        "config.ca_cert_pem: the CA {} is there already: `certctl issuers list` \
                         shows it",
                        certificate.subject()
                    )));
                }
                let place = key_place(node.id.as_str());
                let ring = self.sealing(&mut unit).await?;
                let sealed = ring.seal(place, key.pkcs8_der(), &*self.rng);
                let issuer = self.issuer_of(new.id.clone(), &new.name, &node, now);
                announce(&mut unit, who, &issuer, "issuer_imported", certificate, now);
                unit.insert(CaNode {
                    sealed_key: sealed.to_string(),
                    ..node
                });
                unit.insert(issuer.clone());
                Ok((unit, issuer))
            })
            .await?
            .into_value();
        // One of the same key may have been here, under another certificate.
        let IssuerKind::GenericCA { issuing_node } = &issuer.kind;
        self.nodes.forget(issuing_node);
        self.crls.forget(issuing_node);
        self.stored_issuer(&issuer.id).await
    }
}

/// Says that a CA signs here from now on.
fn announce(
    unit: &mut Unit<'_>,
    who: &Principal,
    issuer: &Issuer,
    action: &str,
    ca: &Certificate,
    now: Time,
) {
    let IssuerKind::GenericCA { issuing_node } = &issuer.kind;
    let resource = ("issuer", issuer.id.as_str());
    let event = AuditEvent::new(who, Category::Config, action, resource, now)
        .with("name", &issuer.name)
        .with("ca_node", issuing_node)
        .with("subject", ca.subject())
        .with("fingerprint_sha256", ca.fingerprint_sha256());
    audit(unit, &event);
}

/// What is to be made, once it was seen to be sound.
fn hierarchy(new: &NewCa) -> Result<Hierarchy, AppError> {
    if matches!(
        new.key_algorithm,
        KeyAlgorithm::Ed25519 | KeyAlgorithm::Rsa2048
    ) {
        let message = format!(
            "CA keys are ECDSA-P256, ECDSA-P384, RSA-3072 or RSA-4096, not {}",
            new.key_algorithm
        );
        return Err(AppError::invalid("config.key_algorithm", message));
    }
    let name = new.common_name.as_deref().unwrap_or(&new.name);
    printable("config.ca_common_name", name, 1..=255)?;
    if name.chars().count() > MAX_NAME {
        let message = format!("{MAX_NAME} characters at most");
        return Err(AppError::invalid("config.ca_common_name", message));
    }
    for (field, days) in [
        ("config.root_validity_days", new.root_days),
        ("config.validity_days", new.issuing_days),
    ] {
        if !(1..=MOST_DAYS).contains(&days) {
            let message = format!("1 to {MOST_DAYS} days are accepted");
            return Err(AppError::invalid(field, message));
        }
    }
    if new.issuing_days > new.root_days {
        let message = "the issuing CA cannot outlast its root (config.root_validity_days)";
        return Err(AppError::invalid("config.validity_days", message));
    }
    let lasting = |days: u32| Duration::from_secs(u64::from(days) * 86_400);
    Ok(Hierarchy {
        root_name: format!("{name} root CA"),
        issuing_name: format!("{name} issuing CA"),
        root_lifetime: lasting(new.root_days),
        issuing_lifetime: lasting(new.issuing_days),
        names: Subtrees {
            permitted: dns_names("config.permitted_names", &new.permitted)?,
            excluded: dns_names("config.excluded_names", &new.excluded)?,
        },
    })
}

fn dns_names(field: &'static str, names: &[String]) -> Result<Vec<String>, AppError> {
    if names.len() > MOST_SUBTREES {
        return Err(AppError::invalid(
            field,
            format!("{MOST_SUBTREES} names at most"),
        ));
    }
    let read = names.iter().map(|name| match name.parse::<San>() {
        Ok(San::Dns(name)) if !name.starts_with('*') => Ok(name),
        Ok(_) => {
            let message = format!("{name:?}: DNS names are expected, without a wildcard");
            Err(AppError::invalid(field, message))
        }
        Err(e) => Err(AppError::invalid(field, e)),
    });
    read.collect()
}

/// A node is known by its CA: the subject and its key.
fn node_id(ca: &Certificate) -> Id {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    hash.update(ca.subject().as_bytes());
    hash.update(&[0]);
    hash.update(ca.spki_sha256().as_bytes());
    let digest = hash.finish();
    Id::derived("ca", digest.as_ref().get(..16).unwrap_or_default())
}
