//! Settings: where they come from, what they may be. Flags lead environment variables, which lead
//! defaults. Whatever is wrong is reported whole, before anything starts.

use crate::telemetry::{Format, Level};
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// One setting of the environment: its name, its default, and what it says.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// The value when it is not set; empty where there is none.
    pub default: &'static str,
    /// What it says.
    pub about: &'static str,
}

/// Every variable this program reads. Another `CERTCTL_*` is refused: it is a slip or a setting
/// of another version, and silence would hide it.
pub const SETTINGS: [Setting; 11] = [
    Setting {
        name: "CERTCTL_DATA_DIR",
        default: "/var/lib/certctl",
        about: "directory of the server's data: storage, machine key, socket",
    },
    Setting {
        name: "CERTCTL_SERVER_HOST",
        default: "127.0.0.1",
        about: "address the server listens on",
    },
    Setting {
        name: "CERTCTL_SERVER_PORT",
        default: "8443",
        about: "HTTPS port the server listens on",
    },
    Setting {
        name: "CERTCTL_PUBLIC_URL",
        default: "",
        about: "address under which others reach the server, e.g. https://certctl.example:8443; its own certificate names the host, and the certificates it issues say that CRLs and CA certificates are served there",
    },
    Setting {
        name: "CERTCTL_PKI_HTTP_LISTEN",
        default: "",
        about: "address and port for plain HTTP, e.g. 0.0.0.0:80, where CRLs and CA certificates are served and nothing else",
    },
    Setting {
        name: "CERTCTL_SOCKET",
        default: "<data-dir>/certctl.sock",
        about: "unix socket for administration on this machine",
    },
    Setting {
        name: "CERTCTL_LOG_LEVEL",
        default: "info",
        about: "debug, info, warn or error",
    },
    Setting {
        name: "CERTCTL_LOG_FORMAT",
        default: "text",
        about: "text or json",
    },
    Setting {
        name: "CERTCTL_SERVER_URL",
        default: "",
        about: "server the command line talks to instead of the socket, e.g. https://host:8443",
    },
    Setting {
        name: "CERTCTL_API_KEY",
        default: "",
        about: "key the command line sends to that server",
    },
    Setting {
        name: "CERTCTL_SERVER_CA_BUNDLE_PATH",
        default: "",
        about: "PEM file of the CAs the command line trusts, the machine's own when not set; for an agent, as --ca-bundle",
    },
];

/// What the server is told.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where its data lie.
    pub data_dir: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its unix socket.
    pub socket: PathBuf,
    /// The address under which others reach it, without a slash at the end.
    pub public_url: Option<String>,
    /// Where CRLs and CA certificates are served over plain HTTP.
    pub pki_http: Option<SocketAddr>,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// From which weight on.
    pub level: Level,
    /// In which form.
    pub format: Format,
}

/// What flags say; they lead the environment.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--socket`
    pub socket: Option<PathBuf>,
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

/// The `CERTCTL_*` variables that are set to something. An empty value counts as not set.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// From name and value pairs.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = variables
            .into_iter()
            .filter(|(name, value)| name.starts_with("CERTCTL_") && !value.is_empty());
        Self(ours.collect())
    }

    /// Of this process.
    pub fn of_process() -> Self {
        let texts = std::env::vars_os().filter_map(|(name, value)| {
            Some((
                name.into_string().ok()?,
                value.to_string_lossy().into_owned(),
            ))
        });
        Self::new(texts)
    }

    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn or_default(&self, name: &str) -> &str {
        let default = SETTINGS.iter().find(|s| s.name == name);
        self.get(name)
            .unwrap_or_else(|| default.map_or("", |s| s.default))
    }

    /// Names that are set and mean nothing here. Kubernetes sets variables of the form
    /// `<SERVICE>_SERVICE_*` and `<SERVICE>_PORT*` for services next to us; they are no settings.
    fn unknown(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter_map(|(name, value)| {
            let known = SETTINGS.iter().any(|s| s.name == name);
            let service_link = name.contains("_SERVICE_")
                || name.contains("_PORT_")
                || value.starts_with("tcp://")
                || value.starts_with("udp://");
            (!known && !service_link).then_some(name)
        })
    }
}

