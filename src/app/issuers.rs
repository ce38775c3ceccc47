//! Issuers: those that are there, how they stand, and their end.

use super::{
    App, AppError, Expected, ISSUER_LOCAL, audit, birth::ROOT_NODE, need, printable, require,
    require_on,
};
use crate::{
    access::Permission,
    domain::{
        AuditEvent, CaNode, Category, Issuer, IssuerKind, IssuerTest, Principal, Scope, Version,
    },
    id::Id,
    pki::Certificate,
    store::{CERT_ISSUER, Facet, ISSUER_NAME, Key, Loaded, Scan, VERSION_SERIAL},
};

/// More issuers than anybody has.
const MOST: usize = 1_000;
/// Versions are read this many at a time.
const PAGE: usize = 500;
/// Before an issuer is deleted so many of its versions are looked at, at most.
const MOST_VERSIONS: usize = 100_000;

/// An issuer, the certificate that it signs with, and its last test.
#[derive(Debug, Clone)]
pub struct IssuerView {
    /// The issuer.
    pub issuer: Loaded<Issuer>,
    /// The CA node.
    pub node: Id,
    /// The CA's certificate.
    pub certificate: Certificate,
    /// Its last test.
    pub test: Option<IssuerTest>,
}

/// What is to change of an issuer; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct IssuerEdit {
    /// Its name.
    pub name: Option<String>,
    /// Whether it may be asked.
    pub enabled: Option<bool>,
}

impl App {
    /// Every issuer, by name.
    pub async fn issuers(&self, who: &Principal) -> Result<Vec<IssuerView>, AppError> {
        require(who, Permission::IssuerRead)?;
        let rows = self.store.scan(Scan::all(ISSUER_NAME, MOST)).await?;
        let mut views = Vec::with_capacity(rows.len());
        for row in rows {
            views.push(self.issuer_view(row).await?);
        }
        Ok(views)
    }

    /// One issuer.
    pub async fn issuer(&self, who: &Principal, id: &Id) -> Result<IssuerView, AppError> {
        require_on(who, Permission::IssuerRead, &Scope::Issuer(id.clone()))?;
        self.stored_issuer(id).await
    }

    /// As [`issuer`](Self::issuer), for whoever has just made or edited it.
    pub(super) async fn stored_issuer(&self, id: &Id) -> Result<IssuerView, AppError> {
        let row = self.store.get::<Issuer>(id).await?;
        let row = row.ok_or_else(|| AppError::not_found("issuer", id))?;
        self.issuer_view(row).await
    }

    async fn issuer_view(&self, issuer: Loaded<Issuer>) -> Result<IssuerView, AppError> {
        let IssuerKind::GenericCA { issuing_node } = &issuer.kind;
        let node = issuing_node.clone();
        let certificate = self.local_ca(&node).await?.certificate().clone();
        let test = self.store.get::<IssuerTest>(&issuer.id).await?;
        Ok(IssuerView {
            issuer,
            node,
            certificate,
            test: test.map(Loaded::into_value),
        })
    }

    /// Renames an issuer, or switches it on or off. While it is off no order is opened for its
    /// certificates; those that come due wait until it is on.
    pub async fn edit_issuer(
        &self,
        who: &Principal,
        id: &Id,
        expected: &Expected,
        edit: &IssuerEdit,
    ) -> Result<IssuerView, AppError> {
        require_on(who, Permission::IssuerEdit, &Scope::Issuer(id.clone()))?;
        if let Some(name) = &edit.name {
            printable("name", name, 1..=255)?;
        }
        self.decide(|mut unit| async move {
            let now = self.now();
            let mut issuer: Loaded<Issuer> = need(&mut unit, "issuer", id).await?;
            expected.met_by(&issuer)?;
            let mut event = AuditEvent::new(
                who,
                Category::Config,
                "issuer_edited",
                ("issuer", id.as_str()),
                now,
            );
            let before = Issuer::clone(&issuer);
            if let Some(name) = edit.name.as_ref().filter(|name| **name != issuer.name) {
                event = event.with("name", name).with("name_before", &issuer.name);
                issuer.name.clone_from(name);
            }
            if let Some(enabled) = edit.enabled.filter(|enabled| *enabled != issuer.enabled) {
                event = event.with("enabled", enabled);
                issuer.enabled = enabled;
            }
            if *issuer == before {
                return Ok((unit, ()));
            }
            issuer.updated_at = now;
            audit(&mut unit, &event);
            unit.put(issuer);
            Ok((unit, ()))
        })
        .await?;
        self.stored_issuer(id).await
    }

