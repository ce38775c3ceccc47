//! Lost updates: whoever edits or deletes what has changed since they read it is refused, on every
//! resource, and changes nothing.

use crate::support::{Answer, DAY, TestApp, text};
use certctl::api;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Calls of these methods that are no edit of a row that was read, so that nothing can be lost.
const WITHOUT: [&str; 7] = [
    // Ends what is named, whatever it has become.
    "delete /api/v1/agents/tokens/{id}",
    "delete /api/v1/agents/{id}",
    "delete /api/v1/auth/keys/{id}",
    "delete /api/v1/auth/sessions",
    "delete /api/v1/auth/sessions/{id}",
    // Takes one from a set, and leaves the others.
    "delete /api/v1/auth/keys/{id}/roles/{role}",
    "delete /api/v1/auth/roles/{id}/permissions/{permission}",
];

/// One of each resource that takes `If-Match`; the route, and its path. Each has a name.
async fn one_of_each(app: &TestApp) -> Vec<(&'static str, String)> {
    let agent = app.agent("host").await;
    let bodies = [
        ("auth/roles/{id}", json!({"name": "x"})),
        (
            "certificates/{id}",
            json!({"name": "x", "common_name": "x.example.org"}),
        ),
        (
            "issuers/{id}",
            json!({"name": "x", "type": "local", "config": {}}),
        ),
        ("owners/{id}", json!({"name": "x"})),
        (
            "policies/{id}",
            json!({"name": "x", "type": "AllowedDomains",
                "config": {"allowed_domains": [".example.org"]}}),
        ),
        ("profiles/{id}", json!({"name": "x"})),
        ("renewal-policies/{id}", json!({"name": "x"})),
        (
            "targets/{id}",
            json!({"name": "x", "type": "File", "agent_id": agent.id, "config": {}}),
        ),
        ("teams/{id}", json!({"name": "x"})),
    ];
    let mut each = Vec::new();
    for (route, body) in bodies {
        let list = format!("/api/v1/{}", route.trim_end_matches("/{id}"));
        let made = app.post(&list, body).await.expect(201);
        each.push((route, format!("{list}/{}", text(&made["id"]))));
    }
    each
}

fn tag_of(answer: &Answer) -> String {
    let tag = answer.headers.get("etag").expect("an ETag");
    tag.to_str().unwrap().to_owned()
}

async fn tag(app: &TestApp, path: &str) -> String {
    let answer = app.admin("GET", path).send().await;
    let tag = tag_of(&answer);
    answer.expect(200);
    tag
}

/// What stands before the dot.
fn version(tag: &str) -> &str {
    let version = tag.trim_matches('"').split_once('.').expect("a dot").0;
    assert!(version.parse::<u64>().is_ok(), "{tag}");
    version
}

async fn rename(app: &TestApp, path: &str, tag: &str, name: &str) -> Answer {
    let call = app.admin("PUT", path).header("if-match", tag);
    call.json(&json!({"name": name})).send().await
}

async fn delete(app: &TestApp, path: &str, tag: &str) -> Answer {
    app.admin("DELETE", path)
        .header("if-match", tag)
        .send()
        .await
}

#[tokio::test]
async fn every_edit_and_deletion_of_a_row_takes_the_tag_it_follows_from() {
    let app = TestApp::start().await;
    let document = api::document();
    let (mut with, mut without) = (BTreeSet::new(), BTreeSet::new());
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let call = format!("{method} {path}");
            let parameters = operation["parameters"].as_array().unwrap();
            let takes = parameters.iter().any(|p| p["name"] == "If-Match");
            let refused = operation["responses"].get("412").is_some();
            assert_eq!(takes, refused, "{call}");
            if takes {
                with.insert(call);
            } else if matches!(method.as_str(), "put" | "patch" | "delete") {
                without.insert(call);
            }
        }
    }
    let each = one_of_each(&app).await;
    let of = |(route, _): &(&str, String)| {
        ["put", "delete"].map(|method| format!("{method} /api/v1/{route}"))
    };
    assert_eq!(with, each.iter().flat_map(of).collect());
    assert_eq!(without, WITHOUT.map(str::to_owned).into());
}

