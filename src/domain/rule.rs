//! Policy rules: what an organisation wants of its certificates, whatever their profile.

use super::{Certificate, Fault, Holder, Profile, RenewalPolicy, renewal};
use crate::{clock::Time, id::Id, pki::San};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The most entries of a rule's list.
const MOST: usize = 200;
/// The longest entry of a rule's list, in bytes.
const LONGEST: usize = 255;
const DAY: u64 = 86_400;

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// Its id.
    pub id: Id,
    /// Its name, unique.
    pub name: String,
    /// What it wants.
    #[serde(flatten)]
    pub wants: Wants,
    /// Whether it is applied.
    pub enabled: bool,
    /// What follows when it is broken.
    pub severity: Severity,
    /// When it was made.
    pub created_at: Time,
    /// When it was last edited.
    pub updated_at: Time,
}

/// What follows when a rule is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// It is told.
    Warning,
    /// The certificate is not made, edited or issued.
    Error,
    /// The same, and more pressing to people.
    Critical,
}

impl Severity {
    /// Every severity.
    pub const ALL: [Self; 3] = [Self::Warning, Self::Error, Self::Critical];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "Warning",
            Self::Error => "Error",
            Self::Critical => "Critical",
        }
    }

    /// Whether what breaks the rule is refused.
    pub fn blocks(self) -> bool {
        self != Self::Warning
    }
}

/// What a rule wants, by its type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "config")]
pub enum Wants {
    /// One of these issuers.
    AllowedIssuers(AllowedIssuers),
    /// Names in these domains only.
    AllowedDomains(AllowedDomains),
    /// These labels.
    RequiredMetadata(RequiredMetadata),
    /// One of these environments.
    AllowedEnvironments(AllowedEnvironments),
    /// Renewal so early.
    RenewalLeadTime(RenewalLeadTime),
    /// No longer lifetime.
    CertificateLifetime(CertificateLifetime),
}

/// One of these issuers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedIssuers {
    /// Ids of issuers.
    pub allowed_issuer_ids: Vec<String>,
}

/// Names in these domains only. `example.org` is that name itself, `*.example.org` a name one
/// label longer (the wildcard name among them), `.example.org` every name below, at any depth. An
/// IP address is allowed when it is listed as it is; of an e-mail address and a URI the host counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedDomains {
    /// Domains and addresses.
    pub allowed_domains: Vec<String>,
}

/// These labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredMetadata {
    /// Names of tags, or `owner_id`, `team_id` or `environment`; none of them may be empty.
    pub required_keys: Vec<String>,
}

/// One of these environments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedEnvironments {
    /// The environments.
    pub allowed: Vec<String>,
}

/// Renewal so early.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewalLeadTime {
    /// The renewal is due so many days before the end, or earlier.
    pub lead_time_days: u32,
}

/// No longer lifetime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateLifetime {
    /// Days.
    pub max_days: u32,
}

/// A certificate, and what else rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The certificate.
    pub certificate: &'a Certificate,
    /// Its profile.
    pub profile: &'a Profile,
    /// Its renewal policy; without it nothing is said of when it is renewed.
    pub policy: Option<&'a RenewalPolicy>,
}

impl Wants {
    /// Every type.
    pub const TYPES: [&str; 6] = [
        "AllowedIssuers",
        "AllowedDomains",
        "RequiredMetadata",
        "AllowedEnvironments",
        "RenewalLeadTime",
        "CertificateLifetime",
    ];

