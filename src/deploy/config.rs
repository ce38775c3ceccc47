//! Target configuration: outside JSON in, checked values out, without I/O. The server checks what
//! an operator sends with the same function by which the agent reads what the server sends.

use super::Needs;
use crate::net::Endpoint;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::{net::SocketAddr, time::Duration};

/// The types of targets.
pub const TARGET_TYPES: [&str; 3] = ["File", "NGINX", "Site"];

/// How many endpoints one target may have verified.
pub const MAX_ENDPOINTS: usize = 16;

/// How long a target is given to serve a new version when its configuration does not say.
pub const DEFAULT_VERIFY_TIMEOUT: Duration = Duration::from_secs(5);

const MIN_VERIFY_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_VERIFY_TIMEOUT: Duration = Duration::from_secs(300);

/// What a target is and how it is verified. Written as `{"kind": ..., "config": {...}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub enum TargetConfig {
    /// A directory of files, reached through a symbolic link that other software reads.
    File(FileConfig),
    /// An HTTPS listener of the agent's own.
    Site(SiteConfig),
}

/// Type `File`: `{endpoints?: ["host:port"], server_name?, verify_timeout?: "5s"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileConfig {
    /// Where the software that reads the files serves them; empty verifies the files alone.
    pub endpoints: Vec<Endpoint>,
    /// The name to ask for in handshakes; else the certificate's first name.
    pub server_name: Option<String>,
    /// How long the endpoints may take to serve a new version.
    pub verify_timeout: Duration,
}

/// Type `Site`: `{listen: "127.0.0.1:9443", server_name?, verify_timeout?: "5s"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteConfig {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The name to ask for in handshakes; else the certificate's first name.
    pub server_name: Option<String>,
    /// How long the listener may take to serve a new version.
    pub verify_timeout: Duration,
}

/// Why a target configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A type this program does not have.
    #[error("target type {0:?} is unknown: use File or Site")]
    UnknownType(String),
    /// The configuration is not an object.
    #[error("a target's config is a JSON object such as {example}")]
    NotAnObject {
        /// A configuration of this type that would do.
        example: &'static str,
    },
    /// A field the type does not have.
    #[error("config.{field} is not a field of type {kind}: it has {known}")]
    UnknownField {
        /// The field.
        field: String,
        /// The target's type.
        kind: &'static str,
        /// The fields there are.
        known: &'static str,
    },
    /// A field without which the target cannot work.
    #[error("config.{field} is missing: {hint}")]
    Missing {
        /// The field.
        field: &'static str,
        /// What to give.
        hint: &'static str,
    },
    /// A field whose value cannot be used.
    #[error("config.{field}: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl ConfigError {
    /// The field that is at fault, where one is.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::UnknownType(_) | Self::NotAnObject { .. } => None,
            Self::UnknownField { field, .. } => Some(field),
            Self::Missing { field, .. } | Self::Invalid { field, .. } => Some(field),
        }
    }
}

impl TargetConfig {
    /// Reads the configuration of a target of type `kind`. Fields the type does not have are
    /// refused: a mistyped one would otherwise silently do nothing.
    pub fn parse(kind: &str, config: &Value) -> Result<Self, ConfigError> {
        match kind {
            "File" => {
                let example = r#"{"endpoints": ["127.0.0.1:443"], "server_name": "example.org"}"#;
                let mut fields = Fields::of(config, example)?;
                let config = FileConfig {
                    endpoints: fields.endpoints()?,
                    server_name: fields.server_name()?,
                    verify_timeout: fields.verify_timeout()?,
                };
                fields.end("File", "endpoints, server_name, verify_timeout")?;
                Ok(Self::File(config))
            }
            "Site" => {
                let example = r#"{"listen": "127.0.0.1:9443", "server_name": "example.org"}"#;
                let mut fields = Fields::of(config, example)?;
                let config = SiteConfig {
                    listen: fields.listen()?,
                    server_name: fields.server_name()?,
                    verify_timeout: fields.verify_timeout()?,
                };
                fields.end("Site", "listen, server_name, verify_timeout")?;
                Ok(Self::Site(config))
            }
            _ => Err(ConfigError::UnknownType(kind.chars().take(64).collect())),
        }
    }

    /// The configured name to ask for in handshakes.
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::File(file) => file.server_name.as_deref(),
            Self::Site(site) => site.server_name.as_deref(),
        }
    }

    /// Whether it serves one certificate: a second one would take the place of the first. A
    /// directory holds each certificate under its own name.
    pub fn is_exclusive(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Site(_) => true,
        }
    }

    /// What it needs of its host beside the agent's own directories and listeners.
    pub fn needs(&self) -> Needs<'_> {
        match self {
            Self::File(_) | Self::Site(_) => Needs::default(),
        }
    }

    /// The type's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "File",
            Self::Site(_) => "Site",
        }
    }
}

