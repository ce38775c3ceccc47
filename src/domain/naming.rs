//! What names a profile lets stand in its certificates.

use super::{Fault, Profile};
use crate::pki::San;
use regex::{Regex, RegexBuilder};

/// The most patterns of a profile.
const MOST: usize = 32;
/// The longest pattern, in bytes.
const LONGEST: usize = 512;
/// The largest compiled pattern, in bytes.
const MAX_COMPILED: usize = 256 << 10;

/// A profile's patterns, compiled. Matching takes time in proportion to the name, whatever the
/// pattern.
#[derive(Debug, Clone)]
pub struct Naming {
    names: Vec<Regex>,
    spiffe: Option<Regex>,
    patterns: Vec<String>,
    spiffe_pattern: String,
}

impl Naming {
    /// Compiles a profile's patterns.
    ///
    /// # Errors
    /// The field whose pattern is none, or too large.
    pub fn of(profile: &Profile) -> Result<Self, Fault> {
        const NAMES: &str = "required_san_patterns";
        if profile.san_patterns.len() > MOST {
            return Err(Fault::new(NAMES, format!("{MOST} patterns at most")));
        }
        let names = profile.san_patterns.iter().map(|p| whole(NAMES, p));
        let spiffe = Some(&profile.spiffe_pattern).filter(|p| !p.is_empty());
        Ok(Self {
            names: names.collect::<Result<_, _>>()?,
            spiffe: spiffe.map(|p| whole("spiffe_uri_pattern", p)).transpose()?,
            patterns: profile.san_patterns.clone(),
            spiffe_pattern: profile.spiffe_pattern.clone(),
        })
    }

    /// Whether a profile says anything about names.
    pub fn is_asked(profile: &Profile) -> bool {
        !profile.san_patterns.is_empty() || !profile.spiffe_pattern.is_empty()
    }

    /// Why these names may not stand in a certificate together.
    ///
    /// # Errors
    /// The first name at fault, and the patterns that it does not match.
    pub fn allow(&self, sans: &[San]) -> Result<(), String> {
        let is_uri = |san: &&San| matches!(san, San::Uri(_));
        if let Some(spiffe) = &self.spiffe {
            let mut uris = sans.iter().filter(is_uri);
            let (Some(uri), None) = (uris.next(), uris.next()) else {
                return Err(format!(
                    "exactly one URI is expected, which matches {:?}",
                    self.spiffe_pattern
                ));
            };
            if !spiffe.is_match(&uri.to_string()) {
                return Err(format!("{uri} does not match {:?}", self.spiffe_pattern));
            }
        }
        if self.names.is_empty() {
            return Ok(());
        }
        for san in sans {
            if self.spiffe.is_some() && is_uri(&san) {
                continue;
            }
            let text = san.to_string();
            if !self.names.iter().any(|pattern| pattern.is_match(&text)) {
                let patterns: Vec<String> =
                    self.patterns.iter().map(|p| format!("{p:?}")).collect();
                return Err(format!("{text} matches none of {}", patterns.join(", ")));
            }
        }
        Ok(())
    }
}

/// A pattern that matches whole names.
fn whole(field: &'static str, pattern: &str) -> Result<Regex, Fault> {
    if pattern.is_empty() || pattern.len() > LONGEST {
        let message = format!("a pattern has 1 to {LONGEST} bytes");
        return Err(Fault::new(field, message));
    }
    let compiled = |text: &str| {
        let mut builder = RegexBuilder::new(text);
        builder.size_limit(MAX_COMPILED).nest_limit(32).build()
    };
    // Alone first: one that closes a group of ours would be no pattern by itself.
    compiled(pattern)
        .and_then(|_| compiled(&format!(r"\A(?:{pattern})\z")))
        .map_err(|e| {
            let reason = e.to_string();
            let reason = reason.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            Fault::new(
                field,
                format!("{pattern:?} is no regular expression: {reason}"),
            )
        })
}
