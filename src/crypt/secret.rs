//! Secrets that callers show: made here, stored only as hashes.

use crate::clock::Rng;
use zeroize::Zeroizing;

/// A new secret: `prefix` and 256 random bits in base64url.
pub fn generate(prefix: &str, rng: &dyn Rng) -> Zeroizing<String> {
    let mut bits = Zeroizing::new([0; 32]);
    rng.fill(&mut *bits);
    let text = Zeroizing::new(data_encoding::BASE64URL_NOPAD.encode(&*bits));
    Zeroizing::new(format!("{prefix}{}", *text))
}

/// SHA-256 of a secret, lower hex. Secrets have 256 random bits, so a fast hash hides them.
pub fn hash(secret: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes());
    data_encoding::HEXLOWER.encode(digest.as_ref())
}

/// Whether two hashes are equal, in time that tells nothing of where they differ.
pub fn same(a: &str, b: &str) -> bool {
    use subtle::ConstantTimeEq;
    a.as_bytes().ct_eq(b.as_bytes()).into()
}
