//! What a restored server would do at once, and what it does not know.

use super::{
    App, AppError, known, require,
    restore_steps::{LOOKED_AT, Step},
};
use crate::{
    access::Permission,
    clock::Time,
    domain::{Agent, Certificate, Found, Principal, Restoration, Target},
    id::Id,
    pki,
    store::{Document, FOUND_STATE, Loaded, Scan},
};
use std::collections::{BTreeMap, BTreeSet};

/// So many steps, and so many versions, are named; of more it is only said that there are more.
const NAMED: usize = 100;

/// What a restored server would do at once, and what it does not know.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// What is known of the restore.
    pub restoration: Restoration,
    /// What it would do: first what is due, of that what can least be undone, and of that what is
    /// due first.
    pub steps: Vec<Step>,
    /// What agents have and the store did not know: first what asks for somebody, and of that what
    /// ends first.
    pub found: Vec<Unknown>,
    /// There are more than are named.
    pub more: bool,
}

/// Something by its id and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub id: Id,
    /// Its name; nothing where there is none in this store.
    pub name: Option<String>,
}

/// A version that an agent had and the restored store did not know.
#[derive(Debug, Clone)]
pub struct Unknown {
    /// What was found.
    pub found: Found,
    /// Its certificate.
    pub certificate: Named,
    /// The targets that the certificate has here.
    pub targets: Vec<Id>,
    /// The target where it was found.
    pub target: Named,
    /// The agent that has it.
    pub agent: Named,
    /// The names in it; empty while it was not shown.
    pub names: Vec<String>,
    /// When it ends, where that was shown.
    pub ends: Option<Time>,
    /// What somebody should do.
    pub advice: Option<String>,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) if name != self.id.as_str() => write!(f, "{name} ({})", self.id),
            _ => write!(f, "{}", self.id),
        }
    }
}

impl App {
    /// The last restore, and what the server would do; `None` where the store was never restored.
    pub async fn restore_plan(&self, who: &Principal) -> Result<Option<RestorePlan>, AppError> {
        require(who, Permission::BackupRead)?;
        let id = known(Restoration::ID);
        let Some(restoration) = self.store.get::<Restoration>(&id).await? else {
            return Ok(None);
        };
        let (mut steps, many) = self.steps().await?;
        let found = self.store.scan::<Found>(Scan::all(FOUND_STATE, LOOKED_AT));
        let found = found.await?;
        let more = many || found.len() >= LOOKED_AT || steps.len().max(found.len()) > NAMED;
        steps.truncate(NAMED);
        let mut found: Vec<Unknown> = found.into_iter().map(Unknown::of).collect();
        found.sort_by_key(Unknown::place);
        found.truncate(NAMED);
        self.name_all(&mut steps, &mut found).await?;
        self.place_all(&mut found).await?;
        for unknown in &mut found {
            unknown.advice = unknown.advise();
        }
        Ok(Some(RestorePlan {
            restoration: restoration.into_value(),
            steps,
            found,
            more,
        }))
    }

    /// Gives everything that is named its name.
    async fn name_all(&self, steps: &mut [Step], found: &mut [Unknown]) -> Result<(), AppError> {
        let certificates = steps.iter_mut().filter_map(|s| s.certificate.as_mut());
        let certificates = certificates.chain(found.iter_mut().map(|u| &mut u.certificate));
        self.name::<Certificate>(certificates.collect(), |c| &c.name)
            .await?;
        let targets = steps.iter_mut().filter_map(|s| s.target.as_mut());
        let targets = targets.chain(found.iter_mut().map(|u| &mut u.target));
        self.name::<Target>(targets.collect(), |t| &t.name).await?;
        let agents = steps.iter_mut().filter_map(|s| s.agent.as_mut());
        let agents = agents.chain(found.iter_mut().map(|u| &mut u.agent));
        self.name::<Agent>(agents.collect(), |a| &a.name).await
    }

