//! Agents joining: tokens, and enrolment by them.

use super::{App, AppError, agents::check_hash, audit, need, printable, require};
use crate::{
    access::Permission,
    agent::protocol::{Enrol, Enrolled, wire_time},
    clock::Time,
    crypt::secret,
    domain::{
        Agent, AuditEvent, Category, JoinToken, NameScope, Principal, PrincipalKind, TokenState,
        agent::REPLACEABLE_AFTER, once::Once,
    },
    id::Id,
    store::{AGENT_GONE, AGENT_NAME, Key, List, Loaded, TOKEN_CREATED, TOKEN_SECRET},
};
use std::time::Duration;

/// The beginning of every join token.
pub const JOIN_TOKEN: &str = "ctj_";

/// A join token to make.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// A name for people; may be empty.
    pub name: String,
    /// How long it lets agents in.
    pub lifetime: Duration,
    /// How many agents it lets in.
    pub max_uses: u32,
    /// It may replace an agent that has been silent for ten minutes.
    pub replace: bool,
    /// The names it lets in; `None`: any.
    pub names: Option<NameScope>,
}

/// A join token as it stands.
#[derive(Debug, Clone)]
pub struct TokenView {
    /// The token.
    pub token: JoinToken,
    /// How many agents it has let in.
    pub uses: u32,
    /// Whether it lets in more.
    pub state: TokenState,
}

/// A page of join tokens, newest first.
#[derive(Debug)]
pub struct TokenPage {
    /// The tokens.
    pub rows: Vec<TokenView>,
    /// How many there are.
    pub total: Option<u64>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// A join token, with its secret, which is shown this once.
#[derive(Clone)]
pub struct TokenMade {
    /// Its id.
    pub id: Id,
    /// The secret.
    pub token: String,
    /// Its end.
    pub expires_at: Time,
    /// The system CA's public key: `sha256:` and lower hex.
    pub ca_pin: String,
}

impl App {
    /// Makes a join token.
    pub async fn create_token(
        &self,
        who: &Principal,
        new: &NewToken,
        once: Option<&Once>,
    ) -> Result<TokenMade, AppError> {
        require(who, Permission::AgentEdit)?;
        const WEEK: Duration = Duration::from_secs(7 * 86_400);
        if new.lifetime.is_zero() || new.lifetime > WEEK {
            return Err(AppError::invalid(
                "expires_in_seconds",
                "1 to 604800 (a week) is accepted",
            ));
        }
        if !(1..=10_000).contains(&new.max_uses) {
            return Err(AppError::invalid("max_uses", "1 to 10000 is accepted"));
        }
        printable("name", &new.name, 0..=128)?;
        let secret = &secret::generate(JOIN_TOKEN, &*self.rng);
        let token = self
            .create(who, once, |mut unit| async move {
                let now = self.now();
                let token = JoinToken {
                    id: self.new_id("tok"),
                    name: new.name.clone(),
                    secret_sha256: secret::hash(secret),
                    expires_at: now.plus(new.lifetime),
                    max_uses: new.max_uses,
                    replace: new.replace,
                    names: new.names.clone(),
                    revoked_at: None,
                    created_at: now,
                };
                let resource = ("join_token", token.id.as_str());
                let mut event =
                    AuditEvent::new(who, Category::Auth, "join_token_created", resource, now)
                        .with("expires_at", token.expires_at)
                        .with("max_uses", token.max_uses)
                        .with("replace", token.replace);
                if let Some(names) = &token.names {
                    event = event.with("for", names);
                }
                audit(&mut unit, &event);
                unit.insert(token.clone());
                Ok((unit, token))
            })
            .await?
            .with_secret()?;
        Ok(TokenMade {
            id: token.id,
            token: secret.to_string(),
            expires_at: token.expires_at,
            ca_pin: self.system_ca.pin(),
        })
    }

