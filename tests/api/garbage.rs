//! Whatever comes in from outside: every fault is answered with a 4xx that names the field and
//! the remedy, and changes nothing.

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

/// What is no body of JSON, for every route that reads one.
#[tokio::test]
async fn bodies_that_are_no_json() {
    let world = World::new().await;
    let routes = [
        (CERTIFICATES.to_owned(), By::Admin),
        (format!("{CERTIFICATES}/web/versions"), By::Admin),
        (TARGETS.to_owned(), By::Admin),
        (TOKENS.to_owned(), By::Admin),
        (ENROL.to_owned(), By::Nobody),
        (world.job(&world.deployment, "lease"), By::Agent),
        (world.job(&world.issuance, "csr"), By::Agent),
        (world.job(&world.deployment, "report"), By::Agent),
    ];
    let deep = |open: &str, close: &str| open.repeat(10_000) + &close.repeat(10_000);
    let huge = format!("{{\"name\": \"{}\"}}", "x".repeat(1 << 20));
    let mut cases = Vec::new();
    for (at, by) in routes {
        for case in [
            body("empty", &at, "", &["JSON"]),
            body("not JSON", &at, "name=x&common_name=y", &["JSON"]),
            body("cut short", &at, "{\"name\": \"x\"", &["JSON"]),
            body("two values", &at, "{} {}", &["JSON"]),
            body("not UTF-8", &at, b"{\"name\": \"\xff\xfe\"}", &["JSON"]),
            body("a NUL", &at, b"\0", &["JSON"]),
            body(
                "a raw NUL in a text",
                &at,
                b"{\"name\": \"a\0b\"}",
                &["JSON"],
            ),
            body("a text", &at, "\"x\"", &["JSON"]),
            body("a list", &at, "[[]]", &["JSON"]),
            body("an empty list", &at, "[]", &["JSON"]),
            body("a number", &at, "17", &["JSON"]),
            body("null", &at, "null", &["JSON"]),
            body("deep lists", &at, deep("[", "]"), &["JSON"]),
            body("deep objects", &at, deep("{\"config\":", "}"), &["JSON"]),
            body(
                "half a surrogate",
                &at,
                "{\"name\": \"\\ud800\"}",
                &["JSON"],
            ),
            body("huge", &at, huge.clone(), &["body", "1 MiB"]).status(413),
        ] {
            cases.push(case.by(by));
        }
    }
    world.refuse(cases).await;
}

