use super::support::{Ca, Desk, NOW, at_once, p256, request, sans};
use certctl::{
    ca::{IssueRequest, Issued, Issuer as _, LocalCa},
    crypt::{Crypto, RingCrypto},
    pki::{Csr, Eku, InvalidCsr, InvalidKey, KeyAlgorithm, csr},
};
use der::{Decode, Encode, asn1::BitString};
use proptest::prelude::*;
use x509_cert::request::CertReq;

#[test]
fn a_request_is_read_as_it_was_built() {
    let names = [
        "*.bücher.test",
        "www.example.test",
        "192.0.2.1",
        "2001:db8::1",
        "ops@example.test",
        "spiffe://example.test/a",
    ];
    for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::Ed25519] {
        let key = RingCrypto.generate_key(algorithm).unwrap();
        let pem = csr::build(key.pkcs8_der(), Some("www.example.test"), &sans(&names)).unwrap();
        let csr = Csr::from_pem(&pem).unwrap();
        assert_eq!(csr.public_key(), key.public_key());
        assert_eq!(csr.common_name(), Some("www.example.test"));
        assert_eq!(csr.sans(), sans(&names));
        assert_eq!(Csr::from_der(csr.der()).unwrap(), csr);

        let desk = Desk::new();
        desk.put("made.csr", pem);
        let shown = desk.openssl(&["req", "-in", "made.csr", "-verify", "-noout", "-text"]);
        assert!(shown.contains("DNS:*.xn--bcher-kva.test"), "{shown}");
    }
}

#[test]
fn a_request_needs_no_names() {
    let key = p256();
    let csr = Csr::from_pem(&csr::build(key.pkcs8_der(), None, &[]).unwrap()).unwrap();
    assert_eq!((csr.common_name(), csr.sans()), (None, &[][..]));
}

#[test]
fn requests_of_openssl_are_read_for_every_accepted_kind_of_key() {
    let desk = Desk::new();
    let kinds: [(&[&str], KeyAlgorithm); 5] = [
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            KeyAlgorithm::EcdsaP256,
        ),
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
            KeyAlgorithm::EcdsaP384,
        ),
        (&["-newkey", "ed25519"], KeyAlgorithm::Ed25519),
        (&["-newkey", "rsa:2048"], KeyAlgorithm::Rsa2048),
        (
            &[
                "-newkey",
                "rsa:3072",
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:digest",
            ],
            KeyAlgorithm::Rsa3072,
        ),
    ];
    for (arguments, algorithm) in kinds {
        let csr = Csr::from_der(&desk.openssl_csr(arguments)).unwrap();
        assert_eq!(csr.public_key().algorithm(), algorithm);
        assert_eq!(csr.common_name(), Some("www.example.test"));
    }
}

#[test]
fn other_kinds_of_key_are_refused_by_name() {
    let desk = Desk::new();
    let kinds: [(&[&str], &str); 7] = [
        (&["-newkey", "rsa:1024"], "RSA of 1024 bits"),
        (&["-newkey", "rsa:2047"], "RSA of 2047 bits"),
        (&["-newkey", "rsa:2056"], "RSA of 2056 bits"),
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"],
            "EC on another curve",
        ),
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
            "EC on another curve",
        ),
        (
            &[
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-pkeyopt",
                "ec_param_enc:explicit",
            ],
            "EC on another curve",
        ),
        (&["-newkey", "ed448"], "1.3.101.113"),
    ];
    for (arguments, name) in kinds {
        let refusal = Csr::from_der(&desk.openssl_csr(arguments)).unwrap_err();
        let named = InvalidCsr::Key(InvalidKey::Unsupported(name.into()));
        assert_eq!(refusal, named, "{arguments:?}");
        assert!(refusal.to_string().contains("use ECDSA P-256"));
    }
}

#[test]
fn a_key_has_one_form() {
    let spki = |algorithm| request(algorithm, &[]).public_key().spki_der().to_vec();
    let read = certctl::pki::PublicKey::from_spki_der;
    let (p256, ed25519) = (spki(KeyAlgorithm::EcdsaP256), spki(KeyAlgorithm::Ed25519));
    for good in [&p256, &ed25519] {
        assert!(read(good).is_ok());
        assert!(read(&[good, &[0][..]].concat()).is_err());
    }
    // The same key with a needless NULL after the algorithm.
    let mut with_null = ed25519.clone();
    with_null.splice(9..9, [5, 0]);
    with_null[1] += 2;
    with_null[3] += 2;
    assert_eq!(read(&with_null), Err(InvalidKey::Unreadable));
    // The same point with its second coordinate left out.
    let mut compressed = p256[..p256.len() - 32].to_vec();
    compressed[26] = 2;
    for length in [1, 24] {
        compressed[length] -= 32;
    }
    let refusal = read(&compressed).unwrap_err().to_string();
    assert!(refusal.contains("point compressed"), "{refusal}");
}

