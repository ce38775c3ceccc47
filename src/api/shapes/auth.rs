//! Keys, roles, sessions, and who one is.

use super::Ignored;
use crate::{
    app::{KeyMade, KeyView, RoleView, SessionView},
    clock::Time,
    domain::{Grant, Holdings, Principal, RolePermission, Scope},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// There is one tenant.
pub const TENANT: &str = "t-default";

/// A moment, in whole seconds.
fn seconds(at: Time) -> String {
    at.whole_seconds().to_string()
}

/// What runs here.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Program)]
pub struct ProgramShape {
    /// The version.
    pub version: String,
    /// The source's revision, where the build knew it.
    pub commit: String,
    /// Whether the source had been changed since.
    pub modified: bool,
    /// When it was built, where the build tells.
    pub build_time: String,
    /// Empty: it is not written in Go.
    pub go_version: String,
}

/// How one signs in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AuthInfo)]
pub struct AuthInfoShape {
    /// `api-key`.
    pub auth_type: String,
    /// Whether a credential is required.
    pub required: bool,
}

/// A permission of the catalogue.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Permission)]
pub struct PermissionShape {
    /// Its id, `p-` and its name with dashes.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is a permission on.
    pub namespace: String,
}

/// The catalogue.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Permissions)]
pub struct PermissionsShape {
    /// Every permission.
    pub permissions: Vec<PermissionShape>,
}

/// A permission somebody holds.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = HeldPermission)]
pub struct HeldShape {
    /// Its name.
    pub permission: String,
    /// `global`, `profile` or `issuer`.
    pub scope_type: String,
    /// The profile or issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_id: Option<String>,
}

/// Who one is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Me)]
pub struct MeShape {
    /// The name in the audit log.
    pub actor_id: String,
    /// `User`, `APIKey`, `Agent`.
    pub actor_type: String,
    /// `t-default`.
    pub tenant_id: String,
    /// Whether one of the roles is `r-admin`, everywhere.
    pub admin: bool,
    /// The ids of the roles in force.
    pub roles: Vec<String>,
    /// What they give.
    pub effective_permissions: Vec<HeldShape>,
}

/// Who one is, for clients that ask whether they are let in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AuthCheck)]
pub struct CheckShape {
    /// `authenticated`.
    pub status: String,
    /// The name in the audit log.
    pub user: String,
    /// Whether the caller came by `r-admin`.
    pub admin_via_role: bool,
    /// The rest.
    #[serde(flatten)]
    pub me: MeShape,
}

impl From<&Principal> for MeShape {
    fn from(who: &Principal) -> Self {
        Self {
            actor_id: who.name.clone(),
            actor_type: who.kind.as_str().into(),
            tenant_id: TENANT.into(),
            admin: who.access.is_admin(),
            roles: who.access.roles.clone(),
            effective_permissions: held(&who.access.holdings()),
        }
    }
}

impl From<&Principal> for CheckShape {
    fn from(who: &Principal) -> Self {
        Self {
            status: "authenticated".into(),
            user: who.name.clone(),
            admin_via_role: who.access.is_admin(),
            me: who.into(),
        }
    }
}

fn held(holdings: &Holdings) -> Vec<HeldShape> {
    let each = holdings.iter().flat_map(|(scope, permissions)| {
        permissions.iter().map(move |permission| HeldShape {
            permission: permission.as_str().into(),
            scope_type: scope.kind().into(),
            scope_id: scope.id().map(ToString::to_string),
        })
    });
    each.collect()
}

/// A role.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Role)]
pub struct RoleShape {
    /// Its id.
    pub id: String,
    /// `t-default`.
    pub tenant_id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether it is part of the program, and stays as it is.
    pub built_in: bool,
    /// When it was made; not for a built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// When it was last edited; not for a built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
}

impl From<&RoleView> for RoleShape {
    fn from(role: &RoleView) -> Self {
        Self {
            id: role.id.clone(),
            tenant_id: TENANT.into(),
            name: role.name.clone(),
            description: role.description.clone(),
            built_in: role.built_in,
            created_at: role.times.map(|(at, _)| seconds(at)),
            updated_at: role.times.map(|(_, at)| seconds(at)),
        }
    }
}

/// Every role.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Roles)]
pub struct RolesShape {
    /// The roles.
    pub roles: Vec<RoleShape>,
}

/// A permission of a role.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = RolePermission)]
pub struct RolePermissionShape {
    /// The role's id.
    pub role_id: String,
    /// The permission's id.
    pub permission_id: String,
    /// The permission's name.
    pub permission: String,
    /// `global`, `profile` or `issuer`.
    pub scope_type: String,
    /// The profile or issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_id: Option<String>,
}

/// A role and what it holds.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = RoleDetail)]
pub struct RoleDetailShape {
    /// The role.
    pub role: RoleShape,
    /// Its permissions.
    pub permissions: Vec<RolePermissionShape>,
}

impl From<&RoleView> for RoleDetailShape {
    fn from(role: &RoleView) -> Self {
        let permission =
            |RolePermission { permission, scope }: &RolePermission| RolePermissionShape {
                role_id: role.id.clone(),
                permission_id: permission_id(permission.as_str()),
                permission: permission.as_str().into(),
                scope_type: scope.kind().into(),
                scope_id: scope.id().map(ToString::to_string),
            };
        Self {
            role: role.into(),
            permissions: role.permissions.iter().map(permission).collect(),
        }
    }
}

/// The id of a permission, from its name.
pub fn permission_id(name: &str) -> String {
    format!("p-{}", name.replace(['.', '_'], "-"))
}

/// A role to make, or what is to become of one.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RoleWish {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All that it is to hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<PermissionWish>>,
    /// Programs repeat the id of the path.
    #[serde(skip_serializing)]
    #[schema(ignore)]
    pub id: Ignored,
}

