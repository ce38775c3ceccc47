//! `/renewal-policies` and `/policies`: what is read and what is answered.

use super::{Edits, ReplanShape};
use crate::{
    app::Violation,
    domain::{Channel, Fault, PolicyRule, RenewalPolicy, Severity, Tier, Wants},
    id::Id,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A renewal policy to make, or what is to change of one: what is absent stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RenewalPolicyWish {
    /// Its id, when it is made; made when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name, unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Renew when this many days are left, though never before half the lifetime is over; 0: the
    /// fraction alone decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewal_window_days: Option<u32>,
    /// Renew when this many thousandths of the lifetime are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_left_permille: Option<u32>,
    /// Whether versions are renewed without somebody's asking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_renew: Option<bool>,
    /// So many attempts in a row wait the interval each; then the waits double.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// How long after a failed attempt the next one is due, at least; 0: an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_interval_seconds: Option<u32>,
    /// So many days before the end somebody is to be told; kept as it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_thresholds_days: Option<Vec<u32>>,
    /// Where alerts of a tier go; kept as it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_channels: Option<BTreeMap<String, Vec<String>>>,
    /// The tier of each threshold; kept as it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_severity_map: Option<BTreeMap<String, String>>,
    /// The profile it was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_profile_id: Option<String>,
}

impl Edits for RenewalPolicyWish {
    type Resource = RenewalPolicyShape;
}

impl RenewalPolicyWish {
    /// The policy as it is wished for.
    ///
    /// # Errors
    /// The field that cannot be taken.
    pub fn onto(&self, mut policy: RenewalPolicy) -> Result<RenewalPolicy, Fault> {
        if let Some(name) = &self.name {
            policy.name.clone_from(name);
        }
        if let Some(days) = self.renewal_window_days {
            policy.renewal_window_days = days;
        }
        if let Some(left) = self.renew_left_permille {
            policy.renew_left_permille = left;
        }
        if let Some(auto) = self.auto_renew {
            policy.auto_renew = auto;
        }
        if let Some(retries) = self.max_retries {
            policy.max_retries = retries;
        }
        match self.retry_interval_seconds {
            Some(0) => policy.retry_interval_seconds = 3_600,
            Some(seconds) => policy.retry_interval_seconds = seconds,
            None => {}
        }
        if let Some(days) = &self.alert_thresholds_days {
            policy.alert_thresholds_days.clone_from(days);
        }
        if let Some(given) = &self.alert_channels {
            policy.alert_channels = channels(given)?;
        }
        if let Some(given) = &self.alert_severity_map {
            policy.alert_severity_map = tiers(given)?;
        }
        match self.certificate_profile_id.as_deref() {
            Some("") => policy.profile_id = None,
            Some(id) => {
                let id = id.parse::<Id>();
                let id = id.map_err(|e| Fault::new("certificate_profile_id", e.to_string()))?;
                policy.profile_id = Some(id);
            }
            None => {}
        }
        Ok(policy)
    }
}

fn tier(field: &'static str, word: &str) -> Result<Tier, Fault> {
    Tier::ALL
        .into_iter()
        .find(|tier| tier.as_str() == word)
        .ok_or_else(|| {
            let all = Tier::ALL.map(Tier::as_str).join(", ");
            Fault::new(field, format!("{word:?} is none of {all}"))
        })
}

fn channels(given: &BTreeMap<String, Vec<String>>) -> Result<BTreeMap<Tier, Vec<Channel>>, Fault> {
    const FIELD: &str = "alert_channels";
    let channel = |word: &String| {
        let known = Channel::ALL.into_iter().find(|c| c.as_str() == word);
        known.ok_or_else(|| {
            let all = Channel::ALL.map(Channel::as_str).join(", ");
            Fault::new(FIELD, format!("{word:?} is none of {all}"))
        })
    };
    let of_tier = |(word, names): (&String, &Vec<String>)| {
        let mut all: Vec<Channel> = names.iter().map(channel).collect::<Result<_, _>>()?;
        all.sort();
        all.dedup();
        Ok((tier(FIELD, word)?, all))
    };
    given.iter().map(of_tier).collect()
}

fn tiers(given: &BTreeMap<String, String>) -> Result<BTreeMap<u32, Tier>, Fault> {
    const FIELD: &str = "alert_severity_map";
    let of_days = |(days, word): (&String, &String)| {
        let number = days.parse();
        let number = number.map_err(|_| Fault::new(FIELD, format!("{days:?} is no number")))?;
        Ok((number, tier(FIELD, word)?))
    };
    given.iter().map(of_days).collect()
}

/// A renewal policy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = RenewalPolicy)]
pub struct RenewalPolicyShape {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Renew when this many days are left; 0: the fraction alone decides.
    pub renewal_window_days: u32,
    /// Renew when this many thousandths of the lifetime are left.
    pub renew_left_permille: u32,
    /// Whether versions are renewed without somebody's asking.
    pub auto_renew: bool,
    /// So many attempts in a row wait the interval each; then the waits double.
    pub max_retries: u32,
    /// How long after a failed attempt the next one is due, at least.
    pub retry_interval_seconds: u32,
    /// So many days before the end somebody is to be told.
    pub alert_thresholds_days: Vec<u32>,
    /// Where alerts of a tier go.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alert_channels: BTreeMap<String, Vec<String>>,
    /// The tier of each threshold.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alert_severity_map: BTreeMap<String, String>,
    /// The profile it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_profile_id: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last edited.
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// How far planning anew has come after the last edit; absent when it is done. Only of one
    /// policy, not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replan: Option<ReplanShape>,
}

impl From<&RenewalPolicy> for RenewalPolicyShape {
    fn from(policy: &RenewalPolicy) -> Self {
        let names = |all: &Vec<Channel>| all.iter().map(|c| c.as_str().to_owned()).collect();
        let channels = policy.alert_channels.iter();
        let tiers = policy.alert_severity_map.iter();
        Self {
            id: policy.id.to_string(),
            name: policy.name.clone(),
            renewal_window_days: policy.renewal_window_days,
            renew_left_permille: policy.renew_left_permille,
            auto_renew: policy.auto_renew,
            max_retries: policy.max_retries,
            retry_interval_seconds: policy.retry_interval_seconds,
            alert_thresholds_days: policy.alert_thresholds_days.clone(),
            alert_channels: channels
                .map(|(tier, all)| (tier.as_str().to_owned(), names(all)))
                .collect(),
            alert_severity_map: tiers
                .map(|(days, tier)| (days.to_string(), tier.as_str().to_owned()))
                .collect(),
            certificate_profile_id: policy.profile_id.as_ref().map(ToString::to_string),
            created_at: policy.created_at.to_string(),
            updated_at: policy.updated_at.to_string(),
            replan: None,
        }
    }
}

/// A policy rule to make, or what is to change of one: what is absent stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RuleWish {
    /// Its id, when it is made; made when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name, unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `AllowedIssuers`, `AllowedDomains`, `RequiredMetadata`, `AllowedEnvironments`,
    /// `RenewalLeadTime` or `CertificateLifetime`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its configuration, in the words of its type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    /// Whether it is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// `Warning`: told; `Error` and `Critical`: refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
}

