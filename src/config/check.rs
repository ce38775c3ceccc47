//! Settings as the processes want them.

use super::{
    SOCKET_NAME,
    backup::{BackupConfig, S3Config, backup, s3},
    database::DatabaseConfig,
    environment::Environment,
    fault::{ConfigError, Fault},
    schedule::interval,
    settings::{bytes, count, ip, origins, port, rate, switch, url_host},
};
use crate::{
    access::{
        configured::{ConfiguredKey, admin_keys, named_keys},
        limit::Rate,
        proxies::Networks,
    },
    telemetry::{Format, Level},
};
use secrecy::SecretString;
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// What the server is told.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where its data lie.
    pub data_dir: PathBuf,
    /// The machine key; `None`: a file among its data holds it.
    pub machine_key: Option<SecretString>,
    /// Files that settings with secrets were read from.
    pub secret_files: Vec<PathBuf>,
    /// The database that holds the store; `None`: a file among its data does.
    pub database: Option<DatabaseConfig>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its unix socket.
    pub socket: PathBuf,
    /// The address under which others reach it, without a slash at the end.
    pub public_url: Option<String>,
    /// Where CRLs and CA certificates are served over plain HTTP.
    pub pki_http: Option<SocketAddr>,
    /// Origins whose pages may call it from a browser; `*` for any.
    pub cors_origins: Vec<String>,
    /// The keys it takes beside those it stores.
    pub keys: Vec<KeySource>,
    /// How often callers may call; `None`: as they please.
    pub rates: Option<Rates>,
    /// The proxies whose word on who calls is believed.
    pub trusted_proxies: Networks,
    /// Nothing new is begun while fewer bytes are left on the disk; of a small disk a part counts.
    pub disk_reserve: u64,
    /// A store that is behind is left to `certctl server --migrate-only`.
    pub migrations_via_hook: bool,
    /// The way to backups in S3.
    pub s3: Option<S3Config>,
    /// The backups that it makes by itself.
    pub backup: Option<BackupConfig>,
    /// How long what has ended is kept.
    pub keep: KeepConfig,
}

/// How long what has ended is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepConfig {
    /// Jobs.
    pub jobs: Duration,
    /// Orders, and the deployments they led to.
    pub orders: Duration,
    /// Sessions.
    pub sessions: Duration,
    /// Join tokens.
    pub join_tokens: Duration,
}

impl Default for KeepConfig {
    fn default() -> Self {
        Self {
            jobs: 90 * DAY,
            orders: 400 * DAY,
            sessions: DAY,
            join_tokens: 90 * DAY,
        }
    }
}

/// The longest path of a unix socket, in bytes: Linux has room for 107, and the socket is made under
/// its name and `.new`.
const MAX_SOCKET: usize = 107 - ".new".len();

const DAY: Duration = Duration::from_secs(86_400);

/// How often callers may call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// From one address.
    pub address: Rate,
    /// With one key.
    pub key: Rate,
    /// The servers of one database share them.
    pub shared: bool,
}

impl ServerConfig {
    /// One that says where the data lie and where to listen, and leaves everything else out.
    pub fn new(data_dir: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        let data_dir = data_dir.into();
        Self {
            socket: data_dir.join(SOCKET_NAME),
            data_dir,
            machine_key: None,
            secret_files: Vec::new(),
            database: None,
            listen,
            public_url: None,
            pki_http: None,
            cors_origins: Vec::new(),
            keys: Vec::new(),
            rates: None,
            trusted_proxies: Networks::default(),
            s3: None,
            backup: None,
            keep: KeepConfig::default(),
            disk_reserve: 0,
            migrations_via_hook: false,
        }
    }
}

/// A setting that brings keys.
#[derive(Debug, Clone)]
pub struct KeySource {
    /// Its name.
    pub setting: &'static str,
    /// Where the keys are.
    pub keys: KeyList,
    /// Reads them.
    pub read: ReadKeys,
}

/// Reads a list of keys.
pub type ReadKeys = fn(&str) -> Result<Vec<ConfiguredKey>, String>;

