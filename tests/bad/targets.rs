//! Targets.

use super::*;

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
                &["name", "printable"],
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
    let nginx = |name: &str, cert: &str, key: &str| {
        let config = json!({"cert_path": cert, "key_path": key, "endpoints": ["localhost:443"]});
        json!({"name": name, "type": "NGINX", "agent_id": world.agent.id, "config": config})
    };
    let first = nginx("nginx", "/etc/nginx/tls/a.pem", "/etc/nginx/tls/a.key");
    let first = world.app.post(TARGETS, first).await.expect(201);
    let paths = |name, cert: &str, key: &str, path: &'static str| {
        let text = nginx("second", cert, key).to_string();
        body(name, at, text, &["config: ", path, "(nginx) on that agent"]).status(409)
    };
    let (a, b) = ("/etc/nginx/tls/a.pem", "/etc/nginx/tls/a.key");
    world
        .refuse(vec![
            paths("another target's certificate", a, "/etc/nginx/tls/b.key", a),
            paths("another target's key", "/etc/nginx/tls/b.pem", b, b),
            paths(
                "another target's key for a certificate",
                b,
                "/etc/nginx/tls/b.key",
                b,
            ),
        ])
        .await;
    // Another agent has other files; and a target may keep its own.
    let other = world.app.agent("other").await;
    let mut elsewhere = nginx("elsewhere", a, b);
    elsewhere["agent_id"] = json!(other.id);
    world.app.post(TARGETS, elsewhere).await.expect(201);
    let own = format!("{TARGETS}/{}", crate::support::text(&first["id"]));
    let same = json!({"config": {"cert_path": a, "key_path": b, "endpoints": ["localhost:8443"]}});
    world
        .app
        .admin("PUT", &own)
        .json(&same)
        .send()
        .await
        .expect(200);
    world.refuse(vec![taken]).await;
}
