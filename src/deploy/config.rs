//! Target configuration: outside JSON in, checked values out, without I/O. The server checks what
//! an operator sends with the same function by which the agent reads what the server sends.

use super::Needs;
use crate::net::Endpoint;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Component, Path, PathBuf},
    time::Duration,
};

/// The types of targets.
pub const TARGET_TYPES: [&str; 3] = ["File", "NGINX", "Site"];

/// How many endpoints one target may have verified.
pub const MAX_ENDPOINTS: usize = 16;

/// How long a target is given to serve a new version when its configuration does not say.
pub const DEFAULT_VERIFY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a command that makes software reload may take when the configuration does not say.
pub const DEFAULT_RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// nginx's workers change within moments of a reload: what is not served then will not be.
const NGINX_VERIFY_TIMEOUT: Duration = Duration::from_secs(2);
const VERIFY_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(300);
const RELOAD_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(300);

const MAX_PATH: usize = 1024;
const MAX_ARGUMENTS: usize = 64;
const MAX_ARGUMENT: usize = 4096;

/// What a target is and how it is verified. Written as `{"kind": ..., "config": {...}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub enum TargetConfig {
    /// A directory of files, reached through a symbolic link that other software reads.
    File(FileConfig),
    /// An HTTPS listener of the agent's own.
    Site(SiteConfig),
    /// An nginx of the host.
    Nginx(NginxConfig),
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

/// Type `NGINX`: `{cert_path, key_path, chain_path?, endpoints: ["host:port"],
/// config_path="/etc/nginx/nginx.conf", binary="/usr/sbin/nginx", pid_path="/run/nginx.pid",
/// server_name?, reload="signal", reload_timeout="60s", verify_timeout="2s"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NginxConfig {
    /// The path that `ssl_certificate` names: leaf and issuers.
    pub cert_path: PathBuf,
    /// The path that `ssl_certificate_key` names.
    pub key_path: PathBuf,
    /// A path for the issuers alone, such as `ssl_trusted_certificate` names.
    pub chain_path: Option<PathBuf>,
    /// nginx's main configuration file.
    pub config_path: PathBuf,
    /// nginx itself.
    pub binary: PathBuf,
    /// The file that holds the number of its master process.
    pub pid_path: PathBuf,
    /// Where it serves the certificate: at least one.
    pub endpoints: Vec<Endpoint>,
    /// The name to ask for in handshakes; else the certificate's first name.
    pub server_name: Option<String>,
    /// How it is made to read its files again.
    pub reload: Reload,
    /// How long each command may take.
    pub reload_timeout: Duration,
    /// How long the endpoints may take to serve a new version.
    pub verify_timeout: Duration,
}

/// How software is made to read its files again. Written `"signal"`, `"command"`,
/// `{"argv": ["/path/to/program", ...]}`, or as one command line, which no shell reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// SIGHUP to its main process.
    Signal,
    /// Its own command to reload.
    Command,
    /// A program, by its absolute path, and its arguments.
    Argv(Vec<String>),
}

