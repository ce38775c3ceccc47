//! RSA keys: two primes, found by trying. ring uses such keys and cannot make them.

use super::{InvalidPrivateKey, PrivateKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use rsa::{
    RsaPrivateKey,
    pkcs8::EncodePrivateKey as _,
    rand_core::{CryptoRng, Error, RngCore},
};
use std::num::NonZeroU32;

/// Makes a key of so many bits, with public exponent 65537 (FIPS 186-5, appendix A.1.3).
pub(super) fn generate(bits: usize) -> Result<PrivateKey, InvalidPrivateKey> {
    let key = RsaPrivateKey::new(&mut Kernel(SystemRandom::new()), bits);
    let key = key.map_err(|_| InvalidPrivateKey::Rsa("no primes were found"))?;
    let der = key.to_pkcs8_der();
    let der = der.map_err(|_| InvalidPrivateKey::Rsa("it cannot be encoded"))?;
    PrivateKey::from_pkcs8_der(der.as_bytes())
}

/// The kernel's random bytes, as this crate wants them.
struct Kernel(SystemRandom);

impl CryptoRng for Kernel {}

impl RngCore for Kernel {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        if self.0.fill(out).is_err() {
            // Without randomness no secret may be made: there is nothing to go on with.
            std::process::abort();
        }
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        let none = Error::from(NonZeroU32::MIN.saturating_add(Error::CUSTOM_START));
        self.0.fill(out).map_err(|_| none)
    }
}
