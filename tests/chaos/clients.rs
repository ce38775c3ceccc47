//! Those who ask for certificates, and ask again until they are answered.

use super::{
    dice::Dice,
    fleet::{Fleet, Place, named},
    ledger::Ledger,
    moment::{Heard, Who},
};
use crate::cli::home::Api;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc::UnboundedSender,
    task::JoinSet,
    time::{Interval, interval},
};

/// Clients that send work at the same time.
const CLIENTS: u64 = 3;
/// Certificates made in the end; other work renews them.
const CERTIFICATES: usize = 32;
/// Certificates made before the first death.
const FIRST: usize = 6;

pub struct Clients {
    shared: Arc<Shared>,
    running: JoinSet<()>,
}

struct Shared {
    ledger: Mutex<Ledger>,
    /// Certificates begun, and how many may be.
    begun: AtomicUsize,
    wanted: AtomicUsize,
    enough: AtomicBool,
    /// How often each certificate was asked to be renewed.
    renewed: Mutex<BTreeMap<usize, u32>>,
    ears: UnboundedSender<Heard>,
    /// Bodies of the targets of each certificate.
    targets: Vec<Vec<Value>>,
}

impl Clients {
    /// They begin.
    pub fn start(fleet: &Fleet, seed: u64) -> Self {
        let target = |place: Place| {
            let (kind, config) = fleet.target(place);
            let id = place.to_string();
            json!({
                "id": id, "name": id, "type": kind, "agent_id": fleet.agents[place.agent],
                "config": config,
            })
        };
        let of = |n| Place::all(n).into_iter().map(target).collect();
        let shared = Arc::new(Shared {
            ledger: Mutex::default(),
            begun: AtomicUsize::new(0),
            wanted: AtomicUsize::new(FIRST),
            enough: AtomicBool::new(false),
            renewed: Mutex::default(),
            ears: fleet.ears(),
            targets: (0..CERTIFICATES).map(of).collect(),
        });
        let mut running = JoinSet::new();
        for n in 1..=CLIENTS {
            let (shared, api) = (shared.clone(), fleet.home.api());
            running.spawn(async move { shared.work(&api, Dice(seed.wrapping_add(n))).await });
        }
        Self { shared, running }
    }

    /// What they were answered so far.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger.lock().unwrap().clone()
    }

    /// So much of the campaign is over, from 0 to 1: that part of the certificates is wanted.
    pub fn go_on(&self, part: f64) {
        let wanted = (CERTIFICATES as f64 * part) as usize;
        self.shared.wanted.fetch_max(wanted, Ordering::SeqCst);
    }

    /// The end of one of them, which should not be.
    pub async fn failed(&mut self) {
        let ended = self.running.join_next().await.expect("clients");
        ended.unwrap();
        panic!("a client has stopped");
    }

    /// Ends them, each after the answer that it waits for.
    pub async fn stop(mut self) -> Ledger {
        self.shared.enough.store(true, Ordering::SeqCst);
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap();
        }
        self.ledger()
    }
}

impl Shared {
    async fn work(&self, api: &Api, mut dice: Dice) {
        while !self.enough.load(Ordering::SeqCst) {
            let made: Vec<usize> = {
                let ledger = self.ledger.lock().unwrap();
                ledger.certificates.iter().copied().collect()
            };
            let next = || {
                let wanted = self.wanted.load(Ordering::SeqCst);
                let order = Ordering::SeqCst;
                let more = |begun| (begun < wanted).then_some(begun + 1);
                self.begun.fetch_update(order, order, more).ok()
            };
            let create = made.is_empty() || dice.roll(4) == 0;
            match create.then(next).flatten() {
                Some(number) => self.make(api, number).await,
                None if made.is_empty() => tokio::task::yield_now().await,
                None if dice.roll(4) == 0 => {
                    let wish = json!({"dry_run": dice.roll(3) == 0});
                    self.deploy(api, dice.pick(&made), wish).await;
                }
                None => {
                    let one = [dice.pick(&made), dice.pick(&made), dice.pick(&made)];
                    self.renew(api, self.seldom(one)).await;
                }
            }
        }
    }

    async fn make(&self, api: &Api, number: usize) {
        for target in &self.targets[number] {
            self.post(api, "/api/v1/targets", target).await;
            let id = target["id"].as_str().unwrap().to_owned();
            self.acknowledged(|ledger| ledger.targets.insert(id));
        }
        let ids: Vec<&Value> = self.targets[number].iter().map(|t| &t["id"]).collect();
        let id = named(number);
        let new = json!({
            "id": id, "name": id, "common_name": format!("{id}.example.org"),
            "sans": ["localhost"], "target_ids": ids,
        });
        self.post(api, "/api/v1/certificates", &new).await;
        self.acknowledged(|ledger| ledger.certificates.insert(number));
    }

    /// The one that was renewed least: each has a budget of orders, which many kills would see spent.
    fn seldom(&self, of: [usize; 3]) -> usize {
        let mut renewed = self.renewed.lock().unwrap();
        let times = |number: &usize| renewed.get(number).copied().unwrap_or(0);
        let one = of.into_iter().min_by_key(times).unwrap();
        *renewed.entry(one).or_default() += 1;
        one
    }

    async fn renew(&self, api: &Api, number: usize) {
        let path = format!("/api/v1/certificates/{}/renew", named(number));
        let answer = self.post(api, &path, &json!({})).await;
        for order in answer["order_ids"].as_array().unwrap() {
            let order = order.as_str().unwrap().to_owned();
            self.acknowledged(|ledger| ledger.orders.insert(order));
        }
    }

    async fn deploy(&self, api: &Api, number: usize, wish: Value) {
        let path = format!("/api/v1/certificates/{}/deploy", named(number));
        let answer = self.post(api, &path, &wish).await;
        // Nothing is to be deployed before the first version is there.
        for job in answer["jobs"].as_array().into_iter().flatten() {
            let job = job["id"].as_str().unwrap().to_owned();
            self.acknowledged(|ledger| ledger.jobs.insert(job));
        }
    }

    /// Enters what was answered; it is heard when it was not known before.
    fn acknowledged(&self, enter: impl FnOnce(&mut Ledger) -> bool) {
        if enter(&mut self.ledger.lock().unwrap()) {
            let _ = self.ears.send(Heard {
                who: Who::Clients,
                line: String::new(),
            });
        }
    }

    /// Posts until the server has done it, also by an earlier call whose answer was lost.
    async fn post(&self, api: &Api, path: &str, body: &Value) -> Value {
        let mut again = often();
        loop {
            match api.call(Method::POST, path, body).await {
                Ok((status, answer)) if status.is_success() || status == StatusCode::CONFLICT => {
                    return answer;
                }
                Ok((StatusCode::SERVICE_UNAVAILABLE, _)) | Err(_) => again.tick().await,
                Ok((status, answer)) => panic!("{path}: {status} {answer}"),
            };
        }
    }
}

/// The pace at which something is tried again.
pub fn often() -> Interval {
    interval(Duration::from_millis(20))
}
