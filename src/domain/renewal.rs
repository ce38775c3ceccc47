//! When a certificate is renewed.

use super::{
    certificate::{Current, EXPIRING_WITHIN},
    profile::RenewalPolicy,
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
    const WINDOW: Duration = EXPIRING_WITHIN.saturating_add(AHEAD);
    let lifetime = current.not_after.since(current.not_before);
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
    let left = left.min(half);
    let spread = permille(left / 10, u32::from(spread_of(certificate)));
    current.not_after.minus(left).minus(spread)
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
