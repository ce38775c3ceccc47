//! Browser sessions: opened with a key, ended with it, by their owner, or by time.

use super::{App, AppError, audit, require};
use crate::{
    access::Permission,
    clock::Time,
    crypt::secret,
    domain::{
        AuditEvent, Category, Principal, PrincipalKind, SESSION_IDLE, SESSION_LIFETIME, Session,
        SessionEnd,
    },
    id::Id,
    store::{Key, Loaded, SESSION_EXPIRY, SESSION_KEY, SESSION_SECRET, Scan},
};
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// The beginning of every session's secret.
const SESSION: &str = "cts_";
/// A session that reached its end is remembered for this long, to say so when it is used.
const REMEMBERED: Duration = Duration::from_secs(86_400);
/// Those that are forgotten at a sign-in.
const CLEARED_AT_ONCE: usize = 16;
/// Sessions listed, and ended in one call, at most.
const MAX_SESSIONS: usize = 500;
/// Sessions of a key that are kept at most: one more takes the place of the one not used for longest.
const MAX_OF_KEY: usize = 100;
/// The longest name of a browser that is kept, in characters.
const MAX_USER_AGENT: usize = 256;

/// From where a browser signs in, as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct Browser {
    /// Its address.
    pub address: Option<IpAddr>,
    /// What it calls itself.
    pub user_agent: String,
}

/// A session as it stands.
#[derive(Debug, Clone)]
pub struct SessionView {
    /// The session.
    pub session: Session,
    /// When it was last used.
    pub last_seen_at: Time,
    /// When it ends if it is not used.
    pub idle_expires_at: Time,
    /// Whether the caller came with it.
    pub current: bool,
}

/// Whose sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionsOf<'a> {
    /// The caller's.
    Own,
    /// Those of the key with this name.
    Actor(&'a str),
    /// Everybody's.
    All,
}

impl App {
    pub(super) async fn session_principal(&self, text: &str) -> Result<Principal, AppError> {
        let (session, mut who) = self.session_shown(text).await?;
        let now = self.now();
        self.sessions_used.see(&session.id, now);
        self.keys_used.see(&session.key, now);
        who.session = Some(session.id.clone());
        Ok(who)
    }

