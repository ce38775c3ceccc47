//! Targets.

use super::{App, AppError, audit, free, printable, require};
use crate::{
    access::Permission,
    deploy::config::{ConfigError, TargetConfig},
    domain::{Agent, AuditEvent, Category, Principal, Target},
    id::Id,
    store::{Loaded, Scan, TARGET_NAME},
};

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

impl App {
    /// Makes a target.
    pub async fn create_target(
        &self,
        who: &Principal,
        new: &NewTarget,
    ) -> Result<Target, AppError> {
        require(who, Permission::TargetEdit)?;
        printable("name", &new.name, 1..=255)?;
        TargetConfig::parse(&new.kind, &new.config).map_err(|e| match e {
            ConfigError::UnknownType(_) => AppError::invalid("type", e),
            _ => AppError::invalid("config", e),
        })?;
        self.decide(|mut unit| async move {
            let now = self.now();
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
        })
        .await
    }

    /// One target.
    pub async fn target(&self, who: &Principal, id: &Id) -> Result<Loaded<Target>, AppError> {
        require(who, Permission::TargetRead)?;
        let target = self.store.get(id).await?;
        target.ok_or_else(|| AppError::not_found("target", id))
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
