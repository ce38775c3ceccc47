//! Keys of people and programs: made, granted roles, given a new secret, ended.
//!
//! Nobody gives more than they hold: a role is granted, and a secret handed out, only by somebody
//! who may do all that comes with it, for as long. And one key that administrates for ever always
//! stays: a last one is neither ended nor loses its role, however it is asked. The local socket
//! would be a way back, but only for who can log in to the machine.

use super::{
    App, AppError, access::API_KEY, audit, configured::InForce, need, printable, require,
    roles::RoleRef,
};
use crate::{
    access::{Permission, Role, configured::is_key_name},
    clock::Time,
    crypt::secret,
    domain::{
        Access, ApiKey, AuditEvent, Category, Former, Grant, KeyUse, Principal, Scope,
        access::{Beyond, within},
        once::Once,
    },
    id::Id,
    store::{KEY_NAME, KEY_ROLE, Key, Loaded, Scan, Unit},
};
use std::time::Duration;

/// A secret whose place was taken is good for this long at most.
pub const MAX_OVERLAP: Duration = Duration::from_secs(7 * 86_400);
/// Keys that are listed at most.
const MAX_KEYS: usize = 10_000;
/// Roles that a key may be granted.
const MAX_GRANTS: usize = 64;

/// A key to make.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its name.
    pub name: String,
    /// The ids or names of its roles, everywhere.
    pub roles: Vec<String>,
    /// From then on it is refused.
    pub expires_at: Option<Time>,
}

/// A role to grant.
#[derive(Debug, Clone)]
pub struct NewGrant {
    /// The role's id or name.
    pub role: String,
    /// Where it counts.
    pub scope: Scope,
    /// From then on it does not.
    pub expires_at: Option<Time>,
}

/// A key as it stands.
#[derive(Debug, Clone)]
pub struct KeyView {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// The roles it is granted, over or not.
    pub grants: Vec<Grant>,
    /// When it ends.
    pub expires_at: Option<Time>,
    /// When it was made; `None` for one that the configuration brings.
    pub created_at: Option<Time>,
    /// Since when it has its secret.
    pub secret_since: Option<Time>,
    /// Until when the secret before is good.
    pub former_until: Option<Time>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Time>,
}

/// A key and its secret, which is shown this once.
#[derive(Clone)]
pub struct KeyMade {
    /// The key.
    pub view: KeyView,
    /// The secret.
    pub secret: String,
}

impl App {
    /// Makes a key.
    pub async fn create_key(
        &self,
        who: &Principal,
        new: &NewKey,
        once: Option<&Once>,
    ) -> Result<KeyMade, AppError> {
        require(who, Permission::AuthKeyCreate)?;
        self.key_name(&new.name)?;
        if new.roles.is_empty() || new.roles.len() > MAX_GRANTS {
            let message = format!("1 to {MAX_GRANTS} roles are expected, such as r-viewer");
            return Err(AppError::invalid("role_ids", message));
        }
        self.lies_ahead(new.expires_at)?;
        let secret = &secret::generate(API_KEY, &*self.rng);
        let key = self
            .create(who, once, |mut unit| async move {
                let now = self.now();
                let mut grants: Vec<Grant> = Vec::new();
                for role in &new.roles {
                    let role = self
                        .role_to_give(&mut unit, who, role, &Scope::Global, new.expires_at)
                        .await?;
                    let grant = Grant::of(role.id);
                    if !grants.contains(&grant) {
                        grants.push(grant);
                    }
                }
                let key = ApiKey {
                    id: self.new_id("key"),
                    name: new.name.clone(),
                    secret_sha256: secret::hash(secret),
                    secret_since: now,
                    former: None,
                    grants,
                    expires_at: new.expires_at,
                    created_at: now,
                };
                let roles: Vec<&str> = key.grants.iter().map(|g| g.role.as_str()).collect();
                let mut event =
                    event(who, "api_key_created", &key, now).with("roles", roles.join(" "));
                if let Some(end) = key.expires_at {
                    event = event.with("expires_at", end);
                }
                audit(&mut unit, &event);
                unit.insert(key.clone());
                Ok((unit, key))
            })
            .await?
            .with_secret()?;
        Ok(KeyMade {
            view: view(key, None),
            secret: secret.to_string(),
        })
    }

