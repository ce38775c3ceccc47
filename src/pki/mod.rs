//! X.509: bytes in, values out. No clock, no randomness, no I/O: whoever calls brings them.

pub mod certificate;
pub mod check;
pub mod constraints;
pub mod crl;
pub mod csr;
pub mod issue;
mod key;
mod name;
pub mod pkcs12;
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

/// What is wrong with the form of a PEM text. Says nothing of its content, which may be a key.
fn unread(fault: &rustls_pki_types::pem::Error) -> &'static str {
    use rustls_pki_types::pem::Error;
    match fault {
        Error::MissingSectionEnd { .. } => "the END line of a PEM block is missing",
        Error::IllegalSectionStart { .. } => {
            "a BEGIN line is broken: `-----BEGIN`, a label and `-----` are expected"
        }
        Error::Base64Decode(_) => "between a BEGIN and an END line is something else than base64",
        _ => "it is no PEM text",
    }
}

/// A PEM block (RFC 7468).
fn pem(label: &'static str, der: &[u8]) -> String {
    // The label is ours and the length bounded, so encoding does not fail.
    der::pem::encode_string(label, der::pem::LineEnding::LF, der).unwrap_or_default()
}
