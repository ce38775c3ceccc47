//! Revocation lists and CAs of every kind of key, as openssl, GnuTLS and pkilint see them.

use super::support::{DAY, Desk, NOW, asking, at_once, random, sans};
use certctl::{
    ca::{IssueRequest, Issued, Issuer, LocalCa},
    clock::Time,
    crypt::{Crypto, PrivateKey, RingCrypto},
    pki::{
        Certificate, Chain, KeyAlgorithm, Reason, Serial,
        crl::{self, Entry, Issue},
        issue::{self, Authority, Intermediate, Lifetime, Pointers, Subtrees},
        subordinate::{self, Unfit},
    },
};
use std::{process::Command, sync::Arc};

/// Keys as openssl makes them: (kind, arguments of genpkey).
const KINDS: [(&str, &[&str]); 5] = [
    (
        "RSA-2048",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    ),
    (
        "RSA-3072",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
    ),
    (
        "RSA-4096",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
    ),
    (
        "ECDSA-P256",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    ),
    (
        "ECDSA-P384",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    ),
];

/// A root and a CA below it whose keys are of one kind.
struct Pair {
    root: Certificate,
    issuing: Certificate,
    local: LocalCa,
}

fn key(desk: &Desk, kind: &str) -> PrivateKey {
    let arguments = KINDS.iter().find(|(k, _)| *k == kind).unwrap().1;
    desk.openssl(&[&["genpkey", "-out", "key.pem"], arguments].concat());
    let pem = String::from_utf8(desk.read("key.pem")).unwrap();
    let key = PrivateKey::import(&pem, None).unwrap();
    assert_eq!(key.public_key().algorithm().to_string(), kind);
    key
}

fn years(n: u32) -> Lifetime {
    Lifetime {
        not_before: NOW.minus(DAY),
        not_after: NOW.plus(n * 365 * DAY),
    }
}

fn pair(desk: &Desk, kind: &str) -> Pair {
    let (root_key, issuing_key) = (key(desk, kind), key(desk, kind));
    let serial = || Serial::random(random());
    let root = at_once(issue::root(&root_key, "Test root", &serial(), years(10), 1)).unwrap();
    let by = Authority {
        certificate: &root,
        signer: &root_key,
    };
    let new = Intermediate {
        public_key: issuing_key.public_key(),
        common_name: "Test issuing",
        serial: &serial(),
        lifetime: years(5),
        path_length: 0,
        names: &Subtrees::default(),
    };
    let issuing = issue::intermediate(by, &new);
    let issuing = at_once(issuing).unwrap();
    let pointers = Pointers {
        crl: "http://pki.example.org/.well-known/pki/crl/ca-1/0.crl".into(),
        certificate: "http://pki.example.org/.well-known/pki/ca/ca-1.cer".into(),
    };
    let local = LocalCa::new(issuing.clone(), Arc::new(issuing_key))
        .below(vec![root.clone()])
        .published(Some(pointers));
    Pair {
        root,
        issuing,
        local,
    }
}

fn list(ca: &LocalCa, number: u64, entries: &[Entry]) -> Vec<u8> {
    let issue = Issue {
        number,
        this_update: NOW.minus(DAY / 24),
        next_update: NOW.plus(7 * DAY),
    };
    at_once(crl::build(ca.authority(), issue, entries)).unwrap()
}

fn issued(ca: &LocalCa, request: &IssueRequest) -> Chain {
    let Issued::Now(chain) = at_once(ca.issue(request)).unwrap();
    chain
}

fn revoked(serial: &Serial, reason: Reason) -> Entry {
    Entry {
        serial: serial.clone(),
        at: NOW.minus(DAY / 24),
        reason,
    }
}

/// Names of every kind.
const NAMES: [&str; 6] = [
    "www.example.org",
    "*.example.org",
    "bücher.example.org",
    "192.0.2.7",
    "https://www.example.org/x",
    "ops@example.org",
];