/// Reads the settings of a server, and of logging.
pub fn server(env: &Environment, flags: Flags) -> Result<(ServerConfig, LogConfig), ConfigError> {
    let mut faults = Vec::new();
    let log = log(env, &mut faults);
    let host: Option<IpAddr> = match env.or_default("CERTCTL_SERVER_HOST") {
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        text => text.parse().ok(),
    };
    if host.is_none() {
        faults.push("CERTCTL_SERVER_HOST: an IP address is expected, e.g. 0.0.0.0".to_owned());
    }
    let port: Option<u16> = env.or_default("CERTCTL_SERVER_PORT").parse().ok();
    if port.is_none() {
        faults.push("CERTCTL_SERVER_PORT: a port from 1 to 65535 is expected".to_owned());
    }
    let pki_http = env.get("CERTCTL_PKI_HTTP_LISTEN").map(str::parse);
    if matches!(pki_http, Some(Err(_))) {
        let fault =
            "CERTCTL_PKI_HTTP_LISTEN: an IP address and a port are expected, e.g. 0.0.0.0:80";
        faults.push(fault.to_owned());
    }
    if let Err(ConfigError(more)) = public_host(env) {
        faults.extend(more);
    }
    if !faults.is_empty() {
        return Err(ConfigError(faults));
    }
    let data_dir = data_dir(env, flags.data_dir);
    let listen = flags.listen.unwrap_or_else(|| {
        SocketAddr::new(
            host.unwrap_or(IpAddr::from([127, 0, 0, 1])),
            port.unwrap_or(8443),
        )
    });
    let socket = flags
        .socket
        .or_else(|| env.get("CERTCTL_SOCKET").map(PathBuf::from))
        .unwrap_or_else(|| data_dir.join(SOCKET_NAME));
    let config = ServerConfig {
        data_dir,
        listen,
        socket,
        public_url: env
            .get("CERTCTL_PUBLIC_URL")
            .map(|url| url.trim_end_matches('/').to_owned()),
        pki_http: pki_http.and_then(Result::ok),
    };
    Ok((config, log))
}

/// The host of the server's public address: a name, or an IP address without brackets.
pub fn public_host(env: &Environment) -> Result<Option<String>, ConfigError> {
    let Some(url) = env.get("CERTCTL_PUBLIC_URL") else {
        return Ok(None);
    };
    let url: Option<http::Uri> = url.parse().ok();
    let plain = |url: &http::Uri| url.query().is_none() && url.authority().is_some();
    let url = url.filter(|url| url.scheme_str() == Some("https") && plain(url));
    let host = url.as_ref().and_then(http::Uri::host);
    let host = host.map(|host| host.trim_matches(['[', ']']).to_owned());
    host.map(Some).ok_or_else(|| {
        let fault = "CERTCTL_PUBLIC_URL: a URL such as https://certctl.example:8443 is expected";
        ConfigError(vec![fault.to_owned()])
    })
}

/// Reads the settings of logging alone, for commands that are no server.
pub fn logging(env: &Environment) -> Result<LogConfig, ConfigError> {
    let mut faults = Vec::new();
    let log = log(env, &mut faults);
    if faults.is_empty() {
        Ok(log)
    } else {
        Err(ConfigError(faults))
    }
}

/// The data directory: flag, variable, default.
pub fn data_dir(env: &Environment, flag: Option<PathBuf>) -> PathBuf {
    flag.unwrap_or_else(|| PathBuf::from(env.or_default("CERTCTL_DATA_DIR")))
}

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "certctl.sock";

fn log(env: &Environment, faults: &mut Vec<String>) -> LogConfig {
    for name in env.unknown() {
        faults.push(format!("{name}: there is no such setting; unset it"));
    }
    let level = env.or_default("CERTCTL_LOG_LEVEL").parse();
    let format = env.or_default("CERTCTL_LOG_FORMAT").parse();
    if let Err(e) = &level {
        faults.push(format!("CERTCTL_LOG_LEVEL: {e}"));
    }
    if let Err(e) = &format {
        faults.push(format!("CERTCTL_LOG_FORMAT: {e}"));
    }
    LogConfig {
        level: level.unwrap_or_default(),
        format: format.unwrap_or_default(),
    }
}