#[tokio::test]
async fn certificates() {
    let world = World::new().await;
    let good = json!({"name": "n", "common_name": "n.example.org"});
    let set = |field: &str, value: Value| with(&good, field, value);
    let at = CERTIFICATES;
    let long = |n: usize| json!("x".repeat(n));
    let names = |n: usize| json!((0..n).map(|i| format!("n{i}.test")).collect::<Vec<_>>());
    let label64 = format!("{}.test", "a".repeat(64));
    let mut tags = json!({});
    for n in 0..65 {
        tags[n.to_string()] = json!("x");
    }
    world
        .refuse(vec![
            body("no name", at, without(&good, "name"), &["name: 1 to 255"]),
            body(
                "a long name",
                at,
                set("name", long(256)),
                &["name: 1 to 255"],
            ),
            body(
                "a name of another type",
                at,
                set("name", json!(7)),
                &["name", "string"],
            ),
            body(
                "a NUL in the name",
                at,
                set("name", json!("a\0b")),
                &["name", "NUL"],
            ),
            body(
                "no common name",
                at,
                without(&good, "common_name"),
                &["common_name"],
            ),
            body(
                "a space in the common name",
                at,
                set("common_name", json!("a b")),
                &["common_name", "space"],
            ),
            body(
                "an odd common name",
                at,
                set("common_name", json!("a..b")),
                &["common_name", "labels"],
            ),
            body(
                "a wildcard inside",
                at,
                set("common_name", json!("a.*.test")),
                &["common_name", "wildcard"],
            ),
            body(
                "a label of 64",
                at,
                set("common_name", json!(label64)),
                &["common_name"],
            ),
            body(
                "no real address",
                at,
                set("common_name", json!("1.2.3.400")),
                &["common_name", "IP"],
            ),
            body(
                "a hidden character",
                at,
                set("common_name", json!("a\u{202e}b.test")),
                &["common_name", "direction"],
            ),
            body(
                "a NUL in the common name",
                at,
                set("common_name", json!("a\0.test")),
                &["common_name", "control"],
            ),
            body(
                "sans are no list",
                at,
                set("sans", json!("a.test")),
                &["sans"],
            ),
            body(
                "a san of another type",
                at,
                set("sans", json!([1])),
                &["sans[0]"],
            ),
            body(
                "an empty san",
                at,
                set("sans", json!([""])),
                &["sans", "empty"],
            ),
            body(
                "a san with a line end",
                at,
                set("sans", json!(["a.test\n"])),
                &["sans", "control"],
            ),
            body("101 names", at, set("sans", names(100)), &["sans", "100"]),
            body(
                "a san that is no URI",
                at,
                set("sans", json!(["http://a b"])),
                &["sans"],
            ),
            body(
                "an id with a slash",
                at,
                set("id", json!("../etc/passwd")),
                &["id: ", "A-Z"],
            ),
            body("an id of 129", at, set("id", long(129)), &["id: ", "128"]),
            body("an id with a NUL", at, set("id", json!("a\0")), &["id: "]),
            body("an id that is taken", at, set("id", json!("web")), &["web"]).status(409),
            body(
                "an unknown issuer",
                at,
                set("issuer_id", json!("iss-none")),
                &["issuer_id", "iss-none"],
            ),
            body(
                "an issuer that is no id",
                at,
                set("issuer_id", json!("?")),
                &["issuer_id"],
            ),
            body(
                "an unknown profile",
                at,
                set("certificate_profile_id", json!("p")),
                &["certificate_profile_id"],
            ),
            body(
                "an unknown policy",
                at,
                set("renewal_policy_id", json!("p")),
                &["renewal_policy_id"],
            ),
            body(
                "an unknown target",
                at,
                set("target_ids", json!(["tgt-none"])),
                &["target_ids", "tgt-none"],
            ),
            body(
                "a target that is no id",
                at,
                set("target_ids", json!(["a b"])),
                &["target_ids"],
            ),
            body(
                "101 targets",
                at,
                set("target_ids", names(101)),
                &["target_ids", "100"],
            ),
            body(
                "targets of another type",
                at,
                set("target_ids", json!({"a": 1})),
                &["target_ids"],
            ),
            body(
                "a long environment",
                at,
                set("environment", long(129)),
                &["environment", "128"],
            ),
            body(
                "a long owner",
                at,
                set("owner_id", long(129)),
                &["owner_id", "128"],
            ),
            body(
                "a long team",
                at,
                set("team_id", long(129)),
                &["team_id", "128"],
            ),
            body("65 labels", at, set("tags", tags), &["tags", "64"]),
            body(
                "a long label",
                at,
                set("tags", json!({"k": "x".repeat(513)})),
                &["tags", "512"],
            ),
            body(
                "a label of another type",
                at,
                set("tags", json!({"k": [1]})),
                &["tags"],
            ),
            body(
                "a NUL in a label",
                at,
                set("tags", json!({"k\0": "v"})),
                &["tags", "NUL"],
            ),
            body(
                "a CSR that is none",
                at,
                set("csr_pem", json!("hello")),
                &["csr_pem", "CERTIFICATE REQUEST"],
            ),
        ])
        .await;
}