    /// What the configuration of each type looks like.
    fn example(kind: &str) -> &'static str {
        match kind {
            "AllowedIssuers" => r#"{"allowed_issuer_ids": ["iss-local"]}"#,
            "AllowedDomains" => r#"{"allowed_domains": ["example.org", ".example.org"]}"#,
            "RequiredMetadata" => r#"{"required_keys": ["owner_id", "app"]}"#,
            "AllowedEnvironments" => r#"{"allowed": ["production"]}"#,
            "RenewalLeadTime" => r#"{"lead_time_days": 14}"#,
            _ => r#"{"max_days": 90}"#,
        }
    }

    /// Reads the configuration of a type.
    ///
    /// # Errors
    /// The type when there is none such, or the configuration when a key of it is missing,
    /// unknown, or of another kind.
    pub fn parse(kind: &str, config: serde_json::Value) -> Result<Self, Fault> {
        if !Self::TYPES.contains(&kind) {
            let kind: String = kind.chars().take(64).collect();
            let message = format!("{kind:?} is none of {}", Self::TYPES.join(", "));
            return Err(Fault::new("type", message));
        }
        let tagged = serde_json::json!({"type": kind, "config": config});
        let wants: Self = serde_json::from_value(tagged).map_err(|e| {
            let (example, said) = (Self::example(kind), e.to_string());
            // Of a value of another kind serde speaks in words of Rust.
            let field = said.split_once("field `").and_then(|(what, rest)| {
                let (name, _) = rest.split_once('`')?;
                Some(format!(": {what}field {name}"))
            });
            let field = field.unwrap_or_default();
            let message = format!("for {kind} one such as {example} is expected{field}");
            Fault::new("config", message)
        })?;
        wants.check()
    }

    fn check(self) -> Result<Self, Fault> {
        let list = match &self {
            Self::AllowedIssuers(a) => &a.allowed_issuer_ids,
            Self::AllowedDomains(a) => &a.allowed_domains,
            Self::RequiredMetadata(a) => &a.required_keys,
            Self::AllowedEnvironments(a) => &a.allowed,
            Self::RenewalLeadTime(RenewalLeadTime { lead_time_days: n })
            | Self::CertificateLifetime(CertificateLifetime { max_days: n }) => {
                if (1..=3_650).contains(n) {
                    return Ok(self);
                }
                return Err(Fault::new("config", format!("{n} is not 1 to 3650 days")));
            }
        };
        let fault = |message: String| Err(Fault::new("config", message));
        if list.is_empty() || list.len() > MOST {
            return fault(format!("1 to {MOST} entries are expected"));
        }
        for entry in list {
            let sound = (1..=LONGEST).contains(&entry.len())
                && !entry.chars().any(|c| c.is_control() || c.is_whitespace());
            if !sound {
                return fault(format!(
                    "{entry:?} is not 1 to {LONGEST} characters without spaces"
                ));
            }
        }
        match self {
            Self::AllowedDomains(AllowedDomains { allowed_domains }) => {
                let domains = allowed_domains.iter().map(|text| domain(text));
                Ok(Self::AllowedDomains(AllowedDomains {
                    allowed_domains: domains.collect::<Result<_, _>>()?,
                }))
            }
            wants => Ok(wants),
        }
    }

    /// The type on the wire.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::AllowedIssuers(_) => "AllowedIssuers",
            Self::AllowedDomains(_) => "AllowedDomains",
            Self::RequiredMetadata(_) => "RequiredMetadata",
            Self::AllowedEnvironments(_) => "AllowedEnvironments",
            Self::RenewalLeadTime(_) => "RenewalLeadTime",
            Self::CertificateLifetime(_) => "CertificateLifetime",
        }
    }

    /// The field of a certificate that it is about.
    pub fn field(&self) -> &'static str {
        match self {
            Self::AllowedIssuers(_) => "issuer_id",
            Self::AllowedDomains(_) => "sans",
            Self::RequiredMetadata(_) => "tags",
            Self::AllowedEnvironments(_) => "environment",
            Self::RenewalLeadTime(_) => "renewal_policy_id",
            Self::CertificateLifetime(_) => "certificate_profile_id",
        }
    }

    /// The configuration on the wire.
    pub fn config(&self) -> serde_json::Value {
        let tagged = serde_json::to_value(self).unwrap_or_default();
        tagged.get("config").cloned().unwrap_or_default()
    }

    /// Why a certificate is not as it is wanted.
    pub fn broken_by(&self, subject: Subject<'_>) -> Option<String> {
        let Subject {
            certificate: cert,
            profile,
            policy,
        } = subject;
        match self {
            Self::AllowedIssuers(AllowedIssuers { allowed_issuer_ids }) => {
                let issuer = cert.issuer_id.as_str();
                let allowed = allowed_issuer_ids.iter().any(|id| id == issuer);
                let all = || allowed_issuer_ids.join(", ");
                (!allowed).then(|| format!("issuer {issuer} is none of {}", all()))
            }
            Self::AllowedDomains(AllowedDomains { allowed_domains }) => {
                let within = |san: &&San| allowed_domains.iter().any(|d| is_in(san, d));
                let outside = cert.sans.iter().find(|san| !within(san))?;
                let all = allowed_domains.join(", ");
                Some(format!("name {outside} is in none of {all}"))
            }
            Self::RequiredMetadata(RequiredMetadata { required_keys }) => {
                let is_empty = |key: &&String| match key.as_str() {
                    "owner_id" => cert.owner_id.is_empty(),
                    "team_id" => cert.team_id.is_empty(),
                    "environment" => cert.environment.is_empty(),
                    tag => cert.tags.get(tag).is_none_or(String::is_empty),
                };
                let missing = required_keys.iter().find(is_empty)?;
                Some(format!("{missing} is missing"))
            }
            Self::AllowedEnvironments(AllowedEnvironments { allowed }) => {
                let given = &cert.environment;
                (!allowed.contains(given))
                    .then(|| format!("environment {given:?} is none of {}", allowed.join(", ")))
            }
            Self::RenewalLeadTime(RenewalLeadTime { lead_time_days }) => {
                let is_ours = |holder: &Holder| matches!(holder, Holder::Agent(_));
                if !cert.holders.keys().any(is_ours) {
                    return None;
                }
                let policy = policy?;
                if !policy.auto_renew {
                    return Some(format!("renewal policy {} does not renew", policy.id));
                }
                let wanted = Duration::from_secs(u64::from(*lead_time_days) * DAY);
                let left = renewal::left(profile.lifetime(), policy);
                (left < wanted).then(|| {
                    format!(
                        "its renewal is due {} before the end, not {lead_time_days} days",
                        span(left)
                    )
                })
            }
            Self::CertificateLifetime(CertificateLifetime { max_days }) => {
                let lifetime = profile.lifetime();
                (lifetime > Duration::from_secs(u64::from(*max_days) * DAY)).then(|| {
                    format!(
                        "profile {} asks for {}, more than {max_days} days",
                        profile.id,
                        span(lifetime)
                    )
                })
            }
        }
    }
}