#[test]
fn openssl_and_gnutls_accept_cas_leaves_and_lists_of_every_kind_of_key() {
    for (kind, _) in KINDS {
        let desk = Desk::new();
        let pair = pair(&desk, kind);
        let subscriber = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
        let good = issued(&pair.local, &asking(&NAMES, subscriber.public_key(), NOW));
        let bad = issued(&pair.local, &asking(&NAMES, subscriber.public_key(), NOW));
        let entry = revoked(bad.leaf().serial(), Reason::KeyCompromise);
        desk.put(
            "list.der",
            list(&pair.local, 7, std::slice::from_ref(&entry)),
        );
        desk.put("root.pem", pair.root.pem());
        desk.put("issuing.pem", pair.issuing.pem());
        desk.put("good.pem", good.leaf().pem());
        desk.put("bad.pem", bad.leaf().pem());
        desk.openssl(&[
            "crl", "-in", "list.der", "-inform", "DER", "-out", "list.pem",
        ]);

        let text = desk.openssl(&[
            "crl",
            "-in",
            "list.pem",
            "-noout",
            "-text",
            "-CAfile",
            "issuing.pem",
        ]);
        assert!(
            text.contains("X509v3 CRL Number: \n                7"),
            "{text}"
        );
        assert!(text.contains("Key Compromise"), "{text}");
        let at = NOW.seconds().to_string();
        let verify = |leaf: &'static str| {
            let arguments = [
                "verify",
                "-x509_strict",
                "-crl_check",
                "-attime",
                &at,
                "-CAfile",
                "root.pem",
                "-untrusted",
                "issuing.pem",
                "-CRLfile",
                "list.pem",
                leaf,
            ];
            desk.run("openssl", &arguments, &[])
        };
        verify("good.pem").unwrap_or_else(|e| panic!("{kind}: {e}"));
        let refused = verify("bad.pem").unwrap_err();
        assert!(refused.contains("certificate revoked"), "{kind}: {refused}");

        let arguments = [
            "--verify-crl",
            "--load-ca-certificate",
            "issuing.pem",
            "--infile",
            "list.pem",
        ];
        let judged = desk.run("certtool", &arguments, &[]);
        // GnuTLS knows the present only; the list may not have begun by then.
        let judged = judged.unwrap_or_else(|told| told);
        assert!(
            !judged.contains("not valid") && !judged.contains("unknown"),
            "{kind}: {judged}"
        );
        let info = desk.run("certtool", &["--crl-info", "--infile", "list.pem"], &[]);
        let info = info.unwrap();
        assert!(info.contains("Revoked certificates (1)"), "{kind}: {info}");
        let chain = [good.fullchain_pem(), pair.root.pem()].concat();
        let judged = desk.run("certtool", &["--verify-chain"], chain.as_bytes());
        let judged = judged.unwrap_or_else(|told| told);
        assert!(!judged.contains("signature is invalid"), "{kind}: {judged}");
    }
}

#[test]
fn leaves_say_where_their_list_is_only_when_told() {
    let desk = Desk::new();
    let pair = pair(&desk, "ECDSA-P256");
    let subscriber = RingCrypto.generate_key(KeyAlgorithm::Ed25519).unwrap();
    let asked = asking(&["www.example.org"], subscriber.public_key(), NOW);
    let text = |chain: &Chain| {
        desk.put("leaf.pem", chain.leaf().pem());
        desk.openssl(&["x509", "-in", "leaf.pem", "-noout", "-text"])
    };
    let told = text(&issued(&pair.local, &asked));
    for address in [
        "/pki/crl/ca-1/0.crl",
        "CA Issuers - URI:http://pki.example.org/.well-known/pki/ca/ca-1.cer",
    ] {
        assert!(told.contains(address), "{told}");
    }
    let silent = LocalCa::new(pair.issuing.clone(), Arc::new(key(&desk, "ECDSA-P256")));
    let refused = at_once(silent.issue(&asked)).unwrap_err();
    assert!(
        refused.message.contains("another key"),
        "{}",
        refused.message
    );
}

#[test]
fn every_subscribers_key_is_certified() {
    let desk = Desk::new();
    let pair = pair(&desk, "ECDSA-P384");
    desk.put("root.pem", pair.root.pem());
    let mut keys: Vec<PrivateKey> = KINDS.iter().map(|(kind, _)| key(&desk, kind)).collect();
    keys.push(RingCrypto.generate_key(KeyAlgorithm::Ed25519).unwrap());
    for key in keys {
        let chain = issued(&pair.local, &asking(&NAMES, key.public_key(), NOW));
        desk.openssl_verify(&chain, &pair.root, NOW)
            .unwrap_or_else(|e| panic!("{}: {e}", key.public_key().algorithm()));
        let again = PrivateKey::from_pkcs8_pem(&key.to_pkcs8_pem()).unwrap();
        assert_eq!(again.public_key(), chain.leaf().public_key());
        assert!(
            chain
                .leaf()
                .sans()
                .contains(&"xn--bcher-kva.example.org".parse().unwrap())
        );
        assert_eq!(chain.leaf().not_before(), NOW.minus(DAY / 288));
    }
}

