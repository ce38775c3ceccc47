//! The table of settings. Names, file keys, checks, help and the reference page follow from it.

use super::database::DatabaseConfig;
use super::schedule::{Schedule, interval, keep};
use crate::{
    access::{
        configured::{admin_keys, named_keys},
        proxies::Networks,
    },
    telemetry::{Format, Level},
};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// What its value must be.
    pub kind: Kind,
    /// The value when it is not set; empty where there is none.
    pub default: &'static str,
    /// What it says.
    pub about: &'static str,
    /// Its value is never shown; it may be read from the file that `<name>_FILE` names.
    pub secret: bool,
}

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Any text.
    Text,
    /// A path.
    Path,
    /// An IP address, or `localhost`.
    Ip,
    /// A TCP port.
    Port,
    /// An IP address and a TCP port.
    Socket,
    /// An `https://` address.
    Url,
    /// An `https://` or `http://` address of a service of others.
    Service,
    /// When something is done again and again.
    Schedule,
    /// So long.
    Interval,
    /// How many of days, weeks and months.
    Keep,
    /// Origins of pages, or `*`.
    Origins,
    /// Yes or no.
    Switch,
    /// So many a second.
    Rate,
    /// A number from 1 on.
    Count,
    /// So many bytes.
    Bytes,
    /// Networks in CIDR form.
    Networks,
    /// The address of a database.
    Database,
    /// 64 hexadecimal digits.
    MachineKey,
    /// `memory` or `postgres`.
    RateBackend,
    /// Keys, each an administrator's.
    Keys,
    /// Keys with names and roles.
    NamedKeys,
    /// How much is logged.
    LogLevel,
    /// How a line of the log looks.
    LogFormat,
}