    /// Gives what was found the targets of its certificate.
    async fn place_all(&self, found: &mut [Unknown]) -> Result<(), AppError> {
        let ids: BTreeSet<Id> = found.iter().map(|u| u.certificate.id.clone()).collect();
        let rows = self
            .store
            .get_many::<Certificate>(ids.into_iter().collect());
        let rows = rows.await?;
        let rows = rows.iter().flatten();
        let placed: BTreeMap<&Id, &[Id]> = rows.map(|row| (&row.id, &row.targets[..])).collect();
        for unknown in found {
            let targets = placed.get(&unknown.certificate.id);
            unknown.targets = targets.map_or(Vec::new(), |targets| targets.to_vec());
        }
        Ok(())
    }

    async fn name<T: Document>(
        &self,
        all: Vec<&mut Named>,
        name: fn(&T) -> &str,
    ) -> Result<(), AppError> {
        let ids: BTreeSet<Id> = all.iter().map(|named| named.id.clone()).collect();
        let rows = self.store.get_many::<T>(ids.into_iter().collect()).await?;
        let rows = rows.iter().flatten();
        let names: BTreeMap<&Id, &str> = rows.map(|row| (row.id(), name(row))).collect();
        for named in all {
            named.name = names.get(&named.id).map(|name| (*name).to_owned());
        }
        Ok(())
    }
}

impl Named {
    pub(super) fn unnamed(id: &Id) -> Self {
        let id = id.clone();
        Self { id, name: None }
    }
}

impl Unknown {
    fn of(found: Loaded<Found>) -> Self {
        let found = found.into_value();
        let chain = found.chain_pem.as_deref().map(pki::Chain::from_pem);
        let chain = chain.and_then(Result::ok);
        let leaf = chain.as_ref().map(pki::Chain::leaf);
        Self {
            certificate: Named::unnamed(&found.certificate),
            targets: Vec::new(),
            target: Named::unnamed(&found.target),
            agent: Named::unnamed(&found.agent),
            names: leaf.map_or(Vec::new(), |leaf| {
                leaf.sans().iter().map(ToString::to_string).collect()
            }),
            ends: leaf.map(|leaf| leaf.not_after()),
            advice: None,
            found,
        }
    }

    fn place(&self) -> ([bool; 3], Option<Time>, Id) {
        (self.found.state(), self.ends, self.found.id.clone())
    }

    /// What somebody should do about it, where it does not come right by itself.
    fn advise(&self) -> Option<String> {
        if self.found.version.is_some() {
            return None;
        }
        let (certificate, target) = (&self.certificate.id, &self.target.id);
        let agent = &self.agent.id;
        let known = self.certificate.name.is_some();
        if self.found.refused.is_some() {
            return Some(match (known, self.found.is_judged_again()) {
                (true, true) => format!(
                    "where the certificate should be as this one is, mend it, and this is taken \
                     up: `certctl certs edit {certificate}`; else have it replaced: `certctl certs \
                     renew {certificate}`"
                ),
                (true, false) => format!(
                    "see what it is, and have it replaced: `certctl certs renew {certificate}`"
                ),
                (false, _) => format!(
                    "see what it is; where it is wanted, make certificate {certificate} again"
                ),
            });
        }
        // Until it was shown nobody knows what it is.
        let (name, others) = self.names.split_first()?;
        let mut steps = Vec::new();
        if self.target.name.is_none() {
            steps.push(format!(
                "make its target again, with the type and --set that it had, as here of a File: \
                 `certctl targets create {target} --id {target} --agent {agent} --type File`"
            ));
        }
        if !known {
            let others = others.iter().map(|name| format!(" --san {name}"));
            let others: String = others.collect();
            steps.push(format!(
                "make the certificate again: `certctl certs create {name}{others} --id \
                 {certificate} --target {target}` takes up what the agent has"
            ));
        } else if !self.targets.contains(target) {
            let all = self.targets.iter().chain([target]);
            let all: String = all.map(|target| format!(" --target {target}")).collect();
            steps.push(format!(
                "give the certificate this target too: `certctl certs edit {certificate}{all}`"
            ));
        }
        (!steps.is_empty()).then(|| format!("once the fence is lifted, {}", steps.join("; then ")))
    }
}
