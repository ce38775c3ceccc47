//! X.509, the local CA, sealing: seen through openssl, GnuTLS and webpki where they can judge.
//!
//! Needs `openssl` (Debian: openssl) and `certtool` (Debian: gnutls-bin), and `pkilint`
//! in `target/python` (tests/run puts it there).

mod check;
mod csr;
mod hierarchy;
mod keyring;
mod leaf;
mod name;
mod private_key;
mod revocation;
mod serial;
mod support;
