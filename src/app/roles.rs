//! Roles: the built-in ones, which are part of the program, and those that are made here.

use super::{App, AppError, Expected, access::everywhere, audit, printable, require};
use crate::{
    access::{Permission, Role},
    clock::Time,
    domain::{
        AuditEvent, Category, CustomRole, Holdings, Principal, RolePermission, Scope,
        access::Beyond, once::Once,
    },
    id::Id,
    store::{KEY_ROLE, Key, Loaded, ROLE_NAME, Scan, Unit},
};
use std::collections::BTreeSet;

/// Roles that are listed at most.
const MAX_ROLES: usize = 10_000;
/// Permissions in a role, each scope counted.
const MAX_PERMISSIONS: usize = 1_000;

/// A role as it stands.
#[derive(Debug, Clone)]
pub struct RoleView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether it is part of the program.
    pub built_in: bool,
    /// What it holds, in the order of the catalogue.
    pub permissions: Vec<RolePermission>,
    /// When it was made, and last edited; the built-in ones have always been.
    pub times: Option<(Time, Time)>,
    /// The version of its row; the built-in ones have none.
    pub version: Option<u64>,
}

/// What is to become of a role; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct RoleEdit {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// All that it holds.
    pub permissions: Option<Vec<RolePermission>>,
}

/// A role that was looked up.
pub(super) struct RoleRef {
    /// Its id.
    pub id: String,
    /// What it holds.
    pub holdings: Holdings,
}

impl App {
    /// Every role: the built-in ones, then the others by name.
    pub async fn roles(&self, who: &Principal) -> Result<Vec<RoleView>, AppError> {
        require(who, Permission::AuthRoleList)?;
        let custom = self
            .store
            .scan::<CustomRole>(Scan::all(ROLE_NAME, MAX_ROLES))
            .await?;
        let custom = custom.into_iter().map(stored);
        Ok(Role::ALL.into_iter().map(built_in).chain(custom).collect())
    }

    /// One role, by id or name.
    pub async fn role(&self, who: &Principal, text: &str) -> Result<RoleView, AppError> {
        require(who, Permission::AuthRoleList)?;
        if let Some(role) = Role::of_text(text) {
            return Ok(built_in(role));
        }
        let mut unit = self.unit();
        let role = custom(self, &mut unit, text).await?;
        Ok(stored(role))
    }

    /// Makes a role. Whoever makes it holds all that it does, for ever.
    pub async fn create_role(
        &self,
        who: &Principal,
        new: &RoleEdit,
        once: Option<&Once>,
    ) -> Result<RoleView, AppError> {
        require(who, Permission::AuthRoleCreate)?;
        let name = new.name.as_deref().unwrap_or_default();
        role_name(name)?;
        printable(
            "description",
            new.description.as_deref().unwrap_or_default(),
            0..=512,
        )?;
        let permissions = distinct(new.permissions.as_deref().unwrap_or_default())?;
        may_put_in(who, &permissions)?;
        let permissions = &permissions;
        let role = self
            .create(who, once, |mut unit| async move {
                let now = self.now();
                let role = CustomRole {
                    id: self.new_id("r"),
                    name: name.to_owned(),
                    description: new.description.clone().unwrap_or_default(),
                    permissions: permissions.clone(),
                    created_at: now,
                    updated_at: now,
                };
                audit(&mut unit, &event(who, "role_created", &role, now));
                unit.insert(role.clone());
                Ok((unit, role))
            })
            .await?;
        Ok(view(role.into_value()))
    }

    /// Edits a role that was made here. What it is given anew, its editor holds for ever.
    pub async fn edit_role(
        &self,
        who: &Principal,
        role: &str,
        expected: &Expected,
        edit: &RoleEdit,
    ) -> Result<RoleView, AppError> {
        require(who, Permission::AuthRoleEdit)?;
        if let Some(name) = &edit.name {
            role_name(name)?;
        }
        printable(
            "description",
            edit.description.as_deref().unwrap_or_default(),
            0..=512,
        )?;
        let permissions = edit.permissions.as_deref().map(distinct).transpose()?;
        let permissions = &permissions;
        let change = move |role: &mut CustomRole| {
            if let Some(name) = &edit.name {
                role.name.clone_from(name);
            }
            if let Some(description) = &edit.description {
                role.description.clone_from(description);
            }
            if let Some(permissions) = permissions {
                role.permissions.clone_from(permissions);
            }
            Ok(())
        };
        self.change_role(who, role, expected, change).await
    }

