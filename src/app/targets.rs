//! Targets.

use super::{App, AppError, Expected, JobView, audit, free, need, once::Made, printable, require};
use crate::{
    access::Permission,
    clock::Time,
    deploy::config::{ConfigError, TargetConfig},
    domain::{
        Agent, AuditEvent, Category, Certificate, Deployment, Holder, Job, Principal, Target,
        once::Once,
    },
    id::Id,
    store::{CERT_TARGET, Facet, Key, List, Loaded, Scan, TARGET_AGENT, TARGET_NAME, Unit},
};

/// Targets are read this many at a time.
const PAGE: usize = 256;
/// So many certificates are named that keep a target from being deleted.
const SHOWN: usize = 5;
/// A target with more certificates is not moved: all of them are deployed anew in one commit.
const MOST_MOVED: usize = 300;

/// A target to make.
#[derive(Debug, Clone)]
pub struct NewTarget {
    /// Its id; made when absent.
    pub id: Option<Id>,
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// The agent that owns it.
    pub agent: Id,
    /// Its configuration.
    pub config: serde_json::Value,
}

/// A page of targets to be.
#[derive(Debug, Clone, Default)]
pub struct TargetList {
    /// Those of an agent alone.
    pub agent: Option<String>,
    /// The cursor of the page before.
    pub cursor: Option<String>,
    /// So many rows are passed over.
    pub skip: usize,
    /// Rows in a page.
    pub limit: usize,
}

/// A page of targets.
#[derive(Debug)]
pub struct TargetPage {
    /// The targets.
    pub rows: Vec<Loaded<Target>>,
    /// How many there are, where it is known.
    pub total: Option<u64>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// What is to change of a target; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct TargetEdit {
    /// Its agent, which stays.
    pub agent: Option<String>,
    /// Whether it is used, which it is as long as it is not retired.
    pub enabled: Option<bool>,
    /// Its name.
    pub name: Option<String>,
    /// Its type.
    pub kind: Option<String>,
    /// Its configuration, whole.
    pub config: Option<serde_json::Value>,
}

impl TargetEdit {
    /// Refuses to change what stays as it is.
    fn leaves(&self, target: &Target) -> Result<(), AppError> {
        let agent = self.agent.as_deref();
        if let Some(agent) = agent.filter(|agent| *agent != target.agent.as_str()) {
            let message = format!("a target stays with its agent: make another target on {agent}");
            return Err(AppError::invalid("agent_id", message));
        }
        if self.enabled == Some(false) {
            let message =
                "a target is not switched off: take it from its certificates, or delete it";
            return Err(AppError::invalid("enabled", message));
        }
        Ok(())
    }
}

/// A target, as people see it.
#[derive(Debug, Clone)]
pub struct TargetView {
    /// The target.
    pub target: Target,
    /// What its agent is called.
    pub agent: String,
    /// Its newest test.
    pub test: Option<JobView>,
}

impl App {
    /// At most `limit` targets by name, each with its newest test.
    pub async fn target_views(
        &self,
        who: &Principal,
        limit: usize,
    ) -> Result<Vec<TargetView>, AppError> {
        let targets = self.targets(who, limit).await?;
        let mut views = Vec::with_capacity(targets.len());
        for target in targets {
            views.push(TargetView {
                agent: self.agent_name(&target.agent).await?,
                test: self.last_test(&target.id).await?,
                target: target.into_value(),
            });
        }
        Ok(views)
    }

    /// Makes a target.
    pub async fn create_target(
        &self,
        who: &Principal,
        new: &NewTarget,
        once: Option<&Once>,
    ) -> Result<Target, AppError> {
        require(who, Permission::TargetEdit)?;
        printable("name", &new.name, 1..=255)?;
        let config = &sound(&new.kind, &new.config)?;
        let made = self.create(who, once, |mut unit| async move {
            let now = self.now();
            self.paths_free(&new.agent, config, None).await?;
            if let Some(id) = &new.id {
                free::<Target>(&mut unit, "target", id).await?;
            }
            match unit.load_opt::<Agent>(&new.agent).await? {
                Some(agent) if agent.retired.is_none() => {}
                Some(agent) => {
                    let message = format!("agent {} ({}) is retired", agent.id, agent.name);
                    return Err(AppError::invalid("agent_id", message));
                }
                None => {
                    let message = format!("there is no agent {}", new.agent);
                    return Err(AppError::invalid("agent_id", message));
                }
            }
            let target = Target {
                id: new.id.clone().unwrap_or_else(|| self.new_id("tgt")),
                name: new.name.clone(),
                kind: new.kind.clone(),
                agent: new.agent.clone(),
                config: new.config.clone(),
                created_at: now,
                updated_at: now,
                retired: None,
            };
            let resource = ("target", target.id.as_str());
            let event = AuditEvent::new(who, Category::Config, "target_created", resource, now)
                .with("name", &target.name)
                .with("type", &target.kind)
                .with("agent", &target.agent);
            audit(&mut unit, &event);
            unit.insert(target.clone());
            Ok((unit, target))
        });
        made.await.map(Made::into_value)
    }

