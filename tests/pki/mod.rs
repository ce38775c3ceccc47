//! X.509, the local CA, sealing: seen through openssl, GnuTLS and webpki where they can judge.
//!
//! Needs `openssl` (Debian: openssl) and `certtool` (Debian: gnutls-bin).

mod check;
mod csr;
mod hierarchy;
mod keyring;
mod leaf;
mod name;
mod private_key;
mod serial;
mod support;
