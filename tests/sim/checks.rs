//! What must hold of the whole, beside what must hold of the store alone.

use super::{agents::AgentHost, network::Acknowledged};
use certctl::{
    clock::{Clock, Time},
    deploy::{Journal, Pair, Phase, TargetConfig},
    domain::{
        Agent, Certificate, Deployment, DeploymentState, Ending, Holder, Job, JobState, Order,
        OrderState, Plan, Target, Version, agent::SecretIs,
    },
    store::{
        CERT_CREATED, DEPLOYMENT_CERT, Document, Index, JOB_OPEN, Key, Loaded, Scan, Store,
        TARGET_NAME, VERSION_CERT,
    },
};
use std::{collections::BTreeSet, path::Path};

const ALL: usize = 100_000;

async fn all<T: Document>(store: &Store, index: Index) -> Vec<Loaded<T>> {
    store.scan(Scan::all(index, ALL)).await.unwrap()
}

async fn row<T: Document>(store: &Store, id: &str) -> Loaded<T> {
    let row = store.get(&id.parse().unwrap()).await.unwrap();
    row.unwrap_or_else(|| panic!("{} {id} was acknowledged and is lost", T::COLL.0))
}

/// No certificate that was ever issued has run out.
pub async fn nothing_expired(store: &Store, now: Time) {
    for certificate in all::<Certificate>(store, CERT_CREATED).await {
        for current in certificate.current() {
            let (id, end) = (&certificate.id, current.not_after);
            assert!(end > now, "{id} expired at {end} and it is {now}");
        }
    }
}

/// What was answered with success is there.
pub async fn kept(store: &Store, acknowledged: &[Acknowledged]) {
    for done in acknowledged {
        let segments: Vec<&str> = done.path.split('/').skip(3).collect();
        let text = |field: &str| done.answer[field].as_str().unwrap();
        match segments.as_slice() {
            ["certificates"] => drop(row::<Certificate>(store, text("id")).await),
            ["targets"] => drop(row::<Target>(store, text("id")).await),
            ["certificates", _, "renew"] => {
                for order in done.answer["order_ids"].as_array().unwrap() {
                    row::<Order>(store, order.as_str().unwrap()).await;
                }
            }
            ["agents", "enrol"] => drop(row::<Agent>(store, text("agent_id")).await),
            // A token is shown once and never again; that it works is seen at the enrolment.
            ["agents", "tokens"] => {}
            ["agents", id, "credential"] => {
                let agent = row::<Agent>(store, id).await;
                let hash = done.request["secret_sha256"].as_str().unwrap();
                let is = agent.secret_is(|known| known == hash);
                assert_ne!(is, SecretIs::Unknown, "{id} was promised its next secret");
            }
            ["agents", _, "jobs", _, "lease"] => {}
            ["agents", _, "jobs", job, call @ ("csr" | "report")] => {
                let token: u64 = done.request["token"].as_str().unwrap().parse().unwrap();
                let job = row::<Job>(store, job).await;
                // A report that began the job anew is seen in the job's next lease alone.
                let leased = job.lease().is_some_and(|l| l.token == token);
                assert!(!leased, "{call} was acknowledged: {job:?}");
                if *call == "csr" || done.request["outcome"] == "confirmed" {
                    let word = job.last_word.as_ref().is_some_and(|w| w.token == token);
                    let ended = word && matches!(job.state, JobState::Succeeded { .. });
                    assert!(ended, "{call} was acknowledged: {job:?}");
                }
            }
            other => panic!("no such change: {other:?}"),
        }
    }
}

/// Whatever is in place on a host that runs is whole, valid, and its key is on that host.
pub fn served(agent: &AgentHost) {
    agent.nginx.check();
    let Some(host) = agent.running.lock().unwrap().clone() else {
        return;
    };
    let (kept, now) = (host.kept(&agent.name), agent.clock.now());
    for (_, pair) in host.served() {
        kept.good(&pair, now);
    }
    for (port, pair) in agent.nginx.served() {
        // One that was made by hand is not of the agent's keeping.
        if pair.chain().certificates().count() == 1 {
            let there = agent.volume.holds(pair.key().to_pkcs8_pem().as_bytes());
            assert!(there, "{}: the key served at {port} is gone", agent.name);
        } else {
            kept.good(&pair, now);
        }
    }
    kept.links(now);
}

/// With no job open, each nginx serves what the last attempt at a deployment said.
pub async fn told(store: &Store, agents: &[std::sync::Arc<AgentHost>]) {
    let deployments = all::<Deployment>(store, DEPLOYMENT_CERT).await;
    for target in all::<Target>(store, TARGET_NAME).await {
        let Ok(TargetConfig::Nginx(config)) = TargetConfig::parse(&target.kind, &target.config)
        else {
            continue;
        };
        let of_this = deployments.iter().filter(|d| d.target == target.id);
        let attempts = of_this.filter_map(|d| d.last.as_ref());
        let Some(last) = attempts.max_by_key(|attempt| attempt.ended_at) else {
            continue;
        };
        let said = match last.ending {
            Ending::Changed | Ending::Unchanged => &last.new,
            Ending::RolledBack => &last.old,
            _ => continue,
        };
        let name = row::<Agent>(store, target.agent.as_str())
            .await
            .name
            .clone();
        let host = agents.iter().find(|a| a.name == name).unwrap();
        let Some(pair) = host.nginx.now(config.endpoints[0].port) else {
            continue;
        };
        let said = said.as_ref().map(|leaf| leaf.fingerprint_sha256.as_str());
        let served = pair.chain().leaf().fingerprint_sha256();
        assert_eq!(said, Some(served), "{}: {last:?}", target.id);
    }
}