const fn public(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Setting {
    Setting {
        name,
        kind,
        default,
        about,
        secret: false,
    }
}

const fn secret(name: &'static str, kind: Kind, about: &'static str) -> Setting {
    Setting {
        secret: true,
        ..public(name, kind, "", about)
    }
}

/// Every setting this program has. Another `CERTCTL_*` is refused: it is a slip or a setting of
/// another version, and silence would hide it.
pub const SETTINGS: &[Setting] = &[
    public(
        "CERTCTL_DATA_DIR",
        Kind::Path,
        "/var/lib/certctl",
        "directory of the server's data: storage, machine key, socket",
    ),
    secret(
        "CERTCTL_MACHINE_KEY",
        Kind::MachineKey,
        "key that opens what is sealed in the store, 64 hexadecimal digits, instead of machine.key in the data directory; servers of one database share it; `openssl rand -hex 32` makes one",
    ),
    secret(
        "CERTCTL_DATABASE_URL",
        Kind::Database,
        "PostgreSQL database (15 or later) that holds the store instead of a file in the data directory, e.g. postgres://user:password@host:5432/database?sslmode=verify-full&sslrootcert=/path/ca.pem; a / : @ ? # or % in user or password is percent-encoded; sslmode is disable, require, verify-ca or verify-full, which is the default beyond this machine",
    ),
    secret(
        "CERTCTL_DATABASE_PASSWORD",
        Kind::Text,
        "password of the database's user, as it is, instead of one in CERTCTL_DATABASE_URL",
    ),
    public(
        "CERTCTL_DATABASE_MAX_CONNS",
        Kind::Count,
        "10",
        "database sessions for reading, at most; one more commits and one listens",
    ),
    public(
        "CERTCTL_DATABASE_TIMEOUT",
        Kind::Count,
        "15",
        "seconds that the database may take for a statement; when it says nothing for a third longer, it is taken for away",
    ),
    public(
        "CERTCTL_SERVER_HOST",
        Kind::Ip,
        "127.0.0.1",
        "address the server listens on",
    ),
    public(
        "CERTCTL_SERVER_PORT",
        Kind::Port,
        "8443",
        "HTTPS port the server listens on",
    ),
    public(
        "CERTCTL_PUBLIC_URL",
        Kind::Url,
        "",
        "address under which others reach the server, e.g. https://certctl.example:8443; its own certificate names the host, and the certificates it issues say that CRLs and CA certificates are served there",
    ),
    public(
        "CERTCTL_PKI_HTTP_LISTEN",
        Kind::Socket,
        "",
        "address and port for plain HTTP, e.g. 0.0.0.0:80, where CRLs and CA certificates are served and nothing else",
    ),
    public(
        "CERTCTL_SOCKET",
        Kind::Path,
        "<data-dir>/certctl.sock",
        "unix socket for administration on this machine",
    ),
    public(
        "CERTCTL_CORS_ORIGINS",
        Kind::Origins,
        "",
        "origins whose pages may call the API from a browser, separated by commas, e.g. https://console.example; * lets pages of any origin read",
    ),
    public(
        "CERTCTL_BACKUP_SCHEDULE",
        Kind::Schedule,
        "",
        "when the server makes a backup by itself: an interval such as 6h, or a time of the day in UTC such as 02:30; each is restored into a scratch store to prove it",
    ),
    public(
        "CERTCTL_BACKUP_SINK",
        Kind::Text,
        "",
        "where those backups go: dir:/a/path or s3://bucket/prefix",
    ),
    public(
        "CERTCTL_BACKUP_KEEP",
        Kind::Keep,
        "7d 5w 12m",
        "how many of them are kept: the last of so many days, weeks and months",
    ),
    public(
        "CERTCTL_BACKUP_ENCRYPT_TO",
        Kind::Text,
        "",
        "age recipients that can open them, separated by commas",
    ),
    secret(
        "CERTCTL_BACKUP_PASSPHRASE",
        Kind::Text,
        "passphrase that opens them, instead of recipients",
    ),
    public(
        "CERTCTL_BACKUP_JOURNAL_SINK",
        Kind::Text,
        "",
        "where what came since the newest backup goes within seconds, as increments: dir:/a/path or s3://bucket/prefix, on another disk than the store; goes with CERTCTL_BACKUP_SCHEDULE",
    ),
    public(
        "CERTCTL_BACKUP_JOURNAL_EVERY",
        Kind::Interval,
        "5s",
        "how often such an increment is made, 15m at most; none while nothing has changed",
    ),
    public(
        "CERTCTL_BACKUP_S3_ENDPOINT",
        Kind::Service,
        "",
        "address of the service that backups in s3:// go to, e.g. https://s3.eu-central-1.amazonaws.com",
    ),
    public(
        "CERTCTL_BACKUP_S3_REGION",
        Kind::Text,
        "us-east-1",
        "region that requests to that service are signed for",
    ),
    public(
        "CERTCTL_BACKUP_S3_ACCESS_KEY",
        Kind::Text,
        "",
        "id of the key that signs them; without one they are not signed",
    ),
    secret(
        "CERTCTL_BACKUP_S3_SECRET_KEY",
        Kind::Text,
        "that key's secret",
    ),
    secret(
        "CERTCTL_AUTH_SECRET",
        Kind::Keys,
        "keys that the server takes beside those it stores, each an administrator's: separated by commas, in a file also by line ends; a file is read again every 5 seconds",
    ),
    secret(
        "CERTCTL_API_KEYS_NAMED",
        Kind::NamedKeys,
        "such keys with names and roles: name:key or name:key:role, the role r-viewer where none is named, else a built-in one or the id of one that was made here; a name may come twice, with the same role, while its key is replaced",
    ),
    public(
        "CERTCTL_RATE_LIMIT_ENABLED",
        Kind::Switch,
        "true",
        "whether callers are limited to a rate; the local socket never is, nor is an agent that asks for work and reports, unless many wrong credentials came from its address",
    ),
    public(
        "CERTCTL_RATE_LIMIT_RPS",
        Kind::Rate,
        "50",
        "calls a second from one address, on average; an IPv6 address counts as its /64",
    ),
    public(
        "CERTCTL_RATE_LIMIT_BURST",
        Kind::Count,
        "100",
        "calls at once from one address",
    ),
    public(
        "CERTCTL_RATE_LIMIT_PER_USER_RPS",
        Kind::Rate,
        "",
        "calls a second with one key, on average; as CERTCTL_RATE_LIMIT_RPS when not set",
    ),
    public(
        "CERTCTL_RATE_LIMIT_PER_USER_BURST",
        Kind::Count,
        "",
        "calls at once with one key; as CERTCTL_RATE_LIMIT_BURST when not set",
    ),
    public(
        "CERTCTL_RATE_LIMIT_BACKEND",
        Kind::RateBackend,
        "memory",
        "where calls are counted: memory, by each server for itself, or postgres, where the servers of one database share one cap",
    ),
    public(
        "CERTCTL_TRUSTED_PROXIES",
        Kind::Networks,
        "",
        "proxies whose X-Forwarded-For is believed, e.g. 10.0.0.0/8,192.0.2.1; without them everybody behind a proxy shares its rate",
    ),
    public(
        "CERTCTL_DISK_RESERVE",
        Kind::Bytes,
        "256MiB",
        "while less is left on the disk of the data directory, or less than a twentieth of a small one, nothing new is begun: no certificate is made or renewed until there is room again; reads are answered, and what is under way goes on; 0 begins as long as anything can be written",
    ),
    public(
        "CERTCTL_KEEP_JOBS",
        Kind::Interval,
        "90d",
        "how long jobs are kept after their end, a day at least",
    ),
    public(
        "CERTCTL_KEEP_ORDERS",
        Kind::Interval,
        "400d",
        "how long orders are kept after their end, with the deployments they led to, a day at least; those of versions in force are kept longer",
    ),
    public(
        "CERTCTL_KEEP_SESSIONS",
        Kind::Interval,
        "1d",
        "how long sessions of browsers are kept after their end",
    ),
    public(
        "CERTCTL_KEEP_JOIN_TOKENS",
        Kind::Interval,
        "90d",
        "how long join tokens are kept after they let nobody in any more",
    ),
    public(
        "CERTCTL_MIGRATIONS_VIA_HOOK",
        Kind::Switch,
        "false",
        "whether a server leaves a store that is behind to `certctl server --migrate-only`, and waits for that, not ready",
    ),
    public(
        "CERTCTL_LOG_LEVEL",
        Kind::LogLevel,
        "info",
        "how much is logged: debug, info, warn or error",
    ),
    public(
        "CERTCTL_LOG_FORMAT",
        Kind::LogFormat,
        "text",
        "how a line of the log looks: text or json",
    ),
    public(
        "CERTCTL_SERVER_URL",
        Kind::Url,
        "",
        "server the command line talks to instead of the socket, e.g. https://host:8443; --data-dir \
         and --socket on a command line come before it",
    ),
    secret(
        "CERTCTL_API_KEY",
        Kind::Text,
        "key the command line sends to that server",
    ),
    public(
        "CERTCTL_SERVER_CA_BUNDLE_PATH",
        Kind::Path,
        "",
        "PEM file of the CAs the command line trusts, the machine's own when not set; for an agent, as --ca-bundle",
    ),
    public(
        "CERTCTL_AGENT_POLICY",
        Kind::Path,
        "/etc/certctl/agent-policy.toml",
        "file that says what an agent may do on its host, whatever the server asks for; it need not be there",
    ),
];

/// The setting of a name.
pub fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.name == name)
}