    /// Opens a browser session for the holder of a key; returns the cookie's value.
    pub async fn sign_in(&self, key: &str, browser: &Browser) -> Result<String, AppError> {
        let key = match self.key_shown(key.trim(), browser.address).await {
            Err(wrong @ AppError::Unauthenticated(_)) => {
                return Err(self.guessed(browser.address, wrong).await);
            }
            shown => &shown?,
        };
        let who = &key.principal(PrincipalKind::User);
        self.admit_key(who).await?;
        let cookie = &secret::generate(SESSION, &*self.rng);
        self.decide(|mut unit| async move {
            let now = self.now();
            let ended = self
                .store
                .scan::<Session>(Scan {
                    below: Some(Key::new().time(now.minus(REMEMBERED)).bytes()),
                    ..Scan::all(SESSION_EXPIRY, CLEARED_AT_ONCE)
                })
                .await?;
            let surplus = self.surplus_of(&key.id).await?;
            let gone = ended.into_iter().chain(surplus);
            let gone: BTreeMap<Id, _> = gone.map(|one| (one.id.clone(), one)).collect();
            for session in gone.into_values() {
                unit.delete(session);
            }
            let printable = |text: &str| -> String {
                let text = text.chars().filter(|c| !c.is_control());
                text.take(MAX_USER_AGENT).collect()
            };
            let session = Session {
                id: self.new_id("ses"),
                secret_sha256: secret::hash(cookie),
                key: key.id.clone(),
                key_sha256: Some(key.sha256.clone()),
                actor: key.name.clone(),
                address: browser.address.map(|a| a.to_string()).unwrap_or_default(),
                user_agent: printable(&browser.user_agent),
                last_seen_at: Some(now),
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
        self.keys_used.see(&key.id, self.now());
        Ok(cookie.to_string())
    }

    /// The sessions of a key that make room for one more, those first that were not used for longest.
    async fn surplus_of(&self, key: &Id) -> Result<Vec<Loaded<Session>>, AppError> {
        let of_key = Key::new().text(key.as_str());
        let scan = Scan::under(SESSION_KEY, of_key.bytes(), MAX_SESSIONS);
        let mut sessions = self.store.scan::<Session>(scan).await?;
        let surplus = (sessions.len() + 1).saturating_sub(MAX_OF_KEY);
        sessions.sort_by_cached_key(|one| one.last_seen(self.sessions_used.last(&one.id)));
        sessions.truncate(surplus);
        Ok(sessions)
    }

    /// Ends a browser session. An unknown one has ended already.
    pub async fn sign_out(&self, cookie: &str) -> Result<(), AppError> {
        match self.session_shown(cookie).await {
            Ok((session, who)) => self.end(&who, &session.id).await.map(drop),
            Err(AppError::SessionEnded(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Sessions that are alive, the newest first. One's own need no permission.
    pub async fn sessions(
        &self,
        who: &Principal,
        of: SessionsOf<'_>,
    ) -> Result<Vec<SessionView>, AppError> {
        let own = of == SessionsOf::Own || of == SessionsOf::Actor(&who.name);
        if !own {
            require(who, Permission::AuthSessionList)?;
            require(who, Permission::AuthSessionListAll)?;
        }
        let scan = match &who.key {
            Some(key) if own => {
                let of_key = Key::new().text(key.as_str());
                Scan::under(SESSION_KEY, of_key.bytes(), MAX_SESSIONS)
            }
            None if own => return Ok(Vec::new()),
            _ => Scan {
                from: Key::new().time(self.now()).bytes(),
                ..Scan::all(SESSION_EXPIRY, MAX_SESSIONS)
            },
        };
        let mut views = Vec::new();
        for session in self.store.scan::<Session>(scan).await? {
            let wanted = match of {
                SessionsOf::Actor(actor) if !own => session.actor == actor,
                _ => true,
            };
            if wanted && self.alive(&session).await?.is_some() {
                views.push(self.session_view(who, session.into_value()));
            }
        }
        views.sort_by_key(|view| std::cmp::Reverse(view.session.created_at));
        Ok(views)
    }

    /// Ends a session: one's own, or by permission another's.
    pub async fn end_session(&self, who: &Principal, id: &Id) -> Result<(), AppError> {
        let session = self.store.get::<Session>(id).await?;
        let own = session.is_some_and(|s| who.key.as_ref() == Some(&s.key));
        if !own {
            require(who, Permission::AuthSessionRevoke)?;
        }
        match self.end(who, id).await? {
            true => Ok(()),
            false => Err(AppError::not_found("session", id)),
        }
    }

    /// Ends all of the caller's sessions but the one it came with; says how many.
    pub async fn end_other_sessions(&self, who: &Principal) -> Result<usize, AppError> {
        let mut ended = 0;
        for view in self.sessions(who, SessionsOf::Own).await? {
            if !view.current && self.end(who, &view.session.id).await? {
                ended += 1;
            }
        }
        Ok(ended)
    }

    async fn end(&self, who: &Principal, id: &Id) -> Result<bool, AppError> {
        let ended = self
            .decide(|mut unit| async move {
                let Some(session) = unit.load_opt::<Session>(id).await? else {
                    return Ok((unit, false));
                };
                let resource = ("session", session.id.as_str());
                let now = self.now();
                let event = AuditEvent::new(who, Category::Auth, "session_ended", resource, now);
                audit(&mut unit, &event.with("of", &session.actor));
                unit.delete(session);
                Ok((unit, true))
            })
            .await?;
        self.sessions_used.forget(id);
        Ok(ended)
    }

    /// The session with this cookie, and who it is.
    async fn session_shown(&self, text: &str) -> Result<(Loaded<Session>, Principal), AppError> {
        const UNKNOWN: AppError = AppError::SessionEnded(SessionEnd::Unknown);
        if !text.starts_with(SESSION) {
            return Err(UNKNOWN);
        }
        let by_secret = Key::new().text(&secret::hash(text));
        let session = self.store.first::<Session>(SESSION_SECRET, by_secret);
        let session = session.await?.ok_or(UNKNOWN)?;
        let seen = self.sessions_used.last(&session.id);
        session
            .alive(seen, self.now())
            .map_err(AppError::SessionEnded)?;
        match self.alive(&session).await? {
            Some(who) => Ok((session, who)),
            None => Err(UNKNOWN),
        }
    }

    /// Who a session is; `None` when it or its key has ended.
    async fn alive(&self, session: &Session) -> Result<Option<Principal>, AppError> {
        let seen = self.sessions_used.last(&session.id);
        if session.alive(seen, self.now()).is_err() {
            return Ok(None);
        }
        // One of the first form is not bound to its key's secret: such a one ended within hours.
        let Some(sha256) = &session.key_sha256 else {
            return Ok(None);
        };
        let key = self.key_again(&session.key, sha256).await?;
        Ok(key.map(|key| key.principal(PrincipalKind::User)))
    }

    fn session_view(&self, who: &Principal, session: Session) -> SessionView {
        let last_seen_at = session.last_seen(self.sessions_used.last(&session.id));
        SessionView {
            last_seen_at,
            idle_expires_at: last_seen_at.plus(SESSION_IDLE).min(session.expires_at),
            current: who.session.as_ref() == Some(&session.id),
            session,
        }
    }
}
