//! Seeing what endpoints serve, by handshakes.

use super::{Before, Fault, Pair, Seen, Unverified};
use crate::{
    net::{Endpoint, Probe, Served},
    pki::{Certificate, San},
};
use futures_util::future::join_all;
use rustls_pki_types::{CertificateDer, ServerName};
use std::{fmt::Display, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};

/// Between handshakes while the right version is not seen.
const PAUSE: Duration = Duration::from_millis(100);
/// How many new handshakes in a row must show it: one process of several may be late.
pub const IN_A_ROW: u32 = 3;
/// Into how many parts the time is cut that right handshakes must last.
const LULLS: u32 = 16;
const UNSTEADY: &str = "what it should serve was seen, but not for long enough";
/// For the one handshake that shows what is served before a deployment.
const GLANCE: Duration = Duration::from_secs(2);

/// The name to ask for in handshakes: the configured one, which the leaf must carry (RFC 6125),
/// else the leaf's first.
pub fn server_name(configured: Option<&str>, leaf: &Certificate) -> Result<String, Fault> {
    let sans = leaf.sans();
    let Some(name) = configured else {
        let named = sans.iter().find_map(|san| match san {
            San::Dns(name) => Some(name.replacen('*', "any", 1)),
            San::Ip(ip) => Some(ip.to_string()),
            _ => None,
        });
        // A certificate for no host has no name to ask for.
        return Ok(named.unwrap_or_else(|| "localhost".into()));
    };
    let der = CertificateDer::from(leaf.der());
    let covered = rustls::server::ParsedCertificate::try_from(&der).is_ok_and(|parsed| {
        ServerName::try_from(name)
            .is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok())
    });
    if covered {
        Ok(name.to_owned())
    } else {
        Err(Fault::operator(format!(
            "serial {} does not name {name:?}: correct config.server_name or the certificate's names",
            leaf.serial()
        )))
    }
}

/// Sees endpoints under one name, within one time.
pub struct Watch<'a> {
    /// Makes the handshakes.
    pub probe: &'a dyn Probe,
    /// Where.
    pub endpoints: &'a [Endpoint],
    /// The name to ask for.
    pub server_name: &'a str,
    /// How long they may take.
    pub timeout: Duration,
    /// How many new handshakes in a row must be right.
    pub in_a_row: u32,
    /// How long those in a row must last: where old and new processes answer side by side for a
    /// while, some that come at once prove little.
    pub lasting: Duration,
}

