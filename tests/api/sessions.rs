//! Browser sessions: whose they are, how they end, and what their end says.

use crate::support::{Answer, HOUR, MINUTE, TestApp, text};
use certctl::app::Browser;
use serde_json::Value;

const SESSIONS: &str = "/api/v1/auth/sessions";

async fn open(app: &TestApp, key: &str) -> String {
    let browser = Browser {
        address: Some([192, 0, 2, 7].into()),
        user_agent: "Firefox\n".into(),
    };
    app.app.sign_in(key, &browser).await.unwrap()
}

async fn by(app: &TestApp, session: &str, method: &str, path: &str) -> Answer {
    app.call(method, path).session(session).send().await
}

fn ids(sessions: &Value) -> Vec<String> {
    let sessions = sessions["sessions"].as_array().unwrap();
    sessions.iter().map(|s| text(&s["id"])).collect()
}

#[tokio::test]
async fn own_sessions_are_seen_and_ended_by_anyone_and_others_by_permission() {
    let app = TestApp::start().await;
    let (_, key) = app.made_key("reader", &["r-viewer"]).await;
    let (one, two) = (open(&app, &key).await, open(&app, &key).await);
    let other = open(&app, app.admin_key()).await;
    let mine = by(&app, &one, "GET", SESSIONS).await.expect(200);
    assert_eq!(ids(&mine).len(), 2);
    let current: Vec<_> = mine["sessions"].as_array().unwrap().iter().collect();
    assert_eq!(current.iter().filter(|s| s["current"] == true).count(), 1);
    assert_eq!(current[0]["actor_id"], "reader");
    assert_eq!(current[0]["ip_address"], "192.0.2.7");
    assert_eq!(current[0]["user_agent"], "Firefox");
    assert_eq!(current[0]["revoked"], false);
    by(&app, &one, "GET", &format!("{SESSIONS}?actor_id=reader"))
        .await
        .expect(200);
    by(&app, &one, "GET", &format!("{SESSIONS}?actor_id=admin"))
        .await
        .refused(403);
    by(&app, &one, "GET", &format!("{SESSIONS}?all=true"))
        .await
        .refused(403);
    let theirs = app.get(&format!("{SESSIONS}?actor_id=admin")).await;
    let all = app.get(&format!("{SESSIONS}?all=true")).await;
    assert_eq!((ids(&theirs).len(), ids(&all).len()), (1, 3));

    let path = format!("{SESSIONS}/{}", ids(&theirs)[0]);
    by(&app, &one, "DELETE", &path).await.refused(403);
    by(&app, &other, "GET", SESSIONS).await.expect(200);
    by(&app, &one, "DELETE", SESSIONS).await.refused(400);
    let ended = by(&app, &one, "DELETE", &format!("{SESSIONS}?except=current"))
        .await
        .expect(200);
    assert_eq!(ended["revoked_count"], 1);
    by(&app, &two, "GET", SESSIONS).await.refused(401);
    by(&app, &one, "GET", SESSIONS).await.expect(200);
    app.admin("DELETE", &path).send().await.expect(204);
    by(&app, &other, "GET", SESSIONS).await.refused(401);
    app.admin("DELETE", &path).send().await.refused(404);
    // The last one is ended by itself.
    let path = format!(
        "{SESSIONS}/{}",
        ids(&by(&app, &one, "GET", SESSIONS).await.expect(200))[0]
    );
    by(&app, &one, "DELETE", &path).await.expect(204);
    by(&app, &one, "GET", SESSIONS).await.refused(401);
}

#[tokio::test]
async fn of_too_many_sessions_of_a_key_those_end_that_were_not_used_for_longest() {
    let app = TestApp::start().await;
    let other = open(&app, app.admin_key()).await;
    let (_, key) = app.made_key("shared", &["r-viewer"]).await;
    let (used, unused) = (open(&app, &key).await, open(&app, &key).await);
    app.advance(MINUTE);
    by(&app, &used, "GET", SESSIONS).await.expect(200);
    let mut last = String::new();
    for _ in 0..99 {
        last = open(&app, &key).await;
    }
    by(&app, &unused, "GET", SESSIONS).await.refused(401);
    by(&app, &used, "GET", SESSIONS).await.expect(200);
    by(&app, &other, "GET", SESSIONS).await.expect(200);
    let own = by(&app, &last, "GET", SESSIONS).await.expect(200);
    assert_eq!(ids(&own).len(), 100);
}