/// Why a target configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A type this program does not have.
    #[error("target type {0:?} is unknown: use File, Site or NGINX")]
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
                    verify_timeout: fields.verify_timeout(DEFAULT_VERIFY_TIMEOUT)?,
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
                    verify_timeout: fields.verify_timeout(DEFAULT_VERIFY_TIMEOUT)?,
                };
                fields.end("Site", "listen, server_name, verify_timeout")?;
                Ok(Self::Site(config))
            }
            "NGINX" => Ok(Self::Nginx(nginx(config)?)),
            _ => Err(ConfigError::UnknownType(kind.chars().take(64).collect())),
        }
    }

    /// The configuration file of the software that serves the target, where it is told to read it.
    pub fn software(&self) -> Option<&Path> {
        match self {
            Self::File(_) | Self::Site(_) => None,
            Self::Nginx(nginx) => Some(&nginx.config_path),
        }
    }

    /// The configured name to ask for in handshakes.
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::File(file) => file.server_name.as_deref(),
            Self::Site(site) => site.server_name.as_deref(),
            Self::Nginx(nginx) => nginx.server_name.as_deref(),
        }
    }

    /// Whether it serves one certificate: a second one would take the place of the first. A
    /// directory holds each certificate under its own name.
    pub fn is_exclusive(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Site(_) | Self::Nginx(_) => true,
        }
    }

    /// What it needs of its host beside the agent's own directories and listeners.
    pub fn needs(&self) -> Needs<'_> {
        match self {
            Self::File(_) | Self::Site(_) => Needs::default(),
            Self::Nginx(nginx) => Needs {
                writes: [&nginx.cert_path, &nginx.key_path]
                    .into_iter()
                    .chain(&nginx.chain_path)
                    .map(PathBuf::as_path)
                    .collect(),
                binaries: vec![&nginx.binary],
                configs: vec![&nginx.config_path],
                commands: match &nginx.reload {
                    Reload::Signal | Reload::Command => Vec::new(),
                    Reload::Argv(argv) => vec![argv],
                },
            },
        }
    }

    /// The type's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "File",
            Self::Site(_) => "Site",
            Self::Nginx(_) => "NGINX",
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
        let texts = |endpoints: &[Endpoint]| -> Vec<String> {
            endpoints.iter().map(Endpoint::to_string).collect()
        };
        let millis = |duration: Duration| format!("{}ms", duration.as_millis());
        let kind = target.kind().to_owned();
        let config = match target {
            TargetConfig::File(f) => json!({
                "endpoints": texts(&f.endpoints),
                "server_name": f.server_name,
                "verify_timeout": millis(f.verify_timeout),
            }),
            TargetConfig::Site(s) => json!({
                "listen": s.listen.to_string(),
                "server_name": s.server_name,
                "verify_timeout": millis(s.verify_timeout),
            }),
            TargetConfig::Nginx(n) => json!({
                "cert_path": n.cert_path,
                "key_path": n.key_path,
                "chain_path": n.chain_path,
                "config_path": n.config_path,
                "binary": n.binary,
                "pid_path": n.pid_path,
                "endpoints": texts(&n.endpoints),
                "server_name": n.server_name,
                "reload": match n.reload {
                    Reload::Signal => json!("signal"),
                    Reload::Command => json!("command"),
                    Reload::Argv(argv) => json!({ "argv": argv }),
                },
                "reload_timeout": millis(n.reload_timeout),
                "verify_timeout": millis(n.verify_timeout),
            }),
        };
        Self { kind, config }
    }
}

