//! Planning certificates anew after an edit of what they rest on, in slices: each is one commit,
//! which also notes how far it came, so that a crash costs a slice at most.
//!
//! A renewal is due when its policy says; so the certificates of an edited policy get new moments.
//! What is issued is read from profile, issuer and rules at the time of issue, and a good version
//! is not replaced for an edit of theirs. But an attempt that failed may have failed for what was
//! mended: it is repeated at once, and does not wait for its hour.

use super::{App, AppError, audit, need, require, require_on};
use crate::{
    access::Permission,
    clock::Time,
    domain::{
        AuditEvent, Category, Certificate, Edited, Plan, Principal, RenewalPolicy, Replan,
        access::Scope, renewal,
    },
    id::Id,
    store::{
        CERT_CONDITION, CERT_POLICY, CERT_PROFILE, Condition, Facet, Index, Key, Loaded, Scan, Unit,
    },
};

/// Certificates of a slice.
const SLICE: usize = 200;

impl App {
    /// Has the certificates that rest on something planned anew, from the first one on.
    pub(super) async fn begin_replan(
        &self,
        unit: &mut Unit<'_>,
        of: Edited,
        now: Time,
    ) -> Result<(), AppError> {
        let (index, key) = place(&of);
        let total = self.store.count(&Facet::is(index, key)).await?;
        let id = Replan::id_of(&of);
        let old = unit.load_opt::<Replan>(&id).await?;
        let new = Replan {
            id,
            of,
            total,
            done: 0,
            after: None,
            since: now,
        };
        match (old, total) {
            (Some(old), 0) => unit.delete(old),
            (None, 0) => {}
            (Some(old), _) => unit.put(old.map(|_| new)),
            (None, _) => unit.insert(new),
        }
        Ok(())
    }

    /// How far planning anew has come after an edit; `None` when nothing is left of it.
    pub async fn replanning(
        &self,
        who: &Principal,
        of: &Edited,
    ) -> Result<Option<Replan>, AppError> {
        match of {
            Edited::Profile(id) => {
                let scope = Scope::Profile(id.clone());
                require_on(who, Permission::ProfileRead, &scope)?;
            }
            Edited::RenewalPolicy(_) | Edited::Rules => require(who, Permission::PolicyRead)?,
        }
        let row = self.store.get::<Replan>(&Replan::id_of(of)).await?;
        Ok(row.map(Loaded::into_value))
    }

    /// Plans anew, to the end; for the reconciler.
    pub(crate) async fn replan(&self, id: &Id) -> Result<(), AppError> {
        let stop = self.tasks.token();
        while !stop.is_cancelled() {
            if self.decide(|unit| self.replan_slice(unit, id)).await? {
                break;
            }
        }
        Ok(())
    }

    /// One slice; says whether it was the last.
    async fn replan_slice<'a>(
        &self,
        mut unit: Unit<'a>,
        id: &Id,
    ) -> Result<(Unit<'a>, bool), AppError> {
        let Some(mut row) = unit.load_opt::<Replan>(id).await? else {
            return Ok((unit, true));
        };
        let now = self.now();
        let policy: Option<Loaded<RenewalPolicy>> = match &row.of {
            Edited::RenewalPolicy(id) => Some(need(&mut unit, "renewal policy", id).await?),
            _ => None,
        };
        let page = self.store.page::<Certificate>(rest_of(&row, SLICE)).await?;
        row.done += page.rows.len() as u64;
        for mut certificate in page.rows {
            let before = Certificate::clone(&certificate);
            plan_anew(&mut certificate, policy.as_deref(), now);
            if *certificate != before {
                unit.put(certificate);
            }
        }
        let Some((key, last)) = page.next else {
            let (kind, of) = match &row.of {
                Edited::RenewalPolicy(id) => ("renewal_policy", id.as_str()),
                Edited::Profile(id) => ("profile", id.as_str()),
                Edited::Rules => ("policy_rule", "rules"),
            };
            let who = &Principal::system("replanning");
            let event = AuditEvent::new(
                who,
                Category::Config,
                "certificates_replanned",
                (kind, of),
                now,
            );
            audit(&mut unit, &event.with("certificates", row.done));
            unit.delete(row);
            return Ok((unit, true));
        };
        row.after = Some((data_encoding::HEXLOWER.encode(&key), last));
        unit.put(row);
        Ok((unit, false))
    }
}

/// The certificates that an edit is still to be planned anew for.
pub(super) fn rest_of(edit: &Replan, limit: usize) -> Scan {
    let (index, key) = place(&edit.of);
    let after = edit.after.as_ref().and_then(|(key, id)| {
        let key = data_encoding::HEXLOWER.decode(key.as_bytes()).ok()?;
        Some((key, id.clone()))
    });
    Scan {
        after,
        ..Scan::under(index, key.bytes(), limit)
    }
}

/// What becomes of a certificate by an edit: of its policy, or else of something that may have
/// refused it.
pub(super) fn plan_anew(certificate: &mut Certificate, policy: Option<&RenewalPolicy>, now: Time) {
    match policy {
        Some(policy) => renewal::replan(certificate, policy, now),
        None => repeat_failed(certificate, now),
    }
}

/// Where the certificates stand that rest on it. Of the rules it is those whose last attempt
/// failed: no others can have been kept back.
fn place(of: &Edited) -> (Index, Key) {
    let text = |text: &str| Key::new().text(text);
    match of {
        Edited::RenewalPolicy(id) => (CERT_POLICY, text(id.as_str())),
        Edited::Profile(id) => (CERT_PROFILE, text(id.as_str())),
        Edited::Rules => (CERT_CONDITION, text(Condition::Failing.as_str())),
    }
}

/// Attempts that failed are repeated now.
fn repeat_failed(certificate: &mut Certificate, now: Time) {
    if certificate.ended().is_some() {
        return;
    }
    for line in certificate.holders.values_mut() {
        let planned = matches!(line.plan, Plan::Scheduled { .. });
        if planned && line.failure.is_some() && line.ended_at.is_none() {
            line.hasten(now);
        }
    }
}
