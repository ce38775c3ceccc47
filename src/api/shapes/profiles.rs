//! `/profiles`: what is read and what is answered.

use super::Edits;
use crate::domain::{Fault, KeyRule, Profile, Replan, profile};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a part of a profile cannot be asked for.
const NOT_YET: &str = "not available in this version";

/// Keys of a family from a size on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = KeyRule)]
pub struct KeyRuleShape {
    /// `RSA`, `ECDSA` or `Ed25519`.
    pub algorithm: String,
    /// The smallest size accepted, in bits; 0 for Ed25519, and the smallest that is not weak when
    /// absent.
    #[serde(default)]
    pub min_size: u32,
}

/// A profile to make, or what is to change of one: what is absent stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ProfileWish {
    /// Its id, when it is made; made when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name, unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The keys accepted, those first that agents make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_key_algorithms: Option<Vec<KeyRuleShape>>,
    /// The lifetime asked for, in seconds: 90 days or the longest allowed when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime_seconds: Option<u64>,
    /// The longest lifetime, in seconds; 0: none is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ttl_seconds: Option<u64>,
    /// What certificates are for: `serverAuth`, `clientAuth`, `codeSigning`, `emailProtection`,
    /// `timeStamping`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_ekus: Option<Vec<String>>,
    /// Regular expressions; each name must match one of them from end to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_san_patterns: Option<Vec<String>>,
    /// A regular expression that the one URI among the names must match from end to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe_uri_pattern: Option<String>,
    /// Lifetimes below an hour are meant; wants a `max_ttl_seconds` below 3600.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_short_lived: Option<bool>,
    /// Not available: only false is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub must_staple: Option<bool>,
    /// Not available: only none are accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_csr_attributes: Option<Vec<String>>,
    /// Not available: only `trust_authenticated` is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acme_auth_mode: Option<String>,
    /// Not available: only false is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requires_approval: Option<bool>,
    /// Whether anything is issued under it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl Edits for ProfileWish {
    type Resource = ProfileShape;
}

impl ProfileWish {
    /// The profile as it is wished for.
    ///
    /// # Errors
    /// The field that cannot be taken.
    pub fn onto(&self, mut profile: Profile) -> Result<Profile, Fault> {
        self.only_what_there_is()?;
        let set = |field: &mut String, given: &Option<String>| {
            if let Some(given) = given {
                field.clone_from(given);
            }
        };
        set(&mut profile.name, &self.name);
        set(&mut profile.description, &self.description);
        set(&mut profile.spiffe_pattern, &self.spiffe_uri_pattern);
        if let Some(patterns) = &self.required_san_patterns {
            profile.san_patterns.clone_from(patterns);
        }
        if let Some(keys) = &self.allowed_key_algorithms {
            let fault = |message| Fault::new("allowed_key_algorithms", message);
            let rules = keys
                .iter()
                .map(|k| KeyRule::parse(&k.algorithm, k.min_size));
            let rules = rules.collect::<Result<Vec<_>, _>>();
            let kinds = KeyRule::kinds(&rules.map_err(fault)?);
            profile.key_algorithms = kinds.map_err(fault)?;
        }
        if let Some(names) = &self.allowed_ekus {
            let ekus = profile::ekus(names);
            profile.ekus = ekus.map_err(|message| Fault::new("allowed_ekus", message))?;
        }
        if let Some(cap) = self.max_ttl_seconds {
            profile.max_ttl_seconds = cap;
        }
        match self.lifetime_seconds {
            Some(lifetime) => profile.lifetime_seconds = lifetime,
            None if profile.max_ttl_seconds > 0 => {
                let cap = profile.max_ttl_seconds;
                profile.lifetime_seconds = profile.lifetime_seconds.min(cap);
            }
            None => {}
        }
        if let Some(short) = self.allow_short_lived {
            profile.allow_short_lived = short;
        }
        if let Some(enabled) = self.enabled {
            profile.enabled = enabled;
        }
        Ok(profile)
    }

    /// Refuses what would be stored and never acted on.
    fn only_what_there_is(&self) -> Result<(), Fault> {
        let acme = self.acme_auth_mode.as_deref().unwrap_or_default();
        let asked = [
            // A certificate that demands a stapled answer is refused by clients without one, and
            // there is no OCSP responder.
            ("must_staple", self.must_staple == Some(true)),
            ("requires_approval", self.requires_approval == Some(true)),
            (
                "required_csr_attributes",
                self.required_csr_attributes
                    .as_ref()
                    .is_some_and(|names| !names.is_empty()),
            ),
            (
                "acme_auth_mode",
                !matches!(acme, "" | "trust_authenticated"),
            ),
        ];
        match asked.into_iter().find(|(_, asked)| *asked) {
            Some((field, _)) => Err(Fault::new(field, NOT_YET)),
            None => Ok(()),
        }
    }
}

/// How far planning anew has come after an edit.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Replan)]
pub struct ReplanShape {
    /// So many certificates rested on it when it was edited.
    pub total: u64,
    /// So many have been looked at.
    pub done: u64,
}

impl From<&Replan> for ReplanShape {
    fn from(replan: &Replan) -> Self {
        Self {
            total: replan.total,
            done: replan.done,
        }
    }
}

/// A profile.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Profile)]
pub struct ProfileShape {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The keys accepted.
    pub allowed_key_algorithms: Vec<KeyRuleShape>,
    /// The lifetime asked for, in seconds.
    pub lifetime_seconds: u64,
    /// The longest lifetime, in seconds; 0: none is set.
    pub max_ttl_seconds: u64,
    /// What certificates are for.
    pub allowed_ekus: Vec<String>,
    /// Regular expressions; each name must match one of them from end to end.
    pub required_san_patterns: Vec<String>,
    /// A regular expression that the one URI among the names must match from end to end.
    pub spiffe_uri_pattern: String,
    /// Lifetimes below an hour are meant.
    pub allow_short_lived: bool,
    /// False: it is not available.
    pub must_staple: bool,
    /// False: it is not available.
    pub requires_approval: bool,
    /// Whether anything is issued under it.
    pub enabled: bool,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last edited.
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// How far planning anew has come after the last edit; absent when it is done. Only of one
    /// profile, not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replan: Option<ReplanShape>,
}

impl From<&Profile> for ProfileShape {
    fn from(profile: &Profile) -> Self {
        let keys = KeyRule::of(&profile.key_algorithms).into_iter();
        let keys = keys.map(|rule| KeyRuleShape {
            algorithm: rule.family.to_string(),
            min_size: rule.min_bits,
        });
        let ekus = profile.ekus.iter().map(|eku| eku.as_str().to_owned());
        Self {
            id: profile.id.to_string(),
            name: profile.name.clone(),
            description: profile.description.clone(),
            allowed_key_algorithms: keys.collect(),
            lifetime_seconds: profile.lifetime_seconds,
            max_ttl_seconds: profile.max_ttl_seconds,
            allowed_ekus: ekus.collect(),
            required_san_patterns: profile.san_patterns.clone(),
            spiffe_uri_pattern: profile.spiffe_pattern.clone(),
            allow_short_lived: profile.allow_short_lived,
            must_staple: false,
            requires_approval: false,
            enabled: profile.enabled,
            created_at: profile.created_at.to_string(),
            updated_at: profile.updated_at.to_string(),
            replan: None,
        }
    }
}
