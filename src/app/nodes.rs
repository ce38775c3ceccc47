//! The CAs whose keys we hold. A node's key never changes once it is made, only how it is sealed,
//! so one that was opened stays open.

use super::{App, AppError, birth::key_place};
use crate::{
    ca::LocalCa,
    config::ServerConfig,
    crypt::{PrivateKey, Sealed},
    domain::CaNode,
    id::Id,
    pki::{Certificate, Chain, issue::Pointers},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// No hierarchy of ours is deeper.
const DEEPEST: usize = 8;

/// The nodes that were opened, by their ids.
#[derive(Default)]
pub struct Nodes(Mutex<BTreeMap<Id, Arc<LocalCa>>>);

impl Nodes {
    pub(super) fn with(id: Id, ca: LocalCa) -> Self {
        Self(Mutex::new(BTreeMap::from([(id, Arc::new(ca))])))
    }

    fn get(&self, id: &Id) -> Option<Arc<LocalCa>> {
        let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(id).cloned()
    }

    fn put(&self, id: &Id, ca: LocalCa) -> Arc<LocalCa> {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ca = nodes.entry(id.clone()).or_insert_with(|| Arc::new(ca));
        Arc::clone(ca)
    }

    pub(super) fn forget(&self, id: &Id) {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.remove(id);
    }

    pub(super) fn opened(&self) -> BTreeMap<Id, Arc<LocalCa>> {
        let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.clone()
    }
}

/// Where a node's list and certificate are to be had, when others can reach us.
pub(super) fn pointers(config: &ServerConfig, node: &str) -> Option<Pointers> {
    let base = config.public_url.as_ref()?;
    Some(Pointers {
        crl: format!("{base}/.well-known/pki/crl/{node}/0.crl"),
        certificate: format!("{base}/.well-known/pki/ca/{node}.cer"),
    })
}

impl App {
    /// A node as a CA that signs, its key seen to fit its certificate.
    pub(crate) async fn local_ca(&self, id: &Id) -> Result<Arc<LocalCa>, AppError> {
        if let Some(open) = self.nodes.get(id) {
            return Ok(open);
        }
        let node = self.store.get::<CaNode>(id).await?;
        let node = node.ok_or_else(|| AppError::not_found("CA node", id))?;
        let bad = |reason: String| AppError::Store(format!("CA node {id}: {reason}"));
        let certificate =
            Certificate::from_pem(&node.certificate_pem).map_err(|e| bad(e.to_string()))?;
        let sealed: Sealed = node.sealed_key.parse().map_err(|e| bad(format!("{e}")))?;
        let key = self.unseal(key_place(id.as_str()), &sealed).await;
        let key = key.map_err(|e| bad(e.to_string()))?;
        let key = PrivateKey::from_pkcs8_der(&key).map_err(|e| bad(e.to_string()))?;
        if key.public_key() != certificate.public_key() {
            return Err(bad("its key does not fit its certificate".into()));
        }
        let mut above = Vec::new();
        let mut below = node.into_value();
        for _ in 0..DEEPEST {
            if !below.above_pem.is_empty() {
                let chain = Chain::from_pem(&below.above_pem).map_err(|e| bad(e.to_string()))?;
                above.extend(chain.certificates().cloned());
            }
            let Some(parent) = &below.parent else { break };
            let parent = self.store.get::<CaNode>(parent).await?;
            let Some(parent) = parent else { break };
            let certificate = Certificate::from_pem(&parent.certificate_pem);
            above.push(certificate.map_err(|e| bad(e.to_string()))?);
            below = parent.into_value();
        }
        let ca = LocalCa::new(certificate, Arc::new(key))
            .below(above)
            .published(pointers(&self.config, id.as_str()));
        Ok(self.nodes.put(id, ca))
    }
}