    /// Every key, by name; those of the configuration last.
    pub async fn keys(&self, who: &Principal) -> Result<Vec<KeyView>, AppError> {
        require(who, Permission::AuthKeyList)?;
        let keys = self
            .store
            .scan::<ApiKey>(Scan::all(KEY_NAME, MAX_KEYS))
            .await?;
        let configured = self.configured.keys();
        let ids = keys.iter().map(|key| key.id.clone());
        let ids = ids
            .chain(configured.iter().map(|key| key.id.clone()))
            .collect();
        let mut uses = self.store.get_many::<KeyUse>(ids).await?.into_iter();
        let mut last = |id: &Id| {
            let stored = uses.next().flatten().map(|used| used.last_used_at);
            stored.max(self.keys_used.last(id))
        };
        let mut views = Vec::with_capacity(keys.len() + configured.len());
        for key in keys {
            let last = last(&key.id);
            views.push(view(key.into_value(), last));
        }
        for key in &*configured {
            views.push(KeyView {
                last_used_at: last(&key.id),
                ..of_configuration(key)
            });
        }
        Ok(views)
    }

    /// Why the keys of the configuration are those of an earlier reading, if they are.
    pub fn keys_fault(&self, who: &Principal) -> Result<Option<String>, AppError> {
        require(who, Permission::AuthKeyList)?;
        Ok(self.configured.fault())
    }

    /// One key, by id or name.
    pub async fn find_key(&self, who: &Principal, text: &str) -> Result<KeyView, AppError> {
        let keys = self.keys(who).await?;
        let by_id = keys.iter().position(|key| key.id.as_str() == text);
        let by_name = || {
            keys.iter()
                .position(|key| key.name.eq_ignore_ascii_case(text))
        };
        let found = by_id.or_else(by_name).and_then(|n| keys.into_iter().nth(n));
        found.ok_or_else(|| AppError::not_found("key", text))
    }

    /// Gives a key a new secret. The present one is good for `overlap` longer; a still older one
    /// is over. It takes a present one to make another: whoever has it is not locked out by one who
    /// has the secret before.
    pub async fn rotate_key(
        &self,
        who: &Principal,
        key: &str,
        overlap: Duration,
    ) -> Result<KeyMade, AppError> {
        require(who, Permission::AuthKeyRotate)?;
        if who.former_secret {
            let reason = "your key has a newer secret than the one you came with: use that one";
            return Err(AppError::Reserved(reason.into()));
        }
        if overlap > MAX_OVERLAP {
            let message = format!("at most {} (a week) is accepted", MAX_OVERLAP.as_secs());
            return Err(AppError::invalid("overlap_seconds", message));
        }
        let secret = &secret::generate(API_KEY, &*self.rng);
        let key = self
            .decide(|mut unit| async move {
                let now = self.now();
                let mut key = self.key_of(&mut unit, key).await?;
                self.holds_all_of(&mut unit, who, &key).await?;
                let before = std::mem::replace(&mut key.secret_sha256, secret::hash(secret));
                key.former = (!overlap.is_zero()).then(|| Former {
                    secret_sha256: before,
                    until: now.plus(overlap),
                });
                key.secret_since = now;
                let event = event(who, "api_key_rotated", &key, now);
                audit(&mut unit, &event.with("overlap_seconds", overlap.as_secs()));
                let rotated = (*key).clone();
                unit.put(key);
                Ok((unit, rotated))
            })
            .await?;
        let last = self.last_used(&key.id).await?;
        Ok(KeyMade {
            view: view(key, last),
            secret: secret.to_string(),
        })
    }

