//! Agents as they stand: which there are, when they were heard, what hangs on them, and their
//! credentials.

use super::{App, AppError, audit, need, require, require_agent, work::executor_key};
use crate::{
    access::Permission,
    agent::protocol::{Pong, wire_time},
    clock::Time,
    domain::{
        Agent, AgentStatus, AuditEvent, Category, Certificate, Deployment, DeploymentState, Job,
        Presence, Principal, Said, Skew, Target,
        agent::{self, ONLINE_WITHIN},
    },
    id::Id,
    store::{
        AGENT_ENROLLED, AGENT_NAME, AGENT_OS, AGENT_RETIRED, AGENT_VERSION, CERT_AGENT,
        DEPLOYMENT_OPEN, Facet, JOB_DUE, JOB_LEASED, Key, List, Loaded, PRESENCE_HEARD, Scan,
        TARGET_AGENT,
    },
};
use std::{collections::BTreeMap, time::Duration};

/// The version of this server, and of the agents it goes with.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Of the targets, certificates and jobs of one agent so many are shown each.
const SHOWN: usize = 100;
/// Agents of which a list by status knows whether they were heard.
const HEARD_AT_MOST: usize = 100_000;
/// A call that an agent began before it took its new secret may arrive this much later.
const IN_FLIGHT: Duration = Duration::from_secs(60);
/// An agent that was written down so long ago is written down at once when it comes again.
const AWAY: Duration = Duration::from_secs(120);
/// A superseded secret that is shown is told of once in this time.
const TOLD_EVERY: Duration = Duration::from_secs(3_600);

/// What hangs on an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dependents {
    /// Targets that are not retired.
    pub targets: u64,
    /// Certificates of which it holds a key.
    pub certificates: u64,
    /// Jobs that have not ended.
    pub jobs: u64,
}

impl Dependents {
    /// Whether there is anything.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

/// An agent as the doors show it.
#[derive(Debug, Clone)]
pub struct AgentView {
    /// The agent.
    pub agent: Agent,
    /// When it was last heard.
    pub heard_at: Option<Time>,
    /// What it last said of itself.
    pub said: Said,
    /// Whether it can be relied on.
    pub status: AgentStatus,
    /// How its version stands to the server's.
    pub skew: Skew,
    /// What is wrong, each a sentence.
    pub problems: Vec<String>,
    /// What hangs on it.
    pub dependents: Dependents,
}

/// One agent, with what hangs on it.
#[derive(Debug, Clone)]
pub struct AgentDetail {
    /// The agent.
    pub view: AgentView,
    /// Its targets, and why the first deployment that failed there did.
    pub targets: Vec<(Target, Option<String>)>,
    /// Certificates of which it holds a key.
    pub certificates: Vec<Certificate>,
    /// Its jobs that have not ended.
    pub jobs: Vec<Job>,
}

/// Which agents to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentFilter {
    /// Those of a status.
    pub status: Option<AgentStatus>,
    /// The one of a name.
    pub name: Option<String>,
    /// Those of a version.
    pub version: Option<String>,
    /// Those of an operating system.
    pub os: Option<String>,
    /// Those that are retired, and no others.
    pub retired: bool,
}

/// A page of agents, the newest first.
#[derive(Debug)]
pub struct AgentPage {
    /// The agents.
    pub rows: Vec<AgentView>,
    /// How many there are on all pages, where that is known.
    pub total: Option<u64>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

impl App {
    /// A page of agents: `limit` of them after `cursor`, or after the first `skip`.
    pub async fn agents(
        &self,
        who: &Principal,
        filter: &AgentFilter,
        cursor: Option<&str>,
        skip: usize,
        limit: usize,
    ) -> Result<AgentPage, AppError> {
        require(who, Permission::AgentRead)?;
        let mut facets = Vec::new();
        for (index, text) in [
            (AGENT_NAME, &filter.name),
            (AGENT_VERSION, &filter.version),
            (AGENT_OS, &filter.os),
        ] {
            if let Some(text) = text {
                facets.push(Facet::is(index, Key::new().text(text)));
            }
        }
        let order = if filter.retired {
            AGENT_RETIRED
        } else {
            AGENT_ENROLLED
        };
        let now = self.now();
        let of_late = match filter.status {
            Some(_) => self.heard_of_late(now).await?,
            None => BTreeMap::new(),
        };
        let of_status = |agent: &Agent| {
            let said = of_late.get(&agent.id);
            Some(status(agent, said.is_some(), said.unwrap_or(&NOTHING), now)) == filter.status
        };
        if filter.status.is_some() && facets.is_empty() {
            // A list that is short enough is sorted, and its total known.
            facets.push(Facet::any(order));
        }
        let page = List::<Agent> {
            order,
            backward: true,
            facets,
            keep: filter.status.is_some().then_some(&of_status),
            after: None,
            skip,
            limit,
        };
        let question = format!("agents {filter:?}");
        let (listed, next) = self.page(page, cursor, &question).await?;
        let mut rows = Vec::with_capacity(listed.rows.len());
        for agent in listed.rows {
            rows.push(self.agent_view(agent.into_value(), now).await?);
        }
        Ok(AgentPage {
            rows,
            total: listed.total,
            next,
        })
    }

