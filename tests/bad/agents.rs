//! Join tokens, enrolments and reports.

use super::*;

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
        tokens(
            "a NUL in the name",
            json!({"name": "\0"}),
            &["name", "printable"],
        ),
        tokens(
            "an escape in the name",
            json!({"name": "\u{1b}]0;x"}),
            &["name", "printable"],
        ),
        tokens("no name to be for", json!({"for": ""}), &["for: ", "web-*"]),
        tokens("a star alone", json!({"for": "*"}), &["for: "]),
        tokens("a star within", json!({"for": "a*b"}), &["for: "]),
        tokens(
            "a long name to be for",
            json!({"for": "x".repeat(129)}),
            &["for: ", "128"],
        ),
        tokens("a NUL to be for", json!({"for": "a\0"}), &["for: "]),
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
    cases.push(enrol("a huge token", "token", json!("x".repeat(3_000))).status(401));
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
async fn observations() {
    let world = World::new().await;
    let at = world.observations();
    let good = json!({
        "target_id": world.deployment.target_id, "certificate_id": "web", "serial": "a1",
        "drift": ["x"], "served": [{"endpoint": "127.0.0.1:443", "chain_ok": true}],
    });
    let told = |name, field: &str, value: Value, says: &[&'static str]| {
        let one: Value = serde_json::from_slice(&with(&good, field, value)).unwrap();
        let text = json!({ "observations": [one] }).to_string();
        body(name, &at, text, says).by(By::Agent)
    };
    let shown = |field: &str, value: Value| {
        let mut one = json!({"endpoint": "127.0.0.1:443", "chain_ok": true});
        one[field] = value;
        json!([one])
    };
    let many = json!({ "observations": vec![&good; 65] }).to_string();
    let cases = vec![
        body("no list", &at, "{}", &["observations"]).by(By::Agent),
        body("many", &at, many, &["observations", "64"]).by(By::Agent),
        told("no target", "target_id", json!("a b"), &["target_id"]),
        told(
            "no certificate",
            "certificate_id",
            Value::Null,
            &["certificate_id"],
        ),
        told("no serial", "serial", json!("xyz"), &["serial"]),
        told(
            "a long serial",
            "serial",
            json!("1".repeat(41)),
            &["serial"],
        ),
        told(
            "much drift",
            "drift",
            json!(vec!["x"; 65]),
            &["64 sentences"],
        ),
        told(
            "a long sentence",
            "drift",
            json!(["x".repeat(2049)]),
            &["2048"],
        ),
        told("a line end", "drift", json!(["a\nb"]), &["printable"]),
        told("a NUL", "drift", json!(["a\0b"]), &["printable"]),
        told(
            "many endpoints",
            "served",
            json!(vec![json!({"endpoint": "x", "chain_ok": false}); 65]),
            &["64 endpoints"],
        ),
        told(
            "no endpoint",
            "served",
            json!([{"chain_ok": true}]),
            &["endpoint"],
        ),
        told(
            "no word of the chain",
            "served",
            json!([{"endpoint": "x"}]),
            &["chain_ok"],
        ),
        told(
            "an odd endpoint",
            "served",
            shown("endpoint", json!("a\u{1b}b")),
            &["printable"],
        ),
        told(
            "an odd serial",
            "served",
            shown("serial", json!("\0")),
            &["printable"],
        ),
        told(
            "an odd error",
            "served",
            shown("error", json!("\r")),
            &["printable"],
        ),
        told(
            "a long fingerprint",
            "served",
            shown("fingerprint_sha256", json!("a".repeat(3000))),
            &["2048"],
        ),
    ];
    world.refuse(cases).await;
}

#[tokio::test]
async fn retirements_and_secrets() {
    let world = World::new().await;
    let agent = format!("/api/v1/agents/{}", world.agent.id);
    let retire = format!("{agent}/retire");
    let forced = |reason: Value| json!({"force": true, "reason": reason}).to_string();
    let next = format!("{agent}/credential");
    let secret = |name, value: Value| {
        let body = json!({ "secret_sha256": value }).to_string();
        self::body(name, &next, body, &["secret_sha256"]).by(By::Agent)
    };
    let mut query = path("a force that is a word", &agent, 400, &["force"]);
    query.method = "DELETE";
    query.path = format!("{agent}?force=yes");
    world
        .refuse(vec![
            query,
            body(
                "force as text",
                &retire,
                json!({"force": "yes"}).to_string(),
                &["force"],
            ),
            body("no reason", &retire, forced(json!("")), &["reason"]),
            body(
                "blanks for a reason",
                &retire,
                forced(json!("  ")),
                &["reason"],
            ),
            body(
                "a long reason",
                &retire,
                forced(json!("x".repeat(513))),
                &["reason", "512"],
            ),
            body(
                "an escape in the reason",
                &retire,
                forced(json!("\u{1b}]0;x")),
                &["reason"],
            ),
            body(
                "a number for a reason",
                &retire,
                forced(json!(1)),
                &["reason", "string"],
            ),
            body("no secret", &next, "{}", &["secret_sha256"]).by(By::Agent),
            secret("an empty secret", json!("")),
            secret("a short secret", json!("ab")),
            secret("a secret in capitals", json!("A".repeat(64))),
            secret("a secret that is none", json!("g".repeat(64))),
        ])
        .await;
}

#[tokio::test]
async fn lists_of_agents() {
    let world = World::new().await;
    let list = |name, query: &str, says| path(name, &format!("/api/v1/agents?{query}"), 400, says);
    world
        .refuse(vec![
            list("an unknown status", "status=well", &["status", "Degraded"]),
            list("a cursor that is none", "cursor=x", &["cursor"]),
            list("two statuses", "status=online&status=offline", &["status"]),
            path(
                "a cursor of tokens",
                "/api/v1/agents/tokens?cursor=x",
                400,
                &["cursor"],
            ),
            path(
                "a cursor of the retired",
                "/api/v1/agents/retired?cursor=x",
                400,
                &["cursor"],
            ),
        ])
        .await;
}
