//! Certificates as a large installation has them.

use super::progress;
use crate::{
    app::{ISSUER_LOCAL, POLICY_DEFAULT, PROFILE_DEFAULT},
    clock::{Clock, Rng, SystemClock, Time},
    crypt::{Crypto, OsRng, RingCrypto},
    domain::{
        Cause, Certificate, Chain, Current, Holder, HolderState, Order, OrderState, Plan, Version,
    },
    id::Id,
    pki::{KeyAlgorithm, San, Serial, issue},
    store::Store,
};
use anyhow::Result;
use std::{collections::BTreeMap, time::Duration};

/// Certificates made in one commit, each two documents.
const AT_ONCE: u64 = 1_000;
const HOUR: Duration = Duration::from_secs(3_600);
/// Versions end within this time.
const ENDS_WITHIN: u64 = 90 * 24;
/// Environments, the first two shared by nine of ten certificates.
const ENVIRONMENTS: [&str; 10] = [
    "production",
    "production",
    "production",
    "production",
    "production",
    "staging",
    "staging",
    "staging",
    "staging",
    "test",
];
/// Owners.
pub const OWNERS: u64 = 100;
const AGENTS: u64 = 1_000;

/// The model of all certificates.
pub struct Model {
    /// A certificate of P-256, stored for every version.
    leaf_pem: String,
    spki_sha256: String,
    chain: Chain,
    now: Time,
}

impl Model {
    pub async fn new() -> Result<Self> {
        let now = SystemClock.now();
        let key = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256)?;
        let lifetime = issue::Lifetime {
            not_before: now,
            not_after: now.plus(HOUR),
        };
        let name = "a certificate about as long as a leaf with two names";
        let leaf = issue::root(&key, name, &Serial::random(bits()), lifetime, 0).await?;
        Ok(Self {
            leaf_pem: leaf.pem(),
            spki_sha256: key.public_key().sha256(),
            chain: Chain::new(leaf.pem()),
            now,
        })
    }

    /// Puts the first `rows` certificates into a store, each with one version. `agents` hold the
    /// keys and renew them, else requesters do.
    pub async fn fill(&self, store: &Store, rows: u64, agents: bool) -> Result<()> {
        let bar = progress("fill", rows);
        let mut unit = store.unit(u128::from_be_bytes(bits()), self.now);
        unit.insert(self.chain.clone());
        unit.commit().await?;
        for first in (0..rows).step_by(usize::try_from(AT_ONCE)?) {
            let mut unit = store.unit(u128::from_be_bytes(bits()), self.now);
            for n in first..rows.min(first + AT_ONCE) {
                let (certificate, _, version) = self.certificate(n, agents);
                unit.insert(certificate);
                unit.insert(version);
            }
            unit.commit().await?;
            bar.inc(AT_ONCE);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// A certificate with its order and its version.
    pub fn certificate(&self, n: u64, agents: bool) -> (Certificate, Order, Version) {
        // Neighbours in time are neighbours in nothing else.
        let scattered = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let created_at = Time::from_micros(self.now.micros() + i64::try_from(n).unwrap_or(0));
        let new = |prefix| Id::generate(prefix, created_at, &OsRng);
        let not_after = self.now.plus(HOUR * 2 + hours(scattered % ENDS_WITHIN));
        let holder = match agents {
            true => Holder::Agent(Id::derived("agent", &(scattered % AGENTS).to_be_bytes())),
            false => Holder::Requester,
        };
        let plan = match agents {
            // After the benchmark: a server that runs on the store begins no renewals.
            true => Plan::Scheduled {
                at: not_after.plus(24 * HOUR),
            },
            false => HolderState::requester().plan,
        };
        let name = format!("service-{scattered:08x}.example.org");
        let names = vec![San::Dns(name.clone()), San::Dns(format!("www.{name}"))];
        let certificate = new("cert");
        let cause = Cause::First;
        let mut order = Order::open(
            certificate.clone(),
            holder.clone(),
            known(ISSUER_LOCAL),
            cause,
            1,
            created_at,
        );
        let version = Version {
            id: new("ver"),
            certificate: certificate.clone(),
            holder: holder.clone(),
            order: order.id.clone(),
            issuer: known(ISSUER_LOCAL),
            serial: Serial::random(bits()),
            not_before: self.now,
            not_after,
            fingerprint_sha256: data_encoding::HEXLOWER.encode(&[bits(), bits()].concat()),
            spki_sha256: self.spki_sha256.clone(),
            key_algorithm: KeyAlgorithm::EcdsaP256,
            sans: names.clone(),
            leaf_pem: self.leaf_pem.clone(),
            chain: self.chain.id.clone(),
            created_at,
        };
        order.state = OrderState::Issued {
            version: version.id.clone(),
            at: created_at,
        };
        let line = HolderState {
            current: Some(Current {
                version: version.id.clone(),
                serial: version.serial.clone(),
                not_before: version.not_before,
                not_after,
            }),
            plan,
            failure: None,
            ended_at: None,
            blocked_since: None,
        };
        let environment = ENVIRONMENTS[usize::try_from(scattered % 10).unwrap_or(0)];
        let certificate = Certificate {
            id: certificate,
            name: name.clone(),
            common_name: name,
            sans: names,
            environment: environment.to_owned(),
            owner_id: format!("owner-{}", scattered % OWNERS),
            team_id: format!("team-{}", scattered % 10),
            issuer_id: known(ISSUER_LOCAL),
            profile_id: known(PROFILE_DEFAULT),
            policy_id: known(POLICY_DEFAULT),
            targets: Vec::new(),
            tags: BTreeMap::from([("service".into(), format!("{}", scattered % 1_000))]),
            holders: BTreeMap::from([(holder, line)]),
            archived_at: None,
            revoked: None,
            created_at,
            updated_at: created_at,
        };
        (certificate, order, version)
    }

    /// A moment at which two of three orders of agents' certificates are due.
    pub fn when_most_are_due(&self) -> Time {
        self.now.plus(hours(ENDS_WITHIN * 2 / 3))
    }
}

fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3_600)
}

/// Random bits.
pub fn bits() -> [u8; 16] {
    let mut bits = [0; 16];
    OsRng.fill(&mut bits);
    bits
}

fn known(id: &str) -> Id {
    id.parse()
        .unwrap_or_else(|_| Id::derived("id", id.as_bytes()))
}
