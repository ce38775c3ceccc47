//! When a certificate is renewed.

use super::{
    certificate::{Certificate, Current, EXPIRING_WITHIN, Holder, HolderState, Plan},
    policy::RenewalPolicy,
};
use crate::{clock::Time, id::Id};
use std::time::Duration;

/// Between the renewal and the time from which a certificate is called expiring: a renewal that
/// takes this long, or fails a few times, alarms nobody.
const AHEAD: Duration = Duration::from_secs(86_400);

/// The moment at which the version after `current` is due. The policy says how much of the
/// lifetime is then left, half of it at most. A policy that says a fraction lets at least
/// [`EXPIRING_WITHIN`] and a day be left where half the lifetime is that long: then a certificate
/// that is renewed in time is never called expiring. The moment lies earlier by a share of what is
/// left that is fixed per certificate (a tenth at most): certificates made together are not
/// renewed together, and none later than the policy says.
pub fn renew_at(certificate: &Id, current: &Current, policy: &RenewalPolicy) -> Time {
    let left = left(current.not_after.since(current.not_before), policy);
    let spread = permille(left / 10, u32::from(spread_of(certificate)));
    current.not_after.minus(left).minus(spread)
}

/// How much of a lifetime a policy leaves when a renewal is due, without what spreads them.
pub fn left(lifetime: Duration, policy: &RenewalPolicy) -> Duration {
    const WINDOW: Duration = EXPIRING_WITHIN.saturating_add(AHEAD);
    let half = lifetime / 2;
    let left = match policy.renewal_window_days {
        0 => {
            let left = permille(lifetime, policy.renew_left_permille.min(1000));
            if half >= WINDOW {
                left.max(WINDOW)
            } else {
                left
            }
        }
        days => Duration::from_secs(u64::from(days) * 86_400),
    };
    left.min(half)
}

/// What follows a version that an agent holds.
pub fn follows(certificate: &Certificate, current: &Current, policy: &RenewalPolicy) -> Plan {
    if policy.auto_renew {
        let at = renew_at(&certificate.id, current, policy);
        return Plan::Scheduled { at };
    }
    let owner = &certificate.owner_id;
    Plan::Exempt {
        reason: format!(
            "renewal policy {} does not renew by itself: somebody renews it",
            policy.id
        ),
        owner: if owner.is_empty() { "operator" } else { owner }.to_owned(),
    }
}

/// Plans the next version of each agent's line anew, where one follows a good one: an open order
/// goes on, a failed one is repeated, one that is due by `now` stays due, for it may be wanted for
/// another reason than age, one that waits for its issuer goes on waiting, and what has ended stays
/// so.
pub fn replan(certificate: &mut Certificate, policy: &RenewalPolicy, now: Time) {
    if certificate.ended().is_some() {
        return;
    }
    let settled = |(holder, line): (&Holder, &HolderState)| {
        let of_agent = matches!(holder, Holder::Agent(_)) && line.ended_at.is_none();
        let open = match line.plan {
            Plan::InFlight { .. } => true,
            Plan::Scheduled { at } => at <= now || line.failure.is_some(),
            Plan::Exempt { .. } => line.blocked_since.is_some(),
        };
        let current = line.current.clone().filter(|_| of_agent && !open)?;
        Some((holder.clone(), current))
    };
    let settled: Vec<(Holder, Current)> = certificate.holders.iter().filter_map(settled).collect();
    for (holder, current) in settled {
        let plan = follows(certificate, &current, policy);
        if let Some(line) = certificate.holders.get_mut(&holder) {
            line.plan = plan;
        }
    }
}

fn permille(d: Duration, n: u32) -> Duration {
    let micros = d.as_micros() * u128::from(n) / 1000;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// A number below 1000, fixed per certificate.
fn spread_of(certificate: &Id) -> u16 {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate.as_str().as_bytes());
    match digest.as_ref() {
        [a, b, ..] => u16::from_be_bytes([*a, *b]) % 1000,
        _ => 0,
    }
}
