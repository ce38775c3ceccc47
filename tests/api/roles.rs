//! Roles: the built-in ones stay as they are, others are made, edited and deleted.

use crate::support::{TestApp, text};
use certctl::access::Role;
use serde_json::{Value, json};

const ROLES: &str = "/api/v1/auth/roles";

#[tokio::test]
async fn built_in_roles_are_listed_with_what_they_hold_and_stay_as_they_are() {
    let app = TestApp::start().await;
    let roles = app.get(ROLES).await;
    let ids: Vec<_> = roles["roles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| text(&r["id"]))
        .collect();
    assert_eq!(ids, Role::ALL.map(Role::id));
    let before = app.seq();
    for role in Role::ALL {
        let path = format!("{ROLES}/{}", role.id());
        let shown = app.get(&path).await;
        assert_eq!(shown, app.get(&format!("{ROLES}/{}", role.name())).await);
        let held = shown["permissions"].as_array().unwrap();
        let held: Vec<_> = held.iter().map(|p| text(&p["permission"])).collect();
        assert!(
            role.permissions().iter().map(|p| p.as_str()).eq(held),
            "{}",
            role.id()
        );
        let other = json!({"description": "mine"});
        let more = json!({"permission": "cert.read"});
        for (method, path, body) in [
            ("PUT", path.clone(), other),
            ("DELETE", path.clone(), Value::Null),
            ("POST", format!("{path}/permissions"), more),
            (
                "DELETE",
                format!("{path}/permissions/cert.read"),
                Value::Null,
            ),
        ] {
            let call = app.admin(method, &path).json(&body);
            let message = call.send().await.refused(409);
            assert!(message.contains("part of the program"), "{message}");
        }
    }
    assert_eq!(app.seq(), before);
}

#[tokio::test]
async fn a_role_is_made_edited_used_and_deleted() {
    let app = TestApp::start().await;
    let wish = json!({"name": "Release bots", "description": "CI", "permissions": [
        {"permission": "cert.read"},
        {"permission": "issuer.read", "scope_type": "issuer", "scope_id": "iss-local"},
    ]});
    let made = app.post(ROLES, wish).await.expect(201);
    let id = text(&made["id"]);
    let path = format!("{ROLES}/{id}");
    assert!(id.starts_with("r-"));
    assert_eq!(made["built_in"], false);
    let shown = app.get(&path).await;
    assert_eq!(shown["role"], made);
    let held = json!([
        {"role_id": id, "permission_id": "p-cert-read", "permission": "cert.read",
         "scope_type": "global"},
        {"role_id": id, "permission_id": "p-issuer-read", "permission": "issuer.read",
         "scope_type": "issuer", "scope_id": "iss-local"},
    ]);
    assert_eq!(shown["permissions"], held);

    // What is changed in a role counts from the next request on.
    let (_, bot) = app.made_key("bot", &["release bots"]).await;
    let jobs = || app.call("GET", "/api/v1/jobs").bearer(&bot).send();
    app.call("GET", "/api/v1/certificates")
        .bearer(&bot)
        .send()
        .await
        .expect(200);
    app.call("GET", "/api/v1/issuers/iss-local")
        .bearer(&bot)
        .send()
        .await
        .expect(200);
    jobs().await.refused(403);
    let job_read = json!({"permission": "job.read"});
    app.post(&format!("{path}/permissions"), job_read)
        .await
        .expect(204);
    jobs().await.expect(200);
    let gone = format!("{path}/permissions/job.read");
    app.admin("DELETE", &gone).send().await.expect(204);
    jobs().await.refused(403);
    app.admin("PUT", &path)
        .json(&json!({"permissions": []}))
        .send()
        .await
        .expect(200);
    app.call("GET", "/api/v1/certificates")
        .bearer(&bot)
        .send()
        .await
        .refused(403);

    let renamed = app
        .admin("PUT", &path)
        .json(&json!({"name": "bots"}))
        .send()
        .await
        .expect(200);
    assert_eq!(
        (&renamed["name"], &renamed["description"]),
        (&json!("bots"), &json!("CI"))
    );
    let message = app.admin("DELETE", &path).send().await.refused(409);
    assert!(message.contains("granted to the key bot"), "{message}");
    app.admin("DELETE", "/api/v1/auth/keys/bot")
        .send()
        .await
        .expect(204);
    app.admin("DELETE", &path).send().await.expect(204);
    app.admin("GET", &path).send().await.refused(404);
    let actions = app.actions().await;
    for action in ["role_created", "role_edited", "role_deleted"] {
        assert!(actions.iter().any(|a| a == action), "{action}");
    }
}

#[tokio::test]
async fn what_no_role_can_be_is_refused_by_field_and_changes_nothing() {
    let app = TestApp::start().await;
    let made = app.post(ROLES, json!({"name": "taken"})).await.expect(201);
    let path = format!("{ROLES}/{}", text(&made["id"]));
    let of = |permission: Value| json!({"name": "x", "permissions": [permission]});
    let before = app.seq();
    for (wish, status, says) in [
        (json!({}), 400, "name"),
        (json!({"name": " x"}), 400, "name"),
        (json!({"name": "r-mine"}), 400, "name"),
        (json!({"name": "Admin"}), 409, "built-in"),
        (json!({"name": "Taken"}), 409, "name"),
        (of(json!({"permission": "cert.reed"})), 400, "permissions"),
        (
            of(json!({"permission": "cert.read", "scope_type": "issuer"})),
            400,
            "scope_id",
        ),
        (
            of(json!({"permission": "cert.read", "scope_type": "x", "scope_id": "y"})),
            400,
            "scope_type",
        ),
        (
            of(json!({"permission": "cert.read", "scope_id": "y"})),
            400,
            "scope_id",
        ),
    ] {
        let message = app.post(ROLES, wish.clone()).await.refused(status);
        assert!(message.contains(says), "{wish}: {message}");
    }
    let wrong = json!({"permission": "no.such"});
    app.post(&format!("{path}/permissions"), wrong)
        .await
        .refused(400);
    let gone = format!("{path}/permissions/no.such");
    app.admin("DELETE", &gone).send().await.refused(404);
    assert_eq!(app.seq(), before);
}