#[test]
fn an_rsa_key_that_could_not_be_one_is_refused() {
    let der = Desk::new().openssl_csr(&["-newkey", "rsa:2048"]);
    let spki = Csr::from_der(&der)
        .unwrap()
        .public_key()
        .spki_der()
        .to_vec();
    let read = certctl::pki::PublicKey::from_spki_der;
    let end = spki.len();
    assert_eq!(spki[end - 5..], [2, 3, 1, 0, 1]);
    let exponents: [[u8; 3]; 3] = [[1, 0, 2], [1, 0, 0], [0, 0, 3]];
    for exponent in exponents {
        let mut changed = spki.clone();
        changed[end - 3..].copy_from_slice(&exponent);
        assert_eq!(read(&changed), Err(InvalidKey::Unreadable), "{exponent:?}");
    }
    let mut even = spki.clone();
    even[end - 6] &= 0xfe;
    assert_eq!(read(&even), Err(InvalidKey::Unreadable));
    // A needless zero before a smaller modulus.
    let mut short = spki;
    let first = end - 5 - 256;
    short[first - 1] = 0;
    short[first] = 0x7f;
    assert!(read(&short).is_err());
}

#[test]
fn a_request_must_be_signed_by_its_own_key() {
    let [mut mine, other] = ["mine.test", "other.test"]
        .map(|name| CertReq::from_der(request(KeyAlgorithm::EcdsaP256, &[name]).der()).unwrap());
    mine.signature = other.signature.clone();
    let stolen = Csr::from_der(&mine.to_der().unwrap());
    assert_eq!(stolen, Err(InvalidCsr::Signature));

    let mut relabelled = other;
    relabelled.info.public_key = mine.info.public_key;
    let relabelled = Csr::from_der(&relabelled.to_der().unwrap());
    assert_eq!(relabelled, Err(InvalidCsr::Signature));
}

#[test]
fn a_signature_by_sha_1_does_not_count() {
    let der = Desk::new().openssl_csr(&["-newkey", "rsa:2048", "-sha1"]);
    assert_eq!(Csr::from_der(&der), Err(InvalidCsr::Signature));
}

#[test]
fn names_of_the_wrong_kind_are_refused() {
    let desk = Desk::new();
    let names = [
        "DNS:10.0.0.1",
        "DNS:a@b.test",
        "DNS:a b.test",
        "DNS:a.test.",
        "URI:a.test",
        "email:a.test",
    ];
    for name in names {
        let san = format!("subjectAltName={name}");
        let refusal = Csr::from_der(&desk.openssl_csr(&["-newkey", "ed25519", "-addext", &san]));
        assert!(
            matches!(refusal, Err(InvalidCsr::Name(_))),
            "{name}: {refusal:?}"
        );
    }
    let other = "subjectAltName=otherName:1.2.3.4;UTF8:x,DNS:a.test";
    let csr = Csr::from_der(&desk.openssl_csr(&["-newkey", "ed25519", "-addext", other])).unwrap();
    assert_eq!(csr.sans(), sans(&["a.test"]));
}

#[test]
fn a_request_for_a_ca_gets_a_leaf_with_the_approved_content() {
    let wishes = [
        "-newkey",
        "ed25519",
        "-addext",
        "basicConstraints=critical,CA:TRUE,pathlen:5",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-addext",
        "extendedKeyUsage=codeSigning,OCSPSigning",
        "-addext",
        "subjectAltName=DNS:bank.test",
        "-addext",
        "1.2.3.4=critical,ASN1:NULL",
    ];
    let csr = Csr::from_der(&Desk::new().openssl_csr(&wishes)).unwrap();
    assert_eq!(csr.sans(), sans(&["bank.test"]));
    let ca = Ca::new(&RingCrypto, NOW);
    let local = LocalCa::new(ca.issuing.clone(), ca.issuing_key.clone());
    let approved = IssueRequest {
        serial_seed: [7; 16],
        csr_der: csr.der().to_vec(),
        public_key: csr.public_key().clone(),
        common_name: None,
        sans: sans(&["www.example.test"]),
        ekus: vec![Eku::ServerAuth],
        now: NOW,
        lifetime: super::support::DAY,
    };
    let Issued::Now(chain) = at_once(local.issue(&approved)).unwrap();
    assert!(!chain.leaf().is_ca());
    assert_eq!(chain.leaf().sans(), sans(&["www.example.test"]));
    let desk = Desk::new();
    desk.put("leaf.pem", chain.leaf().pem());
    let text = desk.openssl(&["x509", "-in", "leaf.pem", "-noout", "-text"]);
    for wish in [
        "CA:TRUE",
        "Certificate Sign",
        "Code Signing",
        "OCSP Signing",
        "bank.test",
        "1.2.3.4",
    ] {
        assert!(!text.contains(wish), "{wish} is in {text}");
    }
}

