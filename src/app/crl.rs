//! Revocation lists: one per CA node, made anew when a revocation came and each hour.

use super::{
    App, AppError,
    birth::{ROOT_NODE, SYSTEM_NODE},
    known,
};
use crate::{
    ca::local::BACKDATED,
    clock::Time,
    domain::{CaNode, Issuer, IssuerKind, Revocation},
    id::Id,
    pki::crl::{self, Entry, Issue},
    store::{Facet, ISSUER_NAME, Key, REVOCATION_END, REVOCATION_NODE, Scan},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A list is believed this long.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// A list is made anew at this age, also when nothing was revoked.
const OLDEST: Duration = Duration::from_secs(3_600);
/// Rows are read this many at a time.
const PAGE: usize = 2_000;
/// At most this many issuers have lists.
const MOST_ISSUERS: usize = 1_000;

/// A revocation list as it is served.
#[derive(Debug)]
pub struct Crl {
    /// The list, DER.
    pub der: Bytes,
    /// SHA-256 of `der`, the first 32 hexadecimal digits.
    pub digest: String,
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub made_at: Time,
    /// Revocations of the node that there were at least when it was made.
    rows: u64,
}

impl Crl {
    /// A list holds all revocations while none was added: rows are never removed.
    fn is_fresh(&self, rows: u64, now: Time) -> bool {
        self.rows == rows && self.made_at <= now && now < self.made_at.plus(OLDEST)
    }
}

/// The lists in memory, by CA node.
#[derive(Default)]
pub struct Crls {
    lists: Mutex<BTreeMap<Id, Arc<Crl>>>,
    /// Held while a list is made: those who want it wait for that one.
    making: tokio::sync::Mutex<()>,
}

impl Crls {
    pub(super) fn forget(&self, node: &Id) {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.remove(node);
    }
}

impl App {
    /// The list of a CA, by the id of the node or of an issuer that signs with it. It holds every
    /// revocation acknowledged before the call.
    pub async fn crl(&self, ca: &Id) -> Result<Arc<Crl>, AppError> {
        let node = self.public_node(ca).await?;
        self.crl_of(&node).await
    }

    /// The certificate of a CA, DER.
    pub async fn ca_certificate(&self, ca: &Id) -> Result<Vec<u8>, AppError> {
        let node = self.public_node(ca).await?;
        let ca = self.local_ca(&node).await?;
        Ok(ca.certificate().der().to_vec())
    }

    /// Makes the lists anew that are too old or lack revocations; for the reconciler.
    pub(crate) async fn refresh_crls(&self) -> Result<(), AppError> {
        if self.is_fenced() {
            return Ok(());
        }
        let mut nodes = BTreeSet::from([known(ROOT_NODE)]);
        let issuers = Scan::all(ISSUER_NAME, MOST_ISSUERS);
        for issuer in self.store.scan::<Issuer>(issuers).await? {
            let IssuerKind::GenericCA { issuing_node } = &issuer.kind;
            nodes.insert(issuing_node.clone());
        }
        for node in nodes {
            // One CA must not keep the others back.
            let made = self.crl_of(&node).await;
            if let Err(e @ AppError::NotLeading) = made {
                return Err(e);
            }
            if let Err(error) = made {
                tracing::error!(%node, %error, "no revocation list was made");
            }
        }
        Ok(())
    }

    async fn public_node(&self, ca: &Id) -> Result<Id, AppError> {
        if let Some(issuer) = self.store.get::<Issuer>(ca).await? {
            let IssuerKind::GenericCA { issuing_node } = &issuer.kind;
            return Ok(issuing_node.clone());
        }
        let known = ca.as_str() != SYSTEM_NODE && self.store.get::<CaNode>(ca).await?.is_some();
        if known {
            Ok(ca.clone())
        } else {
            Err(AppError::not_found("CA", ca))
        }
    }

    async fn crl_of(&self, node: &Id) -> Result<Arc<Crl>, AppError> {
        if let Some(fresh) = self.fresh_crl(node).await? {
            return Ok(fresh);
        }
        let _turn = self.crls.making.lock().await;
        if let Some(fresh) = self.fresh_crl(node).await? {
            return Ok(fresh);
        }
        let list = Arc::new(self.make_crl(node).await?);
        let mut lists = self
            .crls
            .lists
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        lists.insert(node.clone(), Arc::clone(&list));
        Ok(list)
    }

    async fn fresh_crl(&self, node: &Id) -> Result<Option<Arc<Crl>>, AppError> {
        let list = {
            let lists = self.crls.lists.lock();
            let lists = lists.unwrap_or_else(PoisonError::into_inner);
            lists.get(node).cloned()
        };
        let Some(list) = list else { return Ok(None) };
        let rows = self.store.count(&of_node(node)).await?;
        Ok(list.is_fresh(rows, self.now()).then_some(list))
    }

    async fn make_crl(&self, node: &Id) -> Result<Crl, AppError> {
        // It would lack what was revoked after the backup, and take the place of a list that does
        // not.
        self.not_fenced()?;
        let ca = self.local_ca(node).await?;
        // Counted first: what is added meanwhile makes the list stale.
        let rows = self.store.count(&of_node(node)).await?;
        let now = self.now();
        let entries = self.revoked(node, now).await?;
        let mut unit = self.unit();
        unit.add(Key::new().text("crl").text(node.as_str()), 1, i64::MAX);
        let committed = unit.commit().await;
        let committed = committed.map_err(|e| self.refused(e))?;
        let number = committed.counters.first().copied().unwrap_or_default();
        let number = u64::try_from(number).unwrap_or_default();
        let issue = Issue {
            number,
            this_update: now.minus(BACKDATED).whole_seconds(),
            next_update: now.plus(LIFETIME).whole_seconds(),
        };
        let der = crl::build(ca.authority(), issue, &entries).await;
        let der = der.map_err(|e| AppError::Issuer(e.to_string()))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &der);
        let digest = data_encoding::HEXLOWER.encode(&digest.as_ref()[..16]);
        tracing::debug!(%node, number, revoked = entries.len(), "a revocation list was made");
        Ok(Crl {
            der: der.into(),
            digest,
            number,
            made_at: now,
            rows,
        })
    }

    /// What stands in a node's list. RFC 5280, section 3.3: an entry stays until a list that was
    /// made after the end of its certificate had it.
    async fn revoked(&self, node: &Id, now: Time) -> Result<Vec<Entry>, AppError> {
        let ended = now.minus(LIFETIME);
        let of = Key::new().text(node.as_str());
        let mut entries = Vec::new();
        let mut after = Some((of.clone().time(ended).bytes(), known("0")));
        loop {
            let page = self
                .store
                .page::<Revocation>(Scan {
                    after,
                    ..Scan::under(REVOCATION_END, of.clone().bytes(), PAGE)
                })
                .await?;
            entries.extend(page.rows.iter().map(|row| Entry {
                serial: row.serial.clone(),
                at: row.at,
                reason: row.reason,
            }));
            after = page.next;
            if after.is_none() {
                return Ok(entries);
            }
        }
    }
}

fn of_node(node: &Id) -> Facet {
    Facet::is(REVOCATION_NODE, Key::new().text(node.as_str()))
}