#[tokio::test]
async fn a_session_ends_unused_after_an_hour_and_used_after_eight() {
    let mut app = TestApp::start().await;
    let why = |answer: Answer| {
        let challenge = answer.headers["www-authenticate"]
            .to_str()
            .unwrap()
            .to_owned();
        answer.refused(401);
        challenge
            .rsplit_once("error_description=")
            .unwrap()
            .1
            .to_owned()
    };
    let idle = open(&app, app.admin_key()).await;
    let used = open(&app, app.admin_key()).await;
    let begun = app.now();
    app.advance(HOUR - MINUTE);
    by(&app, &used, "GET", SESSIONS).await.expect(200);
    app.tick().await;
    app.advance(MINUTE);
    assert_eq!(
        why(by(&app, &idle, "GET", SESSIONS).await),
        "\"idle_timeout\""
    );
    // The use was written down: another process knows of it.
    app.restart().await;
    while app.now() < begun.plus(HOUR * 8 - MINUTE) {
        by(&app, &used, "GET", SESSIONS).await.expect(200);
        app.advance(MINUTE * 30);
        app.tick().await;
    }
    assert_eq!(
        why(by(&app, &used, "GET", SESSIONS).await),
        "\"absolute_timeout\""
    );
    assert_eq!(
        why(by(&app, "cts_none", "GET", SESSIONS).await),
        "\"invalid_token\""
    );
    let bare = app.call("GET", SESSIONS).bearer("ctl_none").send().await;
    assert_eq!(bare.headers["www-authenticate"], "Bearer realm=\"certctl\"");
}

#[tokio::test]
async fn using_a_session_or_a_key_writes_nothing_until_the_next_minute() {
    let app = TestApp::start().await;
    let session = open(&app, app.admin_key()).await;
    app.tick().await;
    let before = app.seq();
    for _ in 0..50 {
        app.advance(MINUTE / 60);
        by(&app, &session, "GET", SESSIONS).await.expect(200);
    }
    assert_eq!(app.seq(), before);
}

#[tokio::test]
async fn a_program_signs_out() {
    let app = TestApp::start().await;
    let session = open(&app, app.admin_key()).await;
    app.call("POST", "/auth/logout").send().await.refused(401);
    let answer = by(&app, &session, "POST", "/auth/logout").await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-certctl_session=;"), "{cookie}");
    answer.expect(204);
    by(&app, &session, "GET", SESSIONS).await.refused(401);
}

#[tokio::test]
async fn who_one_is_and_what_there_is() {
    let app = TestApp::start().await;
    let info = app
        .call("GET", "/api/v1/auth/info")
        .send()
        .await
        .expect(200);
    assert_eq!(
        info,
        serde_json::json!({"auth_type": "api-key", "required": true})
    );
    let version = app.call("GET", "/api/v1/version").send().await.expect(200);
    assert_eq!(version["version"], certctl::app::VERSION);
    let check = app.get("/api/v1/auth/check").await;
    for (field, value) in [
        ("status", "authenticated"),
        ("user", "admin"),
        ("actor_id", "admin"),
        ("actor_type", "APIKey"),
        ("tenant_id", "t-default"),
    ] {
        assert_eq!(check[field], value, "{field}");
    }
    assert_eq!(
        (&check["admin"], &check["admin_via_role"]),
        (&true.into(), &true.into())
    );
    assert_eq!(check["effective_permissions"].as_array().unwrap().len(), 86);
    let agent = app.agent("host").await;
    let me = app
        .call("GET", "/api/v1/auth/me")
        .bearer(&agent.credential());
    let me = me.send().await.expect(200);
    assert_eq!(
        (&me["actor_type"], &me["actor_id"]),
        (&"Agent".into(), &"agent:host".into())
    );
    assert_eq!(me["effective_permissions"], serde_json::json!([]));
    let catalogue = app.get("/api/v1/auth/permissions").await;
    assert_eq!(catalogue["permissions"].as_array().unwrap().len(), 86);
    let first = serde_json::json!({"id": "p-cert-read", "name": "cert.read", "namespace": "cert"});
    assert_eq!(catalogue["permissions"][0], first);
}
