//! Sealing, key ring, hashing, random bytes.
