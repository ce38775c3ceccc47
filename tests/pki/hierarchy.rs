use super::support::{Ca, DAY, Desk, NOW, at_once, p256, random, webpki};
use certctl::{
    ca::local,
    clock::{Clock, SystemClock},
    crypt::RingCrypto,
    pki::{
        Certificate, Chain, Serial,
        issue::{self, Authority, Intermediate, IssueError, Subtrees},
    },
};
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const NAME: &str = "www.example.test";

fn path_length(certificate: &Certificate) -> Option<u32> {
    let (_, parsed) = X509Certificate::from_der(certificate.der()).unwrap();
    let constraints = parsed.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    let usage = parsed.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    assert_eq!(usage.value.to_string(), "Key Cert Sign, CRL Sign");
    constraints.value.path_len_constraint
}

/// A CA below the issuing CA, which its path length forbids, and a leaf of it.
fn one_ca_too_many(ca: &Ca) -> Chain {
    let pair = |pkcs8: &[u8]| rcgen::KeyPair::try_from(pkcs8).unwrap();
    let ca_cert = rustls_pki_types::CertificateDer::from(ca.issuing.der().to_vec());
    let issuing = rcgen::Issuer::from_ca_cert_der(&ca_cert, pair(ca.issuing_key.pkcs8_der()));
    let (issuing, extra_key) = (issuing.unwrap(), pair(p256().pkcs8_der()));
    let good = |params: &mut rcgen::CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2027, 1, 1);
        params.not_after = rcgen::date_time_ymd(2028, 1, 1);
        params.use_authority_key_identifier_extension = true;
    };
    let mut params = rcgen::CertificateParams::default();
    good(&mut params);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "one too many");
    let extra = params.signed_by(&extra_key, &issuing).unwrap();
    let extra = Certificate::from_der(extra.der()).unwrap();

    let mut leaf = rcgen::CertificateParams::new([NAME.to_owned()]).unwrap();
    good(&mut leaf);
    let by = rcgen::Issuer::new(params, extra_key);
    let leaf = leaf.signed_by(&pair(p256().pkcs8_der()), &by).unwrap();
    let leaf = Certificate::from_der(leaf.der()).unwrap();
    assert!(leaf.is_issued_by(&extra) && extra.is_issued_by(&ca.issuing));
    Chain::new(leaf, vec![extra, ca.issuing.clone()])
}

#[test]
fn a_root_lasts_ten_years_and_an_issuing_ca_five() {
    let ca = Ca::new(&RingCrypto, NOW);
    assert!(ca.root.is_self_issued() && ca.root.is_issued_by(&ca.root));
    assert!(!ca.issuing.is_self_issued() && ca.issuing.is_issued_by(&ca.root));
    assert_eq!(path_length(&ca.root), Some(1));
    assert_eq!(path_length(&ca.issuing), Some(0));
    assert_eq!(ca.root.not_after(), NOW.plus(10 * YEAR));
    assert_eq!(ca.issuing.not_after(), NOW.plus(5 * YEAR));
    for certificate in [&ca.root, &ca.issuing] {
        assert_eq!(certificate.not_before(), NOW.minus(local::WIDELY_BACKDATED));
        assert!(certificate.sans().is_empty());
    }
    assert_ne!(ca.root.public_key(), ca.issuing.public_key());
    assert_ne!(ca.root.serial(), ca.issuing.serial());
}

#[test]
fn the_system_ca_is_a_root_of_its_own() {
    let made = local::create_system_ca(&RingCrypto, random(), NOW);
    let system = at_once(made).unwrap().certificate;
    assert!(system.is_self_issued() && system.is_issued_by(&system));
    assert_eq!(path_length(&system), Some(0));
    assert_eq!(system.not_after(), NOW.plus(10 * YEAR));
}

