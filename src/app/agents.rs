//! Agents joining.

use super::{App, AppError, audit, need, require};
use crate::{
    access::Permission,
    agent::protocol::{Enrol, Enrolled, wire_time},
    clock::Time,
    crypt::secret,
    domain::{
        Agent, AuditEvent, Category, JoinToken, Presence, Principal, PrincipalKind,
        agent::{ONLINE_WITHIN, REPLACEABLE_AFTER},
    },
    id::Id,
    store::{AGENT_NAME, Key, Loaded, TOKEN_SECRET},
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
}

/// A join token, with its secret, which is shown this once.
#[derive(Debug, Clone)]
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
        if new.name.len() > 128 {
            return Err(AppError::invalid("name", "128 characters at most"));
        }
        let secret = &secret::generate(JOIN_TOKEN, &*self.rng);
        let token = self
            .decide(|mut unit| async move {
                let now = self.now();
                let token = JoinToken {
                    id: self.new_id("tok"),
                    name: new.name.clone(),
                    secret_sha256: secret::hash(secret),
                    expires_at: now.plus(new.lifetime),
                    max_uses: new.max_uses,
                    uses: 0,
                    replace: new.replace,
                    created_at: now,
                };
                let resource = ("join_token", token.id.as_str());
                let event =
                    AuditEvent::new(who, Category::Auth, "join_token_created", resource, now)
                        .with("expires_at", token.expires_at)
                        .with("max_uses", token.max_uses)
                        .with("replace", token.replace);
                audit(&mut unit, &event);
                unit.insert(token.clone());
                Ok((unit, token))
            })
            .await?;
        Ok(TokenMade {
            id: token.id,
            token: secret.to_string(),
            expires_at: token.expires_at,
            ca_pin: self.system_ca.pin(),
        })
    }

    /// Lets an agent in. The same name and secret again are the same agent, by the token that let
    /// it in, even over, or by any valid one; a token never takes over a live agent.
    pub async fn enrol(&self, wish: &Enrol) -> Result<Enrolled, AppError> {
        check(wish)?;
        let agent = self
            .decide(|mut unit| async move {
                let now = self.now();
                let Some(token) = self.store.first::<JoinToken>(TOKEN_SECRET, Key::new().text(&secret::hash(&wish.token))).await? else {
                    return Err(REFUSED);
                };
                let mut token: Loaded<JoinToken> = need(&mut unit, "join token", &token.id).await?;
                let by = Principal {
                    kind: PrincipalKind::Agent,
                    name: format!("join_token:{}", token.id),
                    role: None,
                    agent: None,
                };
                let namesake = self.store.first::<Agent>(AGENT_NAME, Key::new().text(&wish.name)).await?;
                if let Some(a) = &namesake
                    && secret::same(&a.secret_sha256, &wish.secret_sha256)
                    && (a.joined_by == token.id || token.is_valid(now))
                {
                    return Ok((unit, (**a).clone()));
                }
                if !token.is_valid(now) {
                    return Err(REFUSED);
                }
                token.uses += 1;
                let action;
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
                            joined_by: token.id.clone(),
                            enrolled_at: now,
                        };
                        unit.insert(agent.clone());
                        agent
                    }
                    Some(a) => {
                        action = "agent_replaced";
                        // What was heard since the last write is lost by a crash: enrolling counts too.
                        let live = now.since(a.enrolled_at) < REPLACEABLE_AFTER
                            || self.heard_within(&a.id, REPLACEABLE_AFTER).await?;
                        if live || !token.replace {
                            return Err(AppError::Conflict(format!(
                                "an agent named {} is enrolled. It can be replaced when it has been \
                                 silent for 10 minutes and the join token was made to replace",
                                wish.name
                            )));
                        }
                        let mut agent: Loaded<Agent> = need(&mut unit, "agent", &a.id).await?;
                        agent.secret_sha256 = wish.secret_sha256.clone();
                        agent.hostname = wish.hostname.clone();
                        agent.version = wish.version.clone();
                        agent.joined_by = token.id.clone();
                        agent.enrolled_at = now;
                        let value = (*agent).clone();
                        unit.put(agent);
                        value
                    }
                };
                let resource = ("agent", agent.id.as_str());
                let event = AuditEvent::new(&by, Category::Auth, action, resource, now)
                    .with("name", &agent.name)
                    .with("hostname", &agent.hostname);
                audit(&mut unit, &event);
                unit.put(token);
                Ok((unit, agent))
            })
            .await?;
        self.heard.hear(&agent.id, self.now());
        Ok(Enrolled {
            agent_id: agent.id,
            system_ca_pem: self.system_ca.certificate_pem().to_owned(),
            server_time: wire_time(self.now()),
        })
    }

    /// When an agent was last heard, by this process or another.
    pub async fn last_heard(&self, agent: &Id) -> Result<Option<Time>, AppError> {
        let written = self.store.get::<Presence>(agent).await?.map(|p| p.heard_at);
        Ok(written.max(self.heard.last(agent)))
    }

    /// Whether an agent counts as online.
    pub async fn is_online(&self, agent: &Id) -> Result<bool, AppError> {
        self.heard_within(agent, ONLINE_WITHIN).await
    }

    async fn heard_within(&self, agent: &Id, time: Duration) -> Result<bool, AppError> {
        let heard = self.last_heard(agent).await?;
        Ok(heard.is_some_and(|at| self.now().since(at) < time))
    }

    /// Writes down when agents were heard, in one commit.
    pub(crate) async fn write_heard(&self) -> Result<(), AppError> {
        let beats = self.heard.take_unwritten();
        for some in beats.chunks(256) {
            self.decide(|mut unit| async move {
                for (id, at) in some {
                    let id: &Id = id;
                    match unit.load_opt::<Presence>(id).await? {
                        Some(mut presence) => {
                            presence.heard_at = *at;
                            unit.put(presence);
                        }
                        None => unit.insert(Presence {
                            id: id.clone(),
                            heard_at: *at,
                        }),
                    }
                }
                Ok((unit, ()))
            })
            .await?;
        }
        Ok(())
    }
}

const REFUSED: AppError =
    AppError::Unauthenticated("this join token is unknown, has expired, or has been used up");

fn check(wish: &Enrol) -> Result<(), AppError> {
    let texts = [
        ("name", &wish.name, 1),
        ("hostname", &wish.hostname, 0),
        ("os", &wish.os, 0),
        ("architecture", &wish.architecture, 0),
        ("version", &wish.version, 0),
    ];
    for (field, text, least) in texts {
        if text.len() < least || text.len() > 128 || text.chars().any(char::is_control) {
            return Err(AppError::invalid(
                field,
                format!("{least} to 128 printable characters are accepted"),
            ));
        }
    }
    let hash = &wish.secret_sha256;
    if hash.len() != 64 || !hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(AppError::invalid(
            "secret_sha256",
            "64 lower-case hexadecimal digits are expected",
        ));
    }
    Ok(())
}