impl Setting {
    /// Its key in the configuration file: the name in lower case, without `CERTCTL_`.
    pub fn file_key(&self) -> String {
        let name = self.name.strip_prefix("CERTCTL_").unwrap_or(self.name);
        name.to_ascii_lowercase()
    }

    /// The variable, or with [`file_key`](Self::file_key) the key, that names a file to read the
    /// value from; secrets alone have one.
    pub fn from_file(&self) -> Option<String> {
        self.secret.then(|| format!("{}_FILE", self.name))
    }

    /// Checks a value.
    ///
    /// # Errors
    /// What is expected instead.
    pub fn check(&self, text: &str) -> Result<(), String> {
        self.kind.check(text).map_err(|expected| {
            if self.secret {
                expected
            } else {
                let shown: String = text.chars().take(80).collect();
                format!("{expected}, not {shown:?}")
            }
        })
    }
}

impl Kind {
    /// Its name, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Path => "path",
            Self::Ip => "IP address",
            Self::Port => "port",
            Self::Socket => "address and port",
            Self::Url => "https URL",
            Self::Service => "URL",
            Self::Schedule => "interval or time of day",
            Self::Interval => "time",
            Self::Keep => "days, weeks, months",
            Self::Origins => "list of origins",
            Self::Switch => "true or false",
            Self::Rate => "number a second",
            Self::Count => "number",
            Self::Bytes => "size",
            Self::Networks => "list of networks",
            Self::Database => "postgres URL",
            Self::MachineKey => "64 hexadecimal digits",
            Self::RateBackend => "memory or postgres",
            Self::Keys => "list of keys",
            Self::NamedKeys => "list of name:key:role",
            Self::LogLevel => "log level",
            Self::LogFormat => "log format",
        }
    }

    fn check(self, text: &str) -> Result<(), String> {
        let expected = match self {
            Self::Text if text.chars().any(char::is_control) => {
                "a text without control characters is expected"
            }
            Self::Path if text.contains('\0') => "a path is expected",
            Self::Ip if ip(text).is_none() => "an IP address is expected, e.g. 0.0.0.0",
            Self::Port if port(text).is_none() => "a port from 1 to 65535 is expected",
            Self::Socket if text.parse::<SocketAddr>().is_err() => {
                "an IP address and a port are expected, e.g. 0.0.0.0:80"
            }
            Self::Url if url_host(text).is_none() => {
                "a URL such as https://certctl.example:8443 is expected"
            }
            Self::Service if !is_service(text) => {
                "a URL such as https://s3.eu-central-1.amazonaws.com is expected"
            }
            Self::Origins if !origins(text).iter().all(|origin| is_origin(origin)) => {
                "origins such as https://console.example, separated by commas, or * are expected"
            }
            Self::Switch if switch(text).is_none() => "true or false is expected",
            Self::Rate if rate(text).is_none() => "a number above 0 is expected, e.g. 50 or 0.5",
            Self::Count if count(text).is_none() => "a number from 1 to 1000000 is expected",
            Self::Bytes if bytes(text).is_none() => "a size is expected, e.g. 256MiB, 1GiB or 0",
            Self::Interval if interval(text).is_none() => {
                "a time from a second to ten years is expected, e.g. 5s, 30m, 6h or 90d"
            }
            Self::Networks => {
                return text
                    .parse::<Networks>()
                    .map(drop)
                    .map_err(|e| e.to_string());
            }
            Self::Schedule => return text.parse::<Schedule>().map(drop),
            Self::Keep => return keep(text).map(drop),
            Self::MachineKey if !is_machine_key(text) => "64 hexadecimal digits are expected",
            Self::RateBackend if !["memory", "postgres"].contains(&text) => {
                "memory or postgres is expected"
            }
            Self::Database => return DatabaseConfig::parse(text).map(drop),
            Self::Keys => return admin_keys(text).map(drop),
            Self::NamedKeys => return named_keys(text).map(drop),
            Self::LogLevel if text.parse::<Level>().is_err() => {
                "error, warn, info, debug or trace is expected"
            }
            Self::LogFormat if text.parse::<Format>().is_err() => "text or json is expected",
            _ => return Ok(()),
        };
        Err(expected.to_owned())
    }
}