#[tokio::test]
async fn signing_requests() {
    let world = World::new().await;
    let versions = format!("{CERTIFICATES}/web/versions");
    let csr = world.csr.as_str();
    // Another bit in the middle: the signature does not fit any more, or the DER is broken.
    let mut bent: Vec<String> = csr.lines().map(str::to_owned).collect();
    let middle = bent.len() / 2;
    let half = bent[middle].len() / 2;
    let other = if bent[middle].as_bytes()[half] == b'A' {
        "B"
    } else {
        "A"
    };
    bent[middle].replace_range(half..=half, other);
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let bad = [
        ("no text", String::new(), "csr_pem"),
        ("no PEM", "MIIB".into(), "CERTIFICATE REQUEST"),
        ("another block", key.into(), "CERTIFICATE REQUEST"),
        ("two requests", format!("{csr}{csr}"), "several"),
        ("a bent request", bent.join("\n"), "csr_pem"),
        (
            "an empty block",
            "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n".into(),
            "csr_pem",
        ),
        (
            "base64 of nothing",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".into(),
            "PKCS#10",
        ),
        ("a cut request", csr[..csr.len() / 2].into(), "csr_pem"),
        ("a long request", "x".repeat(70_000), "65536"),
    ];
    let mut cases = Vec::new();
    for (name, pem, word) in bad {
        let by_requester = json!({"csr_pem": pem}).to_string();
        cases.push(body(name, &versions, by_requester, &["csr_pem", word]));
        let token = &world.issuance.lease.token;
        let by_agent = json!({"csr_pem": pem, "token": token}).to_string();
        let at = world.job(&world.issuance, "csr");
        cases.push(body(name, &at, by_agent, &["csr_pem", word]).by(By::Agent));
    }
    let good = json!({"csr_pem": csr}).to_string();
    cases.push(body("no field", &versions, "{}", &["csr_pem"]));
    cases.push(
        body(
            "an empty key",
            &versions,
            good.clone(),
            &["Idempotency-Key", "255"],
        )
        .header("idempotency-key", ""),
    );
    cases.push(
        body(
            "a long key",
            &versions,
            good.clone(),
            &["Idempotency-Key", "255"],
        )
        .header("idempotency-key", "k".repeat(256)),
    );
    cases.push(
        body(
            "a key that is no text",
            &versions,
            good.clone(),
            &["Idempotency-Key", "ASCII"],
        )
        .header("idempotency-key", b"\xff"),
    );
    let nowhere = format!("{CERTIFICATES}/none/versions");
    cases.push(body("no such certificate", &nowhere, good, &["none"]).status(404));
    world.refuse(cases).await;
}

#[tokio::test]
async fn targets() {
    let world = World::new().await;
    let good = json!({
        "name": "t", "type": "File", "agent_id": world.agent.id, "config": {},
    });
    let set = |field: &str, value: Value| with(&good, field, value);
    let at = TARGETS;
    let mut deep = json!({});
    for _ in 0..100 {
        deep = json!({ "a": deep });
    }
    world
        .refuse(vec![
            body("no name", at, without(&good, "name"), &["name"]),
            body(
                "an empty name",
                at,
                set("name", json!("")),
                &["name: 1 to 255"],
            ),
            body(
                "a long name",
                at,
                set("name", json!("x".repeat(256))),
                &["name: 1 to 255"],
            ),
            body(
                "a name that is taken",
                at,
                set("name", json!("web")),
                &["name: target tgt-"],
            )
            .status(409),
            body(
                "a NUL in the name",
                at,
                set("name", json!("a\0")),
                &["name", "NUL"],
            ),
            body("no type", at, without(&good, "type"), &["type"]),
            body(
                "an unknown type",
                at,
                set("type", json!("Toaster")),
                &["type: ", "Toaster", "File"],
            ),
            body(
                "a long type",
                at,
                set("type", json!("x".repeat(10_000))),
                &["type: "],
            ),
            body("no agent", at, without(&good, "agent_id"), &["agent_id"]),
            body(
                "an unknown agent",
                at,
                set("agent_id", json!("agt-none")),
                &["agent_id", "agt-none"],
            ),
            body(
                "an agent that is no id",
                at,
                set("agent_id", json!("a/b")),
                &["agent_id"],
            ),
            body("no config", at, without(&good, "config"), &["config"]),
            body(
                "a config that is a list",
                at,
                set("config", json!([])),
                &["config"],
            ),
            body(
                "an unknown setting",
                at,
                set("config", json!({"colour": 1})),
                &["config.colour", "endpoints"],
            ),
            body(
                "an endpoint without a port",
                at,
                set("config", json!({"endpoints": ["a"]})),
                &["config.endpoints"],
            ),
            body(
                "a port of 70000",
                at,
                set("config", json!({"endpoints": ["a:70000"]})),
                &["config.endpoints"],
            ),
            body(
                "many endpoints",
                at,
                set("config", json!({"endpoints": vec!["a:1"; 17]})),
                &["config.endpoints", "16"],
            ),
            body(
                "a timeout without a unit",
                at,
                set("config", json!({"verify_timeout": "5"})),
                &["config.verify_timeout"],
            ),
            body(
                "a fraction",
                at,
                set("config", json!({"verify_timeout": 1.5})),
                &["config.verify_timeout"],
            ),
            body(
                "a NUL in the config",
                at,
                set("config", json!({"server_name": "a\0"})),
                &["config.server_name"],
            ),
            body("a deep config", at, set("config", deep), &["config.a"]),
            body("an id that is none", at, set("id", json!("a b")), &["id: "]),
        ])
        .await;
    let id = crate::support::text(&world.app.list(TARGETS).await[0]["id"]);
    let taken = body("an id that is taken", at, set("id", json!(id)), &[]).status(409);
    world.refuse(vec![taken]).await;
}