    /// Edits a target. Another type or configuration is deployed to at once: what its certificates
    /// have there now goes where the new one says.
    pub async fn edit_target(
        &self,
        who: &Principal,
        id: &Id,
        expected: &Expected,
        edit: &TargetEdit,
    ) -> Result<Loaded<Target>, AppError> {
        require(who, Permission::TargetEdit)?;
        if let Some(name) = &edit.name {
            printable("name", name, 1..=255)?;
        }
        self.decide(|mut unit| async move {
            let now = self.now();
            let mut target: Loaded<Target> = need(&mut unit, "target", id).await?;
            expected.met_by(&target)?;
            if let Some(retired) = &target.retired {
                let message = format!("target {id} was retired at {}", retired.at);
                return Err(AppError::Conflict(message));
            }
            edit.leaves(&target)?;
            let before = Target::clone(&target);
            let mut event = AuditEvent::new(
                who,
                Category::Config,
                "target_edited",
                ("target", id.as_str()),
                now,
            );
            if let Some(name) = edit.name.as_ref().filter(|name| **name != target.name) {
                event = event.with("name", name).with("name_before", &target.name);
                target.name.clone_from(name);
            }
            target.kind = edit.kind.clone().unwrap_or_else(|| target.kind.clone());
            target.config = edit.config.clone().unwrap_or_else(|| target.config.clone());
            let moved = (&target.kind, &target.config) != (&before.kind, &before.config);
            if moved {
                let config = sound(&target.kind, &target.config)?;
                self.paths_free(&target.agent, &config, Some(id)).await?;
                let deployed = self
                    .deploy_to(&mut unit, &target, config.is_exclusive(), now)
                    .await?;
                event = event
                    .with("type", &target.kind)
                    .with("deployments", deployed);
            }
            if *target == before {
                return Ok((unit, ()));
            }
            target.updated_at = now;
            audit(&mut unit, &event);
            unit.put(target);
            Ok((unit, ()))
        })
        .await?;
        let target = self.store.get::<Target>(id).await?;
        let target = target.ok_or_else(|| AppError::not_found("target", id))?;
        self.doorbell.ring(&target.agent);
        Ok(target)
    }