    /// One agent, retired ones too, with what hangs on it.
    pub async fn agent(&self, who: &Principal, id: &Id) -> Result<AgentDetail, AppError> {
        require(who, Permission::AgentRead)?;
        let agent = self.store.get::<Agent>(id).await?;
        let agent = agent.ok_or_else(|| AppError::not_found("agent", id))?;
        let of_agent = Key::new().text(id.as_str()).bytes();
        let scan = Scan::under(TARGET_AGENT, of_agent.clone(), SHOWN);
        let mut targets = Vec::new();
        for target in self.store.scan::<Target>(scan).await? {
            let problem = self.failed_on(&target.id).await?;
            targets.push((target.into_value(), problem));
        }
        let scan = Scan::under(CERT_AGENT, of_agent, SHOWN);
        let certificates = self.store.scan::<Certificate>(scan).await?;
        let mut jobs = Vec::new();
        for index in [JOB_LEASED, JOB_DUE] {
            let scan = Scan::under(index, executor_key(id).bytes(), SHOWN);
            let some = self.store.scan::<Job>(scan).await?;
            jobs.extend(some.into_iter().map(Loaded::into_value));
        }
        Ok(AgentDetail {
            view: self.agent_view(agent.into_value(), self.now()).await?,
            targets,
            certificates: certificates.into_iter().map(Loaded::into_value).collect(),
            jobs,
        })
    }

    /// Why a deployment on a target failed, if one of those that are open did.
    async fn failed_on(&self, target: &Id) -> Result<Option<String>, AppError> {
        let of_target = Key::new().text(target.as_str()).bytes();
        let scan = Scan::under(DEPLOYMENT_OPEN, of_target, SHOWN);
        let open = self.store.scan::<Deployment>(scan).await?;
        let mut reasons =
            open.into_iter()
                .filter_map(|deployment| match deployment.into_value().state {
                    DeploymentState::Failed { reason, .. } => Some(reason),
                    _ => None,
                });
        Ok(reasons.next())
    }

    async fn agent_view(&self, agent: Agent, now: Time) -> Result<AgentView, AppError> {
        let presence = self.presence(&agent.id).await?;
        let heard_at = presence.as_ref().map(|p| p.heard_at);
        let said = presence.map(|p| p.said).unwrap_or_default();
        let heard = heard_at.is_some_and(|at| now.since(at) < ONLINE_WITHIN);
        let heard = heard && agent.retired.is_none();
        Ok(AgentView {
            status: status(&agent, heard, &said, now),
            problems: if agent.retired.is_none() {
                agent::problems(&agent, &said, VERSION, now)
            } else {
                Vec::new()
            },
            skew: Skew::between(&agent.version, VERSION),
            dependents: self.dependents(&agent.id).await?,
            heard_at,
            said,
            agent,
        })
    }

    /// What hangs on an agent.
    pub(super) async fn dependents(&self, agent: &Id) -> Result<Dependents, AppError> {
        let of_agent = || Key::new().text(agent.as_str());
        let count = async |index, key| self.store.count(&Facet::is(index, key)).await;
        Ok(Dependents {
            targets: count(TARGET_AGENT, of_agent()).await?,
            certificates: count(CERT_AGENT, of_agent()).await?,
            jobs: count(JOB_DUE, executor_key(agent)).await?
                + count(JOB_LEASED, executor_key(agent)).await?,
        })
    }