#[tokio::test]
async fn join_tokens_and_enrolments() {
    let world = World::new().await;
    let tokens = |name, value: Value, says| body(name, TOKENS, value.to_string(), says);
    let good = TestAgent::wish("new", &world.join_token, "secret");
    let set = |field: &str, value: Value| with(&good, field, value);
    let enrol = |name, field: &'static str, value: Value| {
        body(name, ENROL, set(field, value), &[]).by(By::Nobody)
    };
    let mut cases = vec![
        tokens(
            "no time",
            json!({"expires_in_seconds": 0}),
            &["expires_in_seconds", "604800"],
        ),
        tokens(
            "too long",
            json!({"expires_in_seconds": 604_801}),
            &["expires_in_seconds", "604800"],
        ),
        tokens(
            "for ever",
            json!({"expires_in_seconds": u64::MAX}),
            &["expires_in_seconds"],
        ),
        tokens(
            "less than nothing",
            json!({"expires_in_seconds": -1}),
            &["expires_in_seconds"],
        ),
        tokens(
            "a fraction",
            json!({"expires_in_seconds": 0.5}),
            &["expires_in_seconds"],
        ),
        tokens(
            "a text",
            json!({"expires_in_seconds": "1h"}),
            &["expires_in_seconds"],
        ),
        tokens("no uses", json!({"max_uses": 0}), &["max_uses", "10000"]),
        tokens(
            "many uses",
            json!({"max_uses": 10_001}),
            &["max_uses", "10000"],
        ),
        tokens("very many uses", json!({"max_uses": 1e30}), &["max_uses"]),
        tokens(
            "a long name",
            json!({"name": "x".repeat(129)}),
            &["name", "128"],
        ),
        tokens("a NUL in the name", json!({"name": "\0"}), &["name", "NUL"]),
        tokens("replace as text", json!({"replace": "yes"}), &["replace"]),
    ];
    for field in [
        "token",
        "name",
        "hostname",
        "os",
        "architecture",
        "version",
        "secret_sha256",
    ] {
        let mut case = body("a field is missing", ENROL, without(&good, field), &[]);
        case.says.push(field);
        cases.push(case.by(By::Nobody));
    }
    for field in ["name", "hostname", "os", "architecture", "version"] {
        for (name, value) in [
            ("too long", json!("x".repeat(129))),
            ("a line end", json!("a\nb")),
            ("a NUL", json!("a\0b")),
        ] {
            let mut case = enrol(name, field, value);
            case.says.extend([field, "128 printable"]);
            cases.push(case);
        }
        let mut case = enrol("another type", field, json!({"a": 1}));
        case.says.push(field);
        cases.push(case);
    }
    for (name, value) in [
        ("no hash", String::new()),
        ("a short hash", "ab".repeat(31)),
        ("a long hash", "ab".repeat(33)),
        ("an upper-case hash", "AB".repeat(32)),
        ("a hash that is none", "xy".repeat(32)),
    ] {
        let mut case = enrol(name, "secret_sha256", json!(value));
        case.says.extend(["secret_sha256", "64"]);
        cases.push(case);
    }
    let mut case = enrol("an empty name", "name", json!(""));
    case.says.extend(["name: 1 to 128"]);
    cases.push(case);
    cases.push(enrol("a huge token", "token", json!("x".repeat(1_000_000))).status(401));
    world.refuse(cases).await;
}

