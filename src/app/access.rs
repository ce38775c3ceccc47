//! Who is there, and what they may do: credentials to principals.

use super::{App, AppError};
use crate::{
    access::{Permissions, Role},
    crypt::secret,
    domain::{
        Access, Agent, ApiKey, CustomRole, Grant, Holdings, Principal, PrincipalKind, Retired,
        Scope, SecretShown, SessionEnd, agent::SecretIs,
    },
    id::Id,
    store::{KEY_SECRET, Key, Loaded, StoreError},
};
use std::net::IpAddr;

/// The beginning of every key that is made here.
pub const API_KEY: &str = "ctl_";
/// The beginning of every agent's credential.
pub const AGENT_CREDENTIAL: &str = "cta_";

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

/// A key that was shown and is good.
pub(super) struct Shown {
    /// Its id: of a row, or of a configured key.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// SHA-256 of the secret that was shown.
    pub sha256: String,
    /// Whether the key has a newer one.
    pub former: bool,
    /// What it may do.
    pub access: Access,
}

impl Shown {
    pub(super) fn principal(&self, kind: PrincipalKind) -> Principal {
        Principal {
            key: Some(self.id.clone()),
            former_secret: self.former,
            access: self.access.clone(),
            ..Principal::new(kind, &self.name)
        }
    }
}

impl App {
    /// Says who a caller is and what it may do now: whatever is changed in keys and roles counts
    /// from the next request on.
    ///
    /// # Errors
    /// When the credential is none of ours; and when there were too many such from this address.
    pub async fn authenticate(
        &self,
        credential: Credential<'_>,
        from: Option<IpAddr>,
    ) -> Result<Principal, AppError> {
        match self.known(credential, from).await {
            Err(
                wrong
                @ (AppError::Unauthenticated(_) | AppError::SessionEnded(SessionEnd::Unknown)),
            ) => Err(self.guessed(from, wrong).await),
            other => other,
        }
    }

    async fn known(
        &self,
        credential: Credential<'_>,
        from: Option<IpAddr>,
    ) -> Result<Principal, AppError> {
        match credential {
            Credential::Bearer(text) if text.starts_with(AGENT_CREDENTIAL) => {
                self.agent_principal(text).await
            }
            Credential::Bearer(text) => {
                let key = self.key_shown(text, from).await?;
                self.keys_used.see(&key.id, self.now());
                Ok(key.principal(PrincipalKind::APIKey))
            }
            Credential::Session(text) => self.session_principal(text).await,
            Credential::Local(uid) => Ok(Principal {
                access: administrator(),
                ..Principal::new(PrincipalKind::User, format!("local:{uid}"))
            }),
        }
    }

    /// The key that a caller shows.
    pub(super) async fn key_shown(
        &self,
        text: &str,
        from: Option<IpAddr>,
    ) -> Result<Shown, AppError> {
        const INVALID: AppError = AppError::Unauthenticated("Invalid API key");
        let room = self.may_guess(from);
        let sha256 = secret::hash(text);
        let configured = self.configured.of_hash(&sha256);
        // Of these the operator chose the secret, whatever it begins with.
        if configured.is_some() || !text.starts_with(API_KEY) {
            room?;
        }
        if let Some(key) = configured {
            let access = self.access_of(std::slice::from_ref(&key.grant)).await?;
            let (id, name) = (key.id.clone(), key.name.clone());
            return Ok(Shown {
                id,
                name,
                sha256,
                former: false,
                access,
            });
        }
        if !text.starts_with(API_KEY) {
            return Err(INVALID);
        }
        let by_secret = Key::new().text(&sha256);
        let key = self.store.first::<ApiKey>(KEY_SECRET, by_secret).await?;
        self.key_as_shown(key, sha256).await?.ok_or(INVALID)
    }

    /// The key with this id, if it still has this secret and has not ended.
    pub(super) async fn key_again(&self, id: &Id, sha256: &str) -> Result<Option<Shown>, AppError> {
        if let Some(key) = self.configured.of_hash(sha256).filter(|key| key.id == *id) {
            let access = self.access_of(std::slice::from_ref(&key.grant)).await?;
            let (id, name, sha256) = (key.id.clone(), key.name.clone(), sha256.to_owned());
            return Ok(Some(Shown {
                id,
                name,
                sha256,
                former: false,
                access,
            }));
        }
        let key = self.store.get::<ApiKey>(id).await?;
        self.key_as_shown(key, sha256.to_owned()).await
    }

    async fn key_as_shown(
        &self,
        key: Option<Loaded<ApiKey>>,
        sha256: String,
    ) -> Result<Option<Shown>, AppError> {
        let now = self.now();
        let Some(key) = key.filter(|key| !key.ended(now)) else {
            return Ok(None);
        };
        let former_until = match key.takes(|known| secret::same(&sha256, known), now) {
            None => return Ok(None),
            Some(SecretShown::Present) => None,
            Some(SecretShown::Former(until)) => Some(until),
        };
        let mut access = self.access_of(&key.grants).await?;
        access.ends(key.expires_at);
        access.ends(former_until);
        let (id, name) = (key.id.clone(), key.name.clone());
        Ok(Some(Shown {
            id,
            name,
            sha256,
            former: former_until.is_some(),
            access,
        }))
    }

    /// What grants give now. A role that is gone gives nothing.
    async fn access_of(&self, grants: &[Grant]) -> Result<Access, AppError> {
        let (mut access, now) = (Access::default(), self.now());
        for grant in grants.iter().filter(|grant| grant.holds(now)) {
            let holdings = match Role::of_id(&grant.role) {
                Some(role) => Some(everywhere(role.permissions())),
                None => self.custom_role(&grant.role).await?.map(|r| r.holdings()),
            };
            if let Some(holdings) = holdings {
                access.grant(&grant.role, &holdings, &grant.scope, grant.expires_at);
            }
        }
        Ok(access)
    }

    pub(super) async fn custom_role(
        &self,
        id: &str,
    ) -> Result<Option<Loaded<CustomRole>>, StoreError> {
        match id.parse::<Id>() {
            Ok(id) => Ok(self.store.get(&id).await?),
            Err(_) => Ok(None),
        }
    }

    async fn agent_principal(&self, text: &str) -> Result<Principal, AppError> {
        const INVALID: AppError = AppError::Unauthenticated("Invalid agent credential");
        let rest = text.strip_prefix(AGENT_CREDENTIAL).unwrap_or(text);
        let (id, secret) = rest.rsplit_once('.').ok_or(INVALID)?;
        let id: Id = id.parse().map_err(|_| INVALID)?;
        let agent = self.store.get::<Agent>(&id).await?.ok_or(INVALID)?;
        let hash = secret::hash(secret);
        let who = Principal {
            agent: Some(id.clone()),
            // Never the bare name: an agent may be called as an administrator's key is.
            ..Principal::new(PrincipalKind::Agent, format!("agent:{}", agent.name))
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

/// Permissions that count everywhere.
pub(super) fn everywhere(permissions: Permissions) -> Holdings {
    Holdings::from([(Scope::Global, permissions)])
}

/// What an administrator may do.
fn administrator() -> Access {
    let mut access = Access::default();
    let role = Role::Admin;
    access.grant(
        role.id(),
        &everywhere(role.permissions()),
        &Scope::Global,
        None,
    );
    access
}