/// A permission to give to a role.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PermissionWish {
    /// Its name.
    pub permission: String,
    /// `global` when absent; `profile` or `issuer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_type: Option<String>,
    /// The profile or issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_id: Option<String>,
}

/// A role to grant to a key.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct GrantWish {
    /// The role's id or name.
    pub role_id: String,
    /// `global` when absent; `profile` or `issuer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_type: Option<String>,
    /// The profile or issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_id: Option<String>,
    /// Until when; for ever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// A key to make.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct KeyNew {
    /// Its name.
    pub name: String,
    /// The ids or names of its roles.
    pub role_ids: Vec<String>,
    /// When it ends; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// How a key gets a new secret.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Rotate {
    /// For so long the present secret stays good; 0: not at all.
    pub overlap_seconds: u64,
}

/// A role that a key is granted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = RoleGrant)]
pub struct GrantShape {
    /// The role's id.
    pub role_id: String,
    /// `global`, `profile` or `issuer`.
    pub scope_type: String,
    /// The profile or issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_id: Option<String>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

impl From<&Grant> for GrantShape {
    fn from(grant: &Grant) -> Self {
        Self {
            role_id: grant.role.clone(),
            scope_type: grant.scope.kind().into(),
            scope_id: grant.scope.id().map(ToString::to_string),
            expires_at: grant.expires_at.map(seconds),
        }
    }
}

/// A key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyShape {
    /// Its name, as the audit log has it.
    pub actor_id: String,
    /// `APIKey`.
    pub actor_type: String,
    /// `t-default`.
    pub tenant_id: String,
    /// The ids of its roles.
    pub role_ids: Vec<String>,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its roles, with where and until when they count.
    pub grants: Vec<GrantShape>,
    /// `store` or `configuration`.
    pub source: String,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// Since when it has its present secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_since: Option<String>,
    /// Until when the secret before that is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_until: Option<String>,
    /// When it was last used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<String>,
}

