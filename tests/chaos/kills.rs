//! The server and the agents, killed again and again at random moments while certificates are made,
//! renewed and deployed.
//!
//! `CERTCTL_TEST_KILLS` says how often (25); `CERTCTL_TEST_SEED` repeats an earlier run's choices.

use super::{
    clients::{Clients, often},
    dice::Dice,
    fleet::{AGENTS, Fleet},
    ledger::{all, deployments},
    moment::{Moment, Who},
};
use crate::cli::home::Api;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::{
    hash::BuildHasher,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Within this time of a start all that the kills left open is done.
const SETTLED_WITHIN: Duration = Duration::from_secs(45);
/// What is said of work that was begun three times and killed each time; no other failure may be.
const LOST: &str = "the agent took the job and was not heard of it again";

const ALL: [Who; 1 + AGENTS] = [Who::Server, Who::Agent(0), Who::Agent(1)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_everything_comes_to_its_end() {
    let kills = number("CERTCTL_TEST_KILLS").unwrap_or(25);
    let random = std::hash::RandomState::new().hash_one(0);
    let seed = number("CERTCTL_TEST_SEED").unwrap_or(random);
    println!("CERTCTL_TEST_SEED={seed} CERTCTL_TEST_KILLS={kills}");
    let began = Instant::now();
    let mut dice = Dice(seed);
    let mut fleet = Fleet::start().await;
    let mut clients = Clients::start(&fleet, seed);

    let mut victims = Vec::new();
    for kill in 1..=kills {
        // One in three dies once more while it recovers from its last death.
        let moment = match victims.first() {
            Some(who) if dice.roll(3) == 0 => Moment::in_recovery(*who, &mut dice),
            _ => Moment::drawn(&mut dice, AGENTS),
        };
        victims = match dice.roll(6) {
            0 | 1 => vec![Who::Server],
            2 | 3 => vec![Who::Agent(dice.roll(AGENTS))],
            4 => vec![Who::Server, Who::Agent(dice.roll(AGENTS))],
            _ => ALL.to_vec(),
        };
        tokio::select! {
            () = fleet.come(&moment) => {}
            () = clients.failed() => {}
        }
        fleet.kill(&victims);
        clients.go_on(kill as f64 / kills as f64);
        let ledger = clients.ledger();
        println!(
            "{:?} kill {kill} of {victims:?} at {moment:?}: {} certificates, {} renewals",
            began.elapsed(),
            ledger.certificates.len(),
            ledger.orders.len()
        );
        for who in &victims {
            match who {
                Who::Agent(n) => {
                    fleet.links(*n);
                    fleet.check_nginx(*n).await;
                }
                _ => ledger.check(&fleet.home).await,
            }
        }
        victims.iter().for_each(|who| fleet.launch(*who));
    }
    let ledger = clients.stop().await;
    // A start ends the leases of which the agent never heard: those would have to run out.
    fleet.kill(&ALL);
    ledger.check(&fleet.home).await;
    ALL.iter().for_each(|who| fleet.launch(*who));
    settled(&fleet).await;
    println!("{:?} settled", began.elapsed());
    ledger.check_settled(&fleet).await;

    // Whatever the kills have left is cleared by one more renewal.
    for certificate in all(&fleet.home.api()).await {
        renew(&fleet.home.api(), &certificate).await;
    }
    settled(&fleet).await;
    ledger.check_settled(&fleet).await;
    assert!((0..AGENTS).all(|n| fleet.links(n) > 0));
    fleet.tidy();
    println!("{:?} done", began.elapsed());
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

async fn renew(api: &Api, certificate: &Value) {
    let id = certificate["id"].as_str().unwrap();
    let path = format!("/certificates/{id}/renew");
    api.post(&path, json!({})).await;
}

/// Waits until every certificate is active and served with its newest versions. What three kills
/// in a row have met is given up for a while: that is asked for once more, as an operator would who
/// does not want to wait.
async fn settled(fleet: &Fleet) {
    let (api, mut again) = (fleet.home.api(), often());
    let mut open = Vec::new();
    let settled = async {
        while !is_ready(&api).await {
            again.tick().await;
        }
        loop {
            open = open_ends(&api).await;
            if open.is_empty() {
                return;
            }
            for (certificate, _) in open.iter().filter(|end| given_up(end)) {
                println!("{} was given up after three kills", certificate["id"]);
                renew(&api, certificate).await;
            }
            again.tick().await;
        }
    };
    let settled = timeout(SETTLED_WITHIN, settled).await;
    assert!(settled.is_ok(), "still open: {open:#?}");
}

async fn is_ready(api: &Api) -> bool {
    let answer = api.call(Method::GET, "/ready", &Value::Null).await;
    matches!(answer, Ok((StatusCode::OK, _)))
}

/// The certificates that are not all well, with their deployments.
async fn open_ends(api: &Api) -> Vec<(Value, Vec<Value>)> {
    let mut open = Vec::new();
    for certificate in all(api).await {
        let targets = deployments(api, certificate["id"].as_str().unwrap()).await;
        let errors = targets.iter().map(|t| &t["deployment"]["error"]);
        let holders = certificate["holders"].as_array().unwrap().iter();
        for error in errors.chain(holders.map(|h| &h["last_error"])) {
            assert!(
                error.is_null() || error == LOST,
                "{certificate}: {targets:#?}"
            );
        }
        let mut states = targets.iter().map(|t| &t["deployment"]["state"]);
        if certificate["status"] != "Active" || states.any(|s| s != "confirmed") {
            open.push((certificate, targets));
        }
    }
    open
}

/// Whether nothing happens to the certificate for a while.
fn given_up((certificate, targets): &(Value, Vec<Value>)) -> bool {
    let mut states = targets.iter().map(|t| &t["deployment"]["state"]);
    let mut holders = certificate["holders"].as_array().unwrap().iter();
    let idle = holders.all(|holder| holder["plan"] == "scheduled");
    idle && (certificate["status"] == "Failed" || states.any(|s| s == "failed"))
}
