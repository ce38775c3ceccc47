//! Whatever comes in from outside: every fault is answered with a 4xx, or an exit code, and a
//! message that names what is wrong and the remedy; and it changes nothing.

mod agents;
mod bodies;
mod certificates;
mod cli;
mod ends;
mod issuers;
mod leases;
mod requests;
mod targets;
mod wire;

use crate::support::{Call, TestAgent, TestApp};
use certctl::agent::protocol::WorkItem;
use serde_json::{Value, json};

/// Who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Admin,
    Agent,
    Nobody,
}

/// One thing that must be refused.
struct Case {
    name: &'static str,
    by: By,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
    status: u16,
    /// What the message must name.
    says: Vec<&'static str>,
}

/// An app with one of everything.
struct World {
    app: TestApp,
    agent: TestAgent,
    issuance: WorkItem,
    deployment: WorkItem,
    csr: String,
    join_token: String,
}

impl World {
    async fn new() -> Self {
        let app = TestApp::start().await;
        let agent = app.agent("host").await;
        let target = app.target(&agent, "web").await;
        app.certificate("web", &[&target]).await;
        let first = agent.job(&app).await;
        agent.submit_csr(&app, &first).await.expect(202);
        let deployment = agent.job(&app).await;
        app.certificate("next", &[&target]).await;
        let issuance = agent.job(&app).await;
        Self {
            csr: agent.make_csr(&issuance),
            join_token: app.join_token(json!({})).await,
            app,
            agent,
            issuance,
            deployment,
        }
    }

    fn job(&self, item: &WorkItem, call: &str) -> String {
        format!("/api/v1/agents/{}/jobs/{}/{call}", self.agent.id, item.id)
    }

    fn observations(&self) -> String {
        format!("/api/v1/agents/{}/observations", self.agent.id)
    }

    fn call(&self, case: &Case) -> Call<'_> {
        let mut call = match case.by {
            By::Admin => self.app.admin(case.method, &case.path),
            By::Agent => {
                let call = self.app.call(case.method, &case.path);
                call.bearer(&self.agent.credential())
            }
            By::Nobody => self.app.call(case.method, &case.path),
        };
        for (name, value) in &case.headers {
            call = call.header(name, value);
        }
        call.body(case.body.clone())
    }

    /// Sends each case; whatever is wrong with any of them is told at the end.
    async fn refuse(&self, cases: Vec<Case>) {
        let mut wrong = Vec::new();
        for case in cases {
            let before = self.app.seq();
            let answer = self.call(&case).send().await;
            let name = case.name;
            if answer.status != case.status {
                wrong.push(format!("{name}: {}: {}", answer.status, answer.body));
                continue;
            }
            let message = answer.problem();
            for word in case.says {
                if !message.contains(word) {
                    wrong.push(format!("{name}: {word:?} is not in {message:?}"));
                }
            }
            if message.len() > 1000 {
                wrong.push(format!("{name}: an answer of {} bytes", message.len()));
            }
            if self.app.seq() != before {
                wrong.push(format!("{name}: something was changed"));
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
        self.app.check().await;
    }
}

/// A request whose body is the fault; 400 unless said otherwise.
fn body(name: &'static str, path: &str, body: impl Into<Vec<u8>>, says: &[&'static str]) -> Case {
    Case {
        name,
        by: By::Admin,
        method: "POST",
        path: path.into(),
        headers: Vec::new(),
        body: body.into(),
        status: 400,
        says: says.to_vec(),
    }
}

/// A `GET` whose path or query is the fault.
fn path(name: &'static str, path: &str, status: u16, says: &[&'static str]) -> Case {
    Case {
        method: "GET",
        status,
        ..body(name, path, "", says)
    }
}

impl Case {
    fn by(self, by: By) -> Self {
        Self { by, ..self }
    }

    fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    fn header(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One PEM block.
fn pem(label: &str, der: &[u8]) -> String {
    der::pem::encode_string(label, der::pem::LineEnding::LF, der).unwrap()
}

/// What `openssl` prints.
pub fn openssl(line: &str) -> String {
    let output = std::process::Command::new("openssl")
        .args(line.split(' '))
        .output()
        .expect("openssl is needed (tests/run installs it)");
    assert!(output.status.success(), "openssl {line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// `base` with one field set.
fn with(base: &Value, field: &str, value: Value) -> Vec<u8> {
    let mut changed = base.clone();
    changed[field] = value;
    serde_json::to_vec(&changed).unwrap()
}

/// `base` without one field.
fn without(base: &Value, field: &str) -> Vec<u8> {
    let mut changed = base.clone();
    changed.as_object_mut().unwrap().remove(field).unwrap();
    serde_json::to_vec(&changed).unwrap()
}

const CERTIFICATES: &str = "/api/v1/certificates";
const TARGETS: &str = "/api/v1/targets";
const TOKENS: &str = "/api/v1/agents/tokens";
const ENROL: &str = "/api/v1/agents/enrol";