#[test]
fn the_reasons_are_those_of_rfc_5280() {
    let desk = Desk::new();
    let pair = pair(&desk, "ECDSA-P256");
    let entries: Vec<Entry> = Reason::ALL
        .into_iter()
        .map(|reason| revoked(&Serial::random(random()), reason))
        .collect();
    desk.put("list.der", list(&pair.local, 1, &entries));
    let text = desk.openssl(&[
        "crl", "-in", "list.der", "-inform", "DER", "-noout", "-text",
    ]);
    for said in [
        "Key Compromise",
        "CA Compromise",
        "Affiliation Changed",
        "Superseded",
        "Cessation Of Operation",
        "Certificate Hold",
        "Privilege Withdrawn",
    ] {
        assert_eq!(text.matches(said).count(), 1, "{said}: {text}");
    }
    assert_eq!(text.matches("Serial Number:").count(), 8);
    assert!(
        !text.contains("Unspecified"),
        "it is said by saying nothing: {text}"
    );
    for word in Reason::ALL.map(Reason::as_str) {
        assert_eq!(word.parse::<Reason>().unwrap().as_str(), word);
    }
}

/// Where tests/run puts it.
fn pkilint(tool: &str) -> Command {
    Command::new(format!(
        "{}/target/python/bin/{tool}",
        env!("CARGO_MANIFEST_DIR")
    ))
}

#[test]
fn pkilint_finds_no_fault() {
    for kind in ["RSA-2048", "ECDSA-P256", "ECDSA-P384"] {
        let desk = Desk::new();
        let pair = pair(&desk, kind);
        let subscriber = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
        let leaf = issued(
            &pair.local,
            &asking(&NAMES[..1], subscriber.public_key(), NOW),
        );
        let entry = revoked(leaf.leaf().serial(), Reason::Superseded);
        let files = [
            ("lint_pkix_cert", desk.put("root.pem", pair.root.pem())),
            (
                "lint_pkix_cert",
                desk.put("issuing.pem", pair.issuing.pem()),
            ),
            ("lint_pkix_cert", desk.put("leaf.pem", leaf.leaf().pem())),
            (
                "lint_crl",
                desk.put("list.der", list(&pair.local, 1, &[entry])),
            ),
            ("lint_crl", desk.put("empty.der", list(&pair.local, 2, &[]))),
        ];
        for (tool, file) in files {
            let mut command = pkilint(tool);
            command.args(["lint", "-s", "WARNING", "-f", "TEXT"]);
            if tool == "lint_crl" {
                command.args(["-p", "PKIX", "-t", "CRL"]);
            }
            let judged = command.arg(&file).output();
            let judged = judged.unwrap_or_else(|e| panic!("{tool} is needed (tests/run): {e}"));
            let said = String::from_utf8_lossy(&judged.stdout).into_owned();
            let complaint = String::from_utf8_lossy(&judged.stderr);
            assert!(
                judged.status.success(),
                "{kind} {}: {said}{complaint}",
                file.display()
            );
        }
    }
}

#[test]
fn keys_are_read_in_every_form() {
    let desk = Desk::new();
    let read = |name: &str| String::from_utf8(desk.read(name)).unwrap();
    for (kind, arguments) in [KINDS[0], KINDS[3], KINDS[4]] {
        desk.openssl(&[&["genpkey", "-out", "plain.pem"], arguments].concat());
        let old: &[&str] = if kind.starts_with("RSA") {
            &["rsa", "-traditional"]
        } else {
            &["ec"]
        };
        desk.openssl(&[old, &["-in", "plain.pem", "-out", "old.pem"]].concat());
        let pbkdf2 = [
            "pkcs8",
            "-topk8",
            "-in",
            "plain.pem",
            "-passout",
            "pass:Geheim",
            "-out",
        ];
        desk.openssl(&[&pbkdf2[..], &["pbkdf2.pem", "-v2", "aes-256-cbc"]].concat());
        desk.openssl(&[&pbkdf2[..], &["scrypt.pem", "-scrypt"]].concat());
        let expected = PrivateKey::import(&read("plain.pem"), None).unwrap();
        let forms = [
            ("old.pem", None),
            ("pbkdf2.pem", Some("Geheim")),
            ("scrypt.pem", Some("Geheim")),
        ];
        for (form, passphrase) in forms {
            let key = PrivateKey::import(&read(form), passphrase)
                .unwrap_or_else(|e| panic!("{kind} {form}: {e}"));
            assert_eq!(key.public_key(), expected.public_key(), "{kind} {form}");
        }
        let refused = |passphrase| PrivateKey::import(&read("pbkdf2.pem"), passphrase).unwrap_err();
        assert!(refused(None).to_string().contains("passphrase"));
        assert!(refused(Some("geheim")).to_string().contains("wrong"));
    }
    for (text, says) in [
        (String::new(), "PEM"),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".into(),
            "private key",
        ),
        (read("plain.pem") + &read("plain.pem"), "one PEM block"),
        ("-----BEGIN PRIVATE KEY-----".into(), "PEM"),
        ("x".repeat(40_000), "PEM"),
    ] {
        let told = PrivateKey::import(&text, None).unwrap_err().to_string();
        assert!(told.contains(says), "{told}");
    }
}