impl Edits for RuleWish {
    type Resource = RuleShape;
}

impl RuleWish {
    /// What a new rule wants.
    ///
    /// # Errors
    /// The type or the configuration.
    pub fn wants(&self) -> Result<Wants, Fault> {
        let Some(kind) = self.kind.as_deref().filter(|kind| !kind.is_empty()) else {
            let message = format!("it is required: one of {}", Wants::TYPES.join(", "));
            return Err(Fault::new("type", message));
        };
        Wants::parse(kind, self.config.clone().unwrap_or_default())
    }

    /// The rule as it is wished for.
    ///
    /// # Errors
    /// The field that cannot be taken.
    pub fn onto(&self, mut rule: PolicyRule) -> Result<PolicyRule, Fault> {
        if let Some(name) = &self.name {
            rule.name.clone_from(name);
        }
        let kind = self.kind.as_deref().filter(|kind| !kind.is_empty());
        let kind = kind.unwrap_or(rule.wants.type_name());
        if self.config.is_some() || kind != rule.wants.type_name() {
            rule.wants = Wants::parse(kind, self.config.clone().unwrap_or_default())?;
        }
        if let Some(enabled) = self.enabled {
            rule.enabled = enabled;
        }
        if let Some(word) = self.severity.as_deref().filter(|word| !word.is_empty()) {
            let severity = Severity::ALL.into_iter().find(|s| s.as_str() == word);
            rule.severity = severity.ok_or_else(|| {
                let all = Severity::ALL.map(Severity::as_str).join(", ");
                Fault::new("severity", format!("{word:?} is none of {all}"))
            })?;
        }
        Ok(rule)
    }
}

/// A policy rule.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Rule)]
pub struct RuleShape {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its configuration.
    pub config: Value,
    /// Whether it is applied.
    pub enabled: bool,
    /// `Warning`: told; `Error` and `Critical`: refused.
    pub severity: String,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last edited.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

impl From<&PolicyRule> for RuleShape {
    fn from(rule: &PolicyRule) -> Self {
        Self {
            id: rule.id.to_string(),
            name: rule.name.clone(),
            kind: rule.wants.type_name().into(),
            config: rule.wants.config(),
            enabled: rule.enabled,
            severity: rule.severity.as_str().into(),
            created_at: rule.created_at.to_string(),
            updated_at: rule.updated_at.to_string(),
        }
    }
}

/// A certificate that is not as a rule wants it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Violation)]
pub struct ViolationShape {
    /// The same for the same certificate and rule.
    pub id: String,
    /// The certificate.
    pub certificate_id: String,
    /// The rule.
    pub rule_id: String,
    /// Why.
    pub message: String,
    /// The rule's severity.
    pub severity: String,
    /// Since when: certificate or rule were last edited then.
    #[schema(format = DateTime)]
    pub created_at: String,
}

impl ViolationShape {
    /// A violation of a rule.
    pub fn new(violation: &Violation, rule: &Id, severity: Severity) -> Self {
        Self {
            id: violation.id.to_string(),
            certificate_id: violation.certificate.to_string(),
            rule_id: rule.to_string(),
            message: violation.message.clone(),
            severity: severity.as_str().into(),
            created_at: violation.since.to_string(),
        }
    }
}