impl PolicyRule {
    /// One that warns; the door says what it wants.
    pub fn new(id: Id, wants: Wants, now: Time) -> Self {
        Self {
            id,
            name: String::new(),
            wants,
            enabled: true,
            severity: Severity::Warning,
            created_at: now,
            updated_at: now,
        }
    }

    /// Why a certificate breaks it, where it is applied: a certificate that has ended breaks none.
    pub fn broken_by(&self, subject: Subject<'_>) -> Option<String> {
        let applies = self.enabled && subject.certificate.ended().is_none();
        applies.then(|| self.wants.broken_by(subject)).flatten()
    }
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        days if days >= 2 * DAY => format!("{} days", days / DAY),
        hours => format!("{} hours", hours / 3_600),
    }
}

/// A domain of a rule: lower case, A-labels, with its `*.` or `.`; or an address.
fn domain(text: &str) -> Result<String, Fault> {
    let (prefix, host) = match text.strip_prefix("*.") {
        Some(host) => ("*.", host),
        None => match text.strip_prefix('.') {
            Some(host) => (".", host),
            None => ("", text),
        },
    };
    match host.parse::<San>() {
        Ok(San::Dns(host)) if !host.starts_with("*.") => Ok(format!("{prefix}{host}")),
        Ok(San::Ip(ip)) if prefix.is_empty() => Ok(ip.to_string()),
        Ok(_) => Err(Fault::new(
            "config",
            format!("{text:?} is no domain: write example.org, *.example.org or .example.org"),
        )),
        Err(e) => Err(Fault::new("config", e.to_string())),
    }
}

fn is_in(san: &San, domain: &str) -> bool {
    let host = match san {
        San::Dns(name) => name.as_str(),
        San::Ip(ip) => return ip.to_string() == domain,
        San::Email(address) => address.rsplit_once('@').map_or("", |(_, host)| host),
        San::Uri(uri) => return host_of(uri).is_some_and(|host| host_in(&host, domain)),
    };
    host_in(host, domain)
}

fn host_of(uri: &str) -> Option<String> {
    let uri: http::Uri = uri.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    Some(host.to_ascii_lowercase())
}

fn host_in(host: &str, domain: &str) -> bool {
    if let Some(parent) = domain.strip_prefix("*.") {
        let rest = host.split_once('.');
        return rest.is_some_and(|(_, above)| above == parent);
    }
    match domain.strip_prefix('.') {
        Some(_) => host.len() > domain.len() && host.ends_with(domain),
        None => host == domain,
    }
}