    /// Join tokens, newest first: `limit` of them after `cursor`, or after the first `skip`.
    pub async fn join_tokens(
        &self,
        who: &Principal,
        cursor: Option<&str>,
        skip: usize,
        limit: usize,
    ) -> Result<TokenPage, AppError> {
        const QUESTION: &str = "join tokens";
        require(who, Permission::AgentRead)?;
        let page = List::<JoinToken> {
            order: TOKEN_CREATED,
            backward: true,
            facets: Vec::new(),
            keep: None,
            after: None,
            skip,
            limit,
        };
        let (listed, next) = self.page(page, cursor, QUESTION).await?;
        let mut rows = Vec::with_capacity(listed.rows.len());
        for token in listed.rows {
            rows.push(self.token_view(token.into_value()).await?);
        }
        Ok(TokenPage {
            rows,
            total: listed.total,
            next,
        })
    }

    /// One join token.
    pub async fn join_token(&self, who: &Principal, id: &Id) -> Result<TokenView, AppError> {
        require(who, Permission::AgentRead)?;
        let token = self.store.get::<JoinToken>(id).await?;
        let token = token.ok_or_else(|| AppError::not_found("join token", id))?;
        self.token_view(token.into_value()).await
    }

    async fn token_view(&self, token: JoinToken) -> Result<TokenView, AppError> {
        let uses = self.store.counter(uses_of(&token.id)).await?;
        Ok(TokenView {
            uses: u32::try_from(uses).unwrap_or(u32::MAX),
            state: token.state(self.now(), uses),
            token,
        })
    }

    /// Revokes a join token: it lets nobody in any more. One that is revoked stays so.
    pub async fn revoke_token(&self, who: &Principal, id: &Id) -> Result<(), AppError> {
        require(who, Permission::AgentEdit)?;
        self.decide(|mut unit| async move {
            let now = self.now();
            let mut token: Loaded<JoinToken> = need(&mut unit, "join token", id).await?;
            if token.revoked_at.is_none() {
                token.revoked_at = Some(now);
                let resource = ("join_token", id.as_str());
                let event =
                    AuditEvent::new(who, Category::Auth, "join_token_revoked", resource, now);
                audit(&mut unit, &event);
                unit.put(token);
            }
            Ok((unit, ()))
        })
        .await
    }

    /// Lets an agent in. The same name and secret again answer the same agent, by the token that let
    /// it in or by one that lets agents in; a token never takes over a live one.
    pub async fn enrol(&self, wish: &Enrol) -> Result<Enrolled, AppError> {
        check(wish)?;
        let agent = match self.admit(wish).await {
            // Name or last use were taken meanwhile, perhaps by this very agent's other call.
            Err(AppError::Conflict(_) | AppError::Limited { .. }) => self.admit(wish).await?,
            admitted => admitted?,
        };
        self.heard.hear(&agent.id, self.now());
        Ok(Enrolled {
            agent_id: agent.id,
            system_ca_pem: self.system_ca.certificate_pem().to_owned(),
            server_time: wire_time(self.now()),
        })
    }