#[test]
fn openssl_and_webpki_take_a_chain_under_its_root_alone() {
    let (ca, other) = (Ca::new(&RingCrypto, NOW), Ca::new(&RingCrypto, NOW));
    let chain = ca.leaf(&[NAME, "*.example.test"], p256().public_key(), NOW);
    let desk = Desk::new();
    let openssl = |root: &Certificate, at| desk.openssl_verify(&chain, root, at);
    assert_eq!(openssl(&ca.root, NOW), Ok("leaf.pem: OK\n".into()));
    assert_eq!(webpki(&chain, &ca.root, NAME, NOW), Ok(()));
    assert_eq!(webpki(&chain, &ca.root, "sub.example.test", NOW), Ok(()));
    // The same names and another key.
    assert_eq!(other.root.subject(), ca.root.subject());
    assert!(openssl(&other.root, NOW).is_err());
    assert!(webpki(&chain, &other.root, NAME, NOW).is_err());

    let over = chain.leaf().not_after().plus(DAY);
    assert!(openssl(&ca.root, over).unwrap_err().contains("expired"));
    assert!(
        webpki(&chain, &ca.root, NAME, over)
            .unwrap_err()
            .contains("expired")
    );
    assert!(webpki(&chain, &ca.root, "www.sub.example.test", NOW).is_err());
}

#[test]
fn gnutls_takes_a_chain() {
    // certtool judges by the machine's clock and cannot be told another time.
    let now = SystemClock.now();
    let (ca, other) = (Ca::new(&RingCrypto, now), Ca::new(&RingCrypto, now));
    let chain = ca.leaf(&[NAME, "192.0.2.1"], p256().public_key(), now);
    let desk = Desk::new();
    let certtool = |root: &Certificate, name: &str| {
        desk.put("root.pem", root.pem());
        let arguments = [
            "--verify",
            "--load-ca-certificate=root.pem",
            "--verify-profile=medium",
            "--verify-purpose=1.3.6.1.5.5.7.3.1",
            &format!("--verify-hostname={name}"),
        ];
        desk.run("certtool", &arguments, chain.fullchain_pem().as_bytes())
    };
    let said = certtool(&ca.root, NAME).unwrap();
    assert!(
        said.contains("Chain verification output: Verified."),
        "{said}"
    );
    assert!(certtool(&ca.root, "other.test").is_err());
    assert!(certtool(&other.root, NAME).is_err());
}

#[test]
fn there_is_no_room_below_an_issuing_ca() {
    let ca = Ca::new(&RingCrypto, NOW);
    let intermediate = |certificate, signer, path_length| {
        at_once(issue::intermediate(
            Authority {
                certificate,
                signer,
            },
            &Intermediate {
                public_key: p256().public_key(),
                common_name: "another CA",
                serial: &Serial::random(random()),
                lifetime: local::from(NOW, YEAR),
                path_length,
                names: &Subtrees::default(),
            },
        ))
    };
    let below_issuing = intermediate(&ca.issuing, &*ca.issuing_key, 0);
    assert!(matches!(below_issuing, Err(IssueError::Ca(reason)) if reason.contains("room")));
    assert!(matches!(
        intermediate(&ca.root, &ca.root_key, 1),
        Err(IssueError::Ca(_))
    ));
    assert!(intermediate(&ca.root, &ca.root_key, 0).is_ok());

    let chain = one_ca_too_many(&ca);
    let openssl = Desk::new()
        .openssl_verify(&chain, &ca.root, NOW)
        .unwrap_err();
    assert!(
        openssl.contains("path length constraint exceeded"),
        "{openssl}"
    );
    let webpki = webpki(&chain, &ca.root, NAME, NOW).unwrap_err();
    assert!(webpki.contains("PathLenConstraintViolated"), "{webpki}");
}

#[test]
fn an_intermediate_ends_with_its_root_at_the_latest() {
    let ca = Ca::new(&RingCrypto, NOW);
    let certificate = at_once(issue::intermediate(
        Authority {
            certificate: &ca.root,
            signer: &ca.root_key,
        },
        &Intermediate {
            public_key: p256().public_key(),
            common_name: "a long-lived CA",
            serial: &Serial::random(random()),
            lifetime: local::from(NOW, 50 * YEAR),
            path_length: 0,
            names: &Subtrees::default(),
        },
    ));
    assert_eq!(certificate.unwrap().not_after(), ca.root.not_after());
}