/// Where a list of keys is.
#[derive(Debug, Clone)]
pub enum KeyList {
    /// Here.
    Text(SecretString),
    /// In a file, which may change.
    File(PathBuf),
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

/// Reads the settings of a server, and of logging. What this takes, a start takes.
///
/// # Errors
/// All that is wrong with the settings given, by themselves and beside each other.
pub fn server(env: &Environment, flags: Flags) -> Result<(ServerConfig, LogConfig), ConfigError> {
    read(env, flags, true)
}

/// As [`server`], for those who work on a server's store: where it listens is nothing to them, and
/// its own command line may say otherwise.
///
/// # Errors
/// As there.
pub fn server_at_rest(
    env: &Environment,
    flags: Flags,
) -> Result<(ServerConfig, LogConfig), ConfigError> {
    read(env, flags, false)
}

fn read(
    env: &Environment,
    flags: Flags,
    listens: bool,
) -> Result<(ServerConfig, LogConfig), ConfigError> {
    let mut faults = env.faults().to_vec();
    let s3 = s3(env, &mut faults);
    let backup = backup(env, &mut faults);
    let keep = keep_config(env, &mut faults);
    faults.extend_from_slice(env.faults_of_files());
    let listen = listen(env, flags.listen);
    let pki_http = pki_http(env);
    let data_dir = data_dir(env, flags.data_dir.clone());
    let socket = socket(env, &flags, &data_dir);
    if listens {
        faults.extend(pki_http.and_then(|plain| meeting(env, plain, listen)));
        faults.extend(too_long(env, &flags, &socket));
    }
    if !faults.is_empty() {
        return Err(ConfigError(faults));
    }
    let log = logging(env)?;
    // What is given was checked; the defaults are good.
    let config = ServerConfig {
        listen,
        data_dir,
        socket,
        secret_files: env.files_of_secrets(),
        machine_key: env
            .get("CERTCTL_MACHINE_KEY")
            .map(|text| text.to_owned().into()),
        database: database(env),
        public_url: env
            .get("CERTCTL_PUBLIC_URL")
            .map(|url| url.trim_end_matches('/').to_owned()),
        pki_http,
        cors_origins: origins(env.get("CERTCTL_CORS_ORIGINS").unwrap_or_default()),
        keys: key_sources(env),
        rates: rates(env),
        trusted_proxies: env
            .get("CERTCTL_TRUSTED_PROXIES")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        s3,
        backup,
        keep,
        disk_reserve: bytes(env.or_default("CERTCTL_DISK_RESERVE")).unwrap_or_default(),
        migrations_via_hook: switch(env.or_default("CERTCTL_MIGRATIONS_VIA_HOOK"))
            .unwrap_or_default(),
    };
    Ok((config, log))
}

fn listen(env: &Environment, flag: Option<SocketAddr>) -> SocketAddr {
    // What is given was checked; the defaults are good.
    let host = ip(env.or_default("CERTCTL_SERVER_HOST")).unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let port = port(env.or_default("CERTCTL_SERVER_PORT")).unwrap_or(8443);
    flag.unwrap_or(SocketAddr::new(host, port))
}

/// Where plain HTTP is served.
fn pki_http(env: &Environment) -> Option<SocketAddr> {
    env.get("CERTCTL_PKI_HTTP_LISTEN")?.parse().ok()
}

/// That plain HTTP is to be served where the server itself listens.
fn meeting(env: &Environment, plain: SocketAddr, main: SocketAddr) -> Option<Fault> {
    collide(plain, main).then(|| {
        let why = format!(
            "{plain} meets {main}, where the server itself listens (CERTCTL_SERVER_HOST, \
             CERTCTL_SERVER_PORT): give another port"
        );
        env.at_fault("CERTCTL_PKI_HTTP_LISTEN", why)
    })
}

/// Whether nobody can listen on both. The address that is every address of IPv6 takes those of IPv4,
/// too; port 0 is any that is free.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let takes = |all: IpAddr, one: IpAddr| {
        all == one || all.is_unspecified() && (all.is_ipv6() || one.is_ipv4())
    };
    let (one, other) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() == b.port() && a.port() != 0 && (takes(one, other) || takes(other, one))
}

/// The unix socket.
fn socket(env: &Environment, flags: &Flags, data_dir: &Path) -> PathBuf {
    let given = flags.socket.clone();
    let given = given.or_else(|| env.get("CERTCTL_SOCKET").map(PathBuf::from));
    given.unwrap_or_else(|| data_dir.join(SOCKET_NAME))
}

/// That the kernel takes no path as long as this one.
fn too_long(env: &Environment, flags: &Flags, socket: &Path) -> Option<Fault> {
    let len = socket.as_os_str().len();
    (len > MAX_SOCKET).then(|| {
        let setting = if flags.socket.is_some() {
            "--socket"
        } else if env.get("CERTCTL_SOCKET").is_some() {
            "CERTCTL_SOCKET"
        } else if flags.data_dir.is_some() {
            "--data-dir"
        } else {
            "CERTCTL_DATA_DIR"
        };
        let why = format!(
            "the socket {} has a path of {len} bytes, and {MAX_SOCKET} are taken: name a shorter \
             one by CERTCTL_SOCKET",
            socket.display()
        );
        env.at_fault(setting, why)
    })
}