    /// Ends a key: it, and the sessions opened with it, are refused from now on.
    pub async fn delete_key(&self, who: &Principal, key: &str) -> Result<(), AppError> {
        require(who, Permission::AuthKeyDelete)?;
        let id = self
            .decide(|mut unit| async move {
                let key = self.key_of(&mut unit, key).await?;
                let id = key.id.clone();
                if key.is_permanent_admin() {
                    self.another_admin(&mut unit, &id).await?;
                }
                audit(&mut unit, &event(who, "api_key_deleted", &key, self.now()));
                if let Some(used) = unit.load_opt::<KeyUse>(&id).await? {
                    unit.delete(used);
                }
                unit.delete(key);
                Ok((unit, id))
            })
            .await?;
        self.keys_used.forget(&id);
        Ok(())
    }

    /// Grants a role to a key; in the place of what it was granted of this role in this scope.
    pub async fn grant_role(
        &self,
        who: &Principal,
        key: &str,
        new: &NewGrant,
    ) -> Result<(), AppError> {
        require(who, Permission::AuthRoleAssign)?;
        self.lies_ahead(new.expires_at)?;
        self.decide(|mut unit| async move {
            let mut key = self.key_of(&mut unit, key).await?;
            let role = self
                .role_to_give(&mut unit, who, &new.role, &new.scope, new.expires_at)
                .await?;
            let grant = Grant {
                role: role.id,
                scope: new.scope.clone(),
                expires_at: new.expires_at,
            };
            if key.grants.contains(&grant) {
                return Ok((unit, ()));
            }
            let was_admin = key.is_permanent_admin();
            let same = |g: &Grant| g.role == grant.role && g.scope == grant.scope;
            key.grants.retain(|g| !same(g));
            if key.grants.len() >= MAX_GRANTS {
                let message =
                    format!("the key has {MAX_GRANTS} roles already: make a role of them");
                return Err(AppError::Conflict(message));
            }
            let mut event = event(who, "role_granted", &key, self.now())
                .with("role", &grant.role)
                .with("scope", &grant.scope);
            if let Some(end) = grant.expires_at {
                event = event.with("expires_at", end);
            }
            key.grants.push(grant);
            if was_admin && !key.is_permanent_admin() {
                self.another_admin(&mut unit, &key.id).await?;
            }
            audit(&mut unit, &event);
            unit.put(key);
            Ok((unit, ()))
        })
        .await
    }

    /// Takes a role from a key: in one scope, where it must have it, or in all that it has it in.
    pub async fn ungrant_role(
        &self,
        who: &Principal,
        key: &str,
        role: &str,
        scope: Option<&Scope>,
    ) -> Result<(), AppError> {
        require(who, Permission::AuthRoleRevoke)?;
        require(who, Permission::AuthRoleAssign)?;
        self.decide(|mut unit| async move {
            let mut key = self.key_of(&mut unit, key).await?;
            // A role that is gone can still be taken away.
            let role = match self.role_of(&mut unit, role).await {
                Ok(role) => role.id,
                Err(AppError::NotFound { .. }) => role.to_owned(),
                Err(e) => return Err(e),
            };
            let was_admin = key.is_permanent_admin();
            let before = key.grants.len();
            key.grants
                .retain(|g| g.role != role || scope.is_some_and(|scope| g.scope != *scope));
            if key.grants.len() == before {
                return match scope {
                    None => Ok((unit, ())),
                    Some(scope) => {
                        let what = format!("{role} ({scope}) on {}", key.name);
                        Err(AppError::not_found("grant of", what))
                    }
                };
            }
            if was_admin && !key.is_permanent_admin() {
                self.another_admin(&mut unit, &key.id).await?;
            }
            let mut event = event(who, "role_ungranted", &key, self.now()).with("role", role);
            if let Some(scope) = scope {
                event = event.with("scope", scope);
            }
            audit(&mut unit, &event);
            unit.put(key);
            Ok((unit, ()))
        })
        .await
    }