    /// Gives a role a permission.
    pub async fn add_permission(
        &self,
        who: &Principal,
        role: &str,
        added: &RolePermission,
    ) -> Result<(), AppError> {
        require(who, Permission::AuthRoleEdit)?;
        self.change_role(who, role, &Expected::ANY, |role: &mut CustomRole| {
            role.permissions.push(added.clone());
            role.permissions = distinct(&role.permissions)?;
            Ok(())
        })
        .await
        .map(drop)
    }

    /// Takes a permission from a role. What it does not hold, it holds no more.
    pub async fn remove_permission(
        &self,
        who: &Principal,
        role: &str,
        removed: &RolePermission,
    ) -> Result<(), AppError> {
        require(who, Permission::AuthRoleEdit)?;
        self.change_role(who, role, &Expected::ANY, |role: &mut CustomRole| {
            role.permissions.retain(|one| one != removed);
            Ok(())
        })
        .await
        .map(drop)
    }

    /// Deletes a role that was made here and that no key is granted.
    pub async fn delete_role(
        &self,
        who: &Principal,
        role: &str,
        expected: &Expected,
    ) -> Result<(), AppError> {
        require(who, Permission::AuthRoleDelete)?;
        editable(role)?;
        self.decide(|mut unit| async move {
            let role = custom(self, &mut unit, role).await?;
            expected.met_by(&role)?;
            let id = role.id.as_str();
            let granted = Key::new().text(id);
            let configured = self.configured.keys();
            let configured = configured.iter().find(|key| key.grant.role == id);
            let stored = self.store.first::<crate::domain::ApiKey>(KEY_ROLE, granted.clone()).await?;
            let holder = stored.map(|key| key.name.clone());
            if let Some(holder) = holder.or_else(|| configured.map(|key| key.name.clone())) {
                return Err(AppError::Conflict(format!(
                    "the role {} is granted to the key {holder}, and perhaps to others: take it from \
                     them first",
                    role.name
                )));
            }
            // Nor is it granted meanwhile.
            unit.none(KEY_ROLE, granted);
            audit(&mut unit, &event(who, "role_deleted", &role, self.now()));
            unit.delete(role);
            Ok((unit, ()))
        })
        .await
    }

    /// A role that the decision rests on, by id or name.
    pub(super) async fn role_of(
        &self,
        unit: &mut Unit<'_>,
        text: &str,
    ) -> Result<RoleRef, AppError> {
        if let Some(role) = Role::of_text(text) {
            return Ok(RoleRef {
                id: role.id().to_owned(),
                holdings: everywhere(role.permissions()),
            });
        }
        let role = custom(self, unit, text).await?;
        Ok(RoleRef {
            id: role.id.to_string(),
            holdings: role.holdings(),
        })
    }

    async fn change_role(
        &self,
        who: &Principal,
        role: &str,
        expected: &Expected,
        change: impl Fn(&mut CustomRole) -> Result<(), AppError> + Copy + Send + Sync,
    ) -> Result<RoleView, AppError> {
        editable(role)?;
        let id = self
            .decide(|mut unit| async move {
                let mut role = custom(self, &mut unit, role).await?;
                expected.met_by(&role)?;
                let before = (*role).clone();
                change(&mut role)?;
                if *role == before {
                    return Ok((unit, before.id));
                }
                let new = |one: &&RolePermission| !before.permissions.contains(one);
                let given: Vec<_> = role.permissions.iter().filter(new).cloned().collect();
                may_put_in(who, &given)?;
                let now = self.now();
                role.updated_at = now;
                let taken = before
                    .permissions
                    .iter()
                    .filter(|p| !role.permissions.contains(p));
                let event = event(who, "role_edited", &role, now)
                    .with("added", words(&given))
                    .with("removed", words(taken));
                audit(&mut unit, &event);
                unit.put(role);
                Ok((unit, before.id))
            })
            .await?;
        let role = self.store.get::<CustomRole>(&id).await?;
        role.map(stored)
            .ok_or_else(|| AppError::not_found("role", id))
    }
}

