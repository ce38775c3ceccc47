//! Tries an agent's way to its server, step by step, and says what to do where it ends.

use super::{
    Identity, Paths, rotation,
    server::{Refusal, Server},
};
use crate::{
    clock::{Clock, Time},
    net::{CallError, Resolver, Transport},
    sys::Files,
};
use http::Uri;
use serde::Serialize;
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Clocks that differ by this much are told of.
const CLOCKS_MAY_DIFFER: Duration = Duration::from_secs(300);

/// One step of the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What was tried.
    pub check: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do; empty where all is well.
    pub remedy: String,
}

impl Step {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            ok: true,
            found: found.into(),
            remedy: String::new(),
        }
    }

    fn bad(check: &'static str, found: impl ToString, remedy: impl Into<String>) -> Self {
        Self {
            check,
            ok: false,
            found: found.to_string(),
            remedy: remedy.into(),
        }
    }
}

/// What a ping is given of the world.
pub struct Ways<'a> {
    /// The time of day.
    pub clock: &'a dyn Clock,
    /// The disk.
    pub files: &'a dyn Files,
    /// Finds addresses.
    pub resolver: &'a Resolver,
    /// Leads to the identity's server.
    pub transport: Arc<dyn Transport>,
}

/// Tries the way of `identity` to its server. It is no poll: the server does not take it for a sign
/// of life of the agent, and no lease ends.
pub async fn ping(ways: &Ways<'_>, paths: &Paths, identity: &Identity) -> Vec<Step> {
    let mut steps = vec![Step::good(
        "identity",
        format!("{} ({})", identity.name(), identity.agent_id()),
    )];
    let url: Option<Uri> = identity.server_url().parse().ok();
    let Some(host) = url.as_ref().and_then(Uri::host) else {
        let remedy = "remove the identity directory and enrol again";
        steps.push(Step::bad("name", identity.server_url(), remedy));
        return steps;
    };
    let host = host.trim_matches(['[', ']']);
    if host.parse::<IpAddr>().is_ok() {
        steps.push(Step::good("name", format!("{host} is an address")));
    } else {
        match ways.resolver.lookup(host).await {
            Ok(found) => {
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                let found = format!("{host} is {}", found.join(", "));
                steps.push(Step::good("name", found));
            }
            Err(e) => {
                let remedy = format!(
                    "make {host} known: in DNS, or by a line in /etc/hosts of this machine"
                );
                steps.push(Step::bad("name", e, remedy));
                return steps;
            }
        }
    }
    let server = Server::new(ways.transport.clone(), identity);
    // The first call opens the connection, the second one shows what a round takes.
    let mut first = server.ping().await;
    if let Err(Refusal::Credential(_)) = first
        && let Ok(Some(next)) = rotation::next(ways.files, paths)
    {
        // The agent is about to take its next secret, and the server knows it already.
        server.act_as(&identity.with_secret(next, ways.clock.now()));
        first = server.ping().await;
    }
    if let Err(error) = first {
        steps.extend(ended(error));
        return steps;
    }
    steps.push(Step::good(
        "connection",
        "TLS, the server's CA is the one pinned",
    ));
    let (began, asked) = (Instant::now(), ways.clock.now());
    let pong = match server.ping().await {
        Ok(pong) => pong,
        Err(error) => {
            steps.extend(ended(error));
            return steps;
        }
    };
    let took = began.elapsed();
    steps.push(Step::good(
        "credential",
        format!("accepted, in use since {}", short(&pong.credential_since)),
    ));
    steps.push(clocks(&pong.server_time, asked.plus(took / 2)));
    let micros = took.as_micros();
    let round = format!("{}.{:03} ms", micros / 1_000, micros % 1_000);
    steps.push(Step::good("round trip", round));
    let (ours, theirs) = (env!("CARGO_PKG_VERSION"), pong.server_version.as_str());
    let versions = if ours == theirs {
        format!("{theirs}, as this program")
    } else {
        format!("{theirs}, this program is {ours}")
    };
    steps.push(Step::good("server", versions));
    steps
}

/// Where the way ends, by what the call says.
fn ended(error: Refusal) -> Vec<Step> {
    let reached = || Step::good("connection", "TLS, the server's CA is the one pinned");
    match error {
        Refusal::Call(error @ (CallError::Dial(_) | CallError::Socket { .. })) => {
            vec![Step::bad(
                "connection",
                error,
                "see that the server runs, and that no firewall is between",
            )]
        }
        Refusal::Call(error @ CallError::Tls { .. }) => vec![Step::bad(
            "connection",
            error,
            "enrol again if the server was set up anew; give --ca-bundle if a proxy ends TLS \
             before it",
        )],
        Refusal::Call(error) => vec![Step::bad(
            "connection",
            error,
            "see that it is the server that answers there, and how it fares",
        )],
        Refusal::Retired(why) => vec![
            reached(),
            Step::bad(
                "credential",
                why,
                "nothing to mend: to let this host join again, remove its identity directory and \
                 enrol it by a new join token",
            ),
        ],
        Refusal::Credential(problem) => vec![
            reached(),
            Step::bad(
                "credential",
                problem,
                "enrol this host again, by a join token that may replace: another host has taken \
                 its name, or the server lost its memory of it",
            ),
        ],
        other => vec![
            reached(),
            Step::bad(
                "credential",
                other,
                "see the server's log, and that its version goes with this one",
            ),
        ],
    }
}

fn clocks(server_time: &str, here: Time) -> Step {
    let Ok(there) = server_time.parse::<Time>() else {
        return Step::bad(
            "clock",
            format!("the server says it is {server_time:?}"),
            "see that its version goes with this one",
        );
    };
    let apart = here.since(there).max(there.since(here));
    let side = if here >= there { "ahead of" } else { "behind" };
    let found = format!(
        "{}.{:03} s {side} the server's",
        apart.as_secs(),
        apart.subsec_millis()
    );
    if apart <= CLOCKS_MAY_DIFFER {
        Step::good("clock", found)
    } else {
        Step::bad(
            "clock",
            found,
            "set the clock of this machine, or the server's: certificates are judged by them",
        )
    }
}

fn short(time: &str) -> String {
    let time = time.parse::<Time>();
    time.map_or_else(|_| "-".into(), |t| t.whole_seconds().to_string())
}
