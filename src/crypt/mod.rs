//! Sealing, key ring, private keys, secrets, random bytes.

mod import;
mod key;
mod keyring;
mod recipient;
mod rsa;
pub mod secret;

pub use import::InvalidImport;
pub use key::{Crypto, InvalidPrivateKey, PrivateKey, RingCrypto};
pub use keyring::{KeyRing, MachineKey, Place, RingDoc, RingError, Sealed};
pub use recipient::{InvalidRecipient, Recipient};

use ring::rand::{SecureRandom, SystemRandom};

/// The kernel's random bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRng;

impl crate::clock::Rng for OsRng {
    fn fill(&self, out: &mut [u8]) {
        if SystemRandom::new().fill(out).is_err() {
            // Without randomness no secret may be made: there is nothing to go on with.
            std::process::abort();
        }
    }
}