impl From<&KeyView> for KeyShape {
    fn from(key: &KeyView) -> Self {
        let mut role_ids: Vec<String> = Vec::new();
        for grant in &key.grants {
            if !role_ids.contains(&grant.role) {
                role_ids.push(grant.role.clone());
            }
        }
        let source = match key.created_at {
            Some(_) => "store",
            None => "configuration",
        };
        Self {
            actor_id: key.name.clone(),
            actor_type: "APIKey".into(),
            tenant_id: TENANT.into(),
            role_ids,
            id: key.id.to_string(),
            name: key.name.clone(),
            grants: key.grants.iter().map(GrantShape::from).collect(),
            source: source.into(),
            expires_at: key.expires_at.map(seconds),
            created_at: key.created_at.map(seconds),
            secret_since: key.secret_since.map(seconds),
            former_until: key.former_until.map(seconds),
            last_used_at: key.last_used_at.map(seconds),
        }
    }
}

/// Every key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Keys)]
pub struct KeysShape {
    /// The keys.
    pub keys: Vec<KeyShape>,
    /// Why the keys of the configuration are those of an earlier reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_error: Option<String>,
}

/// A key and its secret, which is shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = KeyMade)]
pub struct KeyMadeShape {
    /// The key.
    #[serde(flatten)]
    pub key: KeyShape,
    /// The secret.
    pub key_value: String,
}

impl From<&KeyMade> for KeyMadeShape {
    fn from(made: &KeyMade) -> Self {
        Self {
            key: (&made.view).into(),
            key_value: made.secret.clone(),
        }
    }
}

/// A browser session.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionShape {
    /// Its id.
    pub id: String,
    /// The name of its key.
    pub actor_id: String,
    /// `User`.
    pub actor_type: String,
    /// From where it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    /// What the browser calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// When it was opened.
    pub created_at: String,
    /// When it was last used, to the minute.
    pub last_seen_at: String,
    /// When it ends if it is not used.
    pub idle_expires_at: String,
    /// When it ends.
    pub absolute_expires_at: String,
    /// `false`: one that was ended is not listed.
    pub revoked: bool,
    /// Whether the caller came with it.
    pub current: bool,
}

impl From<&SessionView> for SessionShape {
    fn from(view: &SessionView) -> Self {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        Self {
            id: view.session.id.to_string(),
            actor_id: view.session.actor.clone(),
            actor_type: "User".into(),
            ip_address: some(&view.session.address),
            user_agent: some(&view.session.user_agent),
            created_at: seconds(view.session.created_at),
            last_seen_at: seconds(view.last_seen_at),
            idle_expires_at: seconds(view.idle_expires_at),
            absolute_expires_at: seconds(view.session.expires_at),
            revoked: false,
            current: view.current,
        }
    }
}

/// Sessions.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Sessions)]
pub struct SessionsShape {
    /// The sessions, the newest first.
    pub sessions: Vec<SessionShape>,
}

/// How many sessions were ended.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SessionsEnded)]
pub struct SessionsEndedShape {
    /// So many.
    pub revoked_count: usize,
}

/// Where a permission counts, as a query names it.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct ScopeWish {
    /// `global`, `profile` or `issuer`.
    pub scope_type: Option<String>,
    /// The profile or issuer.
    pub scope_id: Option<String>,
}

impl ScopeWish {
    /// The scope; `None` where none is named.
    ///
    /// # Errors
    /// The field and what it should be.
    pub fn scope(&self) -> Result<Option<Scope>, (&'static str, String)> {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (kind, id) = (some(&self.scope_type), some(&self.scope_id));
        let narrow: fn(_) -> Scope = match (kind.as_deref(), &id) {
            (None, None) => return Ok(None),
            (Some("global"), None) => return Ok(Some(Scope::Global)),
            (None | Some("global"), Some(_)) => {
                let message = "only the scopes profile and issuer have one: name scope_type";
                return Err(("scope_id", message.into()));
            }
            (Some("profile"), Some(_)) => Scope::Profile,
            (Some("issuer"), Some(_)) => Scope::Issuer,
            (Some("profile" | "issuer"), None) => {
                return Err((
                    "scope_id",
                    "the id of the profile or issuer is expected".into(),
                ));
            }
            (Some(_), _) => {
                return Err(("scope_type", "global, profile or issuer is expected".into()));
            }
        };
        let id = id.unwrap_or_default().parse();
        id.map(|id| Some(narrow(id)))
            .map_err(|e: crate::id::InvalidId| ("scope_id", e.to_string()))
    }
}
