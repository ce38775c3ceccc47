//! Calls on many at once, edits, exports, and what is asked of the audit log.

use super::*;

#[tokio::test]
async fn calls_on_many() {
    let world = World::new().await;
    let at = |call: &str| format!("{CERTIFICATES}/{call}");
    let revoke = |name, value: Value, says| {
        body(
            name,
            "/api/v1/certificates/bulk-revoke",
            value.to_string(),
            says,
        )
    };
    let renew = |name, value: Value, says| {
        body(
            name,
            "/api/v1/certificates/bulk-renew",
            value.to_string(),
            says,
        )
    };
    let assign = |name, value: Value, says| {
        body(
            name,
            "/api/v1/certificates/bulk-reassign",
            value.to_string(),
            says,
        )
    };
    let export =
        |name, value: Value, says| body(name, &at("web/export/pkcs12"), value.to_string(), says);
    world
        .refuse(vec![
            revoke(
                "no choice",
                json!({"reason": "superseded"}),
                &["certificate_ids"],
            ),
            revoke(
                "an unknown reason for many",
                json!({"reason": "boredom", "certificate_ids": ["web"]}),
                &["reason", "boredom"],
            ),
            revoke(
                "ids of another type",
                json!({"reason": "superseded", "certificate_ids": "web"}),
                &["sequence"],
            ),
            renew("nothing to renew", json!({}), &["certificate_ids"]),
            renew("a list for an object", json!([]), &["JSON"]),
            assign(
                "nobody to assign to",
                json!({"certificate_ids": ["web"]}),
                &["owner_id"],
            ),
            assign(
                "nothing to assign",
                json!({"owner_id": "o"}),
                &["certificate_ids"],
            ),
            export(
                "a password of another type",
                json!({"password": 1}),
                &["password"],
            ),
            export(
                "a password with a NUL",
                json!({"password": "a\0b"}),
                &["password"],
            ),
        ])
        .await;
}

#[tokio::test]
async fn the_audit_log_and_statistics() {
    let world = World::new().await;
    let audit = |name, query: &str, says| path(name, &format!("/api/v1/audit?{query}"), 400, says);
    let export =
        |name, query: &str, says| path(name, &format!("/api/v1/audit/export?{query}"), 400, says);
    let days = "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z";
    world
        .refuse(vec![
            audit(
                "an unknown category",
                "category=weather",
                &["category", "weather"],
            ),
            audit("a moment that is none", "since=yesterday", &["since"]),
            audit("an end that is none", "until=1", &["until"]),
            audit(
                "an end before the beginning",
                "since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z",
                &["until"],
            ),
            audit("a cursor that is none", "cursor=x", &["cursor"]),
            export("no times", "", &["from"]),
            export("no end", "from=2026-01-01T00:00:00Z", &["to"]),
            export(
                "too long a time",
                "from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z",
                &["to", "90 days"],
            ),
            export("a limit of nothing", &format!("{days}&limit=0"), &["limit"]),
            export(
                "a limit beyond limits",
                &format!("{days}&limit=100001"),
                &["limit"],
            ),
            path("no event", "/api/v1/audit/99999999", 404, &["event"]),
            path("an event that is none", "/api/v1/audit/x", 404, &["event"]),
        ])
        .await;
}

#[tokio::test]
async fn edits() {
    let world = World::new().await;
    let target = crate::support::text(&world.app.list(TARGETS).await[0]["id"]);
    let put = |name, at: String, value: Value, status, says| Case {
        method: "PUT",
        ..body(name, &at, value.to_string(), says).status(status)
    };
    let to_target =
        |name, value: Value, says| put(name, format!("{TARGETS}/{target}"), value, 400, says);
    let to_issuer =
        |name, value: Value, says| put(name, "/api/v1/issuers/iss-local".into(), value, 400, says);
    world
        .refuse(vec![
            to_target(
                "an unknown type",
                json!({"type": "Toaster"}),
                &["type", "Toaster"],
            ),
            to_target(
                "an unknown setting",
                json!({"config": {"colour": 1}}),
                &["config.colour"],
            ),
            to_target(
                "a long name",
                json!({"name": "x".repeat(256)}),
                &["name: 1 to 255"],
            ),
            to_target("a list", json!([]), &["JSON"]),
            put(
                "no target",
                format!("{TARGETS}/none"),
                json!({"name": "n"}),
                404,
                &["target", "none"],
            ),
            to_issuer("an empty name", json!({"name": ""}), &["name"]),
            to_issuer("a name of another type", json!({"name": 1}), &["name"]),
            put(
                "no issuer",
                "/api/v1/issuers/none".into(),
                json!({"name": "n"}),
                404,
                &["issuer", "none"],
            ),
            body(
                "a test of no issuer",
                "/api/v1/issuers/none/test",
                "",
                &["issuer", "none"],
            )
            .status(404),
            Case {
                method: "DELETE",
                ..path(
                    "no issuer to delete",
                    "/api/v1/issuers/none",
                    404,
                    &["issuer", "none"],
                )
            },
            Case {
                method: "DELETE",
                ..path(
                    "an issuer in use",
                    "/api/v1/issuers/iss-local",
                    403,
                    &["iss-local"],
                )
            },
        ])
        .await;
}
