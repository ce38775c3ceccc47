use super::support::{
    Ca, DAY, Desk, Ed25519Only, NOW, asking, at_once, p256, random, request, sans, webpki,
};
use certctl::{
    ca::{IssueErrorClass, Issuer as _, LocalCa, local::BACKDATED},
    clock::Time,
    crypt::{PrivateKey, RingCrypto},
    pki::{
        Certificate, Csr, Eku, KeyAlgorithm, PublicKey, Serial, Signer as _,
        issue::{self, Authority, IssueError, Leaf, Lifetime},
    },
};
use der::{Decode, Encode, asn1::BitString};
use proptest::prelude::*;
use std::sync::LazyLock;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate, X509Version};

const NAMES: [&str; 4] = [
    "www.example.test",
    "*.example.test",
    "192.0.2.1",
    "2001:db8::1",
];

static CA: LazyLock<Ca> = LazyLock::new(|| Ca::new(&RingCrypto, NOW));

fn by(ca: &Ca) -> Authority<'_> {
    Authority {
        certificate: &ca.issuing,
        signer: &*ca.issuing_key,
    }
}

fn lifetime(from: Time, until: Time) -> Lifetime {
    Lifetime {
        not_before: from,
        not_after: until,
    }
}

/// A leaf with these names and otherwise plain content.
fn leaf(
    by: Authority<'_>,
    common_name: Option<&str>,
    names: &[&str],
) -> Result<Certificate, IssueError> {
    at_once(issue::leaf(
        by,
        &Leaf {
            serial: &Serial::random(random()),
            common_name,
            sans: &sans(names),
            public_key: p256().public_key(),
            lifetime: lifetime(NOW, NOW.plus(DAY)),
            ekus: &[Eku::ServerAuth],
            pointers: None,
        },
    ))
}

fn text(certificate: &Certificate) -> String {
    let desk = Desk::new();
    desk.put("c.pem", certificate.pem());
    desk.openssl(&[
        "x509", "-in", "c.pem", "-noout", "-text", "-nameopt", "RFC2253",
    ])
}

#[test]
fn a_leaf_has_the_fields_of_rfc_5280() {
    let asked = asking(&NAMES, p256().public_key(), NOW);
    let chain = CA.issue(&asked);
    let leaf = chain.leaf();
    let (_, parsed) = X509Certificate::from_der(leaf.der()).unwrap();

    assert_eq!(parsed.version(), X509Version::V3);
    assert_eq!(*leaf.serial(), Serial::random(asked.serial_seed));
    assert_eq!(
        parsed.issuer().as_raw(),
        X509Certificate::from_der(CA.issuing.der())
            .unwrap()
            .1
            .subject()
            .as_raw()
    );
    assert_eq!(leaf.subject(), "CN=www.example.test");
    assert_eq!(leaf.public_key(), &asked.public_key);
    assert_eq!(leaf.sans(), sans(&NAMES));
    assert_eq!(leaf.not_before(), NOW.minus(BACKDATED));
    assert_eq!(leaf.not_after(), NOW.plus(90 * DAY));
    assert_eq!(parsed.signature_algorithm, parsed.tbs_certificate.signature);
    assert_eq!(
        parsed.signature_algorithm.algorithm.to_id_string(),
        "1.2.840.10045.4.3.2"
    );
    assert!(parsed.signature_algorithm.parameters.is_none());
    assert!(leaf.is_issued_by(&CA.issuing));

    let extensions: Vec<_> = parsed
        .extensions()
        .iter()
        .map(|e| (e.oid.to_id_string(), e.critical))
        .collect();
    let expected = [
        ("2.5.29.19", true),
        ("2.5.29.15", true),
        ("2.5.29.37", false),
        ("2.5.29.17", false),
        ("2.5.29.14", false),
        ("2.5.29.35", false),
    ];
    assert_eq!(
        extensions,
        expected.map(|(oid, critical)| (oid.to_owned(), critical))
    );

    let constraints = parsed.basic_constraints().unwrap().unwrap().value;
    assert_eq!(
        (constraints.ca, constraints.path_len_constraint),
        (false, None)
    );
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth && !usage.any && usage.other.is_empty());
}