/// The written form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    kind: String,
    config: Value,
}

impl TryFrom<Raw> for TargetConfig {
    type Error = ConfigError;
    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        Self::parse(&raw.kind, &raw.config)
    }
}

impl From<TargetConfig> for Raw {
    fn from(target: TargetConfig) -> Self {
        let kind = target.kind().to_owned();
        let (mut config, server_name, verify_timeout) = match target {
            TargetConfig::File(f) => {
                let endpoints: Vec<_> = f.endpoints.iter().map(Endpoint::to_string).collect();
                (
                    json!({ "endpoints": endpoints }),
                    f.server_name,
                    f.verify_timeout,
                )
            }
            TargetConfig::Site(s) => (
                json!({ "listen": s.listen.to_string() }),
                s.server_name,
                s.verify_timeout,
            ),
        };
        if let Some(fields) = config.as_object_mut() {
            fields.insert(
                "verify_timeout".into(),
                format!("{}ms", verify_timeout.as_millis()).into(),
            );
            fields.extend(server_name.map(|name| ("server_name".to_owned(), name.into())));
        }
        Self { kind, config }
    }
}

/// The fields of a configuration that have not been read yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(config: &Value, example: &'static str) -> Result<Self, ConfigError> {
        match config {
            Value::Object(fields) => Ok(Self(fields.clone())),
            _ => Err(ConfigError::NotAnObject { example }),
        }
    }

    /// Takes a field; `null` is the same as an absent one.
    fn take<T: DeserializeOwned>(&mut self, field: &'static str) -> Result<Option<T>, ConfigError> {
        match self.0.remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value).map(Some).map_err(|e| {
                let problem = e.to_string();
                ConfigError::Invalid { field, problem }
            }),
        }
    }

    fn endpoints(&mut self) -> Result<Vec<Endpoint>, ConfigError> {
        let field = "endpoints";
        let invalid = |problem: String| ConfigError::Invalid { field, problem };
        let texts: Vec<String> = self.take(field)?.unwrap_or_default();
        if texts.len() > MAX_ENDPOINTS {
            return Err(invalid(format!(
                "at most {MAX_ENDPOINTS} endpoints, got {}",
                texts.len()
            )));
        }
        let mut endpoints = Vec::new();
        for text in texts {
            let endpoint: Endpoint = text
                .parse()
                .map_err(|e: crate::net::InvalidEndpoint| invalid(e.to_string()))?;
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        Ok(endpoints)
    }

    fn listen(&mut self) -> Result<SocketAddr, ConfigError> {
        let field = "listen";
        let text: String = self.take(field)?.ok_or(ConfigError::Missing {
            field,
            hint: "give the address to listen on, such as \"127.0.0.1:9443\"",
        })?;
        text.parse().map_err(|_| ConfigError::Invalid {
            field,
            problem: format!("{text:?} is not an IP address and port such as \"127.0.0.1:9443\""),
        })
    }

    fn server_name(&mut self) -> Result<Option<String>, ConfigError> {
        let field = "server_name";
        let name: Option<String> = self.take(field)?;
        match name {
            Some(name) if ServerName::try_from(name.as_str()).is_err() => {
                let problem = format!("{name:?} is not a DNS name or IP address");
                Err(ConfigError::Invalid { field, problem })
            }
            other => Ok(other),
        }
    }

    fn verify_timeout(&mut self) -> Result<Duration, ConfigError> {
        let field = "verify_timeout";
        let Some(text) = self.take::<String>(field)? else {
            return Ok(DEFAULT_VERIFY_TIMEOUT);
        };
        duration(&text)
            .filter(|d| (MIN_VERIFY_TIMEOUT..=MAX_VERIFY_TIMEOUT).contains(d))
            .ok_or_else(|| ConfigError::Invalid {
                field,
                problem: format!(
                    "{text:?} is not a duration from \"100ms\" to \"5m\", such as \"10s\""
                ),
            })
    }

    fn end(self, kind: &'static str, known: &'static str) -> Result<(), ConfigError> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((field, _)) => {
                let field = field.chars().take(64).collect();
                Err(ConfigError::UnknownField { field, kind, known })
            }
        }
    }
}

/// A whole number with a unit: `250ms`, `10s`, `2m`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}
