//! Issuers: those that are there, and CAs that were made elsewhere and are to sign here.

use super::{App, AppError, audit, birth::key_place, free, printable, require, require_on};
use crate::{
    access::Permission,
    crypt::PrivateKey,
    domain::{AuditEvent, CaNode, Category, Issuer, IssuerKind, Principal, Scope, once::Once},
    id::Id,
    pki::{Certificate, Chain, subordinate},
    store::{ISSUER_NAME, Loaded, Scan},
};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;

/// More issuers than anybody has.
const MOST: usize = 1_000;

/// A CA to bring in.
#[derive(Debug, Clone)]
pub struct NewIssuer {
    /// Its id; made when absent.
    pub id: Option<Id>,
    /// Its name, unique.
    pub name: String,
    /// The CA's certificate, then those of the CAs above it, PEM.
    pub chain_pem: String,
    /// The CA's private key, PEM.
    pub key_pem: SecretString,
    /// The passphrase of an encrypted key.
    pub passphrase: Option<SecretString>,
}

/// An issuer and the certificate that it signs with.
#[derive(Debug, Clone)]
pub struct IssuerView {
    /// The issuer.
    pub issuer: Issuer,
    /// The CA node.
    pub node: Id,
    /// The CA's certificate.
    pub certificate: Certificate,
}

impl App {
    /// Every issuer, by name.
    pub async fn issuers(&self, who: &Principal) -> Result<Vec<IssuerView>, AppError> {
        require(who, Permission::IssuerRead)?;
        let rows = self.store.scan(Scan::all(ISSUER_NAME, MOST)).await?;
        let mut views = Vec::with_capacity(rows.len());
        for row in rows {
            views.push(self.issuer_view(Loaded::into_value(row)).await?);
        }
        Ok(views)
    }

    /// One issuer.
    pub async fn issuer(&self, who: &Principal, id: &Id) -> Result<IssuerView, AppError> {
        require_on(who, Permission::IssuerRead, &Scope::Issuer(id.clone()))?;
        let row = self.store.get::<Issuer>(id).await?;
        let row = row.ok_or_else(|| AppError::not_found("issuer", id))?;
        self.issuer_view(row.into_value()).await
    }

    async fn issuer_view(&self, issuer: Issuer) -> Result<IssuerView, AppError> {
        let IssuerKind::GenericCA { issuing_node } = &issuer.kind;
        let node = issuing_node.clone();
        let certificate = self.local_ca(&node).await?.certificate().clone();
        Ok(IssuerView {
            issuer,
            node,
            certificate,
        })
    }

    /// Brings in a CA that was made elsewhere. Its key is sealed before it is stored.
    pub async fn import_issuer(
        &self,
        who: &Principal,
        new: &NewIssuer,
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
                let sealed = self.keyring.seal(place, key.pkcs8_der(), &*self.rng);
                let issuer = Issuer {
                    id: new.id.clone().unwrap_or_else(|| self.new_id("iss")),
                    name: new.name.clone(),
                    kind: IssuerKind::GenericCA {
                        issuing_node: node.id.clone(),
                    },
                    enabled: true,
                    created_at: now,
                    updated_at: now,
                };
                let resource = ("issuer", issuer.id.as_str());
                let event =
                    AuditEvent::new(who, Category::Config, "issuer_imported", resource, now)
                        .with("name", &issuer.name)
                        .with("ca_node", &node.id)
                        .with("subject", certificate.subject())
                        .with("fingerprint_sha256", certificate.fingerprint_sha256());
                audit(&mut unit, &event);
                unit.insert(CaNode {
                    sealed_key: sealed.to_string(),
                    ..node
                });
                unit.insert(issuer.clone());
                Ok((unit, issuer))
            })
            .await?;
        self.issuer_view(issuer.into_value()).await
    }
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
