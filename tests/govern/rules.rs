//! Policy rules: what they keep from being, and what they only tell.

use super::request;
use crate::support::{MINUTE, TestApp, text, time};
use certctl::pki::KeyAlgorithm;
use serde_json::{Value, json};

async fn rule(app: &TestApp, kind: &str, config: Value, severity: &str) {
    let body = json!({
        "id": "rule", "name": "The rule", "type": kind, "config": config, "severity": severity,
    });
    app.post("/api/v1/policies", body).await.expect(201);
}

fn with(id: &str, fields: Value) -> Value {
    let mut body = json!({"id": id, "name": id, "common_name": "web.example.org"});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// A type of rule, its configuration, certificates it takes, and those it does not with the reason.
type Case = (&'static str, Value, Vec<Value>, Vec<(Value, &'static str)>);

fn cases() -> Vec<Case> {
    let named = |cn: &str| json!({"common_name": cn});
    vec![
        (
            "AllowedIssuers",
            json!({"allowed_issuer_ids": ["iss-local"]}),
            vec![json!({})],
            vec![],
        ),
        (
            "AllowedIssuers",
            json!({"allowed_issuer_ids": ["corp"]}),
            vec![],
            vec![(
                json!({}),
                "issuer_id: policy rule The rule (rule): issuer iss-local is none of corp",
            )],
        ),
        (
            "AllowedDomains",
            json!({"allowed_domains": ["example.org", "*.example.org", ".deep.org", "192.0.2.1"]}),
            vec![
                named("example.org"),
                named("web.example.org"),
                named("*.example.org"),
                named("a.deep.org"),
                named("a.b.c.deep.org"),
                named("192.0.2.1"),
                named("mail@example.org"),
                json!({"sans": ["spiffe://web.example.org/x", "https://a.b.deep.org:8443/"]}),
            ],
            vec![
                (
                    named("a.b.example.org"),
                    "sans: policy rule The rule (rule): name a.b.example.org is in none of",
                ),
                (named("deep.org"), "deep.org is in none of"),
                (named("notdeep.org"), "notdeep.org is in none of"),
                (
                    named("example.org.evil.net"),
                    "example.org.evil.net is in none of",
                ),
                (named("192.0.2.10"), "192.0.2.10 is in none of"),
                (named("mail@example.net"), "mail@example.net is in none of"),
                (
                    json!({"sans": ["https://example.net/example.org"]}),
                    "is in none of",
                ),
            ],
        ),
        (
            "RequiredMetadata",
            json!({"required_keys": ["cost-centre", "owner_id"]}),
            vec![json!({"tags": {"cost-centre": "7"}, "owner_id": "ada"})],
            vec![
                (json!({"tags": {"cost-centre": "7"}}), "owner_id is missing"),
                (
                    json!({"tags": {"cost-centre": ""}, "owner_id": "ada"}),
                    "tags: policy rule The rule (rule): cost-centre is missing",
                ),
            ],
        ),
        (
            "AllowedEnvironments",
            json!({"allowed": ["production", "staging"]}),
            vec![json!({"environment": "staging"})],
            vec![
                (
                    json!({"environment": "dev"}),
                    "environment: policy rule The rule (rule): environment \"dev\" is none of production, staging",
                ),
                (json!({}), "environment \"\" is none of"),
            ],
        ),
        (
            "CertificateLifetime",
            json!({"max_days": 90}),
            vec![json!({})],
            vec![],
        ),
        (
            "CertificateLifetime",
            json!({"max_days": 47}),
            vec![],
            vec![(
                json!({}),
                "certificate_profile_id: policy rule The rule (rule): profile prof-default asks for 90 days, more than 47 days",
            )],
        ),
    ]
}

#[tokio::test]
async fn each_type_says_what_it_does_not_take() {
    for (kind, config, taken, refused) in cases() {
        let app = TestApp::start().await;
        rule(&app, kind, config.clone(), "Error").await;
        for (n, fields) in taken.into_iter().enumerate() {
            let body = with(&format!("good-{n}"), fields);
            app.post("/api/v1/certificates", body).await.expect(201);
        }
        let seq = app.seq();
        for (fields, says) in refused {
            let told = app
                .post("/api/v1/certificates", with("bad", fields))
                .await
                .refused(400);
            assert!(told.contains(says), "{kind} {config}: {told}");
        }
        assert_eq!(app.seq(), seq);
        app.check().await;
    }
}

