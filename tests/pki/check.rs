//! What another CA may return instead of what was approved.

use super::support::{Ca, DAY, NOW, asking, p256, sans};
use certctl::{
    clock::Time,
    crypt::{PrivateKey, RingCrypto},
    pki::{
        Certificate, Chain, Eku,
        check::{Expected, Mismatch, returned},
    },
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::time::Duration;

const NAMES: [&str; 3] = ["www.example.test", "*.example.test", "192.0.2.1"];
const ONE_SECOND: Duration = Duration::from_secs(1);
const SUBJECT_ALT_NAME: [u64; 4] = [2, 5, 29, 17];
const BASIC_CONSTRAINTS: [u64; 4] = [2, 5, 29, 19];

fn pair(key: &PrivateKey) -> KeyPair {
    KeyPair::try_from(key.pkcs8_der()).unwrap()
}

fn read(certificate: &rcgen::Certificate) -> Certificate {
    Certificate::from_der(certificate.der()).unwrap()
}

/// Sets when a certificate is good.
fn good(params: &mut CertificateParams, from: Time, until: Time) {
    let date = |t: Time| {
        let seconds = u64::try_from(t.seconds()).unwrap();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    (params.not_before, params.not_after) = (date(from), date(until));
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    good(&mut params, NOW.minus(DAY), NOW.plus(900 * DAY));
    params
}

/// What is right: our names, for 90 days, for servers.
fn right() -> CertificateParams {
    let names = NAMES.map(ToOwned::to_owned).to_vec();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![Purpose::ServerAuth];
    good(&mut params, NOW, NOW.plus(90 * DAY));
    params
}

/// A CA of somebody else's making, and the key that it was asked to certify.
struct Foreign {
    root: Certificate,
    root_signs: Issuer<'static, KeyPair>,
    issuing: Certificate,
    signs: Issuer<'static, KeyPair>,
    key: PrivateKey,
}

impl Foreign {
    fn new() -> Self {
        let root_key = KeyPair::generate().unwrap();
        let root = read(&ca("Root").self_signed(&root_key).unwrap());
        let root_signs = Issuer::new(ca("Root"), root_key);
        let issuing_key = KeyPair::generate().unwrap();
        let issuing = read(&ca("Issuing").signed_by(&issuing_key, &root_signs).unwrap());
        let signs = Issuer::new(ca("Issuing"), issuing_key);
        let key = p256();
        Self {
            root,
            root_signs,
            issuing,
            signs,
            key,
        }
    }

    fn leaf(&self, params: &CertificateParams) -> Certificate {
        read(&params.signed_by(&pair(&self.key), &self.signs).unwrap())
    }

    fn chain(&self, params: &CertificateParams) -> Chain {
        Chain::new(self.leaf(params), vec![self.issuing.clone()])
    }

    /// What is said of a chain, with the root known.
    fn says(&self, chain: &Chain) -> Result<(), Mismatch> {
        self.says_under(chain, Some(&self.root))
    }

    fn says_under(&self, chain: &Chain, anchor: Option<&Certificate>) -> Result<(), Mismatch> {
        let expected = Expected {
            public_key: self.key.public_key(),
            sans: &sans(&NAMES),
            ekus: &[Eku::ServerAuth],
            not_after_cap: NOW.plus(90 * DAY),
            anchor,
        };
        returned(chain, &expected, NOW)
    }

    /// What is said of a leaf that is right but for one change.
    fn changed(&self, change: impl FnOnce(&mut CertificateParams)) -> Result<(), Mismatch> {
        let mut params = right();
        change(&mut params);
        self.says(&self.chain(&params))
    }

    fn names(&self, change: impl FnOnce(&mut Vec<SanType>)) -> String {
        match self.changed(|params| change(&mut params.subject_alt_names)) {
            Err(Mismatch::Names(difference)) => difference,
            other => panic!("{other:?}"),
        }
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

#[test]
fn what_was_approved_passes() {
    let foreign = Foreign::new();
    assert_eq!(foreign.changed(|_| {}), Ok(()));
    // Order, case and repetition of names mean nothing.
    let turned = foreign.changed(|params| {
        params.subject_alt_names.reverse();
        params.subject_alt_names.push(dns("WWW.Example.TEST"));
    });
    assert_eq!(turned, Ok(()));
    // Roots may be sent along, or not.
    let leaf = foreign.leaf(&right());
    let with_root = vec![foreign.issuing.clone(), foreign.root.clone()];
    assert_eq!(foreign.says(&Chain::new(leaf, with_root)), Ok(()));
    assert_eq!(foreign.says_under(&foreign.chain(&right()), None), Ok(()));
}

#[test]
fn our_own_ca_passes() {
    let ca = Ca::new(&RingCrypto, NOW);
    let key = p256();
    let asked = asking(&NAMES, key.public_key(), NOW);
    let expected = Expected {
        public_key: &asked.public_key,
        sans: &asked.sans,
        ekus: &asked.ekus,
        not_after_cap: NOW.plus(asked.lifetime),
        anchor: Some(&ca.issuing),
    };
    assert_eq!(returned(&ca.issue(&asked), &expected, NOW), Ok(()));
}

#[test]
fn another_key_is_noticed() {
    let foreign = Foreign::new();
    let stranger = KeyPair::generate().unwrap();
    let leaf = read(&right().signed_by(&stranger, &foreign.signs).unwrap());
    let chain = Chain::new(leaf, vec![foreign.issuing.clone()]);
    assert_eq!(foreign.says(&chain), Err(Mismatch::Key));
}

#[test]
fn other_names_are_noticed_and_told() {
    let foreign = Foreign::new();
    let missing = foreign.names(|names| drop(names.remove(0)));
    assert_eq!(missing, "www.example.test is missing");
    let extra = foreign.names(|names| names.push(dns("bank.test")));
    assert_eq!(extra, "bank.test was not asked for");
    let both = foreign.names(|names| names[0] = dns("www.example.test.evil.test"));
    assert_eq!(
        both,
        "www.example.test is missing, www.example.test.evil.test was not asked for"
    );
    let none = foreign.names(Vec::clear);
    assert_eq!(none.matches("is missing").count(), NAMES.len());
}

#[test]
fn a_name_of_another_kind_is_another_name() {
    let foreign = Foreign::new();
    let kinds = [
        // An address as a DNS name is no name of a server.
        dns("192.0.2.1"),
        SanType::URI("www.example.test".try_into().unwrap()),
        SanType::URI("urn:x".try_into().unwrap()),
        SanType::OtherName((
            vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3],
            "admin@corp.test".into(),
        )),
    ];
    for kind in kinds {
        let added = foreign.names(|names| names.push(kind.clone()));
        assert_eq!(added, "1 of other kinds were not asked for", "{kind:?}");
        let instead = foreign.names(|names| *names = vec![kind]);
        assert!(instead.contains("www.example.test is missing"), "{instead}");
    }
}

#[test]
fn a_wrong_time_is_noticed() {
    let foreign = Foreign::new();
    let lasting = |from, until| foreign.changed(|params| good(params, from, until));
    let end = NOW.plus(90 * DAY);
    assert_eq!(
        lasting(NOW, end.plus(ONE_SECOND)),
        Err(Mismatch::TooLong(end.plus(ONE_SECOND)))
    );
    assert_eq!(lasting(NOW, NOW.plus(ONE_SECOND)), Ok(()));
    // The other clock may be five minutes ahead.
    let skew = NOW.plus(Duration::from_secs(300));
    assert_eq!(lasting(skew, end), Ok(()));
    for (from, until) in [(NOW.minus(DAY), NOW), (skew.plus(ONE_SECOND), end)] {
        assert_eq!(lasting(from, until), Err(Mismatch::NotNow(from, until)));
    }
}

#[test]
fn a_ca_certificate_is_noticed() {
    let foreign = Foreign::new();
    let ca = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    };
    assert_eq!(foreign.changed(ca), Err(Mismatch::Ca));
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        let signs = foreign.changed(|params| params.key_usages = vec![usage]);
        assert_eq!(signs, Err(Mismatch::Ca));
    }
}

#[test]
fn other_uses_are_noticed() {
    let foreign = Foreign::new();
    let uses: [&[Purpose]; 6] = [
        &[],
        &[Purpose::ClientAuth],
        &[Purpose::ServerAuth, Purpose::ClientAuth],
        &[Purpose::ServerAuth, Purpose::CodeSigning],
        &[Purpose::Any],
        &[Purpose::ServerAuth, Purpose::Other(vec![1, 2, 3])],
    ];
    for uses in uses {
        let said = foreign.changed(|params| params.extended_key_usages = uses.to_vec());
        assert_eq!(said, Err(Mismatch::Use), "{uses:?}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_not_read() {
    let foreign = Foreign::new();
    let extended = |extensions: &[(&[u64], &[u8])]| {
        let mut params = right();
        for (oid, content) in extensions {
            let extension = CustomExtension::from_oid_content(oid, content.to_vec());
            params.custom_extensions.push(extension);
        }
        let leaf = params
            .signed_by(&pair(&foreign.key), &foreign.signs)
            .unwrap();
        Certificate::from_der(leaf.der()).map_err(|e| e.to_string())
    };
    let (leaf, ca) = ([0x30, 0], [0x30, 3, 1, 1, 0xff]);
    assert!(extended(&[(&BASIC_CONSTRAINTS, &leaf)]).is_ok_and(|c| !c.is_ca()));
    assert!(extended(&[(&BASIC_CONSTRAINTS, &ca)]).is_ok_and(|c| c.is_ca()));
    let twice = extended(&[(&BASIC_CONSTRAINTS, &leaf), (&BASIC_CONSTRAINTS, &ca)]);
    assert!(twice.unwrap_err().contains("duplicate"));
    // `right` has names already.
    assert!(extended(&[(&SUBJECT_ALT_NAME, &[0x30, 0])]).is_err());
    let broken = extended(&[(&BASIC_CONSTRAINTS, &[0x30, 3, 1, 1])]);
    assert!(broken.unwrap_err().contains("cannot be read"));
}

#[test]
fn a_broken_link_is_noticed_and_counted() {
    let (foreign, other) = (Foreign::new(), Foreign::new());
    let leaf = foreign.leaf(&right());
    let says = |issuers: &[&Certificate]| {
        let issuers = issuers.iter().map(|c| (*c).clone()).collect();
        foreign.says_under(&Chain::new(leaf.clone(), issuers), None)
    };
    let (issuing, root) = (&foreign.issuing, &foreign.root);
    assert_eq!(says(&[issuing, root]), Ok(()));
    // The same names, other keys.
    assert_eq!(
        says(&[&other.issuing, &other.root]),
        Err(Mismatch::Chain(1))
    );
    assert_eq!(says(&[issuing, &other.root]), Err(Mismatch::Chain(2)));
    assert_eq!(says(&[root, issuing]), Err(Mismatch::Chain(1)));
    assert_eq!(says(&[root]), Err(Mismatch::Chain(1)));
    assert_eq!(says(&[issuing, issuing]), Err(Mismatch::Chain(2)));
    assert_eq!(says(&[issuing, &leaf]), Err(Mismatch::Chain(2)));
}

#[test]
fn a_bad_signature_is_noticed() {
    let foreign = Foreign::new();
    let mut der = foreign.leaf(&right()).der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let forged = Certificate::from_der(&der).unwrap();
    let chain = Chain::new(forged, vec![foreign.issuing.clone()]);
    assert_eq!(foreign.says(&chain), Err(Mismatch::Chain(1)));
    // Alone under a known anchor, a leaf is held to that.
    let alone = Chain::new(foreign.leaf(&right()), Vec::new());
    let said = foreign.says_under(&alone, Some(&foreign.issuing));
    assert_eq!(said, Ok(()));
    assert!(matches!(foreign.says(&alone), Err(Mismatch::Anchor(_))));
}

#[test]
fn an_issuer_that_is_no_ca_or_not_good_now_is_noticed() {
    let foreign = Foreign::new();
    let issued_by = |params: CertificateParams| {
        let key = KeyPair::generate().unwrap();
        let issuer = read(&params.signed_by(&key, &foreign.root_signs).unwrap());
        let signs = Issuer::new(params, key);
        let leaf = read(&right().signed_by(&pair(&foreign.key), &signs).unwrap());
        foreign.says(&Chain::new(leaf, vec![issuer]))
    };
    let mut leaf = ca("Other");
    leaf.is_ca = IsCa::ExplicitNoCa;
    let mut over = ca("Other");
    good(&mut over, NOW.minus(90 * DAY), NOW.minus(ONE_SECOND));
    let mut early = ca("Other");
    good(&mut early, NOW.plus(DAY), NOW.plus(90 * DAY));
    for params in [leaf, over, early] {
        assert_eq!(issued_by(params), Err(Mismatch::Issuer(2)));
    }
    assert_eq!(issued_by(ca("Other")), Ok(()));
}

#[test]
fn a_sound_chain_of_another_ca_is_noticed() {
    let (foreign, other) = (Foreign::new(), Foreign::new());
    let leaf = right()
        .signed_by(&pair(&foreign.key), &other.signs)
        .unwrap();
    for issuers in [
        vec![other.issuing.clone()],
        vec![other.issuing.clone(), other.root.clone()],
    ] {
        let chain = Chain::new(read(&leaf), issuers);
        assert_eq!(foreign.says_under(&chain, None), Ok(()));
        assert_eq!(
            foreign.says(&chain),
            Err(Mismatch::Anchor("CN=Root".into()))
        );
    }
}