#[test]
fn key_identifiers_join_a_leaf_to_its_ca() {
    fn identifiers(c: &Certificate) -> (Vec<u8>, Vec<u8>) {
        let (_, parsed) = X509Certificate::from_der(c.der()).unwrap();
        let mut found = (Vec::new(), Vec::new());
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => found.0 = id.0.to_vec(),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    assert!(
                        id.authority_cert_issuer.is_none() && id.authority_cert_serial.is_none()
                    );
                    found.1 = id.key_identifier.as_ref().unwrap().0.to_vec();
                }
                _ => {}
            }
        }
        found
    }
    let chain = CA.leaf(&NAMES, p256().public_key(), NOW);
    let [root, issuing, leaf] = [&CA.root, &CA.issuing, chain.leaf()].map(identifiers);
    assert_eq!(root.1, root.0);
    assert_eq!(issuing.1, root.0);
    assert_eq!(leaf.1, issuing.0);
    assert_eq!([root.0.len(), issuing.0.len(), leaf.0.len()], [20; 3]);
    assert!(root.0 != issuing.0 && issuing.0 != leaf.0);
}

#[test]
fn the_key_decides_on_the_key_usage() {
    let rsa = Csr::from_der(&Desk::new().openssl_csr(&["-newkey", "rsa:2048"])).unwrap();
    let p384 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
    let p384 = Csr::from_der(&Desk::new().openssl_csr(&p384)).unwrap();
    let usage = |key: &PublicKey| {
        let chain = CA.leaf(&NAMES, key, NOW);
        assert_eq!(
            Desk::new().openssl_verify(&chain, &CA.root, NOW),
            Ok("leaf.pem: OK\n".into())
        );
        assert_eq!(webpki(&chain, &CA.root, NAMES[0], NOW), Ok(()));
        let (_, parsed) = X509Certificate::from_der(chain.leaf().der()).unwrap();
        parsed.key_usage().unwrap().unwrap().value.to_string()
    };
    assert_eq!(
        usage(rsa.public_key()),
        "Digital Signature, Key Encipherment"
    );
    for csr in [
        request(KeyAlgorithm::EcdsaP256, &[]),
        request(KeyAlgorithm::Ed25519, &[]),
        p384,
    ] {
        assert_eq!(usage(csr.public_key()), "Digital Signature");
    }
}

#[test]
fn a_ca_with_an_ed25519_key_signs_with_it() {
    let ca = Ca::new(&Ed25519Only, NOW);
    let chain = ca.leaf(&NAMES, p256().public_key(), NOW);
    assert!(text(chain.leaf()).contains("Signature Algorithm: ED25519"));
    assert_eq!(
        Desk::new().openssl_verify(&chain, &ca.root, NOW),
        Ok("leaf.pem: OK\n".into())
    );
    assert_eq!(webpki(&chain, &ca.root, NAMES[0], NOW), Ok(()));
}

#[test]
fn the_names_are_critical_exactly_where_the_subject_is_empty() {
    let too_long = format!("{}.test", "a.".repeat(40).trim_end_matches('.'));
    let (long, just) = ("l".repeat(65), "l".repeat(64));
    let cases = [
        (Some("www.example.test"), "CN=www.example.test"),
        (Some(just.as_str()), &format!("CN={just}")),
        (None, ""),
        (Some(""), ""),
        // Longer than a common name may be: RFC 5280, appendix A.1.
        (Some(&long), ""),
        (Some(&too_long), ""),
    ];
    for (common_name, subject) in cases {
        let leaf = leaf(by(&CA), common_name, &NAMES).unwrap();
        assert_eq!(leaf.subject(), subject);
        let (_, parsed) = X509Certificate::from_der(leaf.der()).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.critical, subject.is_empty());
        let chain = certctl::pki::Chain::new(leaf, vec![CA.issuing.clone()]);
        assert!(Desk::new().openssl_verify(&chain, &CA.root, NOW).is_ok());
        assert_eq!(webpki(&chain, &CA.root, "sub.example.test", NOW), Ok(()));
    }
}