/// A role that was made here, by id or name; the decision rests on it.
async fn custom(
    app: &App,
    unit: &mut Unit<'_>,
    text: &str,
) -> Result<Loaded<CustomRole>, AppError> {
    if let Ok(id) = text.parse::<Id>()
        && let Some(role) = unit.load_opt::<CustomRole>(&id).await?
    {
        return Ok(role);
    }
    let by_name = Key::new().text(&text.to_lowercase());
    let named = app.store.first::<CustomRole>(ROLE_NAME, by_name).await?;
    let id = named.map(|role| role.id.clone());
    let id = id.ok_or_else(|| AppError::not_found("role", text))?;
    super::need(unit, "role", &id).await
}

/// Refuses a built-in role.
fn editable(role: &str) -> Result<(), AppError> {
    match Role::of_text(role) {
        None => Ok(()),
        Some(role) => Err(AppError::Conflict(format!(
            "the role {} is part of the program and stays as it is: make one of your own",
            role.id()
        ))),
    }
}

fn role_name(name: &str) -> Result<(), AppError> {
    printable("name", name, 1..=64)?;
    if name.trim() != name {
        return Err(AppError::invalid("name", "a name has no space around it"));
    }
    if name.to_lowercase().starts_with("r-") {
        return Err(AppError::invalid(
            "name",
            "ids begin with r-: choose another name",
        ));
    }
    if Role::of_text(&name.to_lowercase()).is_some() {
        return Err(AppError::Conflict(format!(
            "name: {name} is the name of a built-in role"
        )));
    }
    Ok(())
}

/// Each permission once, in the order of the catalogue.
fn distinct(permissions: &[RolePermission]) -> Result<Vec<RolePermission>, AppError> {
    let set: BTreeSet<_> = permissions.iter().cloned().collect();
    if set.len() > MAX_PERMISSIONS {
        let message = format!("at most {MAX_PERMISSIONS} are accepted");
        return Err(AppError::invalid("permissions", message));
    }
    Ok(set.into_iter().collect())
}

/// Nobody gives more than they hold. Who is granted a role has whatever it becomes for as long as the
/// grant says, so that what is put in it is held for ever: a right that ends would not, in a role.
fn may_put_in(who: &Principal, permissions: &[RolePermission]) -> Result<(), AppError> {
    for one in permissions {
        let RolePermission { permission, scope } = one;
        let given = Holdings::from([(scope.clone(), [*permission].into_iter().collect())]);
        let reason = match who.access.may_give(&given, None) {
            Ok(()) => continue,
            Err(Beyond::Lacking(_)) => {
                format!("you do not hold {permission} ({scope}): nobody gives more than they hold")
            }
            Err(Beyond::Ending(at)) => format!(
                "you hold {permission} ({scope}) until {at}, and a role would give it for longer"
            ),
        };
        return Err(AppError::Reserved(reason));
    }
    Ok(())
}

fn words<'a>(permissions: impl IntoIterator<Item = &'a RolePermission>) -> String {
    let word = |one: &RolePermission| match &one.scope {
        Scope::Global => one.permission.to_string(),
        scope => format!("{} ({scope})", one.permission),
    };
    permissions
        .into_iter()
        .map(word)
        .collect::<Vec<_>>()
        .join(", ")
}

fn event(who: &Principal, action: &str, role: &CustomRole, now: Time) -> AuditEvent {
    let resource = ("role", role.id.as_str());
    AuditEvent::new(who, Category::Auth, action, resource, now).with("role", &role.name)
}

fn built_in(role: Role) -> RoleView {
    let permissions = role.permissions().iter();
    RoleView {
        id: role.id().to_owned(),
        name: role.name().to_owned(),
        description: role.about().to_owned(),
        built_in: true,
        permissions: permissions
            .map(|permission| RolePermission {
                permission,
                scope: Scope::Global,
            })
            .collect(),
        times: None,
        version: None,
    }
}

fn stored(role: Loaded<CustomRole>) -> RoleView {
    let version = Some(role.version());
    RoleView {
        version,
        ..view(role.into_value())
    }
}

fn view(role: CustomRole) -> RoleView {
    RoleView {
        id: role.id.to_string(),
        name: role.name,
        description: role.description,
        built_in: false,
        permissions: role.permissions,
        times: Some((role.created_at, role.updated_at)),
        version: None,
    }
}