/// Whether no job is open.
pub async fn idle(store: &Store) -> bool {
    all::<Job>(store, JOB_OPEN).await.is_empty()
}

/// Whether all is done: no order, job or deployment is open, and every target serves its
/// agent's current version and says so in its journal.
pub async fn settled(store: &Store, agents: &[std::sync::Arc<AgentHost>]) -> Result<(), String> {
    if let Some(job) = all::<Job>(store, JOB_OPEN).await.first() {
        return Err(format!("{job:?} is open"));
    }
    for certificate in all::<Certificate>(store, CERT_CREATED).await {
        let id = &certificate.id;
        for (holder, line) in &certificate.holders {
            let Plan::Scheduled { .. } = line.plan else {
                return Err(format!("{id} at {holder}: {:?}", line.plan));
            };
            if line.current.is_none() || line.failure.is_some() {
                return Err(format!("{id} at {holder}: {line:?}"));
            }
        }
        let of = Key::new().text(id.as_str()).bytes();
        let deployments = store
            .scan::<Deployment>(Scan::under(DEPLOYMENT_CERT, of, ALL))
            .await
            .unwrap();
        for target in &certificate.targets {
            let target = row::<Target>(store, target.as_str()).await;
            let line = &certificate.holders[&Holder::Agent(target.agent.clone())];
            let current = line.current.as_ref().unwrap();
            let deployment = deployments
                .iter()
                .find(|d| d.target == target.id && d.version == current.version)
                .unwrap();
            if !matches!(deployment.state, DeploymentState::Confirmed { .. }) {
                return Err(format!("{deployment:?}"));
            }
            let name = row::<Agent>(store, target.agent.as_str())
                .await
                .name
                .clone();
            let host = agents.iter().find(|a| a.name == name).unwrap();
            let Some(host) = host.running.lock().unwrap().clone() else {
                return Err(format!("{name} does not run"));
            };
            let journal = Journal::load(&*host.files, &host.paths, &target.id).unwrap();
            let journal = journal.expect("a journal of what was deployed");
            assert_eq!(journal.phase, Phase::Committed, "{}", target.id);
            assert_eq!(journal.version.serial, current.serial, "{}", target.id);
            let serial = current.serial.to_string();
            let in_place = match target.kind.as_str() {
                "File" => {
                    let to = host.files.read_link(&host.paths.link(id)).unwrap();
                    to.is_some_and(|to| to.ends_with(Path::new(&serial)))
                }
                "NGINX" => {
                    let of_this = |(_, pair): &(u16, Pair)| pair.version().certificate == *id;
                    let mut pairs: Vec<_> = host.nginx.served();
                    pairs.retain(of_this);
                    let current = |(_, pair): &(u16, Pair)| pair.version().serial == current.serial;
                    !pairs.is_empty() && pairs.iter().all(current)
                }
                _ => host
                    .served()
                    .iter()
                    .any(|(t, pair)| *t == target.id && pair.version().serial == current.serial),
            };
            if !in_place {
                return Err(format!("{serial} is not in place at {}", target.id));
            }
        }
    }
    Ok(())
}

/// A host keeps what it serves and would go back to, with the keys of it, and nothing else.
pub fn tidy(agent: &AgentHost) {
    let host = agent.running.lock().unwrap().clone().expect("it runs");
    host.kept(&agent.name).tidy(agent.volume.paths());
}

/// How many versions each certificate has had at each holder.
pub async fn versions(store: &Store) -> Vec<(String, usize)> {
    let mut counts = Vec::new();
    for certificate in all::<Certificate>(store, CERT_CREATED).await {
        let of = Key::new().text(certificate.id.as_str()).bytes();
        let versions = store
            .scan::<Version>(Scan::under(VERSION_CERT, of, ALL))
            .await
            .unwrap();
        let serials: BTreeSet<String> = versions.iter().map(|v| v.serial.to_string()).collect();
        assert_eq!(serials.len(), versions.len(), "a serial number came twice");
        for version in &versions {
            let order = row::<Order>(store, version.order.as_str()).await;
            assert!(
                matches!(&order.state, OrderState::Issued { version: v, .. } if *v == version.id)
            );
        }
        for holder in certificate.holders.keys() {
            let held = versions.iter().filter(|v| v.holder == *holder).count();
            counts.push((format!("{} {holder}", certificate.id), held));
        }
    }
    counts
}
