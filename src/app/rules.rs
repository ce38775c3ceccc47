//! Policy rules and the names of profiles: what keeps a certificate from being made, edited or
//! issued, and what is only told.
//!
//! The rules are few and asked for at each issue. So they are remembered, with the version of the
//! row that every change of a rule writes, and a decision that they led to asserts that version: a
//! rule that was changed meanwhile is never passed by.

use super::{App, AppError, Configuration, known, need};
use crate::{
    clock::Time,
    domain::{
        Certificate, Naming, PolicyRule, Principal, Profile, RenewalPolicy, Severity, Subject,
        Wants,
    },
    id::Id,
    store::{
        CERT_CREATED, Index, List, Loaded, POLICY_NAME, PROFILE_NAME, RULE_NAME, RulesHead, Scan,
        Unit,
    },
};
use arc_swap::ArcSwapOption;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The id of the row that every change of a rule writes.
pub(super) const HEAD: &str = "rules";
/// More rules than there can be.
const MOST: usize = 1_000;
/// So many profiles' patterns are kept compiled.
const COMPILED: usize = 1_000;

/// The rules, and profiles' patterns, as they were last read.
#[derive(Default)]
pub struct Rules {
    known: ArcSwapOption<Known>,
    /// How often they were forgotten: what was read before that is not remembered after it.
    forgotten: AtomicU64,
    /// By profile, with its version.
    naming: Mutex<BTreeMap<Id, (u64, Arc<Naming>)>>,
}

struct Known {
    /// The version of the row `rules`; none before the first rule.
    version: Option<u64>,
    enabled: Vec<PolicyRule>,
}

impl Rules {
    /// Has them read again.
    pub(super) fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.known.store(None);
    }

    fn naming(&self, profile: &Loaded<Profile>) -> Result<Arc<Naming>, AppError> {
        let lock = || self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((version, naming)) = lock().get(&profile.id)
            && *version == profile.version()
        {
            return Ok(naming.clone());
        }
        let naming = Arc::new(Naming::of(profile)?);
        let mut kept = lock();
        if kept.len() >= COMPILED {
            kept.clear();
        }
        kept.insert(profile.id.clone(), (profile.version(), naming.clone()));
        Ok(naming)
    }
}

/// A certificate that is not as a rule wants it.
#[derive(Debug, Clone)]
pub struct Violation {
    /// `violation-` and a hash of rule and certificate.
    pub id: Id,
    /// The certificate.
    pub certificate: Id,
    /// Why.
    pub message: String,
    /// When that came to be: the certificate or the rule was last edited then.
    pub since: Time,
}

/// Why a certificate is not to be.
pub(super) struct Refusal {
    /// The field at fault.
    pub field: &'static str,
    /// The rule, or the profile, and its reason.
    pub message: String,
}

impl From<Refusal> for AppError {
    fn from(refusal: Refusal) -> Self {
        Self::invalid(refusal.field, refusal.message)
    }
}

impl App {
    async fn known_rules(&self) -> Result<Arc<Known>, AppError> {
        if let Some(known) = self.rules.known.load_full() {
            return Ok(known);
        }
        let forgotten = self.rules.forgotten.load(Ordering::SeqCst);
        // The version first: rules newer than it are found out when it is asserted.
        let head = self.store.get::<RulesHead>(&known(HEAD)).await?;
        let rows = self.store.scan(Scan::all(RULE_NAME, MOST)).await?;
        let rules = rows.into_iter().map(Loaded::into_value);
        let read = Arc::new(Known {
            version: head.map(|head| head.version()),
            enabled: rules.filter(|rule: &PolicyRule| rule.enabled).collect(),
        });
        if self.rules.forgotten.load(Ordering::SeqCst) == forgotten {
            self.rules.known.store(Some(read.clone()));
        }
        Ok(read)
    }

    /// Whether profile and rules let a certificate be as it is. The decision rests on the rules.
    pub(super) async fn allowed(
        &self,
        unit: &mut Unit<'_>,
        certificate: &Certificate,
        profile: &Loaded<Profile>,
        policy: Option<&RenewalPolicy>,
    ) -> Result<Result<(), Refusal>, AppError> {
        if !profile.enabled {
            return Ok(Err(Refusal {
                field: "certificate_profile_id",
                message: format!("profile {} is switched off", profile.id),
            }));
        }
        if Naming::is_asked(profile)
            && let Err(reason) = self.rules.naming(profile)?.allow(&certificate.sans)
        {
            return Ok(Err(Refusal {
                field: "sans",
                message: format!("profile {} does not take these names: {reason}", profile.id),
            }));
        }
        let rules = self.known_rules().await?;
        let broken = self
            .broken(unit, &rules, (certificate, profile, policy))
            .await?;
        if broken.is_none() || self.are_present(&rules).await? {
            unit.recall::<RulesHead>(&known(HEAD), rules.version);
            return Ok(broken.map_or(Ok(()), Err));
        }
        // Nothing is committed of what is refused: nobody else finds out that a rule is gone.
        self.rules.forget();
        let rules = self.known_rules().await?;
        unit.recall::<RulesHead>(&known(HEAD), rules.version);
        let broken = self
            .broken(unit, &rules, (certificate, profile, policy))
            .await?;
        Ok(broken.map_or(Ok(()), Err))
    }

