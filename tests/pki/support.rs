//! A CA for these tests, and the judges.

use certctl::{
    ca::{IssueRequest, Issued, Issuer, LocalCa, local},
    clock::{Rng, Time},
    crypt::{Crypto, InvalidPrivateKey, OsRng, PrivateKey, RingCrypto},
    pki::{Certificate, Chain, Csr, Eku, KeyAlgorithm, PublicKey, San, csr},
};
use futures_util::FutureExt;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

/// The moment at which most tests play: 2027-01-15T08:00:00Z.
pub const NOW: Time = Time::from_seconds(1_800_000_000);
pub const DAY: Duration = Duration::from_secs(86_400);

/// The value of a future that waits for nothing, as signing with a key in memory.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the future waits")
}

pub fn random() -> [u8; 16] {
    let mut bits = [0; 16];
    OsRng.fill(&mut bits);
    bits
}

pub fn p256() -> PrivateKey {
    RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap()
}

pub fn sans(names: &[&str]) -> Vec<San> {
    names.iter().map(|n| n.parse().unwrap()).collect()
}

/// A request for these names by a new key of this kind.
pub fn request(algorithm: KeyAlgorithm, names: &[&str]) -> Csr {
    let key = RingCrypto.generate_key(algorithm).unwrap();
    let pem = csr::build(key.pkcs8_der(), None, &sans(names)).unwrap();
    Csr::from_pem(&pem).unwrap()
}

/// A whole local CA: a root, and the issuing CA below it.
pub struct Ca {
    pub root: Certificate,
    pub root_key: PrivateKey,
    pub issuing: Certificate,
    pub issuing_key: Arc<PrivateKey>,
    local: LocalCa,
}

impl Ca {
    pub fn new(crypto: &dyn Crypto, now: Time) -> Self {
        let made = local::create_hierarchy(crypto, [random(), random()], now);
        let (root, issuing) = at_once(made).unwrap();
        let issuing_key = Arc::new(issuing.key);
        Self {
            local: LocalCa::new(issuing.certificate.clone(), issuing_key.clone()),
            root: root.certificate,
            root_key: root.key,
            issuing: issuing.certificate,
            issuing_key,
        }
    }

    pub fn issue(&self, request: &IssueRequest) -> Chain {
        let Issued::Now(chain) = at_once(self.local.issue(request)).unwrap();
        chain
    }

    /// The root last, as verifiers are given it.
    pub fn leaf(&self, names: &[&str], key: &PublicKey, now: Time) -> Chain {
        self.issue(&asking(names, key, now))
    }
}

/// A server certificate of 90 days whose common name is the first name.
pub fn asking(names: &[&str], key: &PublicKey, now: Time) -> IssueRequest {
    IssueRequest {
        serial_seed: random(),
        csr_der: Vec::new(),
        public_key: key.clone(),
        common_name: names.first().map(|n| (*n).to_owned()),
        sans: sans(names),
        ekus: vec![Eku::ServerAuth],
        now,
        lifetime: 90 * DAY,
    }
}

/// Makes Ed25519 keys whatever it is asked for, as the simulation does.
pub struct Ed25519Only;

impl Crypto for Ed25519Only {
    fn generate_key(&self, _: KeyAlgorithm) -> Result<PrivateKey, InvalidPrivateKey> {
        RingCrypto.generate_key(KeyAlgorithm::Ed25519)
    }
}

/// Files for the tools, in a directory that goes away.
pub struct Desk(tempfile::TempDir);

impl Desk {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }

    /// Runs a tool here: its output, or what it says when it refuses.
    pub fn run(&self, tool: &str, arguments: &[&str], input: &[u8]) -> Result<String, String> {
        let mut child = Command::new(tool)
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{tool} is needed (see tests/pki/mod.rs): {e}"));
        // A tool that reads nothing may be gone already.
        child.stdin.take().unwrap().write_all(input).ok();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            Ok(said)
        } else {
            Err(said + &complaint)
        }
    }

    pub fn openssl(&self, arguments: &[&str]) -> String {
        self.run("openssl", arguments, &[])
            .unwrap_or_else(|e| panic!("openssl {arguments:?}: {e}"))
    }

    /// A request made by openssl, with the options given.
    pub fn openssl_csr(&self, arguments: &[&str]) -> Vec<u8> {
        let fixed = ["req", "-new", "-nodes", "-keyout", "made.key", "-outform"];
        let rest = ["DER", "-out", "made.csr", "-subj", "/CN=www.example.test"];
        self.openssl(&[&fixed[..], &rest, arguments].concat());
        self.read("made.csr")
    }

    /// What `openssl verify -x509_strict` says to a chain under a root.
    pub fn openssl_verify(
        &self,
        chain: &Chain,
        root: &Certificate,
        at: Time,
    ) -> Result<String, String> {
        self.put("root.pem", root.pem());
        self.put("issuers.pem", chain.chain_pem());
        self.put("leaf.pem", chain.leaf().pem());
        let at = at.seconds().to_string();
        let judged = [
            "verify",
            "-x509_strict",
            "-check_ss_sig",
            "-no-CApath",
            "-no-CAstore",
        ];
        let purpose = ["-purpose", "sslserver", "-attime", &at];
        let files = [
            "-CAfile",
            "root.pem",
            "-untrusted",
            "issuers.pem",
            "leaf.pem",
        ];
        self.run("openssl", &[&judged[..], &purpose, &files].concat(), &[])
    }
}

/// What webpki, which clients of rustls use, says to a chain under a root.
pub fn webpki(chain: &Chain, root: &Certificate, name: &str, at: Time) -> Result<(), String> {
    let der = |c: &Certificate| CertificateDer::from(c.der().to_vec());
    let mut roots = RootCertStore::empty();
    roots.add(der(root)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let issuers: Vec<_> = chain.issuers().map(der).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let seconds = u64::try_from(at.seconds()).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    verifier
        .verify_server_cert(&der(chain.leaf()), &issuers, &name, &[], at)
        .map(|_| ())
        .map_err(|e| e.to_string())
}