fn nginx(config: &Value) -> Result<NginxConfig, ConfigError> {
    let example = r#"{"cert_path": "/etc/ssl/www.pem", "key_path": "/etc/ssl/www.key", "endpoints": ["127.0.0.1:443"]}"#;
    let mut fields = Fields::of(config, example)?;
    let config = NginxConfig {
        cert_path: fields.required_path(
            "cert_path",
            "give the path that ssl_certificate names in nginx's configuration",
        )?,
        key_path: fields.required_path(
            "key_path",
            "give the path that ssl_certificate_key names in nginx's configuration",
        )?,
        chain_path: fields.path("chain_path")?,
        config_path: fields.path_or("config_path", "/etc/nginx/nginx.conf")?,
        binary: fields.path_or("binary", "/usr/sbin/nginx")?,
        pid_path: fields.path_or("pid_path", "/run/nginx.pid")?,
        endpoints: fields.endpoints()?,
        server_name: fields.server_name()?,
        reload: fields.reload()?,
        reload_timeout: fields.duration(
            "reload_timeout",
            DEFAULT_RELOAD_TIMEOUT,
            RELOAD_TIMEOUTS,
        )?,
        verify_timeout: fields.verify_timeout(NGINX_VERIFY_TIMEOUT)?,
    };
    fields.end(
        "NGINX",
        "cert_path, key_path, chain_path, config_path, binary, pid_path, endpoints, server_name, \
         reload, reload_timeout, verify_timeout",
    )?;
    if config.endpoints.is_empty() {
        return Err(ConfigError::Missing {
            field: "endpoints",
            hint: "give at least one place where nginx serves the certificate, such as \
                   [\"127.0.0.1:443\"]",
        });
    }
    let of_the_pair = [
        ("key_path", Some(&config.key_path)),
        ("chain_path", config.chain_path.as_ref()),
    ];
    let mut taken = vec![&config.cert_path, &config.config_path, &config.binary];
    for (field, path) in of_the_pair {
        let Some(path) = path else { continue };
        if taken.contains(&path) {
            let problem = format!(
                "{} is named twice: each file has its own path",
                path.display()
            );
            return Err(ConfigError::Invalid { field, problem });
        }
        taken.push(path);
    }
    Ok(config)
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
                let problem = told(&e.to_string());
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
            problem: format!(
                "{:?} is not an IP address and port such as \"127.0.0.1:9443\"",
                told(&text)
            ),
        })
    }

    fn server_name(&mut self) -> Result<Option<String>, ConfigError> {
        let field = "server_name";
        let name: Option<String> = self.take(field)?;
        match name {
            Some(name) if ServerName::try_from(name.as_str()).is_err() => {
                let problem = format!("{:?} is not a DNS name or IP address", told(&name));
                Err(ConfigError::Invalid { field, problem })
            }
            other => Ok(other),
        }
    }

    fn verify_timeout(&mut self, default: Duration) -> Result<Duration, ConfigError> {
        self.duration("verify_timeout", default, VERIFY_TIMEOUTS)
    }

    fn duration(
        &mut self,
        field: &'static str,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        let Some(text) = self.take::<String>(field)? else {
            return Ok(default);
        };
        duration(&text)
            .filter(|d| allowed.contains(d))
            .ok_or_else(|| ConfigError::Invalid {
                field,
                problem: format!(
                    "{:?} is not a duration from \"100ms\" to \"5m\", such as \"10s\"",
                    told(&text)
                ),
            })
    }

    fn required_path(
        &mut self,
        field: &'static str,
        hint: &'static str,
    ) -> Result<PathBuf, ConfigError> {
        self.path(field)?
            .ok_or(ConfigError::Missing { field, hint })
    }

    fn path_or(&mut self, field: &'static str, default: &str) -> Result<PathBuf, ConfigError> {
        Ok(self.path(field)?.unwrap_or_else(|| default.into()))
    }

    /// The absolute path of a file.
    fn path(&mut self, field: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        let Some(text) = self.take::<String>(field)? else {
            return Ok(None);
        };
        if is_file_path(&text) {
            return Ok(Some(text.into()));
        }
        let problem = format!(
            "{:?} is not the absolute path of a file, without \"..\" and of at most {MAX_PATH} bytes",
            told(&text)
        );
        Err(ConfigError::Invalid { field, problem })
    }

    fn reload(&mut self) -> Result<Reload, ConfigError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Argv {
            argv: Vec<String>,
        }
        let field = "reload";
        let invalid = |problem: String| ConfigError::Invalid { field, problem };
        let argv = match self.take::<Value>(field)? {
            None => return Ok(Reload::Signal),
            Some(Value::String(word)) if word == "signal" => return Ok(Reload::Signal),
            Some(Value::String(word)) if word == "command" => return Ok(Reload::Command),
            Some(Value::String(line)) => shlex::split(&line).ok_or_else(|| {
                invalid(format!("{:?} has a quote that is not closed", told(&line)))
            })?,
            Some(other) => {
                let Argv { argv } = serde_json::from_value(other).map_err(|e| {
                    let e = told(&e.to_string());
                    invalid(format!(
                        "{e}; use \"signal\", \"command\" or {{\"argv\": [\"/path/to/program\"]}}"
                    ))
                })?;
                argv
            }
        };
        let fits = |arg: &String| arg.len() <= MAX_ARGUMENT && !arg.contains('\0');
        if !argv.first().is_some_and(|program| is_file_path(program)) {
            return Err(invalid(
                "use \"signal\", \"command\", or a command that begins with the absolute path \
                 of its program"
                    .into(),
            ));
        }
        if argv.len() > MAX_ARGUMENTS || !argv.iter().all(fits) {
            return Err(invalid(format!(
                "a command has at most {MAX_ARGUMENTS} words of {MAX_ARGUMENT} bytes without NUL"
            )));
        }
        Ok(Reload::Argv(argv))
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

/// As much of a text as a message repeats.
fn told(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    match chars.len() {
        0..=256 => text.to_owned(),
        n => chars[..128]
            .iter()
            .chain(&['…'])
            .chain(&chars[n - 128..])
            .collect(),
    }
}

/// Whether a text is one absolute path in its plainest form.
fn is_file_path(text: &str) -> bool {
    let path = Path::new(text);
    let plain = path
        .components()
        .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    // Components leave out "//", "/./" and a last "/": only the plainest form is made of them again.
    let again: PathBuf = path.components().collect();
    let printable = !text.chars().any(char::is_control);
    let names_a_file = path.is_absolute() && path.file_name().is_some();
    names_a_file && plain && printable && text.len() <= MAX_PATH && again.as_os_str() == text
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