#[tokio::test]
async fn reports() {
    let world = World::new().await;
    let at = world.job(&world.deployment, "report");
    let token = &world.deployment.lease.token;
    let good = json!({"token": token, "outcome": "failed", "class": "permanent", "reason": "r"});
    let set = |field: &str, value: Value| with(&good, field, value);
    let served = json!([{"endpoint": "a\0:1"}]);
    let confirmed = json!({"token": token, "outcome": "confirmed", "changed": true, "served": []});
    let lease = world.job(&world.deployment, "lease");
    let cases = vec![
        body("no token", &at, without(&good, "token"), &["token"]),
        body(
            "a token that is a number",
            &at,
            set("token", json!(1)),
            &["token"],
        ),
        body(
            "a token that is none",
            &at,
            set("token", json!("abc")),
            &["token"],
        ),
        body("no outcome", &at, without(&good, "outcome"), &["outcome"]),
        body(
            "an unknown outcome",
            &at,
            set("outcome", json!("fine")),
            &["fine", "confirmed"],
        ),
        body(
            "an unknown class",
            &at,
            set("class", json!("maybe")),
            &["maybe", "transient"],
        ),
        body("no reason", &at, without(&good, "reason"), &["reason"]),
        body(
            "a NUL in the reason",
            &at,
            set("reason", json!("a\0b")),
            &["reason", "NUL"],
        ),
        body(
            "nothing seen",
            &at,
            without(&confirmed, "served"),
            &["served"],
        ),
        body(
            "a NUL in an endpoint",
            &at,
            with(&confirmed, "served", served),
            &["served", "printable"],
        ),
        body(
            "10000 endpoints",
            &at,
            with(
                &confirmed,
                "served",
                json!(vec![json!({"endpoint": "a:1"}); 10_000]),
            ),
            &["served"],
        ),
        body(
            "an endpoint of 900 KB",
            &at,
            with(
                &confirmed,
                "served",
                json!([{"endpoint": "x".repeat(900_000)}]),
            ),
            &["served"],
        ),
        body(
            "less than no time",
            &at,
            set("duration_ms", json!(-1)),
            &["u64"],
        ),
        body("a lease without token", &lease, "{}", &["token"]),
    ];
    let cases = cases.into_iter().map(|c| c.by(By::Agent)).collect();
    world.refuse(cases).await;
}

#[tokio::test]
async fn paths() {
    let world = World::new().await;
    let mut cases = Vec::new();
    let kinds = [
        ("certificates/{}", "certificate"),
        ("certificates/{}/versions", "certificate"),
        ("certificates/{}/deployments", "certificate"),
        ("orders/{}", "order"),
        ("targets/{}", "target"),
    ];
    let long = "x".repeat(129);
    let longest = "x".repeat(60_000);
    for (route, kind) in kinds {
        for (name, id) in [
            ("unknown", "none"),
            ("a dot", "."),
            ("dots", ".."),
            ("encoded dots", "%2e%2e"),
            ("an encoded slash", "..%2f..%2fetc%2fpasswd"),
            ("a NUL", "a%00b"),
            ("a line end", "a%0d%0ab"),
            ("a space", "a%20b"),
            ("a quote", "a'%20OR%20'1'='1"),
            ("beyond ASCII", "%c3%a4"),
            ("too long", &long),
            ("far too long", &longest),
        ] {
            let at = format!("/api/v1/{}", route.replace("{}", id));
            let mut case = path(name, &at, 404, &[]);
            case.says.push(kind);
            cases.push(case);
        }
        let at = format!("/api/v1/{}", route.replace("{}", "%ff%fe"));
        cases.push(path("not UTF-8", &at, 400, &["UTF-8"]));
    }
    let renew = format!("{CERTIFICATES}/none/renew");
    cases.push(body("renewal of nothing", &renew, "", &["certificate"]).status(404));
    for id in ["none", "..%2f", "%00", &long] {
        let work = format!("/api/v1/agents/{id}/work");
        let status = if id == "none" { 403 } else { 404 };
        cases.push(path("another agent", &work, status, &["agent"]).by(By::Agent));
        let lease = format!("/api/v1/agents/{}/jobs/{id}/lease", world.agent.id);
        let case = body("no such job", &lease, "{\"token\": \"1\"}", &["job"]);
        cases.push(case.status(404).by(By::Agent));
    }
    cases.extend([
        path("no such path", "/api/v1/nothing", 404, &["path"]),
        path("nothing at all", "/api/v1/", 404, &[]),
        path(
            "below a resource",
            "/api/v1/certificates/web/nothing",
            404,
            &["path"],
        ),
        path(
            "a slash at the end",
            "/api/v1/certificates/",
            404,
            &["path"],
        ),
        path("two slashes", "/api/v1//certificates", 404, &["path"]),
        path("another version", "/api/v2/certificates", 404, &[]),
        path("a wrong method", "/api/v1/agents/enrol", 405, &["method"]),
    ]);
    for method in ["PUT", "PATCH", "DELETE", "TRACE", "BREW"] {
        let mut case = path("a wrong method", CERTIFICATES, 405, &["method"]);
        case.method = method;
        cases.push(case);
    }
    world.refuse(cases).await;
}

