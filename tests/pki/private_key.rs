use super::support::{Desk, at_once, p256};
use certctl::{
    crypt::{Crypto, InvalidPrivateKey, PrivateKey, RingCrypto},
    pki::{KeyAlgorithm, Signer as _},
};
use proptest::prelude::*;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};

fn both() -> [PrivateKey; 2] {
    [KeyAlgorithm::EcdsaP256, KeyAlgorithm::Ed25519].map(|a| RingCrypto.generate_key(a).unwrap())
}

#[test]
fn a_key_is_read_as_it_was_written() {
    for key in both() {
        let pem = key.to_pkcs8_pem();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        for again in [
            PrivateKey::from_pkcs8_pem(&pem).unwrap(),
            PrivateKey::from_pkcs8_der(key.pkcs8_der()).unwrap(),
        ] {
            assert_eq!(again.pkcs8_der(), key.pkcs8_der());
            assert_eq!(again.public_key(), key.public_key());
        }
    }
}

#[test]
fn a_key_signs_for_its_public_half() {
    for key in both() {
        let signature = at_once(key.sign(b"message")).unwrap();
        let spki = key.public_key().spki_der();
        let verified = match key.public_key().algorithm() {
            KeyAlgorithm::Ed25519 => {
                UnparsedPublicKey::new(&ED25519, &spki[12..]).verify(b"message", &signature)
            }
            _ => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &spki[26..])
                .verify(b"message", &signature),
        };
        assert!(verified.is_ok());
    }
}

#[test]
fn openssl_and_gnutls_read_our_keys() {
    let desk = Desk::new();
    for key in both() {
        desk.put("our.key", key.to_pkcs8_pem().as_bytes());
        desk.openssl(&[
            "pkey", "-in", "our.key", "-pubout", "-outform", "DER", "-out", "our.pub",
        ]);
        assert_eq!(desk.read("our.pub"), key.public_key().spki_der());
        let said = desk.run("certtool", &["--key-info", "--infile", "our.key"], &[]);
        assert!(said.is_ok(), "{said:?}");
    }
}

#[test]
fn keys_of_openssl_are_read_when_their_kind_is_ours() {
    let desk = Desk::new();
    let made = |arguments: &[&str]| {
        desk.openssl(&[&["genpkey", "-out", "its.key", "-algorithm"], arguments].concat());
        PrivateKey::from_pkcs8_pem(&String::from_utf8(desk.read("its.key")).unwrap())
    };
    let kind = |key: Result<PrivateKey, _>| key.map(|key| key.public_key().algorithm());
    let ec = |curve| kind(made(&["EC", "-pkeyopt", curve]));
    assert_eq!(ec("ec_paramgen_curve:P-256"), Ok(KeyAlgorithm::EcdsaP256));
    assert_eq!(kind(made(&["ED25519"])), Ok(KeyAlgorithm::Ed25519));
    assert_eq!(ec("ec_paramgen_curve:P-384"), Ok(KeyAlgorithm::EcdsaP384));
    assert_eq!(ec("ec_paramgen_curve:P-521"), Err(InvalidPrivateKey::Kind));
    assert_eq!(kind(made(&["RSA"])), Ok(KeyAlgorithm::Rsa2048));
    let odd = ["RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
    assert_eq!(kind(made(&odd)), Err(InvalidPrivateKey::Kind));
    let locked = ["RSA", "-aes256", "-pass", "pass:x"];
    assert_eq!(kind(made(&locked)), Err(InvalidPrivateKey::Pem));
}

#[test]
fn what_is_no_key_is_refused() {
    let pem = p256().to_pkcs8_pem();
    let sec1 = pem.replace("PRIVATE KEY", "EC PRIVATE KEY");
    for text in ["", "hello", &pem[..pem.len() / 2], &sec1] {
        let refusal = PrivateKey::from_pkcs8_pem(text).map(|_| ());
        assert_eq!(refusal, Err(InvalidPrivateKey::Pem), "{text}");
    }
}

#[test]
fn an_rsa_key_is_made() {
    let key = RingCrypto.generate_key(KeyAlgorithm::Rsa2048).unwrap();
    assert_eq!(key.public_key().algorithm(), KeyAlgorithm::Rsa2048);
    let again = PrivateKey::from_pkcs8_pem(&key.to_pkcs8_pem()).unwrap();
    assert_eq!(again.public_key(), key.public_key());
    let other = RingCrypto.generate_key(KeyAlgorithm::Rsa2048).unwrap();
    assert_ne!(other.public_key(), key.public_key());
}

#[test]
fn a_key_with_another_public_half_is_refused() {
    let (one, other) = (p256(), p256());
    let point = |key: &PrivateKey| key.public_key().spki_der()[26..].to_vec();
    let der = one.pkcs8_der();
    let at = der.len() - point(&one).len();
    assert_eq!(der[at..], point(&one));
    let mixed = [&der[..at], &point(&other)].concat();
    let refusal = PrivateKey::from_pkcs8_der(&mixed).map(|_| ());
    assert_eq!(refusal, Err(InvalidPrivateKey::Kind));
}

#[test]
fn debug_shows_the_public_half_alone() {
    for key in both() {
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("PrivateKey(of {:?})", key.public_key()));
        let hex = data_encoding::HEXLOWER.encode(key.pkcs8_der());
        // No run of octets of the key's encoding is in it.
        for octets in hex.as_bytes().chunks(8) {
            assert!(!shown.contains(std::str::from_utf8(octets).unwrap()));
        }
    }
}

#[test]
fn the_encoding_is_wiped_after_use() {
    fn wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
    wiped(&p256().to_pkcs8_pem());
}

#[test]
fn kinds_of_key_have_names() {
    let names = [
        "ECDSA-P256",
        "ECDSA-P384",
        "Ed25519",
        "RSA-2048",
        "RSA-3072",
        "RSA-4096",
    ];
    for name in names {
        let algorithm: KeyAlgorithm = name.parse().unwrap();
        assert_eq!(algorithm.to_string(), name);
        assert_eq!(
            name.to_lowercase().parse::<KeyAlgorithm>().unwrap(),
            algorithm
        );
        let json = serde_json::to_string(&algorithm).unwrap();
        assert_eq!(json, format!("\"{name}\""));
        assert_eq!(algorithm.is_rsa(), name.starts_with("RSA"));
    }
    assert!("RSA-1024".parse::<KeyAlgorithm>().is_err());
}

proptest! {
    #[test]
    fn garbage_is_no_key(garbage: Vec<u8>, text in "(?s).{0,80}") {
        prop_assert!(PrivateKey::from_pkcs8_der(&garbage).is_err());
        prop_assert!(PrivateKey::from_pkcs8_pem(&text).is_err());
    }
}
