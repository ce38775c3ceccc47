//! Documents that say how things are to be: profiles, renewal policies, policy rules, owners and
//! teams. Making, reading, editing and deleting them is the same for all; what differs stands in
//! [`Configuration`].

use super::{
    App, AppError, Expected, audit, certificates::exists, free, known, need, printable, require,
    require_on,
};
use crate::{
    access::Permission,
    clock::Time,
    domain::{
        AuditEvent, Category, Edited, Fault, Naming, Owner, PolicyRule, Principal, Profile,
        RenewalPolicy, Replan, Team, access::Scope, once::Once,
    },
    id::Id,
    pki::San,
    store::{
        CERT_OWNER, CERT_POLICY, CERT_PROFILE, CERT_TEAM, Document, Facet, Index, Key, List,
        Listed, Loaded, OWNER_NAME, OWNER_TEAM, POLICY_NAME, PROFILE_NAME, RULE_NAME, RulesHead,
        TEAM_NAME, Unit,
    },
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    future::{Future, ready},
};

/// The longest name, in bytes.
const NAME: usize = 255;
/// The longest description, in bytes.
const DESCRIPTION: usize = 2_048;
/// The longest value that the audit log tells of an edit, in characters.
const TOLD: usize = 512;

/// A document that says how things are to be.
pub trait Configuration: Document + Clone + PartialEq {
    /// What it is called.
    const KIND: &'static str;
    /// What the ids made for it begin with.
    const PREFIX: &'static str;
    /// Needed to read it.
    const READ: Permission;
    /// Needed to make and edit it.
    const EDIT: Permission;
    /// Needed to delete it.
    const DELETE: Permission;
    /// All of them, by name.
    const NAMES: Index;
    /// So many are kept at most.
    const MOST: u64;
    /// The one that is always there.
    const DEFAULT: &'static str = "";
    /// What refers to it: it cannot be deleted meanwhile.
    const USED_BY: &'static [(&'static str, Index)] = &[];

    /// What a permission on one of them alone is held on.
    fn scope(id: &Id) -> Scope {
        let _ = id;
        Scope::Global
    }

    /// Its name.
    fn name(&self) -> &str;

    /// Notes the moment of an edit.
    fn edited(&mut self, at: Time);

    /// Whether its fields can be as they are.
    ///
    /// # Errors
    /// The field at fault.
    fn check(&self) -> Result<(), AppError>;

    /// What is to be planned anew when it was edited.
    fn rests(&self) -> Option<Edited> {
        None
    }

    /// Whether what it refers to is there.
    fn refers(&self, unit: &mut Unit<'_>) -> impl Future<Output = Result<(), AppError>> + Send {
        let _ = unit;
        ready(Ok(()))
    }

    /// What else is written whenever one is made, edited or deleted.
    fn mark(unit: &mut Unit<'_>, now: Time) -> impl Future<Output = Result<(), AppError>> + Send {
        let _ = (unit, now);
        ready(Ok(()))
    }
}

impl Configuration for Profile {
    const KIND: &'static str = "profile";
    const PREFIX: &'static str = "prof";
    const READ: Permission = Permission::ProfileRead;
    const EDIT: Permission = Permission::ProfileEdit;
    const DELETE: Permission = Permission::ProfileDelete;
    const NAMES: Index = PROFILE_NAME;
    const MOST: u64 = 1_000;
    const DEFAULT: &'static str = super::PROFILE_DEFAULT;
    const USED_BY: &'static [(&'static str, Index)] = &[("certificate", CERT_PROFILE)];

    fn scope(id: &Id) -> Scope {
        Scope::Profile(id.clone())
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn edited(&mut self, at: Time) {
        self.updated_at = at;
    }

    fn check(&self) -> Result<(), AppError> {
        printable("description", &self.description, 0..=DESCRIPTION)?;
        Profile::check(self)?;
        Naming::of(self)?;
        Ok(())
    }

    fn rests(&self) -> Option<Edited> {
        Some(Edited::Profile(self.id.clone()))
    }
}

impl Configuration for RenewalPolicy {
    const KIND: &'static str = "renewal policy";
    const PREFIX: &'static str = "rp";
    const READ: Permission = Permission::PolicyRead;
    const EDIT: Permission = Permission::PolicyEdit;
    const DELETE: Permission = Permission::PolicyDelete;
    const NAMES: Index = POLICY_NAME;
    const MOST: u64 = 1_000;
    const DEFAULT: &'static str = super::POLICY_DEFAULT;
    const USED_BY: &'static [(&'static str, Index)] = &[("certificate", CERT_POLICY)];

    fn name(&self) -> &str {
        &self.name
    }

    fn edited(&mut self, at: Time) {
        self.updated_at = at;
    }

    fn check(&self) -> Result<(), AppError> {
        Ok(RenewalPolicy::check(self)?)
    }

    fn rests(&self) -> Option<Edited> {
        Some(Edited::RenewalPolicy(self.id.clone()))
    }

    async fn refers(&self, unit: &mut Unit<'_>) -> Result<(), AppError> {
        if let Some(id) = &self.profile_id {
            exists::<Profile>(unit, "certificate_profile_id", id).await?;
        }
        Ok(())
    }
}