#[tokio::test]
async fn queries() {
    let world = World::new().await;
    let work = |query: &str| format!("/api/v1/agents/{}/work?{query}", world.agent.id);
    let cases = vec![
        path("a wait that is a word", &work("wait=long"), 400, &["wait"]).by(By::Agent),
        path("a wait below nothing", &work("wait=-1"), 400, &["wait"]).by(By::Agent),
        path(
            "a wait beyond numbers",
            &work("wait=99999999999999999999"),
            400,
            &["wait"],
        )
        .by(By::Agent),
        path("two waits", &work("wait=1&wait=2"), 400, &["wait"]).by(By::Agent),
        path(
            "two pages",
            "/api/v1/certificates?page=1&page=2",
            400,
            &["page"],
        ),
        path(
            "two pages of the log",
            "/api/v1/audit?page=1&page=2",
            400,
            &["page"],
        ),
    ];
    world.refuse(cases).await;
}

/// By the API's rule a page that is no number is the first one, and a size that is none is 50.
#[tokio::test]
async fn odd_paging_falls_back() {
    let world = World::new().await;
    for list in [
        "certificates",
        "targets",
        "certificates/web/versions",
        "certificates/web/deployments",
        "audit",
    ] {
        for query in [
            "page=0",
            "page=-1",
            "page=x",
            "page=",
            "page=1.5",
            "page=%00",
            "page=99999999999999999999",
            "per_page=0",
            "per_page=-1",
            "per_page=501",
            "per_page=x",
            "per_page=1e3",
            "per_page=99999999999999999999",
            "unknown=1",
            "=",
            "&&&",
            "page",
            "%",
        ] {
            let list = world.app.get(&format!("/api/v1/{list}?{query}")).await;
            assert_eq!(
                (&list["page"], &list["per_page"]),
                (&json!(1), &json!(50)),
                "{query}"
            );
            assert!(!list["data"].as_array().unwrap().is_empty());
        }
        let far = format!("/api/v1/{list}?page={}&per_page=500", usize::MAX);
        let far = world.app.get(&far).await;
        assert_eq!(far["data"], json!([]));
        assert_ne!(far["total"], json!(0));
    }
}

#[tokio::test]
async fn headers() {
    let world = World::new().await;
    let list = |name| path(name, CERTIFICATES, 401, &[]).by(By::Nobody);
    let agent = &world.agent.id;
    let cases = vec![
        list("an empty header").header("authorization", ""),
        list("a scheme alone").header("authorization", "Bearer"),
        list("no scheme").header("authorization", world.app.admin_key()),
        list("another scheme").header("authorization", "Digest x"),
        list("a header that is no text").header("authorization", b"\xff\xfe"),
        list("a long key").header("authorization", format!("Bearer {}", "x".repeat(10_000))),
        list("a prefix alone").header("authorization", "Bearer ctl_"),
        list("an agent's prefix alone").header("authorization", "Bearer cta_"),
        list("an agent without secret").header("authorization", format!("Bearer cta_{agent}")),
        list("an agent with an empty secret")
            .header("authorization", format!("Bearer cta_{agent}.")),
        list("an agent that is no id").header("authorization", "Bearer cta_../x.y"),
        list("an agent that is unknown").header("authorization", "Bearer cta_agt-none.y"),
        list("a join token").header("authorization", format!("Bearer {}", world.join_token)),
        list("a session as key").header("authorization", "Bearer cts_x"),
        list("an empty cookie").header("cookie", "__Host-certctl_session="),
        list("an unknown session").header("cookie", "__Host-certctl_session=cts_x"),
        list("a key as session").header(
            "cookie",
            format!("__Host-certctl_session={}", world.app.admin_key()),
        ),
        list("a cookie that is no text").header("cookie", b"__Host-certctl_session=\xff"),
        list("another cookie").header("cookie", "session=cts_x; ;;=;"),
    ];
    world.refuse(cases).await;
}

/// Headers that nothing here reads do no harm.
#[tokio::test]
async fn headers_that_are_not_read_do_no_harm() {
    let world = World::new().await;
    for (name, value) in [
        ("content-type", b"text/plain; charset=\xff".as_slice()),
        ("content-encoding", b"gzip"),
        ("x-request-id", b"../../etc"),
        ("accept", b"\xff"),
        ("expect", b"the unexpected"),
        ("if-none-match", b"\xff"),
    ] {
        let call = world.app.admin("GET", CERTIFICATES).header(name, value);
        let answer = call.send().await;
        assert_ne!(answer.headers["x-request-id"], "../../etc");
        answer.expect(200);
    }
}
