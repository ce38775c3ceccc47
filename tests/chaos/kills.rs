//! `certctl quickstart`, killed again and again at random moments while certificates are made and
//! renewed.
//!
//! `CERTCTL_TEST_KILLS` says how often (25); `CERTCTL_TEST_SEED` repeats an earlier run's moments.

use super::ledger::{Ledger, all, deployments};
use crate::cli::{
    home::{Api, Home},
    process::{AMPLE, Process},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::{
    hash::BuildHasher,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::time::{Interval, interval, timeout};

/// Certificates made at most; other work renews them.
const CERTIFICATES: u64 = 60;
/// Clients that send work at the same time.
const CLIENTS: usize = 2;
/// Within this time all that the kills left open is done: a lease that nobody ends lasts longer.
const SETTLED_WITHIN: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_everything_comes_to_its_end() {
    let kills = number("CERTCTL_TEST_KILLS").unwrap_or(25);
    let random = std::hash::RandomState::new().hash_one(0);
    let seed = number("CERTCTL_TEST_SEED").unwrap_or(random);
    println!("CERTCTL_TEST_SEED={seed} CERTCTL_TEST_KILLS={kills}");
    let chaos = Chaos {
        home: Home::new(),
        dice: Mutex::new(seed),
        work: Mutex::default(),
    };
    for kill in 1..=kills {
        let process = Process::start(&mut chaos.home.quickstart_command());
        // One in three dies while it starts.
        let moment = if chaos.roll(3) == 0 {
            chaos.roll(500)
        } else {
            chaos.up().await;
            chaos.ledger().check(&chaos.home).await;
            chaos.roll(1000)
        };
        let clients = (0..CLIENTS).map(|_| chaos.client());
        let clients = futures_util::future::join_all(clients);
        let _ = timeout(Duration::from_millis(moment), clients).await;
        process.kill();
        let ledger = chaos.ledger();
        println!(
            "kill {kill} after {moment} ms: {} certificates, {} renewals",
            ledger.certificates.len(),
            ledger.orders.len()
        );
    }
    let _process = chaos.home.quickstart();
    let began = Instant::now();
    chaos.settled().await;
    println!("settled {:?} after the last start", began.elapsed());
    chaos.ledger().check_settled(&chaos.home).await;
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

struct Chaos {
    home: Home,
    dice: Mutex<u64>,
    work: Mutex<Work>,
}

#[derive(Default)]
struct Work {
    /// What was answered with success.
    ledger: Ledger,
    /// Certificates asked for so far.
    asked: u64,
    /// Numbers of those of which it is not known whether they were made.
    unknown: Vec<u64>,
}

impl Chaos {
    /// A number below `sides` (splitmix64).
    fn roll(&self, sides: u64) -> u64 {
        let mut state = self.dice.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap()
    }

    fn ledger(&self) -> Ledger {
        self.work().ledger.clone()
    }

    /// Waits until the server is ready.
    async fn up(&self) {
        let (api, mut again) = (self.home.api(), often());
        let ready = async {
            loop {
                match api.call(Method::GET, "/ready", &Value::Null).await {
                    Ok((StatusCode::OK, _)) => return,
                    _ => again.tick().await,
                };
            }
        };
        timeout(AMPLE, ready).await.expect("the server comes back");
    }

    /// Makes and renews certificates until it is dropped.
    async fn client(&self) {
        let (api, mut again) = (self.home.api(), often());
        loop {
            let certificates = self.ledger().certificates.len() as u64;
            let made = if certificates == 0 || self.roll(2) == 0 {
                self.make(&api).await
            } else {
                self.renew(&api, self.roll(certificates)).await
            };
            // The server does not answer yet, or is not ready for this.
            if !made {
                again.tick().await;
            }
        }
    }

    async fn make(&self, api: &Api) -> bool {
        let number = {
            let mut work = self.work();
            match work.unknown.pop() {
                Some(number) => number,
                None if work.asked < CERTIFICATES => {
                    work.asked += 1;
                    work.asked
                }
                None => return false,
            }
        };
        let unknown = Unknown(self, Some(number));
        let id = format!("chaos-{number}");
        let path = format!("/api/v1/certificates/{id}");
        match api.call(Method::GET, &path, &Value::Null).await {
            // It was made, and only the answer did not arrive.
            Ok((StatusCode::OK, _)) => {
                unknown.known();
                self.work().ledger.certificates.insert(id);
                return true;
            }
            Ok((StatusCode::NOT_FOUND, _)) => {}
            Ok((status, body)) => panic!("{id}: {status} {body}"),
            Err(_) => return false,
        }
        let new = json!({
            "id": id, "name": id, "common_name": format!("{id}.example.org"),
            "target_ids": ["tgt-local-files"],
        });
        match api.call(Method::POST, "/api/v1/certificates", &new).await {
            Ok((StatusCode::CREATED, _)) => {
                unknown.known();
                self.work().ledger.certificates.insert(id);
                true
            }
            // The target is not made yet.
            Ok((StatusCode::BAD_REQUEST, _)) | Err(_) => false,
            Ok((status, body)) => panic!("{id}: {status} {body}"),
        }
    }

    async fn renew(&self, api: &Api, which: u64) -> bool {
        let which = usize::try_from(which).unwrap();
        let id = self.ledger().certificates.into_iter().nth(which).unwrap();
        let path = format!("/api/v1/certificates/{id}/renew");
        match api.call(Method::POST, &path, &json!({})).await {
            Ok((StatusCode::ACCEPTED, body)) => {
                let orders = body["order_ids"].as_array().unwrap().iter();
                let orders = orders.map(|order| order.as_str().unwrap().to_owned());
                self.work().ledger.orders.extend(orders);
                true
            }
            Ok((status, body)) => panic!("{id}: {status} {body}"),
            Err(_) => false,
        }
    }

    /// Waits until every certificate is active and served with its newest version. What three
    /// kills in a row have met is given up for a while: that is asked for once more, as an operator
    /// would who does not want to wait.
    async fn settled(&self) {
        let (api, mut again) = (self.home.api(), often());
        let mut open = Vec::new();
        let settled = async {
            loop {
                open = open_ends(&api).await;
                if open.is_empty() {
                    return;
                }
                for id in open.iter().filter_map(given_up) {
                    println!("{id} was given up after three kills");
                    api.post(&format!("/certificates/{id}/renew"), json!({}))
                        .await;
                }
                again.tick().await;
            }
        };
        let settled = timeout(SETTLED_WITHIN, settled).await;
        assert!(settled.is_ok(), "still open: {open:#?}");
    }
}

/// The certificates that are not all well, with their deployments.
async fn open_ends(api: &Api) -> Vec<(Value, Vec<Value>)> {
    let mut open = Vec::new();
    for certificate in all(api).await {
        let targets = deployments(api, certificate["id"].as_str().unwrap()).await;
        let mut states = targets.iter().map(|t| &t["deployment"]["state"]);
        if certificate["status"] != "Active" || states.any(|s| s != "confirmed") {
            open.push((certificate, targets));
        }
    }
    open
}

/// The certificate's id, when nothing happens to it for a while.
fn given_up((certificate, targets): &(Value, Vec<Value>)) -> Option<&str> {
    let mut states = targets.iter().map(|t| &t["deployment"]["state"]);
    let idle = certificate["holders"][0]["plan"] == "scheduled";
    let failed = certificate["status"] == "Failed" || states.any(|s| s == "failed");
    (idle && failed).then(|| certificate["id"].as_str().unwrap())
}

/// A certificate asked for; of unknown fate until it is said otherwise, also when the client is
/// dropped while it waits.
struct Unknown<'a>(&'a Chaos, Option<u64>);

impl Unknown<'_> {
    fn known(mut self) {
        self.1 = None;
    }
}

impl Drop for Unknown<'_> {
    fn drop(&mut self) {
        self.0.work().unknown.extend(self.1);
    }
}

fn often() -> Interval {
    interval(Duration::from_millis(20))
}