    /// Whether the rules that are remembered are those of the store. Where no other server is, they
    /// are.
    async fn are_present(&self, rules: &Known) -> Result<bool, AppError> {
        if !self.store.is_shared() {
            return Ok(true);
        }
        let head = self.store.get::<RulesHead>(&known(HEAD)).await?;
        Ok(head.map(|head| head.version()) == rules.version)
    }

    /// The first rule that keeps a certificate from being as it is.
    async fn broken(
        &self,
        unit: &mut Unit<'_>,
        rules: &Known,
        (certificate, profile, policy): (&Certificate, &Profile, Option<&RenewalPolicy>),
    ) -> Result<Option<Refusal>, AppError> {
        let blocking = || rules.enabled.iter().filter(|r| r.severity.blocks());
        let loaded;
        let policy = match policy {
            None if blocking().any(|r| matches!(r.wants, Wants::RenewalLeadTime(_))) => {
                let id = &certificate.policy_id;
                loaded = need::<RenewalPolicy>(unit, "renewal policy", id).await?;
                Some(&*loaded)
            }
            policy => policy,
        };
        for rule in blocking() {
            let subject = Subject {
                certificate,
                profile,
                policy,
            };
            if let Some(reason) = rule.broken_by(subject) {
                return Ok(Some(Refusal {
                    field: rule.wants.field(),
                    message: format!("policy rule {} ({}): {reason}", rule.name, rule.id),
                }));
            }
        }
        Ok(None)
    }

    /// What rules say against a certificate as it is, a sentence each.
    pub async fn warnings(&self, certificate: &Certificate) -> Result<Vec<String>, AppError> {
        let rules = self.known_rules().await?;
        if rules.enabled.is_empty() {
            return Ok(Vec::new());
        }
        let profile = self.store.get::<Profile>(&certificate.profile_id).await?;
        let policy = self.store.get(&certificate.policy_id).await?;
        let (Some(profile), Some(policy)) = (profile, policy) else {
            return Ok(Vec::new());
        };
        let subject = Subject {
            certificate,
            profile: &profile,
            policy: Some(&policy),
        };
        let broken = rules.enabled.iter().filter_map(|rule| {
            let reason = rule.broken_by(subject)?;
            Some(format!("{} ({}): {reason}", rule.name, rule.id))
        });
        Ok(broken.collect())
    }

    /// Certificates that are not as a rule wants them, the newest first, with the rule. They are
    /// looked for when they are asked for, and a page looks at a bounded number of certificates:
    /// what is not stored is never out of date.
    pub async fn violations(
        &self,
        who: &Principal,
        id: &Id,
        (skip, limit): (usize, usize),
        cursor: Option<&str>,
    ) -> Result<ViolationPage, AppError> {
        let rule = self
            .configuration::<PolicyRule>(who, id)
            .await?
            .into_value();
        let profiles = self.by_id::<Profile>(PROFILE_NAME).await?;
        let policies = self.by_id::<RenewalPolicy>(POLICY_NAME).await?;
        let broken = |certificate: &Certificate| {
            rule.broken_by(Subject {
                certificate,
                profile: profiles.get(&certificate.profile_id)?,
                policy: policies.get(&certificate.policy_id),
            })
        };
        let keep = |certificate: &Certificate| broken(certificate).is_some();
        let list = List {
            order: CERT_CREATED,
            backward: true,
            facets: Vec::new(),
            keep: Some(&keep),
            after: None,
            skip,
            limit,
        };
        let question = format!("violations of {id}");
        let (listed, next) = self.page(list, cursor, &question).await?;
        let found = listed.rows.iter().filter_map(|row| {
            Some(Violation {
                id: violation_id(id, &row.id),
                certificate: row.id.clone(),
                message: broken(row)?,
                since: row.updated_at.max(rule.updated_at),
            })
        });
        let rows = found.collect();
        Ok(ViolationPage {
            severity: rule.severity,
            rows,
            total: listed.total,
            next,
        })
    }

    async fn by_id<T: Configuration>(&self, index: Index) -> Result<BTreeMap<Id, T>, AppError> {
        let rows = self.store.scan(Scan::all(index, MOST)).await?;
        let pairs = rows.into_iter().map(Loaded::<T>::into_value);
        Ok(pairs.map(|row| (row.id().clone(), row)).collect())
    }
}

/// A page of violations of a rule.
pub struct ViolationPage {
    /// How much they matter.
    pub severity: Severity,
    /// The violations.
    pub rows: Vec<Violation>,
    /// How many there are, where it is known.
    pub total: Option<u64>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

fn violation_id(rule: &Id, certificate: &Id) -> Id {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    hash.update(rule.as_str().as_bytes());
    hash.update(&[0]);
    hash.update(certificate.as_str().as_bytes());
    let hash = hash.finish();
    Id::derived("violation", hash.as_ref().get(..16).unwrap_or_default())
}