    /// Writes down when keys and sessions were last used.
    pub(crate) async fn write_uses(&self) -> Result<(), AppError> {
        let (keys, sessions) = (self.keys_used.unwritten(), self.sessions_used.unwritten());
        if keys.is_empty() && sessions.is_empty() {
            return Ok(());
        }
        const AT_ONCE: usize = 256;
        for (keys, sessions) in batches(&keys, &sessions, AT_ONCE) {
            self.decide(|mut unit| async move {
                for (id, at) in keys {
                    match unit.load_opt::<KeyUse>(id).await? {
                        Some(mut used) => {
                            used.last_used_at = used.last_used_at.max(*at);
                            unit.put(used);
                        }
                        None if self.has_key(&mut unit, id).await? => unit.insert(KeyUse {
                            id: id.clone(),
                            last_used_at: *at,
                        }),
                        // It was deleted after it was used.
                        None => {}
                    }
                }
                for (id, at) in sessions {
                    if let Some(mut session) = unit.load_opt::<crate::domain::Session>(id).await? {
                        session.last_seen_at = session.last_seen_at.max(Some(*at));
                        unit.put(session);
                    }
                }
                Ok((unit, ()))
            })
            .await?;
            self.keys_used.written(keys, self.now());
            self.sessions_used.written(sessions, self.now());
        }
        Ok(())
    }

    /// Whether there is a key with this id; the decision rests on it.
    async fn has_key(&self, unit: &mut Unit<'_>, id: &Id) -> Result<bool, AppError> {
        let configured = self.configured.keys().iter().any(|key| key.id == *id);
        Ok(configured || unit.load_opt::<ApiKey>(id).await?.is_some())
    }

    async fn last_used(&self, id: &Id) -> Result<Option<Time>, AppError> {
        let stored = self.store.get::<KeyUse>(id).await?;
        let stored = stored.map(|used| used.last_used_at);
        Ok(stored.max(self.keys_used.last(id)))
    }

    /// A key that the decision rests on, by id or name.
    async fn key_of(&self, unit: &mut Unit<'_>, text: &str) -> Result<Loaded<ApiKey>, AppError> {
        if let Ok(id) = text.parse::<Id>()
            && let Some(key) = unit.load_opt::<ApiKey>(&id).await?
        {
            return Ok(key);
        }
        if self
            .configured
            .keys()
            .iter()
            .any(|key| key.id.as_str() == text || key.name == text)
        {
            return Err(AppError::Conflict(format!(
                "the configuration brings the key {text:?} (CERTCTL_AUTH_SECRET or \
                 CERTCTL_API_KEYS_NAMED): change it there"
            )));
        }
        let by_name = Key::new().text(&text.to_lowercase());
        let key = self.store.first::<ApiKey>(KEY_NAME, by_name).await?;
        let key = key.ok_or_else(|| AppError::not_found("key", text))?;
        need(unit, "key", &key.id.clone()).await
    }

    /// Refuses a name that is taken, or could pass for something else.
    fn key_name(&self, name: &str) -> Result<(), AppError> {
        printable("name", name, 1..=64)?;
        if !is_key_name(name) {
            let message =
                "1 to 64 characters of A-Z a-z 0-9 . _ - are accepted, a letter or digit first";
            return Err(AppError::invalid("name", message));
        }
        let lower = name.to_lowercase();
        if ["key-", "cfg-"]
            .iter()
            .any(|prefix| lower.starts_with(prefix))
        {
            return Err(AppError::invalid(
                "name",
                "ids begin so: choose another name",
            ));
        }
        if self
            .configured
            .keys()
            .iter()
            .any(|key| key.name.eq_ignore_ascii_case(name))
        {
            let message = format!("name: the configuration brings a key {name} already");
            return Err(AppError::Conflict(message));
        }
        Ok(())
    }

    /// Refuses an end that has passed.
    fn lies_ahead(&self, end: Option<Time>) -> Result<(), AppError> {
        match end.is_some_and(|end| end <= self.now()) {
            false => Ok(()),
            true => Err(AppError::invalid(
                "expires_at",
                "a moment that lies ahead is expected",
            )),
        }
    }