#[tokio::test]
async fn what_has_changed_since_it_was_read_is_not_changed() {
    let app = TestApp::start().await;
    for (route, path) in one_of_each(&app).await {
        let first = tag(&app, &path).await;
        let answer = rename(&app, &path, &first, "first").await;
        let second = tag_of(&answer);
        assert_eq!(answer.expect(200)["name"], "first", "{route}");
        assert_ne!(version(&second), version(&first), "{route}");
        assert_eq!(version(&tag(&app, &path).await), version(&second));

        let (seq, shown) = (app.seq(), app.get(&path).await);
        let number = version(&second);
        for old in [
            first.clone(),
            format!("\"{number}\""),
            format!("\"{number}.\""),
            format!("\"{number}.0123456\""),
            format!("\"{number}.0123456789abcdef\""),
            format!("\"+{number}.01234567\""),
            format!("{number}.01234567"),
            format!("\"{number}.01234567"),
            format!("W/{second}"),
            format!("{first}, W/{second}"),
            "\"nonsense\"".into(),
            "\"*\"".into(),
            "*, *".into(),
            ",".into(),
            String::new(),
        ] {
            let told = rename(&app, &path, &old, "lost").await.refused(412);
            assert!(told.contains("changed since"), "{route} {old}: {told}");
            delete(&app, &path, &old).await.refused(412);
        }
        assert_eq!(app.seq(), seq, "{route}");
        assert_eq!(app.get(&path).await, shown, "{route}");

        // The present one in a list, in another line, with what was shown otherwise.
        let hash = format!("\"{number}.00000000\"");
        rename(&app, &path, &hash, "second").await.expect(200);
        let third = tag(&app, &path).await;
        let list = format!("{first}, \"x\" ,{third}");
        rename(&app, &path, &list, "third").await.expect(200);
        let fourth = tag(&app, &path).await;
        let lines = app.admin("PUT", &path).header("if-match", &first);
        let lines = lines.header("if-match", &fourth);
        let lines = lines.json(&json!({"name": "fourth"})).send().await;
        lines.expect(200);
        rename(&app, &path, "*", "fifth").await.expect(200);
        // What stays as it is has the tag that it had.
        let last = tag(&app, &path).await;
        let same = rename(&app, &path, &last, "fifth").await;
        assert_eq!(version(&tag_of(&same)), version(&last), "{route}");
        same.expect(200);

        delete(&app, &path, &fourth).await.refused(412);
        delete(&app, &path, &last).await.expect(204);
        if route != "certificates/{id}" {
            for gone in [&last, "*"] {
                rename(&app, &path, gone, "gone").await.refused(404);
                delete(&app, &path, gone).await.refused(404);
            }
        }
    }
    app.check().await;
}

#[tokio::test]
async fn of_edits_that_follow_from_the_same_one_wins() {
    let app = TestApp::start().await;
    for (route, path) in one_of_each(&app).await {
        let seen = tag(&app, &path).await;
        let names = ["one", "two", "three"];
        let (a, b, c) = tokio::join!(
            rename(&app, &path, &seen, names[0]),
            rename(&app, &path, &seen, names[1]),
            rename(&app, &path, &seen, names[2]),
        );
        let statuses = [a, b, c].map(|answer| answer.status.as_u16());
        let won: Vec<_> = (0..3).filter(|n| statuses[*n] == 200).collect();
        assert_eq!(won.len(), 1, "{route}: {statuses:?}");
        let lost = statuses.iter().filter(|status| **status == 412).count();
        assert_eq!(lost, 2, "{route}: {statuses:?}");
        let shown = app.get(&path).await;
        let shown = shown.get("role").unwrap_or(&shown);
        assert_eq!(shown["name"], names[won[0]], "{route}");

        let seen = tag(&app, &path).await;
        let (edit, end) = tokio::join!(
            rename(&app, &path, &seen, "last"),
            delete(&app, &path, &seen),
        );
        match (edit.status.as_u16(), end.status.as_u16()) {
            (200, 412) | (404 | 409 | 412, 204) => {}
            both => panic!("{route}: {both:?}"),
        }
    }
    app.check().await;
}

#[tokio::test]
async fn a_status_that_follows_from_the_time_is_read_again_and_loses_no_edit() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    assert_eq!(agent.run(&app).await, 2);
    let path = "/api/v1/certificates/web";
    let fresh = tag(&app, path).await;
    let read = async |known: &str| {
        let call = app.admin("GET", path).header("if-none-match", known);
        call.send().await
    };
    assert_eq!(read(&fresh).await.status, 304);

    app.advance(500 * DAY);
    let answer = read(&fresh).await;
    let later = tag_of(&answer);
    assert_eq!(answer.expect(200)["status"], "Expired");
    assert_ne!(later, fresh);
    assert_eq!(version(&later), version(&fresh));
    let edited = rename(&app, path, &fresh, "edited").await;
    assert_ne!(version(&tag_of(&edited)), version(&fresh));
    assert_eq!(edited.expect(200)["name"], "edited");
    app.check().await;
}

/// What is part of the program has no version, and is not edited.
#[tokio::test]
async fn a_role_of_the_program_stays_as_it_is() {
    let app = TestApp::start().await;
    let path = "/api/v1/auth/roles/r-viewer";
    let tag = tag(&app, path).await;
    assert!(!tag.contains('.'), "{tag}");
    for tag in [&tag, "*"] {
        rename(&app, path, tag, "x").await.refused(409);
        delete(&app, path, tag).await.refused(409);
    }
    // Nor does a list have one.
    let list = app.admin("GET", "/api/v1/auth/roles").send().await;
    assert!(!tag_of(&list).contains('.'));
}

/// A caller that may not edit is told that, not whether the row has changed.
#[tokio::test]
async fn the_permission_comes_first() {
    let app = TestApp::start().await;
    let key = app.key(certctl::access::Role::Viewer).await;
    for (route, path) in one_of_each(&app).await {
        for (method, body) in [("PUT", json!({"name": "y"})), ("DELETE", Value::Null)] {
            let call = app.call(method, &path).bearer(&key);
            let call = call.header("if-match", "\"1.00000000\"").json(&body);
            assert_eq!(call.send().await.status, 403, "{method} {route}");
        }
    }
}
