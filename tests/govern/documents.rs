//! Making, reading, editing and deleting, the same for all kinds.

use crate::support::{TestApp, text};
use serde_json::{Value, json};

/// (path, a body that is taken, a field of it, another value for the field)
fn kinds() -> Vec<(&'static str, Value, &'static str, Value)> {
    vec![
        (
            "profiles",
            json!({
                "id": "x", "name": "TLS", "description": "servers", "max_ttl_seconds": 86_400,
                "allowed_key_algorithms": [{"algorithm": "ECDSA", "min_size": 384}],
                "allowed_ekus": ["serverAuth", "clientAuth"],
                "required_san_patterns": ["[a-z]+\\.example\\.org"],
            }),
            "max_ttl_seconds",
            json!(172_800),
        ),
        (
            "renewal-policies",
            json!({
                "id": "x", "name": "Early", "renewal_window_days": 20, "max_retries": 3,
                "retry_interval_seconds": 600, "alert_thresholds_days": [10, 5],
                "alert_channels": {"critical": ["Email", "Slack"]},
                "alert_severity_map": {"10": "warning", "5": "critical"},
                "certificate_profile_id": "prof-default", "auto_renew": false,
            }),
            "auto_renew",
            json!(true),
        ),
        (
            "policies",
            json!({
                "id": "x", "name": "Ours", "type": "AllowedDomains", "enabled": true,
                "config": {"allowed_domains": ["example.org", ".example.org"]},
                "severity": "Warning",
            }),
            "enabled",
            json!(false),
        ),
        (
            "teams",
            json!({"id": "x", "name": "Platform", "description": "runs it"}),
            "description",
            json!("runs all"),
        ),
        (
            "owners",
            json!({"id": "x", "name": "Ada", "email": "ada@example.org", "team_id": "x"}),
            "email",
            json!("ada@example.net"),
        ),
    ]
}

#[tokio::test]
async fn each_is_made_shown_listed_edited_and_deleted() {
    let mut app = TestApp::start().await;
    let before = app.actions().await.len();
    for (kind, body, field, other) in kinds() {
        let path = format!("/api/v1/{kind}");
        let made = app.post(&path, body.clone()).await.expect(201);
        for (name, value) in body.as_object().unwrap() {
            assert_eq!(made[name], *value, "{kind}.{name}");
        }
        let one = format!("{path}/x");
        assert_eq!(app.get(&one).await, made, "{kind}");
        let listed = app.list(&path).await;
        assert!(listed.contains(&made), "{kind}");
        app.post(&path, body.clone()).await.refused(409);

        // What is absent stays; what stays is no edit.
        let seq = app.seq();
        let same = app.put(&one, json!({"name": body["name"]})).await;
        assert_eq!(same.expect(200), made, "{kind}");
        assert_eq!(app.seq(), seq, "{kind}");
        let edited = app.put(&one, json!({field: other})).await.expect(200);
        assert_eq!(edited[field], other, "{kind}");
        assert_eq!(edited["name"], body["name"], "{kind}");
        // All that was answered may be sent back.
        let again = app.put(&one, edited.clone()).await.expect(200);
        assert_eq!(again, edited, "{kind}");
        app.restart().await;
        let kept = app.get(&one).await;
        assert_eq!(kept["name"], body["name"]);
        assert_eq!(kept[field], other);
        app.admin("GET", &format!("{path}/nosuch"))
            .send()
            .await
            .refused(404);
        app.put(&format!("{path}/nosuch"), json!({}))
            .await
            .refused(404);
        let gone = app.admin("DELETE", &format!("{path}/nosuch")).send().await;
        gone.refused(404);
    }
    app.tick().await;
    for (kind, ..) in kinds().into_iter().rev() {
        let one = format!("/api/v1/{kind}/x");
        app.admin("DELETE", &one).send().await.expect(204);
        app.admin("GET", &one).send().await.refused(404);
    }
    let told = app.actions().await.split_off(before);
    for action in [
        "profile_created",
        "renewal_policy_edited",
        "policy_rule_deleted",
        "owner_created",
        "team_deleted",
    ] {
        assert!(told.contains(&action.to_owned()), "{action} in {told:?}");
    }
    app.check().await;
}

#[tokio::test]
async fn an_edit_tells_what_was_and_what_is() {
    let app = TestApp::start().await;
    let one = "/api/v1/renewal-policies/rp-default";
    app.put(one, json!({"renewal_window_days": 20}))
        .await
        .expect(200);
    let events = app.list("/api/v1/audit").await;
    let edited = events
        .iter()
        .find(|e| e["action"] == "renewal_policy_edited");
    let details = &edited.unwrap()["details"];
    assert_eq!(*details, json!({"renewal_window_days": "0 -> 20"}));
    app.check().await;
}

