//! Chance: every random byte of a simulation comes from its seed.

use certctl::{
    clock::Rng,
    crypt::{Crypto, InvalidPrivateKey, PrivateKey},
    pki::KeyAlgorithm,
};
use proptest::{
    prelude::Rng as _,
    test_runner::{RngAlgorithm, TestRng},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A stream of random bytes: ChaCha20 under a key made of the seed and the stream's name, so that
/// one user of chance does not disturb another.
pub struct Chance(Mutex<TestRng>);

impl Chance {
    pub fn new(seed: u64, stream: &str) -> Arc<Self> {
        let name = format!("{seed} {stream}");
        let key = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, key.as_ref());
        Arc::new(Self(Mutex::new(rng)))
    }

    /// A number from 0 to `n` - 1.
    pub fn below(&self, n: u64) -> u64 {
        self.0.lock().unwrap().next_u64() % n
    }

    /// True once in `n` times.
    pub fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A time from `least` on and shorter than `most`, in whole milliseconds.
    pub fn between(&self, least: Duration, most: Duration) -> Duration {
        let spread = u64::try_from((most - least).as_millis()).unwrap();
        least + Duration::from_millis(self.below(spread))
    }
}

impl Rng for Chance {
    fn fill(&self, out: &mut [u8]) {
        self.0.lock().unwrap().fill_bytes(out);
    }
}

/// PKCS#8 of an Ed25519 key up to its seed (RFC 8410, section 7).
const ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Makes Ed25519 keys, whatever kind is asked for: the only kind here whose keys and signatures
/// follow from a seed.
pub struct SeededCrypto(pub Arc<Chance>);

impl Crypto for SeededCrypto {
    fn generate_key(&self, _: KeyAlgorithm) -> Result<PrivateKey, InvalidPrivateKey> {
        let mut seed = [0; 32];
        self.0.fill(&mut seed);
        PrivateKey::from_pkcs8_der(&[&ED25519[..], &seed].concat())
    }
}
