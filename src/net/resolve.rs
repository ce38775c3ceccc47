//! Host names to addresses, without the C library.

use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

/// How long one name server may take to answer.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// Resolves by `/etc/hosts` and the name servers of `/etc/resolv.conf`, both read when it is made.
#[derive(Clone)]
pub struct Resolver(Arc<Result<TokioResolver, NetError>>);

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
    /// By the machine's configuration. Where there is none, every name but `localhost` fails, and
    /// that is reported at the call.
    pub fn system() -> Self {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "no usable /etc/resolv.conf: host names will not resolve");
            TokioResolver::builder_with_config(
                ResolverConfig::default(),
                TokioRuntimeProvider::default(),
            )
        });
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        options.timeout = QUERY_TIMEOUT;
        options.attempts = 1;
        Self(Arc::new(builder.build()))
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
        let found = self
            .0
            .as_ref()
            .as_ref()
            .map_err(failed)?
            .lookup_ip(host)
            .await;
        let addresses: Vec<_> = found.map_err(|e| failed(&e))?.iter().collect();
        if addresses.is_empty() {
            return Err(ResolveError::Unknown(host.into()));
        }
        Ok(addresses)
    }
}