#[tokio::test]
async fn a_lead_time_is_of_those_that_an_agent_renews() {
    let app = TestApp::start().await;
    rule(
        &app,
        "RenewalLeadTime",
        json!({"lead_time_days": 35}),
        "Critical",
    )
    .await;
    // Whoever holds the key outside renews by sending a CSR.
    app.post("/api/v1/certificates", with("outside", json!({})))
        .await
        .expect(201);
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    let on_target = |policy: &str| {
        with(
            "web",
            json!({"target_ids": [target], "renewal_policy_id": policy}),
        )
    };
    let told = app
        .post("/api/v1/certificates", on_target("rp-default"))
        .await
        .refused(400);
    let says = "renewal_policy_id: policy rule The rule (rule): its renewal is due 31 days before \
                the end, not 35 days";
    assert_eq!(told, says);
    for (id, fields) in [
        ("early", json!({"renewal_window_days": 35})),
        (
            "by-hand",
            json!({"auto_renew": false, "renewal_window_days": 40}),
        ),
    ] {
        let mut body = json!({"id": id, "name": id});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        app.post("/api/v1/renewal-policies", body).await.expect(201);
    }
    let told = app
        .post("/api/v1/certificates", on_target("by-hand"))
        .await
        .refused(400);
    assert!(
        told.contains("renewal policy by-hand does not renew"),
        "{told}"
    );
    app.post("/api/v1/certificates", on_target("early"))
        .await
        .expect(201);
    app.check().await;
}

#[tokio::test]
async fn a_warning_is_told_and_keeps_nothing_back() {
    let app = TestApp::start().await;
    rule(
        &app,
        "AllowedEnvironments",
        json!({"allowed": ["production"]}),
        "Warning",
    )
    .await;
    let body = with("web", json!({"environment": "dev"}));
    let made = app.post("/api/v1/certificates", body).await.expect(201);
    let says = json!(["The rule (rule): environment \"dev\" is none of production"]);
    assert_eq!(made["warnings"], says);
    assert_eq!(app.shown("web").await["warnings"], says);
    app.post(
        "/api/v1/certificates/web/versions",
        request(KeyAlgorithm::EcdsaP256),
    )
    .await
    .expect(201);
    let change = json!({"environment": "production"});
    let edited = app
        .put("/api/v1/certificates/web", change)
        .await
        .expect(200);
    assert_eq!(edited.get("warnings"), None);
    app.check().await;
}

#[tokio::test]
async fn violations_are_those_of_now() {
    let mut app = TestApp::start().await;
    for id in ["one", "two", "three"] {
        app.post("/api/v1/certificates", with(id, json!({"environment": id})))
            .await
            .expect(201);
        app.advance(MINUTE);
    }
    rule(
        &app,
        "AllowedEnvironments",
        json!({"allowed": ["one"]}),
        "Error",
    )
    .await;
    let path = "/api/v1/policies/rule/violations";
    let of = |rows: &[Value]| -> Vec<String> {
        rows.iter()
            .map(|row| text(&row["certificate_id"]))
            .collect()
    };
    let rows = app.list(path).await;
    assert_eq!(of(&rows), ["three", "two"]);
    assert_eq!(rows[0]["rule_id"], "rule");
    assert_eq!(rows[0]["severity"], "Error");
    assert_eq!(rows[0]["message"], "environment \"three\" is none of one");
    assert!(text(&rows[0]["id"]).starts_with("violation-"));
    assert_eq!(time(&rows[0]["created_at"]), app.now());
    app.restart().await;
    assert_eq!(app.list(path).await, rows);
    // Page by page.
    let first = app.get(&format!("{path}?per_page=1")).await;
    assert_eq!(of(first["data"].as_array().unwrap()), ["three"]);
    let next = text(&first["next_cursor"]);
    let second = app.list(&format!("{path}?per_page=1&cursor={next}")).await;
    assert_eq!(of(&second), ["two"]);
    // An edit of the certificate, of the rule, and the end of a certificate.
    app.put("/api/v1/certificates/two", json!({"environment": "one"}))
        .await
        .expect(200);
    assert_eq!(of(&app.list(path).await), ["three"]);
    let config = json!({"allowed": ["three"]});
    app.put("/api/v1/policies/rule", json!({"config": config}))
        .await
        .expect(200);
    assert_eq!(of(&app.list(path).await), ["two", "one"]);
    app.admin("DELETE", "/api/v1/certificates/two")
        .send()
        .await
        .expect(204);
    assert_eq!(of(&app.list(path).await), ["one"]);
    app.put("/api/v1/policies/rule", json!({"enabled": false}))
        .await
        .expect(200);
    assert_eq!(app.list(path).await.len(), 0);
    app.check().await;
}