    /// Refuses a configuration that writes a path of another target of the agent: each of the two
    /// would put its own link back, for ever.
    async fn paths_free(
        &self,
        agent: &Id,
        config: &TargetConfig,
        of: Option<&Id>,
    ) -> Result<(), AppError> {
        let wanted = config.needs().writes;
        if wanted.is_empty() {
            return Ok(());
        }
        let mut after = None;
        loop {
            let of_agent = Key::new().text(agent.as_str()).bytes();
            let page = self
                .store
                .page::<Target>(Scan {
                    after,
                    ..Scan::under(TARGET_AGENT, of_agent, PAGE)
                })
                .await?;
            for other in page.rows.iter().filter(|other| of != Some(&other.id)) {
                let Ok(theirs) = sound(&other.kind, &other.config) else {
                    continue;
                };
                let taken = theirs.needs().writes;
                if let Some(path) = taken.into_iter().find(|path| wanted.contains(path)) {
                    return Err(AppError::Conflict(format!(
                        "config: {} is a path of target {} ({}) on that agent: give each target \
                         paths of its own",
                        path.display(),
                        other.id,
                        other.name
                    )));
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Deploys anew what a target's certificates have now; says how many there are.
    async fn deploy_to(
        &self,
        unit: &mut Unit<'_>,
        target: &Target,
        exclusive: bool,
        now: Time,
    ) -> Result<usize, AppError> {
        let id = &target.id;
        let used = Key::new().text(id.as_str()).bytes();
        let certificates = Scan::under(CERT_TARGET, used, MOST_MOVED + 1);
        let certificates = self.store.scan::<Certificate>(certificates).await?;
        let n = certificates.len();
        if n > MOST_MOVED {
            return Err(AppError::Conflict(format!(
                "target {id} has more than {MOST_MOVED} certificates: make another target, and \
                 move them there"
            )));
        }
        if exclusive && n > 1 {
            return Err(AppError::Conflict(format!(
                "a target of type Site serves one certificate, and {id} has {n}"
            )));
        }
        let mut deployed = 0;
        for certificate in certificates {
            unit.rely_on(&certificate);
            let line = certificate
                .holders
                .get(&Holder::Agent(target.agent.clone()));
            let current = line.and_then(|line| line.current.as_ref());
            let Some(current) = current.filter(|_| certificate.ended().is_none()) else {
                continue;
            };
            let deployment = Deployment::id_of(&current.version, id);
            let Some(mut deployment) = unit.load_opt::<Deployment>(&deployment).await? else {
                continue;
            };
            deployed += 1;
            if !deployment.is_pending() {
                self.deploy_again(unit, &mut deployment, now);
                unit.put(deployment);
                continue;
            }
            // One that has not begun will find the new configuration.
            let job: Loaded<Job> = need(unit, "job", &deployment.job).await?;
            if job.lease().is_some() {
                return Err(AppError::Conflict(format!(
                    "a deployment of certificate {} on target {id} is going on: try again when \
                     job {} has ended",
                    certificate.id, job.id
                )));
            }
        }
        Ok(deployed)
    }

    /// Deletes a target that no certificate has.
    pub async fn delete_target(
        &self,
        who: &Principal,
        id: &Id,
        expected: &Expected,
    ) -> Result<(), AppError> {
        require(who, Permission::TargetDelete)?;
        self.decide(|mut unit| async move {
            let target: Loaded<Target> = need(&mut unit, "target", id).await?;
            expected.met_by(&target)?;
            let used = Key::new().text(id.as_str());
            let certificates = self
                .store
                .count(&Facet::is(CERT_TARGET, used.clone()))
                .await?;
            if certificates > 0 {
                let some = Scan::under(CERT_TARGET, used.bytes(), SHOWN);
                let some = self.store.scan::<Certificate>(some).await?;
                let names: Vec<&str> = some.iter().map(|c| c.id.as_str()).collect();
                let more = if certificates > SHOWN as u64 {
                    " ..."
                } else {
                    ""
                };
                return Err(AppError::Conflict(format!(
                    "target {id} is used by {certificates} certificate(s): {}{more}",
                    names.join(", ")
                )));
            }
            unit.none(CERT_TARGET, used);
            let resource = ("target", id.as_str());
            let now = self.now();
            let event = AuditEvent::new(who, Category::Config, "target_deleted", resource, now)
                .with("name", &target.name)
                .with("type", &target.kind)
                .with("agent", &target.agent);
            audit(&mut unit, &event);
            unit.delete(target);
            Ok((unit, ()))
        })
        .await
    }

    /// One target.
    pub async fn target(&self, who: &Principal, id: &Id) -> Result<Loaded<Target>, AppError> {
        require(who, Permission::TargetRead)?;
        let target = self.store.get(id).await?;
        target.ok_or_else(|| AppError::not_found("target", id))
    }

    /// A page of targets that are not retired, by name.
    pub async fn list_targets(
        &self,
        who: &Principal,
        list: &TargetList,
    ) -> Result<TargetPage, AppError> {
        require(who, Permission::TargetRead)?;
        let agent = list.agent.as_deref();
        let of_agent = agent.map(|agent| Facet::is(TARGET_AGENT, Key::new().text(agent)));
        let page = List::<Target> {
            order: TARGET_NAME,
            backward: false,
            facets: of_agent.into_iter().collect(),
            keep: None,
            after: None,
            skip: list.skip,
            limit: list.limit,
        };
        let question = format!("targets {agent:?}");
        let (listed, next) = self.page(page, list.cursor.as_deref(), &question).await?;
        Ok(TargetPage {
            rows: listed.rows,
            total: listed.total,
            next,
        })
    }

    /// Targets by name.
    pub async fn targets(
        &self,
        who: &Principal,
        limit: usize,
    ) -> Result<Vec<Loaded<Target>>, AppError> {
        require(who, Permission::TargetRead)?;
        Ok(self.store.scan(Scan::all(TARGET_NAME, limit)).await?)
    }
}

/// A configuration as its type reads it.
fn sound(kind: &str, config: &serde_json::Value) -> Result<TargetConfig, AppError> {
    TargetConfig::parse(kind, config).map_err(|e| match e {
        ConfigError::UnknownType(_) => AppError::invalid("type", e),
        _ => AppError::invalid("config", e),
    })
}
