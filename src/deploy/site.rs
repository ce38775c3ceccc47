//! Target `Site`: an HTTPS listener of the agent's own, whose pair is swapped in memory.

use super::{
    Before, Fault, Pair, Seen, Target, Unverified, Vault, VersionRef,
    config::SiteConfig,
    verify::{IN_A_ROW, Watch},
};
use crate::{
    id::Id,
    net::{Endpoint, Probe, ProbeError},
};
use async_trait::async_trait;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

/// How long another program on the address is given to answer.
const TAKEN: Duration = Duration::from_secs(2);

/// The agent's own HTTPS listeners, one per target.
#[async_trait]
pub trait Sites: Send + Sync {
    /// Listens on `listen` and serves `pair`; a listener the target already has is ended first.
    async fn start(&self, target: &Id, listen: SocketAddr, pair: &Pair) -> Result<(), Fault>;
    /// Serves `pair` from the next handshake on. The target must have a listener.
    async fn swap(&self, target: &Id, pair: &Pair) -> Result<(), Fault>;
    /// Ends the target's listener; none is success.
    async fn stop(&self, target: &Id);
    /// The target's listener, when it has one.
    fn site(&self, target: &Id) -> Option<Site>;
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The address asked for, whose port may be 0.
    pub listen: SocketAddr,
    /// The address bound.
    pub address: SocketAddr,
    /// The version served.
    pub version: VersionRef,
}

/// A target of type `Site`.
pub struct SiteTarget<'a> {
    /// The listeners.
    pub sites: &'a dyn Sites,
    /// Makes handshakes with the listener.
    pub probe: &'a dyn Probe,
    /// Versions on disk.
    pub vault: &'a Vault,
    /// The target.
    pub target: &'a Id,
    /// Its configuration.
    pub config: &'a SiteConfig,
    /// The name to ask for in handshakes.
    pub server_name: String,
}

impl SiteTarget<'_> {
    async fn serve(&self, listen: SocketAddr, pair: &Pair) -> Result<(), Fault> {
        match self.sites.site(self.target) {
            Some(site) if site.listen == listen => self.sites.swap(self.target, pair).await,
            _ => self.sites.start(self.target, listen, pair).await,
        }
    }

    async fn verify_on_listener(&self, pair: &Pair) -> Result<Vec<Seen>, Unverified> {
        let Some(site) = self.sites.site(self.target) else {
            return Err(Unverified::unseen("the site does not listen"));
        };
        let endpoint = reachable(site.address);
        self.watch(&[endpoint]).serves(pair).await
    }

    fn watch<'a>(&'a self, endpoints: &'a [Endpoint]) -> Watch<'a> {
        Watch {
            probe: self.probe,
            endpoints,
            server_name: &self.server_name,
            timeout: self.config.verify_timeout,
            in_a_row: IN_A_ROW,
            lasting: Duration::ZERO,
        }
    }
}

/// Where a listener is reached from its own host.
fn reachable(address: SocketAddr) -> Endpoint {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Endpoint::tls(ip.to_string(), address.port())
}

#[async_trait]
impl Target for SiteTarget<'_> {
    async fn before(&self) -> Result<Before, Fault> {
        Ok(match self.sites.site(self.target) {
            None => Before::default(),
            Some(site) => Before {
                version: Some(site.version),
                listen: Some(site.listen),
                ..Before::default()
            },
        })
    }

    async fn seen(&self, _: &Before) -> Vec<Seen> {
        match self.sites.site(self.target) {
            Some(site) => self.watch(&[reachable(site.address)]).glance().await,
            None => Vec::new(),
        }
    }

    async fn inspect(&self) -> Result<Vec<String>, Fault> {
        let listen = self.config.listen;
        if let Some(site) = self.sites.site(self.target)
            && site.listen == listen
        {
            return Ok(vec![format!("the agent listens on {}", site.address)]);
        }
        if listen.port() == 0 {
            return Ok(vec![format!("any free port of {} would do", listen.ip())]);
        }
        let endpoint = reachable(listen);
        match self.probe.tls(&endpoint, &self.server_name, TAKEN).await {
            Err(ProbeError::Dial(_)) => Ok(vec![format!("nobody listens on {listen} yet")]),
            _ => Err(Fault::operator(format!(
                "another program answers on {listen}: end it, or give the target another address"
            ))),
        }
    }

    fn in_place(&self, before: &Before, version: &VersionRef) -> bool {
        before.version.as_ref() == Some(version) && before.listen == Some(self.config.listen)
    }

    async fn commit(&self, pair: &Pair, _: &Before) -> Result<(), Fault> {
        self.serve(self.config.listen, pair).await
    }

    async fn verify(&self, pair: &Pair) -> Result<Vec<Seen>, Unverified> {
        self.verify_on_listener(pair).await
    }

    async fn undo(&self, before: &Before) -> Result<(), Fault> {
        match (&before.version, before.listen) {
            (Some(version), Some(listen)) => self.serve(listen, &self.vault.load(version)?).await,
            _ => {
                self.sites.stop(self.target).await;
                Ok(())
            }
        }
    }

    async fn verify_before(&self, before: &Before) -> Result<Vec<Seen>, Unverified> {
        match &before.version {
            None => Ok(Vec::new()),
            Some(version) => {
                let pair = self.vault.load(version).map_err(Unverified::unseen)?;
                self.verify_on_listener(&pair).await
            }
        }
    }
}