/// A chain of openssl's making: each below the one before, with these extensions.
fn openssl_chain(desk: &Desk, extensions: &[&str]) -> (Chain, PrivateKey) {
    let mut pems: Vec<String> = Vec::new();
    for (i, extension) in extensions.iter().enumerate() {
        let (key, pem) = (format!("k{i}.pem"), format!("c{i}.pem"));
        let subject = format!("/CN=CA {i}");
        desk.openssl(&[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            &key,
        ]);
        let mut arguments = vec![
            "req", "-new", "-x509", "-key", &key, "-subj", &subject, "-out", &pem, "-days", "3650",
        ];
        let (above_key, above_pem) = (
            format!("k{}.pem", i.wrapping_sub(1)),
            format!("c{}.pem", i.wrapping_sub(1)),
        );
        if i > 0 {
            arguments.extend(["-CA", &above_pem, "-CAkey", &above_key]);
        }
        desk.put(
            "openssl.cnf",
            "[req]\ndistinguished_name=d\n[d]\n[dn]\nO=Example\n",
        );
        arguments.extend(["-config", "openssl.cnf"]);
        for part in extension.split(';') {
            arguments.extend(["-addext", part]);
        }
        desk.openssl(&arguments);
        pems.insert(0, String::from_utf8(desk.read(&pem)).unwrap());
    }
    let last = format!("k{}.pem", extensions.len() - 1);
    let key = PrivateKey::import(&String::from_utf8(desk.read(&last)).unwrap(), None).unwrap();
    (Chain::from_pem(&pems.concat()).unwrap(), key)
}

const CA: &str = "basicConstraints=critical,CA:TRUE;keyUsage=critical,keyCertSign,cRLSign";

/// The moment at which openssl makes its certificates.
fn present() -> Time {
    use certctl::clock::{Clock, SystemClock};
    SystemClock.now().plus(DAY)
}

#[test]
fn what_cannot_sign_here_is_told_apart() {
    let desk = Desk::new();
    let now = present();
    let fit = |extensions: &[&str]| {
        let (chain, key) = openssl_chain(&desk, extensions);
        subordinate::fit(&chain, key.public_key(), now)
    };
    assert_eq!(fit(&[CA]), Ok(()));
    assert_eq!(fit(&[CA, CA]), Ok(()));
    let one = "basicConstraints=critical,CA:TRUE,pathlen:1;keyUsage=critical,keyCertSign,cRLSign";
    let none = "basicConstraints=critical,CA:TRUE,pathlen:0;keyUsage=critical,keyCertSign,cRLSign";
    assert_eq!(fit(&[one, none]), Ok(()));
    assert_eq!(fit(&[none, CA]), Err(Unfit::PathLength(2, 0, 1)));
    assert_eq!(fit(&[one, CA, CA]), Err(Unfit::PathLength(3, 1, 2)));
    assert_eq!(
        fit(&[CA, "basicConstraints=critical,CA:FALSE"]),
        Err(Unfit::NoCa(1))
    );
    let no_lists = "basicConstraints=critical,CA:TRUE;keyUsage=critical,keyCertSign";
    assert_eq!(
        fit(&[CA, no_lists]),
        Err(Unfit::Usage(1, "revocation lists"))
    );
    assert_eq!(fit(&[no_lists, CA]), Ok(()));

    let (chain, key) = openssl_chain(&desk, &[CA, CA]);
    let other = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
    assert_eq!(
        subordinate::fit(&chain, other.public_key(), now),
        Err(Unfit::Key)
    );
    let late = now.plus(3_700 * DAY);
    assert!(matches!(
        subordinate::fit(&chain, key.public_key(), late),
        Err(Unfit::NotNow(1, ..))
    ));
    let (elsewhere, _) = openssl_chain(&desk, &[CA]);
    let broken = Chain::new(chain.leaf().clone(), vec![elsewhere.leaf().clone()]);
    assert_eq!(
        subordinate::fit(&broken, key.public_key(), now),
        Err(Unfit::Chain(1))
    );
}