impl Configuration for PolicyRule {
    const KIND: &'static str = "policy rule";
    const PREFIX: &'static str = "rule";
    const READ: Permission = Permission::PolicyRead;
    const EDIT: Permission = Permission::PolicyEdit;
    const DELETE: Permission = Permission::PolicyDelete;
    const NAMES: Index = RULE_NAME;
    // All are looked at for each certificate issued.
    const MOST: u64 = 200;

    fn name(&self) -> &str {
        &self.name
    }

    fn edited(&mut self, at: Time) {
        self.updated_at = at;
    }

    fn check(&self) -> Result<(), AppError> {
        Ok(())
    }

    fn rests(&self) -> Option<Edited> {
        Some(Edited::Rules)
    }

    async fn mark(unit: &mut Unit<'_>, now: Time) -> Result<(), AppError> {
        let id = known(super::rules::HEAD);
        match unit.load_opt::<RulesHead>(&id).await? {
            Some(mut head) => {
                head.changed_at = now;
                unit.put(head);
            }
            None => unit.insert(RulesHead {
                id,
                changed_at: now,
            }),
        }
        Ok(())
    }
}

impl Configuration for Owner {
    const KIND: &'static str = "owner";
    const PREFIX: &'static str = "owner";
    const READ: Permission = Permission::OwnerRead;
    const EDIT: Permission = Permission::OwnerEdit;
    const DELETE: Permission = Permission::OwnerDelete;
    const NAMES: Index = OWNER_NAME;
    const MOST: u64 = 100_000;
    const USED_BY: &'static [(&'static str, Index)] = &[("certificate", CERT_OWNER)];

    fn name(&self) -> &str {
        &self.name
    }

    fn edited(&mut self, at: Time) {
        self.updated_at = at;
    }

    fn check(&self) -> Result<(), AppError> {
        if self.email.is_empty() {
            return Ok(());
        }
        match self.email.parse::<San>() {
            Ok(San::Email(_)) => Ok(()),
            Ok(_) => Err(AppError::invalid("email", "it is no e-mail address")),
            Err(e) => Err(AppError::invalid("email", e)),
        }
    }

    async fn refers(&self, unit: &mut Unit<'_>) -> Result<(), AppError> {
        if let Some(id) = &self.team_id {
            exists::<Team>(unit, "team_id", id).await?;
        }
        Ok(())
    }
}

impl Configuration for Team {
    const KIND: &'static str = "team";
    const PREFIX: &'static str = "team";
    const READ: Permission = Permission::TeamRead;
    const EDIT: Permission = Permission::TeamEdit;
    const DELETE: Permission = Permission::TeamDelete;
    const NAMES: Index = TEAM_NAME;
    const MOST: u64 = 100_000;
    const USED_BY: &'static [(&'static str, Index)] =
        &[("owner", OWNER_TEAM), ("certificate", CERT_TEAM)];

    fn name(&self) -> &str {
        &self.name
    }

    fn edited(&mut self, at: Time) {
        self.updated_at = at;
    }

    fn check(&self) -> Result<(), AppError> {
        printable("description", &self.description, 0..=DESCRIPTION)
    }
}

/// A change that a door makes to a document.
pub type Change<'a, T> = &'a (dyn Fn(T) -> Result<T, Fault> + Sync);

impl App {
    /// A page of them, by name.
    pub async fn configured<T: Configuration>(
        &self,
        who: &Principal,
        cursor: Option<&str>,
        (skip, limit): (usize, usize),
    ) -> Result<(Listed<T>, Option<String>), AppError> {
        require(who, T::READ)?;
        let list = List {
            order: T::NAMES,
            backward: false,
            facets: Vec::new(),
            keep: None,
            after: None,
            skip,
            limit,
        };
        self.page(list, cursor, T::KIND).await
    }

    /// One of them.
    pub async fn configuration<T: Configuration>(
        &self,
        who: &Principal,
        id: &Id,
    ) -> Result<Loaded<T>, AppError> {
        require_on(who, T::READ, &T::scope(id))?;
        let row = self.store.get(id).await?;
        row.ok_or_else(|| AppError::not_found(T::KIND, id))
    }