    async fn admit(&self, wish: &Enrol) -> Result<Agent, AppError> {
        self.decide(|mut unit| async move {
            let now = self.now();
            let by_secret = Key::new().text(&secret::hash(&wish.token));
            let token = self
                .store
                .first::<JoinToken>(TOKEN_SECRET, by_secret)
                .await?;
            let token = token.ok_or(REFUSED)?;
            let token: Loaded<JoinToken> = need(&mut unit, "join token", &token.id).await?;
            let by = Principal::new(PrincipalKind::Agent, format!("join_token:{}", token.id));
            let by_name = Key::new().text(&wish.name);
            let namesake = self.store.first::<Agent>(AGENT_NAME, by_name).await?;
            let uses = uses_of(&token.id);
            let used = self.store.counter(uses.clone()).await?;
            let valid = token.state(now, used) == TokenState::Valid;
            self.not_gone(&wish.secret_sha256).await?;
            if let Some(a) = &namesake
                && (valid || a.joined_by == token.id)
                && secret::same(&a.secret_sha256, &wish.secret_sha256)
            {
                return Ok((unit, (**a).clone()));
            }
            if !valid {
                return Err(REFUSED);
            }
            if let Some(names) = token.names.as_ref().filter(|names| !names.has(&wish.name)) {
                return Err(AppError::Reserved(format!(
                    "name: this join token is for {names}, not for {:?}",
                    wish.name
                )));
            }
            unit.add(uses, 1, token.max_uses.into());
            let action;
            let mut old_hostname = None;
            let agent = match namesake {
                None => {
                    action = "agent_enrolled";
                    let agent = Agent {
                        id: self.new_id("agt"),
                        name: wish.name.clone(),
                        hostname: wish.hostname.clone(),
                        os: wish.os.clone(),
                        architecture: wish.architecture.clone(),
                        version: wish.version.clone(),
                        secret_sha256: wish.secret_sha256.clone(),
                        secret_since: None,
                        next_secret_sha256: None,
                        last_secret_sha256: None,
                        joined_by: token.id.clone(),
                        enrolled_at: now,
                        keys_lost_at: None,
                        retired: None,
                        leaving_since: None,
                    };
                    unit.insert(agent.clone());
                    agent
                }
                Some(a) => {
                    action = "agent_replaced";
                    let mut agent: Loaded<Agent> = need(&mut unit, "agent", &a.id).await?;
                    // What was heard since the last write is lost by a crash: enrolling counts
                    // too. Nobody is silent while nobody listens, as before this process began.
                    let live = now.since(agent.enrolled_at) < REPLACEABLE_AFTER
                        || now.since(self.started_at) < REPLACEABLE_AFTER
                        || self.heard_within(&agent.id, REPLACEABLE_AFTER).await?;
                    if live || !token.replace {
                        return Err(AppError::Conflict(format!(
                            "an agent named {} is enrolled. It can be replaced when it has \
                                 been silent for 10 minutes while this server ran, and the join \
                                 token was made to replace",
                            wish.name
                        )));
                    }
                    agent.secret_sha256 = wish.secret_sha256.clone();
                    agent.secret_since = None;
                    agent.next_secret_sha256 = None;
                    agent.last_secret_sha256 = None;
                    old_hostname = Some(agent.hostname.clone());
                    agent.hostname = wish.hostname.clone();
                    agent.os = wish.os.clone();
                    agent.architecture = wish.architecture.clone();
                    agent.version = wish.version.clone();
                    agent.joined_by = token.id.clone();
                    agent.enrolled_at = now;
                    agent.keys_lost_at = Some(now);
                    let value = (*agent).clone();
                    unit.put(agent);
                    value
                }
            };
            let resource = ("agent", agent.id.as_str());
            let mut event = AuditEvent::new(&by, Category::Auth, action, resource, now)
                .with("name", &agent.name)
                .with("hostname", &agent.hostname);
            if let Some(old) = old_hostname {
                event = event.with("old_hostname", old);
            }
            audit(&mut unit, &event);
            Ok((unit, agent))
        })
        .await
    }

    /// Refuses a secret that was a retired agent's.
    async fn not_gone(&self, secret_sha256: &str) -> Result<(), AppError> {
        let by_secret = Key::new().text(secret_sha256);
        let gone = self.store.first::<Agent>(AGENT_GONE, by_secret).await?;
        match gone.and_then(|agent| agent.into_value().retired) {
            Some(retired) => Err(AppError::Retired {
                at: retired.at,
                reason: retired.reason,
            }),
            None => Ok(()),
        }
    }
}

const REFUSED: AppError = AppError::Unauthenticated(
    "this join token is unknown, has expired, was revoked, or has been used up",
);

/// The counter of a join token's uses.
fn uses_of(token: &Id) -> Key {
    Key::new().text("join_token").text(token.as_str())
}

fn check(wish: &Enrol) -> Result<(), AppError> {
    let texts = [
        ("name", &wish.name, 1),
        ("hostname", &wish.hostname, 0),
        ("os", &wish.os, 0),
        ("architecture", &wish.architecture, 0),
        ("version", &wish.version, 0),
    ];
    for (field, text, least) in texts {
        printable(field, text, least..=128)?;
    }
    check_hash(&wish.secret_sha256)
}