fn keep_config(env: &Environment, faults: &mut Vec<Fault>) -> KeepConfig {
    // What is given was checked; the defaults are good.
    let of = |setting| interval(env.or_default(setting)).unwrap_or(DAY);
    // What is asked again within a day is answered as the first time.
    let mut a_day = |setting| {
        let time = of(setting);
        if time < DAY {
            faults.push(env.at_fault(setting, "a day at least is expected, e.g. 30d"));
        }
        time
    };
    KeepConfig {
        jobs: a_day("CERTCTL_KEEP_JOBS"),
        orders: a_day("CERTCTL_KEEP_ORDERS"),
        sessions: of("CERTCTL_KEEP_SESSIONS"),
        join_tokens: of("CERTCTL_KEEP_JOIN_TOKENS"),
    }
}

fn database(env: &Environment) -> Option<DatabaseConfig> {
    // It was checked.
    let mut config = DatabaseConfig::parse(env.get("CERTCTL_DATABASE_URL")?).ok()?;
    if let Some(password) = env.get("CERTCTL_DATABASE_PASSWORD") {
        config.password = Some(password.to_owned().into());
    }
    let file = env.secret_file("CERTCTL_DATABASE_PASSWORD");
    config.password_file = file.map(ToOwned::to_owned);
    config.connections = count(env.or_default("CERTCTL_DATABASE_MAX_CONNS")).unwrap_or(1);
    let seconds = count(env.or_default("CERTCTL_DATABASE_TIMEOUT")).unwrap_or(15);
    config.timeout = Duration::from_secs(seconds.into());
    Some(config)
}

fn rates(env: &Environment) -> Option<Rates> {
    let on = switch(env.or_default("CERTCTL_RATE_LIMIT_ENABLED"));
    // What is given was checked; the defaults are good.
    let address = Rate {
        per_second: rate(env.or_default("CERTCTL_RATE_LIMIT_RPS")).unwrap_or(50.0),
        burst: count(env.or_default("CERTCTL_RATE_LIMIT_BURST")).unwrap_or(100),
    };
    let key = Rate {
        per_second: env
            .get("CERTCTL_RATE_LIMIT_PER_USER_RPS")
            .and_then(rate)
            .unwrap_or(address.per_second),
        burst: env
            .get("CERTCTL_RATE_LIMIT_PER_USER_BURST")
            .and_then(count)
            .unwrap_or(address.burst),
    };
    let shared = env.get("CERTCTL_RATE_LIMIT_BACKEND") == Some("postgres");
    (on != Some(false)).then_some(Rates {
        address,
        key,
        shared,
    })
}

fn key_sources(env: &Environment) -> Vec<KeySource> {
    let settings: [(_, ReadKeys); 2] = [
        ("CERTCTL_AUTH_SECRET", admin_keys),
        ("CERTCTL_API_KEYS_NAMED", named_keys),
    ];
    let source = |(setting, read)| {
        let keys = match env.secret_file(setting) {
            Some(path) => KeyList::File(path.to_owned()),
            None => KeyList::Text(env.get(setting)?.to_owned().into()),
        };
        Some(KeySource {
            setting,
            keys,
            read,
        })
    };
    settings.into_iter().filter_map(source).collect()
}

/// The host of the server's public address: a name, or an IP address without brackets.
///
/// # Errors
/// All that is wrong with the settings given.
pub fn public_host(env: &Environment) -> Result<Option<String>, ConfigError> {
    env.sound()?;
    Ok(env.get("CERTCTL_PUBLIC_URL").and_then(url_host))
}

/// Reads the settings of logging alone, for commands that are no server.
///
/// # Errors
/// All that is wrong with the settings given.
pub fn logging(env: &Environment) -> Result<LogConfig, ConfigError> {
    env.sound()?;
    Ok(LogConfig {
        level: env
            .or_default("CERTCTL_LOG_LEVEL")
            .parse()
            .unwrap_or_default(),
        format: env
            .or_default("CERTCTL_LOG_FORMAT")
            .parse()
            .unwrap_or_default(),
    })
}

/// The data directory: flag, variable, default.
pub fn data_dir(env: &Environment, flag: Option<PathBuf>) -> PathBuf {
    flag.unwrap_or_else(|| PathBuf::from(env.or_default("CERTCTL_DATA_DIR")))
}