    /// Makes one out of `new`, a document as it is before anything is said of it.
    pub async fn configure<T: Configuration>(
        &self,
        who: &Principal,
        id: Option<&Id>,
        once: Option<&Once>,
        new: impl Fn(Id, Time) -> Result<T, Fault> + Sync,
    ) -> Result<T, AppError> {
        require(who, T::EDIT)?;
        let new = &new;
        let made = self
            .create(who, once, |mut unit| async move {
                let now = self.now();
                if let Some(id) = id {
                    free::<T>(&mut unit, T::KIND, id).await?;
                }
                let id = id.cloned().unwrap_or_else(|| self.new_id(T::PREFIX));
                let made = new(id, now)?;
                printable("name", made.name(), 1..=NAME)?;
                made.check()?;
                made.refers(&mut unit).await?;
                T::mark(&mut unit, now).await?;
                if self.store.count(&Facet::any(T::NAMES)).await? >= T::MOST {
                    let (most, kind) = (T::MOST, T::KIND);
                    let message =
                        format!("there are {most} of the kind {kind}, the most there can be");
                    return Err(AppError::Conflict(message));
                }
                let event = event::<T>(who, "created", made.id(), now).with("name", made.name());
                audit(&mut unit, &event);
                unit.insert(made.clone());
                Ok((unit, made))
            })
            .await?
            .into_value();
        self.rules.forget();
        Ok(made)
    }

    /// Edits one. What rests on it is planned anew.
    pub async fn reconfigure<T: Configuration>(
        &self,
        who: &Principal,
        id: &Id,
        expected: &Expected,
        change: Change<'_, T>,
    ) -> Result<Loaded<T>, AppError> {
        require_on(who, T::EDIT, &T::scope(id))?;
        self.decide(|mut unit| async move {
            let now = self.now();
            let row: Loaded<T> = need(&mut unit, T::KIND, id).await?;
            expected.met_by(&row)?;
            let mut new = change(T::clone(&row))?;
            if new == *row {
                return Ok((unit, ()));
            }
            new.edited(now);
            printable("name", new.name(), 1..=NAME)?;
            new.check()?;
            new.refers(&mut unit).await?;
            T::mark(&mut unit, now).await?;
            let mut event = event::<T>(who, "edited", id, now);
            event.details = differences(&*row, &new);
            audit(&mut unit, &event);
            if let Some(edited) = new.rests() {
                self.begin_replan(&mut unit, edited, now).await?;
            }
            unit.put(row.map(|_| new));
            Ok((unit, ()))
        })
        .await?;
        self.rules.forget();
        let row = self.store.get(id).await?;
        row.ok_or_else(|| AppError::not_found(T::KIND, id))
    }

    /// Deletes one that nothing refers to.
    pub async fn unconfigure<T: Configuration>(
        &self,
        who: &Principal,
        id: &Id,
        expected: &Expected,
    ) -> Result<(), AppError> {
        require_on(who, T::DELETE, &T::scope(id))?;
        if id.as_str() == T::DEFAULT {
            return Err(AppError::Conflict(format!(
                "{} {id} is what is used where none is named: it stays",
                T::KIND
            )));
        }
        self.decide(|mut unit| async move {
            let now = self.now();
            let row: Loaded<T> = need(&mut unit, T::KIND, id).await?;
            expected.met_by(&row)?;
            for (user, index) in T::USED_BY {
                let of = Key::new().text(id.as_str());
                let n = self.store.count(&Facet::is(*index, of.clone())).await?;
                if n > 0 {
                    let kind = T::KIND;
                    let message =
                        format!("{kind} {id} is used by {n} {user}(s): change them first");
                    return Err(AppError::Conflict(message));
                }
                unit.none(*index, of);
            }
            T::mark(&mut unit, now).await?;
            let event = event::<T>(who, "deleted", id, now).with("name", row.name());
            audit(&mut unit, &event);
            if let Some(edited) = row.rests() {
                match edited {
                    Edited::Rules => self.begin_replan(&mut unit, edited, now).await?,
                    gone => {
                        let id = Replan::id_of(&gone);
                        if let Some(replan) = unit.load_opt::<Replan>(&id).await? {
                            unit.delete(replan);
                        }
                    }
                }
            }
            unit.delete(row);
            Ok((unit, ()))
        })
        .await?;
        self.rules.forget();
        Ok(())
    }
}

fn event<T: Configuration>(who: &Principal, done: &str, id: &Id, now: Time) -> AuditEvent {
    let kind = T::KIND.replace(' ', "_");
    let action = format!("{kind}_{done}");
    AuditEvent::new(who, Category::Config, &action, (&kind, id.as_str()), now)
}

/// What differs between two values, by field: what was, and what is.
pub(super) fn differences<T: Serialize>(before: &T, after: &T) -> BTreeMap<String, String> {
    let fields = |value: &T| match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (before, after) = (fields(before), fields(after));
    let mut differences = BTreeMap::new();
    for (field, new) in &after {
        let old = before.get(field).unwrap_or(&Value::Null);
        if old != new && field != "updated_at" {
            differences.insert(field.clone(), format!("{} -> {}", said(old), said(new)));
        }
    }
    differences
}

fn said(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(TOLD) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
