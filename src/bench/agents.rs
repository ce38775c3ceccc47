//! `bench agents`: agents that wait for work on connections of their own, and jobs for them.

use super::{
    Figures, Place, Report,
    load::{self, Measured},
    progress,
    server::{Client, Server, cpu},
};
use crate::{
    agent::protocol::{
        Enrol, FailureClass, Outcome, POLL_WAIT_SECONDS, Report as JobReport, Work, WorkItem,
    },
    app::{App, Credential, NewTarget, NewToken},
    crypt::{OsRng, secret},
    id::Id,
    sys::{Tasks, raise_open_files},
};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{Method, StatusCode};
use serde_json::json;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time::{interval, sleep, timeout},
};

/// Agents enrolled, and later connected, at once.
const AT_ONCE: usize = 64;
/// Agents at one address: many, though fewer than may connect from one.
const AT_ONE_ADDRESS: usize = 1_000;
/// Agents that poll without waiting.
const POLLERS: usize = 64;
/// A job that has not reached its agent by then is lost.
const LOST: Duration = Duration::from_secs(60);

/// An agent that enrolled.
struct Enrolled {
    id: Id,
    credential: String,
    target: Id,
}

/// An agent at work.
#[derive(Clone)]
struct Agent {
    id: Id,
    target: Id,
    client: Client,
}

pub async fn run(place: &Place, agents: usize, jobs: usize, time: Duration) -> Result<Report> {
    let method = format!(
        "{agents} agents, each with an identity and a connection (HTTP/2, TLS 1.3) to a server \
         process, polls that wait up to {POLL_WAIT_SECONDS} s; polls_per_s: {} of them, not \
         waiting; delivery: {jobs} calls at even distances, each making a certificate and so a \
         job for another agent, from the sending of the call until the agent has read the job, \
         which it then reports",
        agents.min(POLLERS)
    );
    let mut report = Report::new("agents", place, method)?;
    raise_open_files()?;
    let (app, key) = place.first_start().await?;
    let enrolled = enrol(&app, agents).await?;
    app.close().await;
    drop(app);

    let server = Server::start(place).await?;
    let operator = server.client(&key)?;
    let join = |(n, agent): (usize, Enrolled)| Agent {
        client: operator.apart(&agent.credential, address(n)),
        id: agent.id,
        target: agent.target,
    };
    let fleet: Vec<Agent> = enrolled.into_iter().enumerate().map(join).collect();
    report.results.push(wait(&server, &fleet, time).await?);
    report.results.push(polls(&server, &fleet, time).await?);
    let delivery = deliver(&server, &operator, &fleet, jobs, time).await?;
    report.results.push(delivery);
    server.stop(&Tasks::new()).await?;
    Ok(report)
}

/// Enrols agents as their hosts do, each with a target.
async fn enrol(app: &App, agents: usize) -> Result<Vec<Enrolled>> {
    let operator = &app.authenticate(Credential::Local(0)).await?;
    let token = NewToken {
        name: "bench".into(),
        lifetime: Duration::from_secs(3_600),
        max_uses: u32::try_from(agents)?,
        replace: false,
        names: None,
    };
    let token = &app.create_token(operator, &token, None).await?.token;
    let bar = &progress("enrol", agents as u64);
    let enrolled = stream::iter(0..agents).map(|n| async move {
        let secret = secret::generate("", &OsRng);
        let name = format!("host-{n:05}.example.org");
        let wish = Enrol {
            token: token.clone(),
            name: name.clone(),
            hostname: name.clone(),
            os: "linux".into(),
            architecture: "amd64".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            secret_sha256: secret::hash(&secret),
        };
        let id = app.enrol(&wish).await?.agent_id;
        let target = NewTarget {
            id: None,
            name,
            kind: "File".into(),
            agent: id.clone(),
            config: json!({}),
        };
        let target = app.create_target(operator, &target, None).await?.id;
        bar.inc(1);
        anyhow::Ok(Enrolled {
            credential: format!("cta_{id}.{}", *secret),
            id,
            target,
        })
    });
    let enrolled = enrolled.buffer_unordered(AT_ONCE).try_collect().await?;
    bar.finish_and_clear();
    Ok(enrolled)
}

/// Where the `n`-th agent calls from.
fn address(n: usize) -> IpAddr {
    let host = u8::try_from(n / AT_ONE_ADDRESS).unwrap_or(u8::MAX - 1);
    IpAddr::V4(Ipv4Addr::new(127, 0, 1, host + 1))
}

impl Agent {
    async fn poll(&self, wait: u64) -> Result<Vec<WorkItem>> {
        let path = format!("/api/v1/agents/{}/work?wait={wait}", self.id);
        let work: Work = serde_json::from_slice(&self.client.get(&path).await?)?;
        Ok(work.jobs)
    }

    /// Waits for work again and again.
    async fn work(&self, told: &Told) -> Result<()> {
        loop {
            for job in self.poll(POLL_WAIT_SECONDS).await? {
                told.tell(&job)?;
                let outcome = Outcome::Failed {
                    class: FailureClass::Permanent,
                    reason: "this agent is played by a benchmark".into(),
                };
                let report = JobReport::new(&job.lease.token, outcome);
                let path = format!("/api/v1/agents/{}/jobs/{}/report", self.id, job.id);
                let body = serde_json::to_vec(&report)?.into();
                let reported = self.client.call(Method::POST, &path, body, StatusCode::OK);
                reported.await?;
            }
        }
    }
}

