//! Versions for those who take them elsewhere.

use super::{App, AppError, require};
use crate::{
    access::Permission,
    domain::{Chain, Principal, Version},
    id::Id,
};

/// A version and its issuers, PEM.
#[derive(Debug, Clone)]
pub struct Export {
    /// The leaf.
    pub leaf: String,
    /// Its issuers, nearest first, without the root.
    pub chain: String,
}

impl App {
    /// The newest version of a certificate; of several holders', the one issued last. The server
    /// has no private key of it.
    pub async fn export(&self, who: &Principal, id: &Id) -> Result<Export, AppError> {
        require(who, Permission::CertRead)?;
        let certificate = self.certificate(who, id).await?;
        let newest = certificate.current().max_by_key(|c| c.not_before);
        let Some(newest) = newest else {
            return Err(AppError::not_found("version of certificate", id));
        };
        let missing = || AppError::not_found("version", &newest.version);
        let version = self.store.get::<Version>(&newest.version).await?;
        let version = version.ok_or_else(missing)?;
        let chain = self.store.get::<Chain>(&version.chain).await?;
        let chain = chain.ok_or_else(|| AppError::not_found("chain", &version.chain))?;
        Ok(Export {
            leaf: version.leaf_pem.clone(),
            chain: chain.pem.clone(),
        })
    }
}