#[test]
fn a_leaf_certifies_somebody() {
    let long = "l".repeat(65);
    for common_name in [None, Some(""), Some(long.as_str())] {
        assert!(matches!(
            leaf(by(&CA), common_name, &[]),
            Err(IssueError::NoName)
        ));
    }
    for common_name in ["a\0b", "a\nb"] {
        assert!(matches!(
            leaf(by(&CA), Some(common_name), &NAMES),
            Err(IssueError::Encode(_))
        ));
    }
}

#[test]
fn uses_are_those_approved_each_once() {
    let mut asked = asking(&NAMES, p256().public_key(), NOW);
    let cases: [(&[Eku], Option<&str>); 4] = [
        (&[], None),
        (&[Eku::ClientAuth], Some("TLS Web Client Authentication\n")),
        (
            &[Eku::ServerAuth, Eku::ServerAuth],
            Some("TLS Web Server Authentication\n"),
        ),
        (
            &[Eku::ClientAuth, Eku::ServerAuth],
            Some("TLS Web Server Authentication, TLS Web Client Authentication\n"),
        ),
    ];
    for (ekus, shown) in cases {
        asked.ekus = ekus.to_vec();
        let text = text(CA.issue(&asked).leaf());
        let after = text
            .split_once("Extended Key Usage: \n")
            .map(|(_, after)| after.trim_start());
        assert_eq!(after.is_some(), shown.is_some());
        assert!(
            shown.is_none_or(|shown| after.unwrap().starts_with(shown)),
            "{text}"
        );
    }
}

/// With an RSA key too, which may take keys elsewhere.
#[test]
fn openssl_takes_a_leaf_for_what_it_is_for() {
    let desk = Desk::new();
    let rsa = Csr::from_der(&desk.openssl_csr(&["-newkey", "rsa:2048"])).unwrap();
    for (eku, purpose) in [
        (Eku::TimeStamping, "Time Stamp signing : Yes"),
        (Eku::ServerAuth, "SSL server : Yes"),
    ] {
        for key in [rsa.public_key(), p256().public_key()] {
            let mut asked = asking(&NAMES, key, NOW);
            asked.ekus = vec![eku];
            desk.put("leaf.pem", CA.issue(&asked).leaf().pem());
            let told = desk.openssl(&["x509", "-in", "leaf.pem", "-noout", "-purpose"]);
            assert!(told.contains(purpose), "{told}");
        }
    }
}

#[test]
fn a_leaf_ends_with_its_ca_at_the_latest() {
    let late = CA.issuing.not_after().minus(45 * DAY);
    let chain = CA.leaf(&NAMES, p256().public_key(), late);
    assert_eq!(chain.leaf().not_after(), CA.issuing.not_after());
    // The first leaf is made with its CA: it cannot begin five minutes earlier.
    let early = CA.leaf(&NAMES, p256().public_key(), CA.issuing.not_before());
    assert_eq!(early.leaf().not_before(), CA.issuing.not_before());
}

#[test]
fn a_ca_that_ends_before_half_of_a_leaf_issues_nothing_and_says_so() {
    let local = LocalCa::new(CA.issuing.clone(), CA.issuing_key.clone());
    let end = CA.issuing.not_after();
    for now in [end.minus(44 * DAY), end, end.plus(BACKDATED), end.plus(DAY)] {
        let refusal = at_once(local.issue(&asking(&NAMES, p256().public_key(), now))).unwrap_err();
        assert_eq!(refusal.class, IssueErrorClass::NeedsOperator);
        assert!(refusal.message.contains("replace the CA"), "{refusal}");
    }
}

#[test]
fn dates_after_2049_have_four_digit_years() {
    let long = |shown: &str| {
        let until = shown.parse().unwrap();
        let serial = Serial::random(random());
        let root = issue::root(&*CA.issuing_key, "Long", &serial, lifetime(NOW, until), 0);
        let root = at_once(root).unwrap();
        assert_eq!(root.not_after().to_string(), shown);
        text(&root)
    };
    assert!(long("2049-12-31T23:59:59Z").contains("Not After : Dec 31 23:59:59 2049 GMT"));
    assert!(long("2050-01-01T00:00:00Z").contains("Not After : Jan  1 00:00:00 2050 GMT"));
    assert!(long("9999-12-31T23:59:59Z").contains("Not After : Dec 31 23:59:59 9999 GMT"));
}

