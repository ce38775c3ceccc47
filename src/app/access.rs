//! Who is there: credentials to principals, and browser sessions.

use super::{App, AppError, audit};
use crate::{
    crypt::secret,
    domain::{
        Agent, ApiKey, AuditEvent, Category, Principal, PrincipalKind, Retired, Session,
        agent::SecretIs,
    },
    id::Id,
    store::{KEY_SECRET, Key, Loaded, SESSION_EXPIRY, SESSION_SECRET, Scan},
};
use std::time::Duration;

/// How long a browser session lasts.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// The beginning of every key.
pub const API_KEY: &str = "ctl_";
/// The beginning of every agent's credential.
pub const AGENT_CREDENTIAL: &str = "cta_";
/// The beginning of every session's secret.
const SESSION: &str = "cts_";
/// Ended sessions that a sign-in clears away.
const CLEARED_AT_ONCE: usize = 16;

/// What a caller shows.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// `Authorization: Bearer`, a key or an agent's credential.
    Bearer(&'a str),
    /// A session cookie's value.
    Session(&'a str),
    /// A connection through the local socket, as this user of the machine.
    Local(u32),
}

impl App {
    /// Says who a caller is.
    pub async fn authenticate(&self, credential: Credential<'_>) -> Result<Principal, AppError> {
        match credential {
            Credential::Bearer(text) if text.starts_with(AGENT_CREDENTIAL) => {
                self.agent_principal(text).await
            }
            Credential::Bearer(text) => {
                let key = self.key(text).await?;
                Ok(principal(PrincipalKind::APIKey, &key))
            }
            Credential::Session(text) => {
                let (_, key) = self.session(text).await?;
                Ok(principal(PrincipalKind::User, &key))
            }
            Credential::Local(uid) => Ok(Principal {
                kind: PrincipalKind::User,
                name: format!("local:{uid}"),
                role: Some(crate::access::Role::Admin.id().into()),
                agent: None,
            }),
        }
    }

    /// Opens a browser session for the holder of a key; returns the cookie's value.
    pub async fn sign_in(&self, key: &str) -> Result<String, AppError> {
        let key = &self.key(key.trim()).await?;
        let who = &principal(PrincipalKind::User, key);
        let cookie = &secret::generate(SESSION, &*self.rng);
        self.decide(|mut unit| async move {
            let now = self.now();
            for ended in self
                .store
                .scan::<Session>(Scan {
                    below: Some(Key::new().time(now).bytes()),
                    ..Scan::all(SESSION_EXPIRY, CLEARED_AT_ONCE)
                })
                .await?
            {
                unit.delete(ended);
            }
            let session = Session {
                id: self.new_id("ses"),
                secret_sha256: secret::hash(cookie),
                key: key.id.clone(),
                expires_at: now.plus(SESSION_LIFETIME),
                created_at: now,
            };
            let resource = ("session", session.id.as_str());
            audit(
                &mut unit,
                &AuditEvent::new(who, Category::Auth, "session_opened", resource, now),
            );
            unit.insert(session);
            Ok((unit, ()))
        })
        .await?;
        Ok(cookie.to_string())
    }

    /// Ends a browser session. An unknown one has ended already.
    pub async fn sign_out(&self, cookie: &str) -> Result<(), AppError> {
        let Ok((session, key)) = self.session(cookie).await else {
            return Ok(());
        };
        let (session, who) = (&session.id, &principal(PrincipalKind::User, &key));
        self.decide(|mut unit| async move {
            let Some(session) = unit.load_opt::<Session>(session).await? else {
                return Ok((unit, ()));
            };
            let resource = ("session", session.id.as_str());
            let event = AuditEvent::new(who, Category::Auth, "session_ended", resource, self.now());
            audit(&mut unit, &event);
            unit.delete(session);
            Ok((unit, ()))
        })
        .await
    }

    async fn key(&self, text: &str) -> Result<Loaded<ApiKey>, AppError> {
        const INVALID: AppError = AppError::Unauthenticated("Invalid API key");
        if !text.starts_with(API_KEY) {
            return Err(INVALID);
        }
        let by_secret = Key::new().text(&secret::hash(text));
        let key = self.store.first::<ApiKey>(KEY_SECRET, by_secret).await?;
        let key = key.ok_or(INVALID)?;
        if key.expires_at.is_some_and(|end| end <= self.now()) {
            return Err(INVALID);
        }
        Ok(key)
    }

    async fn session(&self, text: &str) -> Result<(Loaded<Session>, Loaded<ApiKey>), AppError> {
        const ENDED: AppError = AppError::Unauthenticated("this session has ended: sign in again");
        if !text.starts_with(SESSION) {
            return Err(ENDED);
        }
        let by_secret = Key::new().text(&secret::hash(text));
        let session = self
            .store
            .first::<Session>(SESSION_SECRET, by_secret)
            .await?;
        let session = session.ok_or(ENDED)?;
        if session.expires_at <= self.now() {
            return Err(ENDED);
        }
        let key = self.store.get::<ApiKey>(&session.key).await?.ok_or(ENDED)?;
        if key.expires_at.is_some_and(|end| end <= self.now()) {
            return Err(ENDED);
        }
        Ok((session, key))
    }

    async fn agent_principal(&self, text: &str) -> Result<Principal, AppError> {
        const INVALID: AppError = AppError::Unauthenticated("Invalid agent credential");
        let rest = text.strip_prefix(AGENT_CREDENTIAL).unwrap_or(text);
        let (id, secret) = rest.rsplit_once('.').ok_or(INVALID)?;
        let id: Id = id.parse().map_err(|_| INVALID)?;
        let agent = self.store.get::<Agent>(&id).await?.ok_or(INVALID)?;
        let hash = secret::hash(secret);
        let who = Principal {
            kind: PrincipalKind::Agent,
            // Never the bare name: an agent may be called as an administrator's key is.
            name: format!("agent:{}", agent.name),
            role: None,
            agent: Some(id.clone()),
        };
        let is = agent.secret_is(|known| secret::same(&hash, known));
        match is {
            SecretIs::Unknown => return Err(INVALID),
            SecretIs::Superseded => {
                self.tell_of_superseded(&who, &agent).await;
                return Err(INVALID);
            }
            SecretIs::Present | SecretIs::Next => {}
        }
        if let Some(Retired { at, reason }) = agent.retired.clone() {
            return Err(AppError::Retired { at, reason });
        }
        if is == SecretIs::Next {
            self.rotate_secret(&who, &id, &hash).await?;
        }
        Ok(who)
    }
}

fn principal(kind: PrincipalKind, key: &ApiKey) -> Principal {
    Principal {
        kind,
        name: key.name.clone(),
        role: Some(key.role.clone()),
        agent: None,
    }
}
