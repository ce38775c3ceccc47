//! Who acts, and what they may do.

use crate::{
    access::{Permission, Permissions, Role},
    clock::Time,
    id::Id,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Who acts, as the audit log names it, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// What it is.
    pub kind: PrincipalKind,
    /// Its name: a key's name, `local:1000`, `agent:web-1`, `join_token:tok-1`, `system:renewals`.
    pub name: String,
    /// The agent's id, when it is one.
    pub agent: Option<Id>,
    /// The key it came with, by itself or by the session that was opened with it.
    pub key: Option<Id>,
    /// Whether that key has a newer secret than the one it came with.
    pub former_secret: bool,
    /// The browser session it came with.
    pub session: Option<Id>,
    /// What it may do; nothing for an agent and the system, whose rights are not in roles.
    pub access: Access,
}

/// What acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PrincipalKind {
    /// An API key.
    APIKey,
    /// A person, through a browser session or the local socket.
    User,
    /// An agent.
    Agent,
    /// The server itself.
    System,
}

impl PrincipalKind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::APIKey => "APIKey",
            Self::User => "User",
            Self::Agent => "Agent",
            Self::System => "System",
        }
    }
}

impl Principal {
    /// One without any right that roles give.
    pub fn new(kind: PrincipalKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            agent: None,
            key: None,
            former_secret: false,
            session: None,
            access: Access::default(),
        }
    }

    /// The server itself.
    pub fn system(part: &str) -> Self {
        Self::new(PrincipalKind::System, format!("system:{part}"))
    }

    /// Whether it holds a permission everywhere.
    pub fn allows(&self, permission: Permission) -> bool {
        self.access.allows(permission)
    }
}

/// Where a permission counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type", content = "id", rename_all = "snake_case")]
pub enum Scope {
    /// Everywhere.
    Global,
    /// On a profile alone.
    Profile(Id),
    /// On an issuer alone.
    Issuer(Id),
}

impl Scope {
    /// The word on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Profile(_) => "profile",
            Self::Issuer(_) => "issuer",
        }
    }

    /// The thing, where it is one.
    pub fn id(&self) -> Option<&Id> {
        match self {
            Self::Global => None,
            Self::Profile(id) | Self::Issuer(id) => Some(id),
        }
    }

    /// What lies in both; `None` where nothing does.
    pub fn meet(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Global, narrow) => Some(narrow.clone()),
            (narrow, Self::Global) => Some(narrow.clone()),
            (a, b) => (a == b).then(|| a.clone()),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id() {
            None => f.write_str(self.kind()),
            Some(id) => write!(f, "{} {id}", self.kind()),
        }
    }
}

/// Permissions, by where they count.
pub type Holdings = BTreeMap<Scope, Permissions>;

/// What a principal may do at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// The ids of the roles that are in force.
    pub roles: Vec<String>,
    held: Vec<Held>,
}

/// What is held until a moment; `None` for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    until: Option<Time>,
    holdings: Holdings,
}

/// Why something is not somebody's to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// They do not hold this.
    Lacking(Permission),
    /// They hold all of it until then, and it is to last longer.
    Ending(Time),
}

impl Access {
    /// Adds a role, granted within `scope` until a moment: what it gives is what lies in the
    /// grant's scope and in that of the role's permission.
    pub fn grant(&mut self, role: &str, holdings: &Holdings, scope: &Scope, until: Option<Time>) {
        if !self.roles.iter().any(|r| r == role) {
            self.roles.push(role.to_owned());
        }
        let holdings = within(holdings, scope);
        self.held.push(Held { until, holdings });
    }

    /// All of it is over at this moment, where there is one.
    pub fn ends(&mut self, at: Option<Time>) {
        for held in &mut self.held {
            held.until = held.until.into_iter().chain(at).min();
        }
    }

    /// Whether it has the administrator's role, everywhere.
    pub fn is_admin(&self) -> bool {
        let admin = Role::Admin;
        self.roles.iter().any(|role| role == admin.id())
            && self.in_scope(&Scope::Global) == admin.permissions()
    }

    /// Whether a permission is held everywhere.
    pub fn allows(&self, permission: Permission) -> bool {
        self.in_scope(&Scope::Global).contains(permission)
    }

    /// Whether a permission is held on one thing, or everywhere.
    pub fn allows_on(&self, permission: Permission, scope: &Scope) -> bool {
        self.allows(permission) || self.in_scope(scope).contains(permission)
    }

    /// Whether a permission is held on anything at all.
    pub fn allows_somewhere(&self, permission: Permission) -> bool {
        let mut held = self.held.iter().flat_map(|held| held.holdings.values());
        held.any(|permissions| permissions.contains(permission))
    }

    /// The permissions that are held, by where they count.
    pub fn holdings(&self) -> Holdings {
        let mut all = Holdings::new();
        for (scope, permissions) in self.held.iter().flat_map(|held| &held.holdings) {
            let held = all.entry(scope.clone()).or_default();
            *held = *held | *permissions;
        }
        all
    }

    /// Nobody gives more than they hold, nor for longer: whether `others` can be given until `end`,
    /// `None` for ever. Of what is held, only that counts which gives some of `others`.
    ///
    /// # Errors
    /// By what is beyond it.
    pub fn may_give(&self, others: &Holdings, end: Option<Time>) -> Result<(), Beyond> {
        if let Some(one) = self.lacking_after(None, others) {
            return Err(Beyond::Lacking(one));
        }
        let ends: BTreeSet<Time> = self.held.iter().filter_map(|held| held.until).collect();
        let sooner = ends
            .into_iter()
            .filter(|at| end.is_none_or(|end| *at < end));
        for at in sooner {
            if self.lacking_after(Some(at), others).is_some() {
                return Err(Beyond::Ending(at));
            }
        }
        Ok(())
    }

    /// As [`may_give`](Self::may_give), of all that another holds, each for as long as they do.
    ///
    /// # Errors
    /// By what is beyond it.
    pub fn may_give_all_of(&self, other: &Self) -> Result<(), Beyond> {
        let mut held = other.held.iter();
        held.try_for_each(|held| self.may_give(&held.holdings, held.until))
    }

    /// Something of `others` that is not held after a moment; now, without one.
    fn lacking_after(&self, at: Option<Time>, others: &Holdings) -> Option<Permission> {
        let still = |held: &&Held| {
            held.until
                .is_none_or(|until| at.is_none_or(|at| at < until))
        };
        let held = |scope: &Scope| {
            let held = self.held.iter().filter(still);
            let held = held.filter_map(|held| held.holdings.get(scope));
            held.fold(Permissions::NONE, |all, some| all | *some)
        };
        let everywhere = held(&Scope::Global);
        let mut beyond = others
            .iter()
            .map(|(scope, permissions)| permissions.beyond(everywhere | held(scope)));
        beyond.find_map(|lacking| lacking.iter().next())
    }

    fn in_scope(&self, scope: &Scope) -> Permissions {
        let held = self.held.iter();
        let held = held.filter_map(|held| held.holdings.get(scope));
        held.fold(Permissions::NONE, |all, some| all | *some)
    }
}

/// What of `holdings` counts within `scope`.
pub fn within(holdings: &Holdings, scope: &Scope) -> Holdings {
    let mut met = Holdings::new();
    for (own, permissions) in holdings {
        if let Some(scope) = own.meet(scope) {
            let held = met.entry(scope).or_default();
            *held = *held | *permissions;
        }
    }
    met
}
