//! Versions for those who take them elsewhere.

use super::{App, AppError, audit, need, require};
use crate::{
    access::Permission,
    domain::{AuditEvent, Category, Certificate, Chain, Principal, Version},
    id::Id,
    pki::{self, pkcs12},
    store::{Key, Loaded},
};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

/// Exports of one caller at once ...
const BURST: u32 = 50;
/// ... and one more each time this has passed.
const EVERY: Duration = Duration::from_secs(72);
/// What an export guards is public: its password costs nobody time.
const ROUNDS: u32 = 2_048;

/// A version and its issuers, PEM.
#[derive(Debug, Clone)]
pub struct Export {
    /// The leaf.
    pub leaf: String,
    /// Its issuers, nearest first, without the root.
    pub chain: String,
    /// What the certificate is called.
    pub name: String,
}

impl App {
    /// The newest version of a certificate; of several holders', the one issued last. The server
    /// has no private key of it.
    ///
    /// # Errors
    /// [`AppError::Limited`] when the caller has exported too many of late.
    pub async fn export(&self, who: &Principal, id: &Id) -> Result<Export, AppError> {
        self.exported(who, id, "pem").await
    }

    /// As [`export`](Self::export), as PKCS#12 without a private key.
    ///
    /// # Errors
    /// As there.
    pub async fn export_pkcs12(
        &self,
        who: &Principal,
        id: &Id,
        password: &SecretString,
    ) -> Result<Vec<u8>, AppError> {
        require(who, Permission::CertRead)?;
        // Before anything is counted.
        pkcs12::fit(password.expose_secret()).map_err(|e| AppError::invalid("password", e))?;
        let export = self.exported(who, id, "pkcs12").await?;
        let failed = |e: &dyn std::fmt::Display| AppError::Store(format!("certificate {id}: {e}"));
        let chain = pki::Chain::from_pem(&format!("{}{}", export.leaf, export.chain));
        let chain = chain.map_err(|e| failed(&e))?;
        let mut seed = [0; 96];
        self.rng.fill(&mut seed);
        let contents = pkcs12::Contents {
            name: &export.name,
            chain: &chain,
            key_pkcs8: None,
        };
        let protection = pkcs12::Protection {
            password: password.expose_secret(),
            rounds: ROUNDS,
            seed,
        };
        pkcs12::write(&contents, &protection).map_err(|e| failed(&e))
    }

    async fn exported(
        &self,
        who: &Principal,
        id: &Id,
        format: &'static str,
    ) -> Result<Export, AppError> {
        require(who, Permission::CertRead)?;
        let exported = self
            .decide(|mut unit| async move {
                let now = self.now();
                let certificate: Loaded<Certificate> = need(&mut unit, "certificate", id).await?;
                let newest = certificate.current().max_by_key(|c| c.not_before);
                let Some(newest) = newest else {
                    return Err(AppError::not_found("version of certificate", id));
                };
                let version: Loaded<Version> = need(&mut unit, "version", &newest.version).await?;
                let chain: Loaded<Chain> = need(&mut unit, "chain", &version.chain).await?;
                let caller = Key::new()
                    .text("exports")
                    .text(who.kind.as_str())
                    .text(&who.name);
                unit.take(caller, 1, EVERY, BURST);
                let event = AuditEvent::new(
                    who,
                    Category::CertLifecycle,
                    "certificate_exported",
                    ("certificate", id.as_str()),
                    now,
                );
                let event = event.with("serial", &version.serial).with("format", format);
                audit(&mut unit, &event);
                let export = Export {
                    leaf: version.leaf_pem.clone(),
                    chain: chain.pem.clone(),
                    name: certificate.name.clone(),
                };
                Ok((unit, export))
            })
            .await;
        exported.map_err(|e| match e {
            AppError::Limited { retry_in, .. } => AppError::Limited {
                message: format!(
                    "{BURST} exports at once, and one more each {} s",
                    EVERY.as_secs()
                ),
                retry_in,
            },
            e => e,
        })
    }
}