    /// Sees whether an issuer can issue, and writes that down.
    ///
    /// # Errors
    /// [`AppError::Issuer`] with what is wrong.
    pub async fn test_issuer(&self, who: &Principal, id: &Id) -> Result<(), AppError> {
        require_on(who, Permission::IssuerEdit, &Scope::Issuer(id.clone()))?;
        let issuer = self.store.get::<Issuer>(id).await?;
        let issuer = issuer.ok_or_else(|| AppError::not_found("issuer", id))?;
        let IssuerKind::GenericCA { issuing_node } = &issuer.kind;
        let mut nonce = [0; 16];
        self.rng.fill(&mut nonce);
        let examined = match self.local_ca(issuing_node).await {
            Ok(ca) => ca.examine(nonce, self.now()).await,
            Err(e) => Err(e.to_string()),
        };
        let fault = &examined.err();
        self.decide(|mut unit| async move {
            let now = self.now();
            need::<Issuer>(&mut unit, "issuer", id).await?;
            let test = IssuerTest {
                id: id.clone(),
                at: now,
                fault: fault.clone(),
            };
            match unit.load_opt::<IssuerTest>(id).await? {
                Some(row) => unit.put(row.map(|_| test)),
                None => unit.insert(test),
            }
            let resource = ("issuer", id.as_str());
            let event = AuditEvent::new(who, Category::Config, "issuer_tested", resource, now)
                .with("fault", fault.as_deref().unwrap_or("none"));
            audit(&mut unit, &event);
            Ok((unit, ()))
        })
        .await?;
        fault
            .clone()
            .map_or(Ok(()), |fault| Err(AppError::Issuer(fault)))
    }

    /// Deletes an issuer that no certificate has and of which no version is good any more, with
    /// its CA and the keys.
    pub async fn delete_issuer(
        &self,
        who: &Principal,
        id: &Id,
        expected: &Expected,
    ) -> Result<(), AppError> {
        require_on(who, Permission::IssuerDelete, &Scope::Issuer(id.clone()))?;
        if id.as_str() == ISSUER_LOCAL {
            return Err(AppError::Reserved(format!(
                "issuer {id} is always there: switch it off instead (`certctl issuers edit {id} \
                 --disable`)"
            )));
        }
        let nodes = self
            .decide(|mut unit| async move {
                let issuer: Loaded<Issuer> = need(&mut unit, "issuer", id).await?;
                expected.met_by(&issuer)?;
                let named = Key::new().text(id.as_str());
                let certificates = Facet::is(CERT_ISSUER, named.clone());
                let certificates = self.store.count(&certificates).await?;
                if certificates > 0 {
                    return Err(AppError::Conflict(format!(
                        "issuer {id} is used by {certificates} certificate(s): give them another \
                         issuer first, or switch it off"
                    )));
                }
                self.no_version_is_good(id).await?;
                // A certificate that takes it up meanwhile makes this decision again.
                unit.none(CERT_ISSUER, named);
                let IssuerKind::GenericCA { issuing_node } = &issuer.kind;
                let root = self.parent_of(issuing_node).await?;
                let nodes: Vec<Id> = std::iter::once(issuing_node.clone())
                    .chain(root.filter(|root| root.as_str() != ROOT_NODE))
                    .collect();
                for node in &nodes {
                    let row: Loaded<CaNode> = need(&mut unit, "CA node", node).await?;
                    unit.delete(row);
                }
                if let Some(test) = unit.load_opt::<IssuerTest>(id).await? {
                    unit.delete(test);
                }
                let (resource, now) = (("issuer", id.as_str()), self.now());
                let event = AuditEvent::new(who, Category::Config, "issuer_deleted", resource, now)
                    .with("name", &issuer.name)
                    .with("ca_node", issuing_node);
                audit(&mut unit, &event);
                self.keep_totals(&mut unit, &issuer).await?;
                unit.delete(issuer);
                Ok((unit, nodes))
            })
            .await?;
        for node in &nodes {
            self.nodes.forget(node);
            self.crls.forget(node);
        }
        Ok(())
    }

    async fn parent_of(&self, node: &Id) -> Result<Option<Id>, AppError> {
        let node = self.store.get::<CaNode>(node).await?;
        Ok(node.and_then(|node| node.into_value().parent))
    }

    /// Refuses while a version of an issuer is good: it could not be revoked any more.
    async fn no_version_is_good(&self, issuer: &Id) -> Result<(), AppError> {
        let of = Key::new().text(issuer.as_str()).bytes();
        let (now, mut after, mut looked_at) = (self.now(), None, 0);
        loop {
            let page = self
                .store
                .page::<Version>(Scan {
                    after,
                    ..Scan::under(VERSION_SERIAL, of.clone(), PAGE)
                })
                .await?;
            if let Some(good) = page.rows.iter().find(|v| v.not_after > now) {
                return Err(AppError::Conflict(format!(
                    "issuer {issuer} has versions that are good, such as {} of certificate {} \
                     until {}: delete it when they have ended, or switch it off",
                    good.serial, good.certificate, good.not_after
                )));
            }
            looked_at += page.rows.len();
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
            if looked_at >= MOST_VERSIONS {
                return Err(AppError::Conflict(format!(
                    "issuer {issuer} has issued more than {MOST_VERSIONS} versions: it is not \
                     deleted, switch it off"
                )));
            }
        }
    }
}