#[test]
fn name_constraints_are_kept_as_openssl_keeps_them() {
    let desk = Desk::new();
    let constrained = format!(
        "{CA};nameConstraints=critical,permitted;DNS:example.org,permitted;IP:192.0.2.0/255.255.255.0,excluded;DNS:secret.example.org,permitted;email:.example.org"
    )
    // The list of extensions is cut at semicolons, the constraints are not.
    .replace("permitted;", "permitted\u{1}")
    .replace("excluded;", "excluded\u{1}");
    let parts: Vec<String> = constrained
        .split(';')
        .map(|p| p.replace('\u{1}', ";"))
        .collect();
    let root = openssl_with(&desk, &parts);
    let (certificate, key) = root;
    let ca = LocalCa::new(certificate.clone(), Arc::new(key));
    let subscriber = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
    let now = present();
    for (name, allowed) in [
        ("example.org", true),
        ("www.example.org", true),
        ("www.example.com", false),
        ("wwwexample.org", false),
        ("secret.example.org", false),
        ("x.secret.example.org", false),
        ("192.0.2.200", true),
        ("192.0.3.1", false),
        ("a@mail.example.org", true),
        ("a@example.org", false),
        ("https://anything.example.com/", true),
    ] {
        let mut request = asking(&[name], subscriber.public_key(), now);
        request.common_name = None;
        request.sans = sans(&[name]);
        let answer = at_once(ca.issue(&request));
        assert_eq!(answer.is_ok(), allowed, "{name}: {answer:?}");
        if let Err(e) = answer {
            assert!(e.message.contains(name), "{}", e.message);
        }
        // The judge sees the same in a leaf that is made all the same.
        let by = ca.authority();
        let leaf = at_once(issue::leaf(
            by,
            &issue::Leaf {
                serial: &Serial::random(random()),
                common_name: None,
                sans: &request.sans,
                public_key: subscriber.public_key(),
                lifetime: Lifetime {
                    not_before: now.minus(DAY),
                    not_after: now.plus(DAY),
                },
                ekus: &request.ekus,
                pointers: None,
            },
        ))
        .unwrap();
        desk.put("leaf.pem", leaf.pem());
        desk.put("ca.pem", certificate.pem());
        let judged = desk.run("openssl", &["verify", "-CAfile", "ca.pem", "leaf.pem"], &[]);
        assert_eq!(judged.is_ok(), allowed, "{name}: {judged:?}");
    }
    // A wildcard stands for an excluded name among others; the judge compares its own text alone.
    for (name, allowed) in [
        ("*.www.example.org", true),
        ("*.example.org", false),
        ("*.secret.example.org", false),
    ] {
        let mut request = asking(&[name], subscriber.public_key(), now);
        request.common_name = None;
        request.sans = sans(&[name]);
        let answer = at_once(ca.issue(&request));
        assert_eq!(answer.is_ok(), allowed, "{name}: {answer:?}");
    }
    // Our subjects have a common name: a CA that constrains subjects is not one of those it means.
    let constrained = CA
        .split(';')
        .chain(["nameConstraints=critical,permitted;dirName:dn"]);
    let constrained: Vec<_> = constrained.map(str::to_owned).collect();
    let (certificate, key) = openssl_with(&desk, &constrained);
    let ca = LocalCa::new(certificate, Arc::new(key));
    let told = at_once(ca.issue(&asking(&["a.example.org"], subscriber.public_key(), now)));
    let told = told.unwrap_err().message;
    assert!(told.contains("not understood here"), "{told}");
}

/// A self-signed CA with these extensions.
fn openssl_with(desk: &Desk, extensions: &[String]) -> (Certificate, PrivateKey) {
    let made = key(desk, "ECDSA-P256");
    let config = format!(
        "[req]\ndistinguished_name=d\nx509_extensions=e\n[d]\n[dn]\nO=Example\n[e]\n{}\n",
        extensions.join("\n")
    );
    desk.put("openssl.cnf", config);
    desk.openssl(&[
        "req",
        "-new",
        "-x509",
        "-key",
        "key.pem",
        "-subj",
        "/CN=Constrained",
        "-out",
        "ca.pem",
        "-days",
        "3650",
        "-config",
        "openssl.cnf",
    ]);
    let pem = String::from_utf8(desk.read("ca.pem")).unwrap();
    (Certificate::from_pem(&pem).unwrap(), made)
}