    /// A role that `who` may give within `scope` until `end`.
    async fn role_to_give(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        role: &str,
        scope: &Scope,
        end: Option<Time>,
    ) -> Result<RoleRef, AppError> {
        let role = self.role_of(unit, role).await?;
        match who.access.may_give(&within(&role.holdings, scope), end) {
            Ok(()) => Ok(role),
            Err(Beyond::Lacking(one)) => Err(AppError::Reserved(format!(
                "the role {} holds {one}, which you do not hold: nobody gives more than they hold",
                role.id
            ))),
            Err(Beyond::Ending(at)) => Err(AppError::invalid(
                "expires_at",
                format!(
                    "what you hold of the role {} ends at {at}, and you cannot give it for longer",
                    role.id
                ),
            )),
        }
    }

    /// Refuses somebody who may not do all that a key may: its secret would make them more.
    async fn holds_all_of(
        &self,
        unit: &mut Unit<'_>,
        who: &Principal,
        key: &ApiKey,
    ) -> Result<(), AppError> {
        if who.key.as_ref() == Some(&key.id) {
            return Ok(());
        }
        let now = self.now();
        let mut held = Access::default();
        for grant in key.grants.iter().filter(|grant| grant.holds(now)) {
            match self.role_of(unit, &grant.role).await {
                Ok(role) => held.grant(&role.id, &role.holdings, &grant.scope, grant.expires_at),
                Err(AppError::NotFound { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        held.ends(key.expires_at);
        who.access.may_give_all_of(&held).map_err(|beyond| {
            let reason = match beyond {
                Beyond::Lacking(one) => format!("holds {one}, which you do not hold"),
                Beyond::Ending(at) => {
                    format!("lasts longer than what you hold, which ends at {at}")
                }
            };
            let name = &key.name;
            AppError::Reserved(format!(
                "the key {name} {reason}: its new secret is not for you"
            ))
        })
    }

    /// Refuses unless a key other than this one administrates for ever, and rests the decision on
    /// it.
    async fn another_admin(&self, unit: &mut Unit<'_>, id: &Id) -> Result<(), AppError> {
        let admin = Role::Admin.id();
        if self
            .configured
            .keys()
            .iter()
            .any(|key| key.grant.role == admin)
        {
            return Ok(());
        }
        let of_role = Key::new().text(admin);
        let scan = Scan::under(KEY_ROLE, of_role.bytes(), MAX_KEYS);
        let keys = self.store.scan::<ApiKey>(scan).await?;
        match keys
            .iter()
            .find(|key| key.id != *id && key.is_permanent_admin())
        {
            Some(other) => {
                unit.rely_on(other);
                Ok(())
            }
            None => Err(AppError::Conflict(
                "this is the last key that administrates for ever: make another one with the role \
                 r-admin and without an end first"
                    .into(),
            )),
        }
    }
}

/// Two lists, a part of both at a time.
fn batches<'a, T>(a: &'a [T], b: &'a [T], n: usize) -> impl Iterator<Item = (&'a [T], &'a [T])> {
    let parts = a.len().max(b.len()).div_ceil(n);
    let part = move |of: &'a [T], i: usize| of.chunks(n).nth(i).unwrap_or_default();
    (0..parts).map(move |i| (part(a, i), part(b, i)))
}

fn event(who: &Principal, action: &str, key: &ApiKey, now: Time) -> AuditEvent {
    let resource = ("api_key", key.id.as_str());
    AuditEvent::new(who, Category::Auth, action, resource, now).with("key", &key.name)
}

fn view(key: ApiKey, last_used_at: Option<Time>) -> KeyView {
    KeyView {
        id: key.id,
        name: key.name,
        grants: key.grants,
        expires_at: key.expires_at,
        created_at: Some(key.created_at),
        secret_since: Some(key.secret_since),
        former_until: key.former.map(|former| former.until),
        last_used_at,
    }
}

fn of_configuration(key: &InForce) -> KeyView {
    KeyView {
        id: key.id.clone(),
        name: key.name.clone(),
        grants: vec![key.grant.clone()],
        expires_at: None,
        created_at: None,
        secret_since: None,
        former_until: None,
        last_used_at: None,
    }
}