#[test]
fn one_pem_block_is_a_request() {
    let pem = |label: &str, der: &[u8]| {
        let body = data_encoding::BASE64.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    let csr = request(KeyAlgorithm::EcdsaP256, &["www.example.test"]);
    let (label, older) = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST");
    let good = pem(label, csr.der());
    assert_eq!(Csr::from_pem(&good).as_ref(), Ok(&csr));
    assert_eq!(
        Csr::from_pem(&good.replace('\n', "\r\n")).as_ref(),
        Ok(&csr)
    );
    assert_eq!(
        Csr::from_pem(&format!("text before\n{good}")).as_ref(),
        Ok(&csr)
    );
    assert_eq!(Csr::from_pem(&pem(older, csr.der())).as_ref(), Ok(&csr));

    let bad = [
        String::new(),
        "hello".into(),
        pem("CERTIFICATE", csr.der()),
        format!("{good}{good}"),
        good.replace("-----END", "-----end"),
        good[..good.len() / 2].into(),
    ];
    for text in bad {
        assert!(
            matches!(Csr::from_pem(&text), Err(InvalidCsr::Pem(_))),
            "{text}"
        );
    }
    let nothing = pem(label, &[]);
    assert!(matches!(Csr::from_pem(&nothing), Err(InvalidCsr::Der(_))));
    let padded = format!("{good}{}", "\n".repeat(64 << 10));
    assert_eq!(Csr::from_pem(&padded), Err(InvalidCsr::TooLong));
    assert_eq!(
        Csr::from_der(&vec![0x30; (64 << 10) + 1]),
        Err(InvalidCsr::TooLong)
    );
}

#[test]
fn no_changed_bit_and_no_cut_is_accepted() {
    let of_rsa = Desk::new().openssl_csr(&["-newkey", "rsa:2048"]);
    let of_p256 = request(KeyAlgorithm::EcdsaP256, &["www.example.test"])
        .der()
        .to_vec();
    let of_ed25519 = request(KeyAlgorithm::Ed25519, &["www.example.test"])
        .der()
        .to_vec();
    for der in [of_rsa, of_p256, of_ed25519] {
        assert!(Csr::from_der(&der).is_ok());
        for bit in 0..der.len() * 8 {
            let mut changed = der.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Csr::from_der(&changed).is_err(), "bit {bit} of {der:x?}");
        }
        for length in 0..der.len() {
            assert!(
                Csr::from_der(&der[..length]).is_err(),
                "the first {length} octets"
            );
        }
        assert!(Csr::from_der(&[&der[..], &[0]].concat()).is_err());
    }
}

#[test]
fn a_signature_has_one_form() {
    let mut csr = CertReq::from_der(request(KeyAlgorithm::EcdsaP256, &["a.test"]).der()).unwrap();
    csr.algorithm.parameters = Some(der::Any::from_der(&[4, 1, 0]).unwrap());
    assert_eq!(
        Csr::from_der(&csr.to_der().unwrap()),
        Err(InvalidCsr::Signature)
    );
    csr.algorithm.parameters = None;
    assert!(Csr::from_der(&csr.to_der().unwrap()).is_ok());
    let longer = [csr.signature.raw_bytes(), &[0]].concat();
    csr.signature = BitString::from_bytes(&longer).unwrap();
    assert_eq!(
        Csr::from_der(&csr.to_der().unwrap()),
        Err(InvalidCsr::Signature)
    );
}

proptest! {
    #[test]
    fn garbage_is_refused(garbage: Vec<u8>, text in "(?s).{0,200}") {
        prop_assert!(Csr::from_der(&garbage).is_err());
        prop_assert!(Csr::from_pem(&text).is_err());
        let body = data_encoding::BASE64.encode(&garbage);
        let label = "CERTIFICATE REQUEST";
        let pem = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        prop_assert!(Csr::from_pem(&pem).is_err());
    }

    #[test]
    fn changed_octets_are_refused(at in 0..400_usize, with in proptest::collection::vec(any::<u8>(), 0..9)) {
        static CSR: std::sync::LazyLock<Csr> =
            std::sync::LazyLock::new(|| request(KeyAlgorithm::Ed25519, &["www.example.test"]));
        let der = CSR.der();
        let at = at % der.len();
        let until = (at + with.len()).min(der.len());
        let changed = [&der[..at], &with, &der[until..]].concat();
        prop_assume!(changed != der);
        prop_assert!(Csr::from_der(&changed).is_err());
    }
}
