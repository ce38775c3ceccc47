//! Seeing, again and again, that what was deployed is still in place and served, and telling the
//! server what is not.

use super::{
    Env,
    backoff::{Backoff, spread},
    protocol::{OBSERVATIONS_A_CALL, Observation, Observations, Served, Shown},
    server::{Refusal, Server},
};
use crate::{
    deploy::{self, Deployer},
    id::Id,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Before the first look: what starts with the machine may come up after the agent.
const FIRST: Duration = Duration::from_secs(60);
/// All is told this often, also what has not changed.
const ALL_EVERY: Duration = Duration::from_secs(3600);
/// Sentences of drift, and endpoints, of which is told.
const MOST_TOLD: usize = 32;
/// Characters of a sentence that are told.
const MAX_SENTENCE: usize = 500;

/// Looks at what is in place and served: at times, and at once where somebody asks.
#[derive(Default)]
pub struct Watcher {
    asked: Mutex<Asked>,
    wake: Notify,
}

/// What somebody waits for, and was not told yet.
#[derive(Default)]
struct Asked {
    targets: BTreeSet<Id>,
    all: bool,
    /// Targets of which what is in place is shown.
    shown: BTreeSet<Id>,
}

impl Asked {
    fn is_nothing(&self) -> bool {
        !self.all && self.targets.is_empty()
    }

    fn add(&mut self, other: Self) {
        self.targets.extend(other.targets);
        self.all |= other.all;
        self.shown.extend(other.shown);
    }
}

/// What the server knows, by target and certificate.
type Told = BTreeMap<(Id, Id), Observation>;

impl Watcher {
    /// Has a target looked at soon, and told of in any case.
    pub fn ask(&self, target: &Id) {
        self.asked().targets.insert(target.clone());
        self.wake.notify_one();
    }

    /// Has all targets looked at soon, and told of in any case.
    pub fn ask_all(&self) {
        self.asked().all = true;
        self.wake.notify_one();
    }

    /// Has a target looked at soon, and told of with what is in place there.
    pub fn show(&self, target: &Id) {
        self.asked().shown.insert(target.clone());
        self.ask(target);
    }

    /// Looks and tells until the agent is retired; returns why. News that was not taken is not kept:
    /// the next look has newer, of all that somebody waits for.
    pub async fn watch(&self, deployer: &Deployer, server: &Server, env: &Env) -> String {
        let mut told = Told::new();
        let mut backoff = Backoff::default();
        let mut round = Instant::now() + spread(FIRST.min(env.look_every), &*env.rng);
        let mut all_at = round;
        // A server that took nothing is left alone until then, whatever is asked for.
        let mut rest = Instant::now();
        loop {
            sleep_until(rest).await;
            let due = tokio::select! {
                biased;
                () = sleep_until(round) => true,
                () = self.wake.notified() => false,
            };
            let asked = std::mem::take(&mut *self.asked());
            if !due && asked.is_nothing() {
                self.asked().add(asked);
                continue;
            }
            let now = Instant::now();
            let some = (!due && !asked.all).then_some(&asked.targets);
            let found = deployer.look(some).await;
            // A target at which nothing could be seen now is shown the next time.
            let seen: BTreeSet<Id> = found.iter().map(|found| found.target.clone()).collect();
            let unseen = asked.shown.difference(&seen).cloned();
            self.asked().shown.extend(unseen);
            let found = found.into_iter().map(|found| {
                let fullchain_pem = found.fullchain.clone();
                Observation {
                    fullchain_pem: fullchain_pem.filter(|_| asked.shown.contains(&found.target)),
                    ..Observation::from(found)
                }
            });
            let every_one = asked.all || due && now >= all_at;
            let is_told = |found: &Observation| {
                every_one
                    || asked.targets.contains(&found.target_id)
                    || told.get(&key(found)) != Some(found)
            };
            let news: Vec<Observation> = found.filter(is_told).collect();
            let sent = tell(server, news, &mut told).await;
            if due {
                round = now + spread(env.look_every, &*env.rng);
            }
            match sent {
                Ok(()) => {
                    backoff = Backoff::default();
                    if every_one {
                        all_at = now + ALL_EVERY;
                    }
                }
                Err(Refusal::Retired(why)) => return why,
                Err(error) => {
                    let pause = backoff.next(&*env.rng, error.retry_after());
                    if backoff.is_news() {
                        tracing::warn!(%error, ?pause, "what was found on this host is not told yet");
                    }
                    rest = Instant::now() + pause;
                    if due {
                        round = rest;
                    }
                    self.asked().add(asked);
                    self.wake.notify_one();
                }
            }
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what was found, and remembers what the server has taken.
async fn tell(server: &Server, news: Vec<Observation>, told: &mut Told) -> Result<(), Refusal> {
    let mut news = news.into_iter().peekable();
    while news.peek().is_some() {
        let observations: Vec<_> = news.by_ref().take(OBSERVATIONS_A_CALL).collect();
        let some = Observations { observations };
        match server.observe(&some).await {
            Ok(()) => {}
            // It will not be taken the next time either.
            Err(error @ Refusal::Rejected { .. }) => {
                tracing::error!(%error, "the server does not want to know what was found here");
            }
            Err(error) => return Err(error),
        }
        told.extend(
            some.observations
                .into_iter()
                .map(|found| (key(&found), found))
                .map(|(key, found)| {
                    let fullchain_pem = None;
                    (
                        key,
                        Observation {
                            fullchain_pem,
                            ..found
                        },
                    )
                }),
        );
    }
    Ok(())
}

fn key(found: &Observation) -> (Id, Id) {
    (found.target_id.clone(), found.certificate_id.clone())
}

impl From<deploy::Observation> for Observation {
    fn from(found: deploy::Observation) -> Self {
        let served = found.served.into_iter().take(MOST_TOLD).map(|shown| {
            let mut served = Served::from(shown.seen);
            served.error = served.error.map(|error| cut(&error));
            Shown {
                served,
                chain_ok: shown.right,
            }
        });
        let drift = found.drift.iter().take(MOST_TOLD);
        Self {
            target_id: found.target,
            certificate_id: found.version.certificate,
            serial: found.version.serial.to_string(),
            drift: drift.map(|sentence| cut(sentence)).collect(),
            served: served.collect(),
            fullchain_pem: None,
        }
    }
}

fn cut(sentence: &str) -> String {
    let printable = sentence.replace(char::is_control, " ");
    printable.chars().take(MAX_SENTENCE).collect()
}
