//! X.509: bytes in, values out. No clock, no randomness, no I/O: whoever calls brings them.

pub mod certificate;
pub mod check;
pub mod constraints;
pub mod crl;
pub mod csr;
pub mod issue;
mod key;
mod name;
mod serial;
pub mod subordinate;

pub use certificate::{Certificate, Chain, InvalidCertificate};
pub use crl::Reason;
pub use csr::{Csr, InvalidCsr};
pub use issue::Eku;
pub use key::{InvalidKey, KeyAlgorithm, KeyFamily, PublicKey, SignError, Signer};
pub use name::{InvalidName, San, Sans};
pub use serial::{InvalidSerial, Serial};

/// SHA-256 of `bytes`, lower hex.
fn sha256_hex(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    data_encoding::HEXLOWER.encode(digest.as_ref())
}

/// A PEM block (RFC 7468).
fn pem(label: &'static str, der: &[u8]) -> String {
    // The label is ours and the length bounded, so encoding does not fail.
    der::pem::encode_string(label, der::pem::LineEnding::LF, der).unwrap_or_default()
}