    /// When an agent was last heard by this process or another, and what it said.
    async fn presence(&self, agent: &Id) -> Result<Option<Presence>, AppError> {
        let written = self.store.get::<Presence>(agent).await?;
        let written = written.map(Loaded::into_value);
        let Some(heard_at) = self.heard.last(agent) else {
            return Ok(written);
        };
        let written = written.map_or((heard_at, Said::default()), |p| (p.heard_at, p.said));
        // Of two processes that heard it, the later one knows what it says.
        let said = self.heard.said(agent).filter(|_| heard_at >= written.0);
        Ok(Some(Presence {
            id: agent.clone(),
            heard_at: heard_at.max(written.0),
            said: said.unwrap_or(written.1),
        }))
    }

    /// The agents that count as online, with what they said.
    async fn heard_of_late(&self, now: Time) -> Result<BTreeMap<Id, Said>, AppError> {
        let after = now.minus(ONLINE_WITHIN);
        let scan = Scan {
            from: Key::new().time(after.next()).bytes(),
            ..Scan::all(PRESENCE_HEARD, HEARD_AT_MOST)
        };
        let mut of_late: BTreeMap<Id, Said> = BTreeMap::new();
        for presence in self.store.scan::<Presence>(scan).await? {
            let Presence { id, said, .. } = presence.into_value();
            of_late.insert(id, said);
        }
        for (id, _) in self.heard.since(after) {
            let said = self.heard.said(&id);
            let known = of_late.entry(id).or_default();
            if let Some(said) = said {
                *known = said;
            }
        }
        Ok(of_late)
    }

    /// When an agent was last heard, by this process or another.
    pub async fn last_heard(&self, agent: &Id) -> Result<Option<Time>, AppError> {
        Ok(self.presence(agent).await?.map(|p| p.heard_at))
    }

    /// Whether an agent counts as online.
    pub async fn is_online(&self, agent: &Id) -> Result<bool, AppError> {
        self.heard_within(agent, ONLINE_WITHIN).await
    }

    pub(super) async fn heard_within(&self, agent: &Id, time: Duration) -> Result<bool, AppError> {
        let presence = self.presence(agent).await?;
        Ok(presence.is_some_and(|p| self.now().since(p.heard_at) < time))
    }

    /// Takes an agent's word on itself. Its row is written only when it runs another version.
    pub async fn hear_of(
        &self,
        who: &Principal,
        agent: &Id,
        said: Said,
        version: Option<&str>,
    ) -> Result<(), AppError> {
        let agent = require_agent(who, agent)?;
        let version = version.filter(|v| (1..=128).contains(&v.len()));
        let version = version.filter(|v| !v.chars().any(char::is_control));
        if !self.heard.hear_of(agent, self.now(), said, version) {
            return Ok(());
        }
        let Some(version) = version else {
            return Ok(());
        };
        self.decide(|mut unit| async move {
            let mut agent: Loaded<Agent> = need(&mut unit, "agent", agent).await?;
            if agent.version != version {
                agent.version = version.to_owned();
                unit.put(agent);
            }
            Ok((unit, ()))
        })
        .await
    }

    /// Tells an agent that its way here is good. It does not count as hearing from it: whoever
    /// tries the way is perhaps not the agent itself.
    pub async fn pong(&self, who: &Principal, id: &Id) -> Result<Pong, AppError> {
        let id = require_agent(who, id)?;
        let agent = self.store.get::<Agent>(id).await?;
        let agent = agent.ok_or_else(|| AppError::not_found("agent", id))?;
        Ok(Pong {
            agent_id: id.clone(),
            name: agent.name.clone(),
            server_version: VERSION.into(),
            server_time: wire_time(self.now()),
            credential_since: wire_time(agent.secret_since()),
        })
    }

    /// Takes the hash of the secret that an agent will use next. The present one is over when the
    /// next one is first used.
    pub async fn offer_secret(
        &self,
        who: &Principal,
        id: &Id,
        secret_sha256: &str,
    ) -> Result<(), AppError> {
        let id = require_agent(who, id)?;
        check_hash(secret_sha256)?;
        self.decide(|mut unit| async move {
            let mut agent: Loaded<Agent> = need(&mut unit, "agent", id).await?;
            if agent.last_secret_sha256.as_deref() == Some(secret_sha256) {
                return Err(AppError::invalid(
                    "secret_sha256",
                    "this secret was in use before: make a new one",
                ));
            }
            let known = [
                Some(&agent.secret_sha256),
                agent.next_secret_sha256.as_ref(),
            ];
            if known
                .into_iter()
                .flatten()
                .all(|hash| hash != secret_sha256)
            {
                agent.next_secret_sha256 = Some(secret_sha256.to_owned());
                unit.put(agent);
            }
            Ok((unit, ()))
        })
        .await
    }

