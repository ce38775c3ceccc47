//! Many agents on connections of their own, over TLS, and what they cost the server: counted.

use crate::{
    net::pki::{AMPLE, Server, client},
    support::{TestAgent, TestApp, text},
};
use bytes::Bytes;
use certctl::{
    agent::protocol::Work,
    api,
    net::{Deadline, HttpClient, Limits, Transport},
    sys::{Tasks, raise_open_files},
};
use futures_util::StreamExt;
use http::{Request, StatusCode};
use serde_json::json;
use std::{net::IpAddr, sync::Arc};
use tokio::sync::mpsc;

/// Reads of a poll that finds no work: who calls, and what is or will be due.
const READS: u64 = 2;
/// Agents that connect at once: a machine under load does not begin a thousand calls in time.
const AT_ONCE: usize = 50;

/// An agent with a connection of its own.
#[derive(Clone)]
struct Member {
    id: String,
    target: String,
    credential: String,
    url: String,
    client: HttpClient,
}

impl Member {
    async fn poll(&self, wait: u64) -> Work {
        let request = Request::get(format!("{}/work?wait={wait}", self.url))
            .header("authorization", format!("Bearer {}", self.credential))
            .extension(Deadline(4 * AMPLE))
            .body(Bytes::new())
            .unwrap();
        let answer = self.client.call(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.body());
        serde_json::from_slice(answer.body()).unwrap()
    }
}

/// The control plane behind a listener, and agents that have not called yet.
struct Fleet {
    app: Arc<TestApp>,
    _server: Server,
    members: Vec<Member>,
}

impl Fleet {
    async fn new(agents: usize) -> Self {
        // A connection has two ends here.
        let files = raise_open_files().unwrap();
        assert!(files > 2 * agents as u64 + 100, "{files} open files");
        let app = TestApp::start().await;
        let router = api::router(app.app.clone());
        let server = Server::start(router, Limits::default()).await;
        let base = client(&server.ca.trust());
        let token = app.join_token(json!({"max_uses": agents})).await;
        let mut members = Vec::new();
        for n in 0..agents {
            let agent = TestAgent::enrol(&app, &format!("a{n}"), &token).await;
            let from = IpAddr::from([127, 0, 2, u8::try_from(1 + n % 200).unwrap()]);
            members.push(Member {
                target: app.target(&agent, &format!("t{n}")).await,
                url: server.url(&format!("/api/v1/agents/{}", agent.id)),
                credential: agent.credential(),
                client: base.apart(from),
                id: agent.id,
            });
        }
        Self {
            app: Arc::new(app),
            _server: server,
            members,
        }
    }

    /// Connects all, so that the next poll of each is a call and nothing else.
    async fn connect(&self) {
        futures_util::stream::iter(&self.members)
            .map(|member| member.poll(0))
            .buffer_unordered(AT_ONCE)
            .for_each(async |work| assert_eq!(work.count, 0))
            .await;
    }

    /// Waits until so many polls have looked for work, each once, and wait.
    async fn wait_for(&self, polls: u64, before: u64) {
        let all = async {
            while self.app.work().reads < before + polls * READS {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(4 * AMPLE, all).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_agents_get_their_jobs_each_once() {
    const AGENTS: usize = 1_000;
    let fleet = Fleet::new(AGENTS).await;
    let app = &fleet.app;
    fleet.connect().await;
    let (tasks, (sender, mut given)) = (Tasks::new(), mpsc::unbounded_channel());
    let before = app.work();
    for member in fleet.members.iter().cloned() {
        let sender = sender.clone();
        tasks.spawn("agent", async move {
            loop {
                for job in member.poll(50).await.jobs {
                    let what = (member.id.clone(), text(&json!(job.certificate_id)));
                    sender.send(what).unwrap();
                }
            }
        });
    }
    fleet.wait_for(AGENTS as u64, before.reads).await;
    let waiting = app.work() - before;
    assert_eq!((waiting.commits, waiting.reads), (0, AGENTS as u64 * READS));

    let before = app.work();
    for member in &fleet.members {
        // Named after the agent that is to have its job.
        app.certificate(&member.id, &[&member.target]).await;
    }
    let mut owing: std::collections::BTreeSet<String> =
        fleet.members.iter().map(|m| m.id.clone()).collect();
    while !owing.is_empty() {
        let next = tokio::time::timeout(AMPLE, given.recv()).await.unwrap();
        let (agent, certificate) = next.unwrap();
        assert_eq!(agent, certificate, "a job came to another agent");
        assert!(owing.remove(&agent), "{agent} was given its job twice");
    }
    assert!(given.is_empty());
    let spent = app.work() - before;
    // A commit makes the job and another leases it.
    assert_eq!(spent.commits, 2 * AGENTS as u64);
    let each = spent.reads / AGENTS as u64;
    assert!(each <= 24, "{each} reads for a job made and given");
    tasks.abort_all();
}

/// Memory that one more agent which waits takes of the server: what the allocator is asked for, in
/// bytes. The clients are on another thread, which is not counted.
#[test]
fn an_agent_that_waits_takes_little_of_the_server() {
    const AGENTS: usize = 60;
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let on_server = runtime();
    let fleet = on_server.block_on(Fleet::new(AGENTS));
    // What is made once, at the first call, is not counted.
    let (first, rest) = fleet.members.split_at(10);
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let connect = |members: &[Member]| {
        let before = fleet.app.work().reads;
        let calls: Vec<_> = members.to_vec();
        let n = calls.len() as u64;
        (calls, fleet.wait_for(n, before))
    };
    std::thread::scope(|scope| {
        let (sender, mut wanted) = mpsc::unbounded_channel::<Vec<Member>>();
        scope.spawn(move || {
            runtime().block_on(async move {
                let tasks = Tasks::new();
                while let Some(members) = wanted.recv().await {
                    for member in members {
                        tasks.spawn("agent", async move {
                            member.poll(50).await;
                        });
                    }
                }
            });
            ended.recv().unwrap_err();
        });
        let mut spent = None;
        for members in [first, rest] {
            let (calls, waiting) = connect(members);
            spent = Some(allocation_counter::measure(|| {
                sender.send(calls).unwrap();
                on_server.block_on(waiting);
            }));
        }
        drop((sender, done));
        let each = spent.unwrap().bytes_current / rest.len() as i64;
        assert!(each < 56_000, "{each} bytes for an agent that waits");
    });
}
