//! What is no body of JSON, for every route that reads one.

use super::*;

#[tokio::test]
async fn bodies_that_are_no_json() {
    let world = World::new().await;
    let routes = [
        (CERTIFICATES.to_owned(), By::Admin),
        (format!("{CERTIFICATES}/web/versions"), By::Admin),
        (TARGETS.to_owned(), By::Admin),
        (TOKENS.to_owned(), By::Admin),
        (ENROL.to_owned(), By::Nobody),
        (world.observations(), By::Agent),
        (world.job(&world.deployment, "lease"), By::Agent),
        (world.job(&world.issuance, "csr"), By::Agent),
        (world.job(&world.deployment, "report"), By::Agent),
    ];
    let deep = |open: &str, close: &str| open.repeat(300) + &close.repeat(300);
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
async fn fields_that_no_call_has() {
    let world = World::new().await;
    let issuer = json!({
        "name": "x", "type": "GenericCA", "config": {"ca_cert_pem": "", "ca_cert": "", "key": 1},
    });
    let many = (0..500).map(|n| (format!("{n}{}", "x".repeat(200)), json!(1)));
    let many = serde_json::to_vec(&Value::from_iter(many)).unwrap();
    let revoke = format!("{CERTIFICATES}/web/revoke");
    let cases = vec![
        body(
            "one",
            CERTIFICATES,
            r#"{"name": "x", "issuer": "y"}"#,
            &["issuer", "openapi.json"],
        ),
        body(
            "two",
            TARGETS,
            r#"{"name": "x", "type": "File", "agent_id": "a", "kind": 1, "agent": 2}"#,
            &["kind, agent:"],
        ),
        body(
            "within an object",
            "/api/v1/issuers",
            serde_json::to_vec(&issuer).unwrap(),
            &["config.ca_cert, config.key:"],
        ),
        body("in another case", TOKENS, r#"{"Name": "x"}"#, &["Name:"]),
        body("many", TOKENS, many, &["and 490 more"]),
        body(
            "where no body is needed",
            &revoke,
            r#"{"why": 1}"#,
            &["why:"],
        ),
        body(
            "a wrong type within",
            "/api/v1/issuers",
            r#"{"name": "x", "type": "GenericCA", "config": {"ca_key_pem": 7}}"#,
            &["config.ca_key_pem:", "a string"],
        ),
        body(
            "a wrong type in a list",
            CERTIFICATES,
            r#"{"sans": ["x", {}]}"#,
            &["sans[1]:", "a string"],
        ),
        body(
            "a field twice",
            CERTIFICATES,
            r#"{"name": "x", "name": "y"}"#,
            &["name", "duplicate"],
        ),
    ];
    world.refuse(cases).await;
}