    /// The next secret of an agent, of this hash, was used: it takes the place of the present one.
    pub(super) async fn rotate_secret(
        &self,
        who: &Principal,
        id: &Id,
        secret_sha256: &str,
    ) -> Result<(), AppError> {
        self.decide(|mut unit| async move {
            let now = self.now();
            let mut agent: Loaded<Agent> = need(&mut unit, "agent", id).await?;
            if agent.next_secret_sha256.as_deref() == Some(secret_sha256) {
                let since = agent.secret_since();
                agent.rotate(now);
                let resource = ("agent", id.as_str());
                let event = AuditEvent::new(
                    who,
                    Category::Auth,
                    "agent_credential_rotated",
                    resource,
                    now,
                )
                .with("in_use_since", since);
                audit(&mut unit, &event);
                unit.put(agent);
            }
            Ok((unit, ()))
        })
        .await
    }

    /// Somebody shows a secret of an agent that another one took the place of.
    pub(super) async fn tell_of_superseded(&self, who: &Principal, agent: &Agent) {
        let now = self.now();
        if now.since(agent.secret_since()) < IN_FLIGHT {
            return;
        }
        let told = self.decide(|mut unit| async move {
            let resource = ("agent", agent.id.as_str());
            let event = AuditEvent::new(
                who,
                Category::Auth,
                "agent_credential_superseded_used",
                resource,
                now,
            )
            .with("superseded_at", agent.secret_since());
            audit(&mut unit, &event);
            let bucket = Key::new().text("superseded").text(agent.id.as_str());
            unit.take(bucket, 1, TOLD_EVERY, 1);
            Ok((unit, ()))
        });
        match told.await {
            Ok(()) => tracing::warn!(
                agent = %agent.id, name = agent.name,
                "a credential of this agent was used that another one took the place of: it may \
                 have been stolen, or its host was set back to an earlier state"
            ),
            Err(AppError::Limited { .. }) => {}
            Err(error) => tracing::warn!(agent = %agent.id, %error, "not told of"),
        }
    }

    /// Writes down when agents were heard, and what they said, in one commit.
    pub(crate) async fn write_heard(&self) -> Result<(), AppError> {
        self.write_beats(self.heard.unwritten(Duration::ZERO)).await
    }

    /// Writes down which agents have come of late, so that other servers know of them.
    pub(crate) async fn write_arrivals(&self) -> Result<(), AppError> {
        if !self.store.is_shared() {
            return Ok(());
        }
        self.write_beats(self.heard.unwritten(AWAY)).await
    }

    async fn write_beats(&self, beats: Vec<(Id, Time)>) -> Result<(), AppError> {
        for some in beats.chunks(256) {
            self.decide(|mut unit| async move {
                for (id, at) in some {
                    let id: &Id = id;
                    let said = self.heard.said(id);
                    match unit.load_opt::<Presence>(id).await? {
                        // Another server has heard it since then.
                        Some(presence) if presence.heard_at > *at => {}
                        Some(mut presence) => {
                            presence.heard_at = *at;
                            if let Some(said) = said {
                                presence.said = said;
                            }
                            unit.put(presence);
                        }
                        None => unit.insert(Presence {
                            id: id.clone(),
                            heard_at: *at,
                            said: said.unwrap_or_default(),
                        }),
                    }
                }
                Ok((unit, ()))
            })
            .await?;
            self.heard.written(some);
        }
        Ok(())
    }
}

const NOTHING: Said = Said {
    clock_ahead_ms: None,
    restoring: false,
};

fn status(agent: &Agent, heard: bool, said: &Said, now: Time) -> AgentStatus {
    if !heard {
        AgentStatus::Offline
    } else if agent::problems(agent, said, VERSION, now).is_empty() {
        AgentStatus::Online
    } else {
        AgentStatus::Degraded
    }
}

/// Refuses what is no SHA-256 in lower hex.
pub(super) fn check_hash(hash: &str) -> Result<(), AppError> {
    if hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(AppError::invalid(
        "secret_sha256",
        "64 lower-case hexadecimal digits are expected",
    ))
}
