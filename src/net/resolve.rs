//! Host names to addresses, without the C library.

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    system_conf::parse_resolv_conf,
};
use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long one name server may take to answer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// Resolves by a file of hosts and the name servers of another. Both are read again when they have
/// changed: a service may start before the network is set up, and the network may change under it.
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

struct Shared {
    servers: PathBuf,
    hosts: PathBuf,
    built: Mutex<Arc<Built>>,
}

/// A resolver as the files were at one time.
struct Built {
    files: [Option<Stamp>; 2],
    resolver: Result<TokioResolver, NetError>,
}

/// What tells one state of a file from another: file, length, change in seconds and nanoseconds.
type Stamp = (u64, u64, i64, i64);

/// A name without an address.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResolveError {
    /// DNS says there is none.
    #[error("host {0} does not exist or has no address; check the spelling and DNS")]
    Unknown(String),
    /// DNS did not say.
    #[error("cannot resolve host {host}: {reason}; check /etc/resolv.conf and the name servers")]
    Failed {
        /// The host.
        host: String,
        /// What happened.
        reason: String,
    },
}

impl Resolver {
    /// By the machine's `/etc/hosts` and `/etc/resolv.conf`.
    pub fn system() -> Self {
        Self::of_files("/etc/resolv.conf", "/etc/hosts")
    }

    /// By the name servers in `servers` (`resolv.conf(5)`) and the names in `hosts` (`hosts(5)`).
    /// Where there are none, names but `localhost` fail, and that is reported at the call.
    pub fn of_files(servers: impl Into<PathBuf>, hosts: impl Into<PathBuf>) -> Self {
        let (servers, hosts) = (servers.into(), hosts.into());
        let built = Mutex::new(Arc::new(Built::of(&servers, &hosts)));
        Self(Arc::new(Shared {
            servers,
            hosts,
            built,
        }))
    }

    /// The resolver for the files as they are now.
    fn current(&self) -> Arc<Built> {
        let Shared {
            servers,
            hosts,
            built,
        } = &*self.0;
        let mut built = built.lock().unwrap_or_else(PoisonError::into_inner);
        if built.files != [stamp(servers), stamp(hosts)] {
            tracing::info!("the machine's name servers or hosts have changed");
            *built = Arc::new(Built::of(servers, hosts));
        }
        built.clone()
    }

    /// The addresses of `host`, at least one: itself for an address (IPv6 with or without
    /// brackets), loopback for `localhost` (RFC 6761, section 6.3).
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let bare = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        if host.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let failed = |error: &NetError| {
            if error.is_no_records_found() || error.is_nx_domain() {
                ResolveError::Unknown(host.into())
            } else {
                ResolveError::Failed {
                    host: host.into(),
                    reason: error.to_string(),
                }
            }
        };
        let current = self.current();
        let resolver = current.resolver.as_ref().map_err(failed)?;
        let found = resolver.lookup_ip(host).await;
        let addresses: Vec<_> = found.map_err(|e| failed(&e))?.iter().collect();
        if addresses.is_empty() {
            return Err(ResolveError::Unknown(host.into()));
        }
        Ok(addresses)
    }
}

impl Built {
    fn of(servers: &Path, hosts: &Path) -> Self {
        // Before the contents: a change between the two is found at the next look.
        let files = [stamp(servers), stamp(hosts)];
        let read = fs::read(servers).map_err(NetError::from);
        let (config, mut options) = read.and_then(parse_resolv_conf).unwrap_or_else(|error| {
            tracing::warn!(%error, file = %servers.display(), "no name servers: host names will not resolve");
            (ResolverConfig::default(), ResolverOpts::default())
        });
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        options.timeout = QUERY_TIMEOUT;
        options.attempts = 1;
        options.use_hosts_file = ResolveHosts::Never;
        let mut known = Hosts::default();
        if let Ok(file) = File::open(hosts)
            && let Err(error) = known.read_hosts_conf(file)
        {
            tracing::warn!(%error, file = %hosts.display(), "its names are left out");
            known = Hosts::default();
        }
        let provider = TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(config, provider).with_options(options);
        let resolver = builder.build().map(|mut resolver| {
            resolver.set_hosts(Arc::new(known));
            resolver
        });
        Self { files, resolver }
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let found = fs::metadata(file).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}
