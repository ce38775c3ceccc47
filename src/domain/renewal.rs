//! When a certificate is renewed.

use super::{certificate::Current, profile::RenewalPolicy};
use crate::{clock::Time, id::Id};
use std::time::Duration;

/// The moment at which the version after `current` is due. It is a point in the version's
/// lifetime, moved later by a share of what is then left that is fixed per certificate (a tenth
/// at most): certificates made together are not renewed together.
pub fn renew_at(certificate: &Id, current: &Current, policy: &RenewalPolicy) -> Time {
    let lifetime = current.not_after.since(current.not_before);
    let left = match policy.renewal_window_days {
        0 => permille(lifetime, policy.renew_left_permille.min(1000)),
        days => Duration::from_secs(u64::from(days) * 86_400).min(lifetime / 2),
    };
    let spread = permille(left / 10, u32::from(spread_of(certificate)));
    current.not_after.minus(left).plus(spread)
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