#[tokio::test]
async fn what_is_used_is_not_deleted() {
    let app = TestApp::start().await;
    for (kind, body) in [
        ("teams", json!({"id": "t", "name": "t"})),
        ("owners", json!({"id": "o", "name": "o", "team_id": "t"})),
        ("profiles", json!({"id": "p", "name": "p"})),
        ("renewal-policies", json!({"id": "r", "name": "r"})),
    ] {
        app.post(&format!("/api/v1/{kind}"), body).await.expect(201);
    }
    let body = json!({
        "id": "web", "name": "web", "common_name": "web.example.org", "owner_id": "o",
        "certificate_profile_id": "p", "renewal_policy_id": "r",
    });
    app.post("/api/v1/certificates", body).await.expect(201);
    let seq = app.seq();
    for (one, user) in [
        ("profiles/p", "1 certificate(s)"),
        ("renewal-policies/r", "1 certificate(s)"),
        ("owners/o", "1 certificate(s)"),
        ("teams/t", "1 owner(s)"),
        ("profiles/prof-default", "stays"),
        ("renewal-policies/rp-default", "stays"),
    ] {
        let answer = app.admin("DELETE", &format!("/api/v1/{one}")).send().await;
        let told = answer.refused(409);
        assert!(told.contains(user), "{one}: {told}");
    }
    assert_eq!(app.seq(), seq);
    let change = json!({
        "owner_id": "", "certificate_profile_id": "prof-default",
        "renewal_policy_id": "rp-default",
    });
    app.put("/api/v1/certificates/web", change)
        .await
        .expect(200);
    for one in ["profiles/p", "renewal-policies/r", "owners/o", "teams/t"] {
        let answer = app.admin("DELETE", &format!("/api/v1/{one}")).send().await;
        answer.expect(204);
    }
    app.check().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_its_field() {
    let app = TestApp::start().await;
    let rule = |kind: &str, config: Value| json!({"name": "r", "type": kind, "config": config});
    let profile = |field: &str, value: Value| json!({"name": "p", field: value});
    let policy = profile;
    let seq = app.seq();
    for (kind, body, says) in [
        ("profiles", json!({}), "name: 1 to 255"),
        ("profiles", json!({"name": "a\u{7}"}), "name: 1 to 255"),
        ("profiles", json!({"name": "a", "id": "no id"}), "id: "),
        (
            "profiles",
            profile(
                "allowed_key_algorithms",
                json!([{"algorithm": "RSA", "min_size": 1024}]),
            ),
            "allowed_key_algorithms: RSA keys below 2048 bits are weak",
        ),
        (
            "profiles",
            profile(
                "allowed_key_algorithms",
                json!([{"algorithm": "ECDSA", "min_size": 521}]),
            ),
            "allowed_key_algorithms: no ECDSA key of 521 bits",
        ),
        (
            "profiles",
            profile("allowed_key_algorithms", json!([{"algorithm": "DSA"}])),
            "allowed_key_algorithms: \"DSA\" is none of",
        ),
        (
            "profiles",
            profile("allowed_key_algorithms", json!([])),
            "at least one kind",
        ),
        (
            "profiles",
            profile("allowed_ekus", json!(["anything"])),
            "allowed_ekus: \"anything\" is none of serverAuth",
        ),
        (
            "profiles",
            profile("allowed_ekus", json!([])),
            "allowed_ekus: at least one",
        ),
        (
            "profiles",
            profile("allowed_ekus", json!(["timeStamping", "serverAuth"])),
            "stands alone",
        ),
        (
            "profiles",
            profile("max_ttl_seconds", json!(5)),
            "max_ttl_seconds: 5 is not",
        ),
        (
            "profiles",
            profile("max_ttl_seconds", json!(-1)),
            "max_ttl_seconds",
        ),
        (
            "profiles",
            profile("max_ttl_seconds", json!(1_800)),
            "lifetime_seconds: 1800",
        ),
        (
            "profiles",
            profile("lifetime_seconds", json!(1)),
            "lifetime_seconds: 1 is not",
        ),
        (
            "profiles",
            json!({"name": "p", "lifetime_seconds": 7_200, "max_ttl_seconds": 3_600}),
            "lifetime_seconds: 7200 is longer",
        ),
        (
            "profiles",
            profile("allow_short_lived", json!(true)),
            "allow_short_lived: ",
        ),
        (
            "profiles",
            profile("required_san_patterns", json!(["("])),
            "required_san_patterns: \"(\" is no regular expression",
        ),
        (
            "profiles",
            profile("required_san_patterns", json!(["a)|(.*"])),
            "required_san_patterns: ",
        ),
        (
            "profiles",
            profile("required_san_patterns", json!(["a".repeat(513)])),
            "required_san_patterns: a pattern has",
        ),
        (
            "profiles",
            profile("required_san_patterns", json!(["(\\w{1000}){1000}"])),
            "required_san_patterns: ",
        ),
        (
            "profiles",
            profile("spiffe_uri_pattern", json!("[")),
            "spiffe_uri_pattern: ",
        ),
        (
            "profiles",
            profile("must_staple", json!(true)),
            "must_staple: not available",
        ),
        (
            "profiles",
            profile("requires_approval", json!(true)),
            "requires_approval: not",
        ),
        (
            "profiles",
            profile("required_csr_attributes", json!(["serialNumber"])),
            "required_csr_attributes: not",
        ),
        (
            "profiles",
            profile("acme_auth_mode", json!("challenge")),
            "acme_auth_mode: not",
        ),
        ("renewal-policies", json!({}), "name: 1 to 255"),
        (
            "renewal-policies",
            policy("renewal_window_days", json!(366)),
            "renewal_window_days: 366 is not 0 to 365",
        ),
        (
            "renewal-policies",
            policy("max_retries", json!(11)),
            "max_retries: 11 is not",
        ),
        (
            "renewal-policies",
            policy("retry_interval_seconds", json!(59)),
            "retry_interval_seconds: 59 is not 60 to 86400",
        ),
        (
            "renewal-policies",
            policy("renew_left_permille", json!(0)),
            "renew_left_permille: 0 is not 1 to 900",
        ),
        (
            "renewal-policies",
            policy("alert_thresholds_days", json!([366])),
            "alert_thresholds_days: 366",
        ),
        (
            "renewal-policies",
            policy("alert_channels", json!({"loud": ["Email"]})),
            "alert_channels: \"loud\" is none of",
        ),
        (
            "renewal-policies",
            policy("alert_channels", json!({"critical": ["Pigeon"]})),
            "alert_channels: \"Pigeon\" is none of",
        ),
        (
            "renewal-policies",
            policy("alert_severity_map", json!({"x": "critical"})),
            "alert_severity_map: \"x\" is no number",
        ),
        (
            "renewal-policies",
            policy("certificate_profile_id", json!("nosuch")),
            "certificate_profile_id: there is no nosuch",
        ),
        ("policies", json!({"name": "r"}), "type: it is required"),
        (
            "policies",
            rule("Wishes", json!({})),
            "type: \"Wishes\" is none of",
        ),
        ("policies", rule("AllowedIssuers", json!({})), "config: "),
        (
            "policies",
            rule("AllowedIssuers", json!({"allowed_issuer_ids": []})),
            "config: 1 to 200 entries",
        ),
        (
            "policies",
            rule(
                "AllowedIssuers",
                json!({"allowed_issuer_ids": ["a"], "more": 1}),
            ),
            "unknown field more",
        ),
        (
            "policies",
            rule("AllowedDomains", json!({"allowed_domains": ["*.*.org"]})),
            "config: ",
        ),
        (
            "policies",
            rule(
                "AllowedDomains",
                json!({"allowed_domains": ["https://example.org"]}),
            ),
            "is no domain",
        ),
        (
            "policies",
            rule("CertificateLifetime", json!({"max_days": 0})),
            "config: 0 is not 1 to 3650",
        ),
        (
            "policies",
            rule("CertificateLifetime", json!({"max_days": "90"})),
            "config: ",
        ),
        (
            "policies",
            json!({
                "name": "r", "type": "CertificateLifetime", "config": {"max_days": 1},
                "severity": "Fatal",
            }),
            "severity: \"Fatal\" is none of",
        ),
        ("owners", json!({"name": "o", "email": "nobody"}), "email: "),
        (
            "owners",
            json!({"name": "o", "team_id": "nosuch"}),
            "team_id: there is no nosuch",
        ),
        (
            "owners",
            json!({"email": "o@example.org"}),
            "name: 1 to 255",
        ),
        ("teams", json!({"name": ""}), "name: 1 to 255"),
        (
            "teams",
            json!({"name": "t", "description": "x\u{1b}[31m"}),
            "description: ",
        ),
    ] {
        let answer = app.post(&format!("/api/v1/{kind}"), body.clone()).await;
        let told = answer.refused(400);
        assert!(told.contains(says), "{kind} {body}: {told}");
    }
    assert_eq!(app.seq(), seq);
    // A name is taken once.
    app.post("/api/v1/profiles", json!({"name": "Default"}))
        .await
        .refused(409);
    app.post("/api/v1/renewal-policies", json!({"name": "Default"}))
        .await
        .refused(409);
    app.check().await;
}

#[tokio::test]
async fn lists_come_in_pages_by_name() {
    let app = TestApp::start().await;
    for n in 0..7 {
        app.post("/api/v1/teams", json!({"name": format!("team-{n}")}))
            .await
            .expect(201);
    }
    let page = app.get("/api/v1/teams?per_page=3&page=2").await;
    assert_eq!(page["total"], 7);
    let names: Vec<String> = page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| text(&t["name"]))
        .collect();
    assert_eq!(names, ["team-3", "team-4", "team-5"]);
    assert_eq!(app.list("/api/v1/teams?per_page=3&page=9").await.len(), 0);
    assert_eq!(app.list("/api/v1/owners").await.len(), 0);
}