/// Whether it is an `https://` or `http://` address.
fn is_service(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or(text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && text.parse::<http::Uri>().is_ok())
}

/// Whether it is a machine key, as the file of one holds it.
fn is_machine_key(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Yes or no.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// So many a second.
pub(super) fn rate(text: &str) -> Option<f64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let rate = text.parse().ok().filter(|_| digits);
    rate.filter(|rate| (0.001..=1e6).contains(rate))
}

/// A number from 1 on.
pub(super) fn count(text: &str) -> Option<u32> {
    text.parse().ok().filter(|n| (1..=1_000_000).contains(n))
}

/// So many bytes: a number, alone or with a unit.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// An IP address, or `localhost`.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        text => text.parse().ok(),
    }
}

/// The origins of a list.
pub(super) fn origins(text: &str) -> Vec<String> {
    let each = text.split(',').map(str::trim);
    each.filter(|origin| !origin.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Whether a browser would name a page's origin so: scheme, host and port, and nothing more.
fn is_origin(text: &str) -> bool {
    let named = |url: &http::Uri| match (url.scheme_str(), url.authority()) {
        (Some(scheme @ ("http" | "https")), Some(host)) => format!("{scheme}://{host}") == text,
        _ => false,
    };
    text == "*" || text.parse::<http::Uri>().is_ok_and(|url| named(&url))
}

/// A port; 0 is none.
pub(super) fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

/// The host of an `https://` address: a name, or an IP address without brackets. `None` when the
/// text is none.
pub fn url_host(text: &str) -> Option<String> {
    let url: http::Uri = text.parse().ok()?;
    let host = url.host().filter(|host| !host.is_empty())?;
    // A port that is none would be taken for a missing one.
    let after_host = url.authority()?.as_str().rsplit([']', '@']).next()?;
    let port = match after_host.rsplit_once(':') {
        Some((_, text)) => port(text).is_some(),
        None => true,
    };
    let https = url.scheme_str() == Some("https");
    (https && port).then(|| host.trim_matches(['[', ']']).to_owned())
}
