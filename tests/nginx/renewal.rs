//! Renewals under load.

use super::{
    client::{Client, Connection, Cut},
    scene::{Scene, ders},
};
use crate::agent::support::*;
use async_trait::async_trait;
use certctl::{
    agent::protocol::Outcome,
    sys::{Command, Exec, ExecError, Finished, Programs, Tasks},
};
use serde_json::json;
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// The machine's programs; it is noted when a daemon is told to reload.
#[derive(Default)]
struct Noted(Mutex<Vec<Instant>>);

#[async_trait]
impl Exec for Noted {
    async fn run(&self, command: &Command) -> Result<Finished, ExecError> {
        Programs.run(command).await
    }

    fn hang_up(&self, pid_file: &Path, program: &Path) -> Result<(), ExecError> {
        self.0.lock().unwrap().push(Instant::now());
        Programs.hang_up(pid_file, program)
    }
}

/// Renews so often under `load`, by an agent; the chains in order, and when each but the first was
/// begun to be served. The load goes on until it has done `enough` after each renewal.
async fn renew_under<F: Future<Output = ()> + Send + 'static>(
    renewals: u32,
    load: impl Fn(Client, CancellationToken, Arc<AtomicUsize>) -> F,
    enough: usize,
) -> (Vec<Vec<Vec<u8>>>, Vec<Instant>, Duration) {
    let mut scene = Scene::serving().await;
    let noted = Arc::new(Noted::default());
    scene.host.exec = noted.clone();
    let agent = scene.host.start().await;
    let mut chains = vec![ders(&scene.old)];
    let (tasks, stop, done) = (Tasks::new(), CancellationToken::new(), Arc::default());
    let client = Client::new(scene.nginx.address, &chains[0]);
    for _ in 0..4 {
        tasks.spawn(
            "load",
            load(client.clone(), stop.clone(), Arc::clone(&done)),
        );
    }
    let began = Instant::now();
    more(&done, enough).await;
    for n in 0..renewals {
        let version = scene.version(2 + n);
        chains.push(ders(&version));
        let job = format!("job-{n}");
        let target = ("tgt-nginx", "NGINX", scene.nginx.target(json!({})));
        scene
            .host
            .server
            .lease(deployment(&job, "cert-1", &version, target));
        let outcome = scene.host.server.report(&job, 1).await;
        assert!(
            matches!(outcome, Outcome::Confirmed { changed: true, .. }),
            "{outcome:?}"
        );
        more(&done, enough).await;
    }
    let took = began.elapsed();
    stop.cancel();
    tasks.shutdown(Duration::from_secs(9)).await;
    agent.stop().await;
    let reloads = noted.0.lock().unwrap().clone();
    assert_eq!(reloads.len(), renewals as usize, "one reload a renewal");
    (chains, reloads, took)
}

/// Waits until so much more is done.
async fn more(done: &AtomicUsize, enough: usize) {
    let goal = done.load(SeqCst) + enough;
    let wait = async {
        let mut every = tokio::time::interval(Duration::from_millis(5));
        while done.load(SeqCst) < goal {
            every.tick().await;
        }
    };
    let wait = tokio::time::timeout(crate::cli::process::AMPLE, wait);
    wait.await.expect("the load came to a standstill");
}

/// A connection seen by a client: when it was begun, and what was served.
type Handshake = (Instant, Vec<Vec<u8>>);

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_new_connection_sees_the_old_or_the_new_chain_and_none_fails() {
    let seen: Arc<Mutex<Vec<Handshake>>> = Arc::default();
    let faults: Arc<Mutex<Vec<String>>> = Arc::default();
    let load = |client: Client, stop: CancellationToken, done: Arc<AtomicUsize>| {
        let (seen, faults) = (seen.clone(), faults.clone());
        async move {
            while !stop.is_cancelled() {
                let began = Instant::now();
                let answer = async {
                    let mut connection = client.connect().await.map_err(|e| e.to_string())?;
                    match connection.get().await {
                        Ok(200) => Ok(connection.chain),
                        Ok(status) => Err(format!("status {status}")),
                        Err(cut) => Err(cut.to_string()),
                    }
                };
                match answer.await {
                    Ok(chain) => seen.lock().unwrap().push((began, chain)),
                    Err(fault) => faults.lock().unwrap().push(fault),
                }
                done.fetch_add(1, SeqCst);
            }
        }
    };
    let (chains, reloads, took) = renew_under(5, load, 100).await;
    let faults = faults.lock().unwrap();
    assert!(
        faults.is_empty(),
        "{} failed: {:?}",
        faults.len(),
        faults[0]
    );
    let seen = seen.lock().unwrap();
    assert!(seen.len() >= 600, "only {} handshakes", seen.len());
    let mut last_old = Duration::ZERO;
    for (began, chain) in seen.iter() {
        let which = chains.iter().position(|known| known == chain);
        let which = which.expect("neither the complete old chain nor the complete new one");
        // What may be seen: the one last reloaded to, and for a moment the one before it.
        let reloaded = reloads.iter().filter(|at| *at <= began).count();
        assert!(
            which == reloaded || which + 1 == reloaded || which == reloaded + 1,
            "version {which} after {reloaded} reloads"
        );
        if which < reloaded {
            last_old = last_old.max(*began - reloads[which]);
        }
    }
    assert!(
        last_old < Duration::from_secs(2),
        "the old one was still served after {last_old:?}"
    );
    let rate = seen.len() as f64 / took.as_secs_f64();
    println!(
        "{} handshakes, {rate:.0}/s; the last old one began {last_old:?} after the reload",
        seen.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_answer_on_kept_connections_is_200_and_what_was_cut_is_repeated_once() {
    let again = Arc::<AtomicUsize>::default();
    let faults: Arc<Mutex<Vec<String>>> = Arc::default();
    let load = |client: Client, stop: CancellationToken, done: Arc<AtomicUsize>| {
        let (again, faults) = (again.clone(), faults.clone());
        async move {
            let mut kept: Option<Connection> = None;
            while !stop.is_cancelled() {
                let reused = kept.is_some();
                let mut connection = match kept.take() {
                    Some(connection) => connection,
                    None => match client.connect().await {
                        Ok(connection) => connection,
                        Err(e) => return faults.lock().unwrap().push(e.to_string()),
                    },
                };
                match connection.get().await {
                    Ok(200) => kept = Some(connection),
                    Err(Cut::Before) if reused => {
                        again.fetch_add(1, SeqCst);
                        let answer = match client.connect().await {
                            Ok(mut connection) => connection.get().await,
                            Err(e) => Err(Cut::Within(e.to_string())),
                        };
                        if !matches!(answer, Ok(200)) {
                            faults.lock().unwrap().push(format!("again: {answer:?}"));
                        }
                    }
                    Ok(status) => faults.lock().unwrap().push(format!("status {status}")),
                    Err(cut) => faults.lock().unwrap().push(cut.to_string()),
                }
                done.fetch_add(1, SeqCst);
            }
        }
    };
    let (_, _, took) = renew_under(3, load, 1000).await;
    let faults = faults.lock().unwrap();
    assert!(
        faults.is_empty(),
        "{} failed: {:?}",
        faults.len(),
        faults[0]
    );
    println!(
        "4000 requests and more in {took:?}, {} repeated",
        again.load(SeqCst)
    );
}