/// What the fleet costs that waits.
async fn wait(server: &Server, fleet: &[Agent], time: Duration) -> Result<Figures> {
    let empty = server.memory()?;
    let bar = progress("connect", fleet.len() as u64);
    let began = Instant::now();
    stream::iter(fleet)
        .map(async |agent| {
            let jobs = agent.poll(0).await?;
            bar.inc(1);
            ensure!(jobs.is_empty(), "a job that nobody made");
            Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let connected = began.elapsed();
    bar.finish_and_clear();

    let tasks = Tasks::new();
    for agent in fleet {
        let agent = agent.clone();
        tasks.spawn("agent", async move {
            // An end before its time is seen by the calls that follow.
            let _ = agent.poll(POLL_WAIT_SECONDS).await;
        });
    }
    let polling = Instant::now();
    sleep(time).await;
    let (begin, cpu) = (polling.elapsed(), server.cpu()?);
    sleep(time).await;
    let used = (server.cpu()? - cpu).div_duration_f64(polling.elapsed() - begin);
    let idle = server.memory()?;
    tasks.abort_all();
    Ok(Figures::default()
        .and("agents", fleet.len())
        .with("connect_s", connected.as_secs_f64())
        .with("empty_mib", empty)
        .with("idle_mib", idle)
        .with("kib_each", (idle - empty) * 1_024.0 / fleet.len() as f64)
        .with("idle_cpu_percent", used * 100.0))
}

/// What a poll costs that does not wait.
async fn polls(server: &Server, fleet: &[Agent], time: Duration) -> Result<Figures> {
    let begin = (server.cpu()?, cpu("self")?);
    let pollers = fleet.len().min(POLLERS);
    let measured = load::drive("polls", pollers, time, |n| {
        let agent = fleet[n].clone();
        Ok(move || {
            let agent = agent.clone();
            async move { agent.poll(0).await.map(drop) }
        })
    })
    .await?;
    let used = [server.cpu()? - begin.0, cpu("self")? - begin.1];
    let each = |used: Duration| used.as_secs_f64() * 1e6 / measured.done as f64;
    let figures = Figures::default().with("polls_per_s", measured.rate());
    Ok(measured
        .add_to(figures)
        .with("server_cpu_us_each", each(used[0]))
        .with("client_cpu_us_each", each(used[1])))
}

/// What the makers and the readers of jobs tell each other.
struct Told {
    /// When the call was sent that made a job, by the job's certificate.
    sent: Mutex<BTreeMap<Id, Instant>>,
    latencies: UnboundedSender<Result<Duration>>,
}

impl Told {
    fn sent(&self) -> MutexGuard<'_, BTreeMap<Id, Instant>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job was read.
    fn tell(&self, job: &WorkItem) -> Result<()> {
        let certificate = job.certificate_id.as_ref();
        let sent = certificate.and_then(|id| self.sent().remove(id));
        let sent = sent.with_context(|| format!("job {} was given twice", job.id))?;
        self.latencies.send(Ok(sent.elapsed()))?;
        Ok(())
    }
}

/// How soon jobs reach agents that all wait.
async fn deliver(
    server: &Server,
    operator: &Client,
    fleet: &[Agent],
    jobs: usize,
    time: Duration,
) -> Result<Figures> {
    let (tasks, (latencies, arrived)) = (Tasks::new(), mpsc::unbounded_channel());
    let told = Arc::new(Told {
        sent: Mutex::default(),
        latencies,
    });
    for agent in fleet {
        let (agent, told) = (agent.clone(), told.clone());
        tasks.spawn("agent", async move {
            if let Err(e) = agent.work(&told).await {
                let _ = told.latencies.send(Err(e));
            }
        });
    }
    sleep(time).await;

    let begin = server.cpu()?;
    let mut pace = interval(time / u32::try_from(jobs)?);
    let bar = progress("deliver", jobs as u64);
    for n in 0..jobs {
        pace.tick().await;
        bar.inc(1);
        // Neighbours in time are neighbours nowhere else.
        let agent = &fleet[n * 7_919 % fleet.len()];
        let body = json!({
            "id": format!("bench-{n}"), "name": format!("bench-{n}"),
            "common_name": format!("bench-{n}.example.org"), "target_ids": [agent.target],
        });
        let (told, operator) = (told.clone(), operator.clone());
        let body = Bytes::from(serde_json::to_vec(&body)?);
        let certificate: Id = format!("bench-{n}").parse()?;
        tasks.spawn("operator", async move {
            told.sent().insert(certificate, Instant::now());
            let made = operator.call(
                Method::POST,
                "/api/v1/certificates",
                body,
                StatusCode::CREATED,
            );
            if let Err(e) = made.await {
                let _ = told.latencies.send(Err(e));
            }
        });
    }
    bar.finish_and_clear();
    let measured = Measured::of(collect(arrived, jobs).await?);
    let used = (server.cpu()? - begin).as_secs_f64() * 1e6 / jobs as f64;
    tasks.abort_all();
    let figures = measured.add_to(Figures::default().and("jobs", jobs));
    Ok(figures
        .with("max_ms", measured.longest())
        .with("server_cpu_us_each", used)
        .with("server_mib", server.memory()?))
}

async fn collect(
    mut arrived: UnboundedReceiver<Result<Duration>>,
    jobs: usize,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(jobs);
    while latencies.len() < jobs {
        let next = timeout(LOST, arrived.recv()).await;
        let next = next.with_context(|| format!("{} of {jobs} jobs arrived", latencies.len()))?;
        latencies.push(next.context("every agent has ended")??);
    }
    Ok(latencies)
}