#[test]
fn only_a_ca_with_its_own_key_issues() {
    let refused = |certificate: &Certificate, signer: &PrivateKey| match leaf(
        Authority {
            certificate,
            signer,
        },
        None,
        &NAMES,
    ) {
        Err(IssueError::Ca(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let key = p256();
    let leaf = CA.leaf(&NAMES, key.public_key(), NOW);
    assert_eq!(refused(leaf.leaf(), &key), "it is no CA certificate");
    assert!(refused(&CA.issuing, &key).contains("another key"));

    // A CA certificate whose key usage leaves out signing certificates.
    let pair = rcgen::KeyPair::try_from(key.pkcs8_der()).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    let lame = Certificate::from_der(params.self_signed(&pair).unwrap().der()).unwrap();
    assert!(refused(&lame, &key).contains("key usage"));
}

#[test]
fn an_imported_ca_is_pointed_to_by_the_key_identifier_it_states() {
    let key = p256();
    let pair = rcgen::KeyPair::try_from(key.pkcs8_der()).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![7; 32]);
    let root = Certificate::from_der(params.self_signed(&pair).unwrap().der()).unwrap();
    let by = Authority {
        certificate: &root,
        signer: &key,
    };
    let leaf = leaf(by, Some("www.example.test"), &NAMES).unwrap();
    assert!(text(&leaf).contains(&["07"; 32].join(":")));
}

#[test]
fn a_changed_certificate_is_not_its_issuers() {
    let chain = CA.leaf(&["www.example.test"], p256().public_key(), NOW);
    let der = chain.leaf().der();
    for bit in 0..der.len() * 8 {
        let mut changed = der.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(changed) = Certificate::from_der(&changed) {
            assert!(!changed.is_issued_by(&CA.issuing), "bit {bit} of {der:x?}");
        }
    }
    for length in 0..der.len() {
        assert!(Certificate::from_der(&der[..length]).is_err());
    }
    assert!(Certificate::from_der(&[der, &[0]].concat()).is_err());
}

#[test]
fn a_certificate_names_its_signature_algorithm_twice_alike() {
    let chain = CA.leaf(&NAMES, p256().public_key(), NOW);
    let mut changed = x509_cert::Certificate::from_der(chain.leaf().der()).unwrap();
    let signed = |certificate: &mut x509_cert::Certificate| {
        let tbs = certificate.tbs_certificate.to_der().unwrap();
        let signature = at_once(CA.issuing_key.sign(&tbs)).unwrap();
        certificate.signature = BitString::from_bytes(&signature).unwrap();
        Certificate::from_der(&certificate.to_der().unwrap()).unwrap()
    };
    assert!(signed(&mut changed).is_issued_by(&CA.issuing));
    changed.tbs_certificate.signature.oid = const_oid::db::rfc5912::ECDSA_WITH_SHA_384;
    assert!(!signed(&mut changed).is_issued_by(&CA.issuing));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_lifetime_stays_within_the_cas(start in -4000..4000_i64, length in 0..4000_i64, fraction in 0..1_000_000_i64) {
        let day = |n: i64| Time::from_seconds(NOW.seconds() + n * 86_400);
        let wish = lifetime(Time::from_micros(day(start).micros() + fraction), day(start + length));
        let serial = Serial::random(random());
        let key = p256();
        let leaf = at_once(issue::leaf(by(&CA), &Leaf {
            serial: &serial,
            common_name: None,
            sans: &sans(&NAMES),
            public_key: key.public_key(),
            lifetime: wish,
            ekus: &[Eku::ServerAuth],
            pointers: None,
        }));
        let from = wish.not_before.max(CA.issuing.not_before());
        let until = wish.not_after.min(CA.issuing.not_after());
        match leaf {
            Ok(leaf) => {
                prop_assert_eq!(leaf.not_before(), from.whole_seconds());
                prop_assert_eq!(leaf.not_after(), until);
                prop_assert!(from < until);
            }
            Err(IssueError::Lifetime { .. }) => prop_assert!(from >= until),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn garbage_is_no_certificate(garbage: Vec<u8>) {
        prop_assert!(Certificate::from_der(&garbage).is_err());
    }
}