#[tokio::test]
async fn a_rule_made_later_keeps_edits_and_versions_back() {
    let app = TestApp::start().await;
    app.post("/api/v1/certificates", with("web", json!({})))
        .await
        .expect(201);
    let path = "/api/v1/certificates/web/versions";
    app.post(path, request(KeyAlgorithm::EcdsaP256))
        .await
        .expect(201);
    rule(
        &app,
        "RequiredMetadata",
        json!({"required_keys": ["cost-centre"]}),
        "Error",
    )
    .await;
    let told = app
        .post(path, request(KeyAlgorithm::EcdsaP256))
        .await
        .refused(409);
    assert_eq!(told, "policy rule The rule (rule): cost-centre is missing");
    let one = "/api/v1/certificates/web";
    app.put(one, json!({"environment": "dev"}))
        .await
        .refused(400);
    app.put(one, json!({"tags": {"cost-centre": "7"}}))
        .await
        .expect(200);
    app.post(path, request(KeyAlgorithm::EcdsaP256))
        .await
        .expect(201);
    app.check().await;
}

#[tokio::test]
async fn what_failed_for_a_rule_is_tried_again_when_the_rule_goes() {
    let mut app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.post(
        "/api/v1/certificates",
        with("web", json!({"target_ids": [target]})),
    )
    .await
    .expect(201);
    rule(
        &app,
        "AllowedEnvironments",
        json!({"allowed": ["production"]}),
        "Error",
    )
    .await;
    agent.run(&app).await;
    assert_eq!(app.status("web").await, "Failed");
    app.admin("DELETE", "/api/v1/policies/rule")
        .send()
        .await
        .expect(204);
    app.step().await;
    app.tick().await;
    agent.run(&app).await;
    assert_eq!(app.status("web").await, "Active");
    app.check().await;
}

/// Rules are changed and versions are issued at once: none is issued against a rule whose making
/// was acknowledged before it was asked for.
#[tokio::test]
async fn a_rule_holds_from_its_acknowledgement_on() {
    let app = TestApp::start().await;
    app.post("/api/v1/certificates", with("web", json!({})))
        .await
        .expect(201);
    let path = "/api/v1/certificates/web/versions";
    for round in 0..8 {
        let issue = async {
            let mut issued = 0;
            for _ in 0..4 {
                let answer = app.post(path, request(KeyAlgorithm::EcdsaP256)).await;
                issued += usize::from(answer.status == 201);
            }
            issued
        };
        let forbid = rule(
            &app,
            "AllowedEnvironments",
            json!({"allowed": ["x"]}),
            "Error",
        );
        tokio::join!(issue, forbid);
        let answer = app.post(path, request(KeyAlgorithm::EcdsaP256)).await;
        answer.refused(409);
        app.admin("DELETE", "/api/v1/policies/rule")
            .send()
            .await
            .expect(204);
        let answer = app.post(path, request(KeyAlgorithm::EcdsaP256)).await;
        assert_eq!(answer.status, 201, "round {round}: {}", answer.body);
    }
    app.check().await;
}
