//! Keys: made, granted roles, given a new secret, ended.

use crate::support::{DAY, HOUR, MINUTE, TestApp, text};
use certctl::{access::Role, app::Browser, clock::Time, domain::KeyUse, reconcile};
use serde_json::{Value, json};
use std::time::Duration;

const KEYS: &str = "/api/v1/auth/keys";

async fn let_in(app: &TestApp, key: &str) -> u16 {
    let call = app.call("GET", "/api/v1/auth/me").bearer(key);
    call.send().await.status.as_u16()
}

async fn delete(app: &TestApp, path: &str) -> crate::support::Answer {
    app.admin("DELETE", path).send().await
}

#[tokio::test]
async fn a_key_is_made_shown_once_used_listed_and_ended() {
    let app = TestApp::start().await;
    let end = app.now().plus(DAY).to_string();
    let wish = json!({"name": "ci", "role_ids": ["operator", "r-auditor"], "expires_at": end});
    let made = app.post(KEYS, wish).await.expect(201);
    let key = text(&made["key_value"]);
    assert!(key.starts_with("ctl_") && key.len() > 40);
    assert_eq!(let_in(&app, &key).await, 200);
    app.advance(MINUTE);
    app.call("GET", "/api/v1/auth/me")
        .bearer(&key)
        .send()
        .await
        .expect(200);
    app.tick().await;

    let list = app.admin("GET", KEYS).send().await;
    assert!(
        !list.text.contains(&key),
        "the secret is shown a second time"
    );
    let list = list.expect(200);
    let names: Vec<_> = list["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|k| &k["name"])
        .collect();
    assert_eq!(names, ["admin", "ci"]);
    let shown = app.get(&format!("{KEYS}/ci")).await;
    assert_eq!(shown, list["keys"][1]);
    assert_eq!(shown["actor_id"], "ci");
    assert_eq!(shown["actor_type"], "APIKey");
    assert_eq!(shown["tenant_id"], "t-default");
    assert_eq!(shown["role_ids"], json!(["r-operator", "r-auditor"]));
    assert_eq!(shown["source"], "store");
    assert_eq!(shown["expires_at"], end);
    assert_eq!(shown["last_used_at"], app.now().to_string());

    delete(&app, &format!("{KEYS}/{}", text(&made["id"])))
        .await
        .expect(204);
    assert_eq!(let_in(&app, &key).await, 401);
    delete(&app, &format!("{KEYS}/ci")).await.refused(404);
    let actions = app.actions().await;
    for action in ["api_key_created", "api_key_deleted"] {
        assert!(actions.iter().any(|a| a == action), "{action}");
    }
}

#[tokio::test]
async fn what_no_key_can_be_is_refused_by_field_and_makes_none() {
    let app = TestApp::start().await;
    app.made_key("taken", &["r-viewer"]).await;
    let before = app.seq();
    for (wish, status, says) in [
        (json!({"role_ids": ["r-viewer"]}), 400, "name"),
        (
            json!({"name": "a b", "role_ids": ["r-viewer"]}),
            400,
            "name",
        ),
        (
            json!({"name": "agent:web", "role_ids": ["r-viewer"]}),
            400,
            "name",
        ),
        (
            json!({"name": "key-1", "role_ids": ["r-viewer"]}),
            400,
            "name",
        ),
        (
            json!({"name": "Taken", "role_ids": ["r-viewer"]}),
            409,
            "name",
        ),
        (json!({"name": "x"}), 400, "role_ids"),
        (json!({"name": "x", "role_ids": ["r-none"]}), 404, "r-none"),
        (
            json!({"name": "x", "role_ids": ["r-viewer"], "expires_at": "soon"}),
            400,
            "expires_at",
        ),
        (
            json!({"name": "x", "role_ids": ["r-viewer"], "expires_at": "2020-01-01T00:00:00Z"}),
            400,
            "expires_at",
        ),
    ] {
        let message = app.post(KEYS, wish.clone()).await.refused(status);
        assert!(message.contains(says), "{wish}: {message}");
    }
    assert_eq!(app.seq(), before);
}

#[tokio::test]
async fn a_rotated_key_is_good_for_the_overlap_and_no_longer() {
    let app = TestApp::start().await;
    let (_, first) = app.made_key("ci", &["r-viewer"]).await;
    let path = format!("{KEYS}/ci/rotate");
    let rotate = async |overlap: u64| {
        let made = app
            .post(&path, json!({"overlap_seconds": overlap}))
            .await
            .expect(200);
        text(&made["key_value"])
    };
    let second = rotate(3600).await;
    let both = [let_in(&app, &first).await, let_in(&app, &second).await];
    assert_eq!(both, [200, 200]);
    app.advance(HOUR - Duration::from_secs(1));
    assert_eq!(let_in(&app, &first).await, 200);
    app.advance(Duration::from_secs(1));
    let both = [let_in(&app, &first).await, let_in(&app, &second).await];
    assert_eq!(both, [401, 200]);
    // A third secret leaves the second for a while and the first at once.
    let third = rotate(3600).await;
    let fourth = rotate(0).await;
    let all = [
        let_in(&app, &second).await,
        let_in(&app, &third).await,
        let_in(&app, &fourth).await,
    ];
    assert_eq!(all, [401, 401, 200]);
    let message = app
        .post(&path, json!({"overlap_seconds": 604_801}))
        .await
        .refused(400);
    assert!(message.contains("overlap_seconds"), "{message}");
}

#[tokio::test]
async fn the_secret_before_gives_nothing_that_outlasts_it_and_no_new_one() {
    let app = TestApp::start().await;
    let (_, first) = app.made_key("root", &["r-admin"]).await;
    let session = app.app.sign_in(&first, &Browser::default()).await.unwrap();
    let rotate = format!("{KEYS}/root/rotate");
    let rotated = app.post(&rotate, json!({"overlap_seconds": 3600})).await;
    let second = text(&rotated.expect(200)["key_value"]);
    let end = app.now().plus(HOUR).to_string();
    let make = json!({"name": "x", "role_ids": ["r-viewer"]});
    let brief = json!({"name": "x", "role_ids": ["r-viewer"], "expires_at": end});
    for by_session in [false, true] {
        let call = |path: &str, wish: &Value| {
            let call = app.call("POST", path).json(wish);
            match by_session {
                true => call.session(&session).send(),
                false => call.bearer(&first).send(),
            }
        };
        let message = call(&rotate, &json!({})).await.refused(403);
        assert!(message.contains("newer secret"), "{message}");
        let message = call(KEYS, &make).await.refused(400);
        assert!(message.contains(&end), "{message}");
        call(KEYS, &brief).await.expect(201);
        delete(&app, &format!("{KEYS}/x")).await.expect(204);
    }
    let call = |path: &str, wish: &Value| app.call("POST", path).bearer(&second).json(wish).send();
    call(KEYS, &make).await.expect(201);
    call(&rotate, &json!({})).await.expect(200);
}

/// Two processes on one store: in one a key was used, in the other it is deleted.
#[tokio::test]
async fn the_use_of_a_key_that_was_deleted_elsewhere_is_not_written() {
    let app = TestApp::start().await;
    let other = app.start_again().await.unwrap().app;
    let (_, key) = app.made_key("ci", &["r-viewer"]).await;
    let id = text(&app.get(&format!("{KEYS}/ci")).await["id"])
        .parse()
        .unwrap();
    let used = async || app.app.store.get::<KeyUse>(&id).await.unwrap();
    other.sign_in(&key, &Browser::default()).await.unwrap();
    reconcile::look(&other).await.unwrap();
    assert!(used().await.is_some());
    app.advance(HOUR);
    other.sign_in(&key, &Browser::default()).await.unwrap();
    delete(&app, &format!("{KEYS}/ci")).await.expect(204);
    reconcile::look(&other).await.unwrap();
    assert!(used().await.is_none());
}

#[tokio::test]
async fn a_session_ends_with_the_secret_it_was_opened_with() {
    let app = TestApp::start().await;
    let (_, key) = app.made_key("stolen", &["r-viewer"]).await;
    let session = app.app.sign_in(&key, &Browser::default()).await.unwrap();
    let me = || app.call("GET", "/api/v1/auth/me").session(&session).send();
    me().await.expect(200);
    app.post(
        &format!("{KEYS}/stolen/rotate"),
        json!({"overlap_seconds": 60}),
    )
    .await
    .expect(200);
    me().await.expect(200);
    app.advance(MINUTE);
    me().await.refused(401);
}

#[tokio::test]
async fn a_role_is_granted_with_a_scope_and_an_end_and_taken_away() {
    let app = TestApp::start().await;
    let (_, key) = app.made_key("ci", &["r-auditor"]).await;
    let roles = format!("{KEYS}/ci/roles");
    let end = app.now().plus(HOUR).to_string();
    let wish = json!({
        "role_id": "viewer", "scope_type": "issuer", "scope_id": "iss-local", "expires_at": end,
    });
    app.post(&roles, wish).await.expect(204);
    let issuers = async |path: &str| {
        let call = app.call("GET", path).bearer(&key);
        call.send().await.status.as_u16()
    };
    // It counts on this issuer, and on nothing else.
    assert_eq!(issuers("/api/v1/issuers/iss-local").await, 200);
    assert_eq!(issuers("/api/v1/issuers/iss-other").await, 403);
    assert_eq!(issuers("/api/v1/issuers").await, 403);
    let me = app
        .call("GET", "/api/v1/auth/me")
        .bearer(&key)
        .send()
        .await
        .expect(200);
    assert_eq!(me["roles"], json!(["r-auditor", "r-viewer"]));
    assert_eq!(me["admin"], false);
    let held = me["effective_permissions"].as_array().unwrap();
    let on = json!({"permission": "issuer.read", "scope_type": "issuer", "scope_id": "iss-local"});
    assert!(held.contains(&on), "{held:?}");
    app.advance(HOUR);
    assert_eq!(issuers("/api/v1/issuers/iss-local").await, 403);

    // Taken away: in a scope that it is not granted in it is not found, in any it is idempotent.
    let gone = format!("{roles}/r-viewer");
    delete(&app, &format!("{gone}?scope_type=issuer&scope_id=iss-9"))
        .await
        .refused(404);
    delete(&app, &format!("{gone}?scope_id=iss-local"))
        .await
        .refused(400);
    delete(&app, &format!("{gone}?scope_type=issuer"))
        .await
        .refused(400);
    delete(&app, &format!("{gone}?scope_type=planet&scope_id=x"))
        .await
        .refused(400);
    delete(
        &app,
        &format!("{gone}%3Fscope_type=issuer&scope_id=iss-local"),
    )
    .await
    .expect(204);
    delete(&app, &gone).await.expect(204);
    let shown = app.get(&format!("{KEYS}/ci")).await;
    assert_eq!(shown["role_ids"], json!(["r-auditor"]));
    for (wish, status) in [
        (json!({}), 400),
        (json!({"role_id": "r-none"}), 404),
        (json!({"role_id": "r-viewer", "scope_type": "issuer"}), 400),
        (
            json!({"role_id": "r-viewer", "expires_at": "2020-01-01T00:00:00Z"}),
            400,
        ),
    ] {
        app.post(&roles, wish).await.refused(status);
    }
    app.post(
        &format!("{KEYS}/none/roles"),
        json!({"role_id": "r-viewer"}),
    )
    .await
    .refused(404);
}

#[tokio::test]
async fn nobody_gives_more_than_they_hold() {
    let app = TestApp::start().await;
    let permissions: Vec<Value> = [
        "cert.read",
        "auth.key.create",
        "auth.key.rotate",
        "auth.role.assign",
        "auth.role.revoke",
        "auth.role.create",
        "auth.role.edit",
    ]
    .map(|name| json!({"permission": name}))
    .into();
    let wish = json!({"name": "clerk", "permissions": permissions});
    app.post("/api/v1/auth/roles", wish).await.expect(201);
    let (_, clerk) = app.made_key("clerk", &["clerk"]).await;
    app.made_key("boss", &["r-admin"]).await;
    app.made_key("mine", &["r-auditor"]).await;
    let before = app.seq();
    for (method, path, wish, says) in [
        (
            "POST",
            KEYS.to_owned(),
            json!({"name": "x", "role_ids": ["r-admin"]}),
            "nobody gives more",
        ),
        (
            "POST",
            KEYS.to_owned(),
            json!({"name": "x", "role_ids": ["r-viewer"]}),
            "nobody gives more",
        ),
        (
            "POST",
            format!("{KEYS}/clerk/roles"),
            json!({"role_id": "r-admin"}),
            "nobody gives more",
        ),
        (
            "POST",
            format!("{KEYS}/clerk/roles"),
            json!({"role_id": "r-admin", "scope_type": "issuer", "scope_id": "iss-local"}),
            "nobody gives more",
        ),
        (
            "POST",
            format!("{KEYS}/boss/rotate"),
            json!({}),
            "not for you",
        ),
        (
            "POST",
            format!("{KEYS}/mine/rotate"),
            json!({}),
            "not for you",
        ),
        (
            "POST",
            "/api/v1/auth/roles".into(),
            json!({"name": "x", "permissions": [{"permission": "cert.issue"}]}),
            "cert.issue",
        ),
        (
            "POST",
            "/api/v1/auth/roles/clerk/permissions".into(),
            json!({"permission": "cert.issue"}),
            "cert.issue",
        ),
        (
            "PUT",
            "/api/v1/auth/roles/clerk".into(),
            json!({"permissions": [{"permission": "cert.revoke"}]}),
            "cert.revoke",
        ),
    ] {
        let call = app.call(method, &path).bearer(&clerk).json(&wish);
        let message = call.send().await.refused(403);
        assert!(message.contains(says), "{method} {path} {wish}: {message}");
    }
    assert_eq!(app.seq(), before);
    // What it holds, it may give; its own secret is its own.
    let call = app.call("POST", KEYS).bearer(&clerk);
    call.json(&json!({"name": "less", "role_ids": ["clerk"]}))
        .send()
        .await
        .expect(201);
    let call = app
        .call("POST", "/api/v1/auth/keys/clerk/rotate")
        .bearer(&clerk);
    call.send().await.expect(200);
}

#[tokio::test]
async fn nobody_gives_for_longer_than_they_hold() {
    let app = TestApp::start().await;
    let until = app.now().plus(DAY);
    let brief = app.key_until(Role::Admin, Some(until)).await;
    let make = async |end: Value| {
        let wish = json!({"name": "x", "role_ids": ["r-viewer"], "expires_at": end});
        app.call("POST", KEYS)
            .bearer(&brief)
            .json(&wish)
            .send()
            .await
    };
    for longer in [Value::Null, json!(until.plus(HOUR).to_string())] {
        let message = make(longer).await.refused(400);
        assert!(message.contains("for longer"), "{message}");
    }
    make(json!(until.to_string())).await.expect(201);
    let call = app
        .call("POST", "/api/v1/auth/keys/admin/rotate")
        .bearer(&brief);
    call.send().await.refused(403);
}

/// A key with a role of these permissions for ever, and with a built-in one until a moment.
async fn mixed(app: &TestApp, name: &str, own: &[&str], brief: &str, until: Time) -> String {
    let permissions: Vec<Value> = own.iter().map(|p| json!({"permission": p})).collect();
    let wish = json!({"name": name, "permissions": permissions});
    app.post("/api/v1/auth/roles", wish).await.expect(201);
    let (_, key) = app.made_key(name, &[name]).await;
    let grant = json!({"role_id": brief, "expires_at": until.to_string()});
    let path = format!("{KEYS}/{name}/roles");
    app.post(&path, grant).await.expect(204);
    key
}

#[tokio::test]
async fn a_right_that_ends_is_not_made_permanent_by_way_of_a_role() {
    let app = TestApp::start().await;
    let until = app.now().plus(HOUR);
    let key = mixed(&app, "own", &["cert.read"], "r-admin", until).await;
    let call = |method: &'static str, path: &'static str, wish: Value| {
        let call = app.call(method, path).bearer(&key);
        async move { call.json(&wish).send().await }
    };
    const OWN: &str = "/api/v1/auth/roles/own";
    let edit = json!({"permissions": [{"permission": "cert.read"}, {"permission": "cert.issue"}]});
    let before = app.seq();
    for (method, path, wish) in [
        ("PUT", OWN, edit),
        (
            "POST",
            "/api/v1/auth/roles/own/permissions",
            json!({"permission": "cert.issue"}),
        ),
        (
            "POST",
            "/api/v1/auth/roles",
            json!({"name": "another", "permissions": [{"permission": "cert.issue"}]}),
        ),
    ] {
        let message = call(method, path, wish).await.refused(403);
        let says = format!("cert.issue (global) until {until}");
        assert!(message.contains(&says), "{method} {path}: {message}");
    }
    assert_eq!(app.seq(), before);
    // What it holds for ever it may put in a role, and take out of one whatever there is.
    let wish = json!({"name": "less", "permissions": [{"permission": "cert.read"}]});
    call("POST", "/api/v1/auth/roles", wish).await.expect(201);
    call("PUT", OWN, json!({"permissions": []}))
        .await
        .expect(200);
}

#[tokio::test]
async fn a_right_that_ends_does_not_shorten_what_is_held_for_ever() {
    let app = TestApp::start().await;
    let until = app.now().plus(HOUR);
    let end = until.to_string();
    let own = [
        "cert.read",
        "auth.key.create",
        "auth.key.rotate",
        "auth.role.assign",
    ];
    let key = mixed(&app, "own", &own, "r-viewer", until).await;
    app.made_key("same", &["own"]).await;
    app.made_key("viewer", &["r-viewer"]).await;
    let post = |path: String, wish: Value| {
        let app = &app;
        let key = &key;
        async move {
            let call = app.call("POST", &path).bearer(key).json(&wish);
            call.send().await
        }
    };
    let make = |name: &'static str, role: &'static str, end: Option<&str>| {
        let wish = json!({"name": name, "role_ids": [role], "expires_at": end});
        post(KEYS.to_owned(), wish)
    };
    make("a", "own", None).await.expect(201);
    make("b", "r-viewer", Some(&end)).await.expect(201);
    let message = make("c", "r-viewer", None).await.refused(400);
    assert!(message.contains(&end), "{message}");
    let grant = |role: &str, end: Option<&str>| {
        let wish = json!({"role_id": role, "expires_at": end});
        post(format!("{KEYS}/a/roles"), wish)
    };
    grant("own", None).await.expect(204);
    grant("r-viewer", Some(&end)).await.expect(204);
    grant("r-viewer", None).await.refused(400);
    let rotate = |name: &str| post(format!("{KEYS}/{name}/rotate"), json!({}));
    rotate("same").await.expect(200);
    rotate("b").await.expect(200);
    rotate("viewer").await.refused(403);
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let app = TestApp::start().await;
    let own = format!("{KEYS}/admin");
    let ways = async || {
        let narrowed = json!({"role_id": "r-admin", "expires_at": app.now().plus(DAY).to_string()});
        [
            delete(&app, &own).await,
            delete(&app, &format!("{own}/roles/r-admin")).await,
            app.post(&format!("{own}/roles"), narrowed).await,
        ]
    };
    let before = app.seq();
    for refused in ways().await {
        let message = refused.refused(409);
        assert!(message.contains("last key that administrates"), "{message}");
    }
    // One with an end, one that ends itself, and one on an issuer do not count.
    app.key_until(Role::Admin, Some(app.now().plus(DAY))).await;
    app.made_key("narrow", &["r-viewer"]).await;
    let on = json!({"role_id": "r-admin", "scope_type": "issuer", "scope_id": "iss-local"});
    app.post(&format!("{KEYS}/narrow/roles"), on)
        .await
        .expect(204);
    for refused in ways().await {
        refused.refused(409);
    }
    assert!(app.seq() > before);
    // The local socket is no way round it.
    let call = app.call("DELETE", &own).local(0);
    call.send().await.refused(409);
    let (_, second) = app.made_key("second", &["r-admin"]).await;
    delete(&app, &own).await.expect(204);
    let call = app
        .call("DELETE", "/api/v1/auth/keys/second")
        .bearer(&second);
    call.send().await.refused(409);
}

#[tokio::test]
async fn of_two_administrators_who_end_each_other_at_once_one_stays() {
    let app = TestApp::start().await;
    let (_, a) = app.made_key("a", &["r-admin"]).await;
    let (_, b) = app.made_key("b", &["r-admin"]).await;
    delete(&app, &format!("{KEYS}/admin")).await.expect(204);
    let end = |name: &'static str, by: &str| {
        let path = format!("{KEYS}/{name}");
        let call = app.call("DELETE", &path).bearer(by);
        async { call.send().await.status.as_u16() }
    };
    let (one, other) = tokio::join!(end("b", &a), end("a", &b));
    let mut ended = [one, other];
    ended.sort_unstable();
    assert_eq!(ended[0], 204, "{ended:?}");
    assert!(ended[1] == 409 || ended[1] == 401, "{ended:?}");
    let alive = [let_in(&app, &a).await, let_in(&app, &b).await];
    assert_eq!(
        alive.iter().filter(|status| **status == 200).count(),
        1,
        "{alive:?}"
    );
}

/// A key as the first version of the store has it: one role, no grants.
#[tokio::test]
async fn a_key_of_the_first_form_is_read_and_its_role_can_be_taken() {
    let old = json!({
        "id": "key-1", "name": "old", "secret_sha256": "00", "role": "r-operator",
        "expires_at": null, "created_at": 1,
    });
    let key: certctl::domain::ApiKey = serde_json::from_value(old.clone()).unwrap();
    assert_eq!(key.grants, [certctl::domain::Grant::of("r-operator")]);
    // The store keeps the old field beside the new ones for ever: it means nothing then.
    let mut stored = old;
    stored["grants"] = json!([]);
    let key: certctl::domain::ApiKey = serde_json::from_value(stored).unwrap();
    assert!(key.grants.is_empty());
}