impl Watch<'_> {
    /// What each endpoint serves now.
    pub async fn glance(&self) -> Vec<Seen> {
        let within = GLANCE.min(self.timeout);
        join_all(self.endpoints.iter().map(async |endpoint| {
            match self.probe.tls(endpoint, self.server_name, within).await {
                Ok(served) => seen(endpoint, &served),
                Err(error) => unseen(endpoint, &error),
            }
        }))
        .await
    }

    /// Waits until each endpoint serves the leaf and the chain of `pair`.
    pub async fn serves(&self, pair: &Pair) -> Result<Vec<Seen>, Unverified> {
        let wanted: Vec<&[u8]> = pair.chain().certificates().map(Certificate::der).collect();
        let serial = pair.version().serial.to_string();
        self.until(
            |_, served| {
                served
                    .chain
                    .iter()
                    .map(Vec::as_slice)
                    .eq(wanted.iter().copied())
            },
            |seen| match (&seen.serial, &seen.error) {
                (Some(s), _) if *s == serial => {
                    format!("{} serves serial {s} with another chain", seen.endpoint)
                }
                (Some(s), _) => format!("{} still serves serial {s}", seen.endpoint),
                (None, error) => format!(
                    "{} serves nothing: {}",
                    seen.endpoint,
                    error.as_deref().unwrap_or("no handshake was made in time")
                ),
            },
        )
        .await
    }

    /// Waits until each endpoint serves the leaf it served before, or that of `previous`. One that
    /// served nothing before owes nothing.
    pub async fn serves_before(
        &self,
        before: &Before,
        previous: Option<&Pair>,
    ) -> Result<Vec<Seen>, Unverified> {
        let previous = previous.map(|p| p.chain().leaf().fingerprint_sha256());
        let owed = |endpoint: &Endpoint| {
            let name = endpoint.to_string();
            let seen = before.seen.iter().find(|seen| seen.endpoint == name);
            seen.and_then(|seen| seen.fingerprint.as_deref())
        };
        let owing: Vec<Endpoint> = self
            .endpoints
            .iter()
            .filter(|e| owed(e).is_some())
            .cloned()
            .collect();
        let watch = Watch {
            endpoints: &owing,
            ..*self
        };
        watch
            .until(
                |endpoint, served| {
                    let fingerprint = seen(endpoint, served).fingerprint;
                    let fingerprint = fingerprint.as_deref();
                    fingerprint == owed(endpoint) || previous.is_some() && fingerprint == previous
                },
                |seen| match (&seen.serial, &seen.error) {
                    (Some(s), _) => format!("{} serves serial {s}", seen.endpoint),
                    (None, error) => format!(
                        "{} serves nothing: {}",
                        seen.endpoint,
                        error.as_deref().unwrap_or("no handshake was made in time")
                    ),
                },
            )
            .await
    }

    /// Makes handshakes with all endpoints until `accept` takes enough in a row from each, or the
    /// time ends; `complain` words what the first that failed was last seen to do.
    async fn until(
        &self,
        accept: impl Fn(&Endpoint, &Served) -> bool,
        complain: impl Fn(&Seen) -> String,
    ) -> Result<Vec<Seen>, Unverified> {
        let deadline = Instant::now() + self.timeout;
        let accept = &accept;
        let results = join_all(
            self.endpoints
                .iter()
                .map(|e| self.watch(e, deadline, accept)),
        )
        .await;
        let failed = results
            .iter()
            .find(|(_, accepted)| !accepted)
            .map(|(seen, _)| complain(seen));
        let seen = results.into_iter().map(|(seen, _)| seen).collect();
        match failed {
            None => Ok(seen),
            Some(what) => Err(Unverified {
                reason: format!("after {:?}, {what}", self.timeout),
                seen,
            }),
        }
    }

    async fn watch(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
        accept: &impl Fn(&Endpoint, &Served) -> bool,
    ) -> (Seen, bool) {
        let mut last = unseen(endpoint, &"no handshake was made in time");
        let mut in_a_row = 0;
        let mut since = Instant::now();
        let lull = self.lasting / LULLS;
        // One that takes longer could not be made as often as is wanted; and one that hangs must
        // not take the time of all others.
        let longest = self.timeout / self.in_a_row.max(1);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let within = left.min(longest);
            let handshake = self.probe.tls(endpoint, self.server_name, within);
            let Ok(answer) = timeout_at(deadline, handshake).await else {
                // What was wrong the last time says more than that there was no time for more.
                if in_a_row > 0 {
                    last = unseen(endpoint, &"a handshake did not end in time");
                }
                return (last, false);
            };
            let accepted = match answer {
                Ok(served) => {
                    last = seen(endpoint, &served);
                    accept(endpoint, &served)
                }
                // A handshake that our own deadline cut says nothing of the endpoint.
                Err(_) if Instant::now() >= deadline && last.serial.is_some() => false,
                Err(error) => {
                    last = unseen(endpoint, &error);
                    false
                }
            };
            if !accepted {
                in_a_row = 0;
                if deadline.saturating_duration_since(Instant::now()) <= PAUSE {
                    return (last, false);
                }
                sleep(PAUSE).await;
                continue;
            }
            if in_a_row == 0 {
                since = Instant::now();
            }
            in_a_row += 1;
            if in_a_row >= self.in_a_row && since.elapsed() >= self.lasting {
                return (last, true);
            }
            if !lull.is_zero() {
                if deadline.saturating_duration_since(Instant::now()) <= lull {
                    return (unseen(endpoint, &UNSTEADY), false);
                }
                sleep(lull).await;
            }
        }
    }
}

pub(super) fn seen(endpoint: &Endpoint, served: &Served) -> Seen {
    let leaf = served.chain.first().map(|der| Certificate::from_der(der));
    match leaf {
        Some(Ok(leaf)) => Seen {
            endpoint: endpoint.to_string(),
            serial: Some(leaf.serial().to_string()),
            fingerprint: Some(leaf.fingerprint_sha256().to_owned()),
            error: None,
        },
        Some(Err(error)) => unseen(
            endpoint,
            &format!("its certificate cannot be read: {error}"),
        ),
        None => unseen(endpoint, &"it presented no certificate"),
    }
}

pub(super) fn unseen(endpoint: &Endpoint, error: &dyn Display) -> Seen {
    Seen {
        endpoint: endpoint.to_string(),
        serial: None,
        fingerprint: None,
        error: Some(error.to_string()),
    }
}
