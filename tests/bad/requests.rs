//! Paths, queries and headers.

use super::*;

#[tokio::test]
async fn paths() {
    let world = World::new().await;
    let mut cases = Vec::new();
    let kinds = [
        ("certificates/{}", "certificate"),
        ("certificates/{}/versions", "certificate"),
        ("certificates/{}/deployments", "certificate"),
        ("certificates/{}/served", "certificate"),
        ("orders/{}", "order"),
        ("targets/{}", "target"),
        ("agents/{}", "agent"),
        ("agents/tokens/{}", "join token"),
    ];
    let long = "x".repeat(129);
    let longest = "x".repeat(60_000);
    for (route, kind) in kinds {
        for (name, id) in [
            ("unknown", "none"),
            ("a dot", "."),
            ("dots", ".."),
            ("encoded dots", "%2e%2e"),
            ("an encoded slash", "..%2f..%2fetc%2fpasswd"),
            ("a NUL", "a%00b"),
            ("a line end", "a%0d%0ab"),
            ("a space", "a%20b"),
            ("a quote", "a'%20OR%20'1'='1"),
            ("beyond ASCII", "%c3%a4"),
            ("too long", &long),
            ("far too long", &longest),
        ] {
            let at = format!("/api/v1/{}", route.replace("{}", id));
            let mut case = path(name, &at, 404, &[]);
            case.says.push(kind);
            cases.push(case);
        }
        let at = format!("/api/v1/{}", route.replace("{}", "%ff%fe"));
        cases.push(path("not UTF-8", &at, 400, &["UTF-8"]));
    }
    let renew = format!("{CERTIFICATES}/none/renew");
    cases.push(body("renewal of nothing", &renew, "", &["certificate"]).status(404));
    for id in ["none", "..%2f", "%00", &long] {
        let work = format!("/api/v1/agents/{id}/work");
        let status = if id == "none" { 403 } else { 404 };
        cases.push(path("another agent", &work, status, &["agent"]).by(By::Agent));
        let lease = format!("/api/v1/agents/{}/jobs/{id}/lease", world.agent.id);
        let case = body("no such job", &lease, "{\"token\": \"1\"}", &["job"]);
        cases.push(case.status(404).by(By::Agent));
    }
    cases.extend([
        path("no such path", "/api/v1/nothing", 404, &["path"]),
        path("nothing at all", "/api/v1/", 404, &[]),
        path(
            "below a resource",
            "/api/v1/certificates/web/nothing",
            404,
            &["path"],
        ),
        path(
            "a slash at the end",
            "/api/v1/certificates/",
            404,
            &["path"],
        ),
        path("two slashes", "/api/v1//certificates", 404, &["path"]),
        path("another version", "/api/v2/certificates", 404, &[]),
        path("a wrong method", "/api/v1/agents/enrol", 405, &["method"]),
    ]);
    for method in ["PUT", "PATCH", "DELETE", "TRACE", "BREW"] {
        let mut case = path("a wrong method", CERTIFICATES, 405, &["method"]);
        case.method = method;
        cases.push(case);
    }
    world.refuse(cases).await;
}

#[tokio::test]
async fn queries() {
    let world = World::new().await;
    let work = |query: &str| format!("/api/v1/agents/{}/work?{query}", world.agent.id);
    let cases = vec![
        path("a wait that is a word", &work("wait=long"), 400, &["wait"]).by(By::Agent),
        path("a wait below nothing", &work("wait=-1"), 400, &["wait"]).by(By::Agent),
        path(
            "a wait beyond numbers",
            &work("wait=99999999999999999999"),
            400,
            &["wait"],
        )
        .by(By::Agent),
        path("two waits", &work("wait=1&wait=2"), 400, &["wait"]).by(By::Agent),
        path(
            "two pages",
            "/api/v1/certificates?page=1&page=2",
            400,
            &["page"],
        ),
        path(
            "two pages of the log",
            "/api/v1/audit?page=1&page=2",
            400,
            &["page"],
        ),
    ];
    world.refuse(cases).await;
}

/// By the API's rule a page that is no number is the first one, and a size that is none is 50.
#[tokio::test]
async fn odd_paging_falls_back() {
    let world = World::new().await;
    for list in [
        "certificates",
        "targets",
        "certificates/web/versions",
        "certificates/web/deployments",
        "audit",
    ] {
        for query in [
            "page=0",
            "page=-1",
            "page=x",
            "page=",
            "page=1.5",
            "page=%00",
            "page=99999999999999999999",
            "per_page=0",
            "per_page=-1",
            "per_page=501",
            "per_page=x",
            "per_page=1e3",
            "per_page=99999999999999999999",
            "unknown=1",
            "=",
            "&&&",
            "page",
            "%",
        ] {
            let list = world.app.get(&format!("/api/v1/{list}?{query}")).await;
            assert_eq!(
                (&list["page"], &list["per_page"]),
                (&json!(1), &json!(50)),
                "{query}"
            );
            assert!(!list["data"].as_array().unwrap().is_empty());
        }
        let far = format!("/api/v1/{list}?page={}&per_page=500", usize::MAX);
        let far = world.app.get(&far).await;
        assert_eq!(far["data"], json!([]));
        assert_ne!(far["total"], json!(0));
    }
}

#[tokio::test]
async fn headers() {
    let world = World::new().await;
    let list = |name| path(name, CERTIFICATES, 401, &[]).by(By::Nobody);
    let agent = &world.agent.id;
    let cases = vec![
        list("an empty header").header("authorization", ""),
        list("a scheme alone").header("authorization", "Bearer"),
        list("no scheme").header("authorization", world.app.admin_key()),
        list("another scheme").header("authorization", "Digest x"),
        list("a header that is no text").header("authorization", b"\xff\xfe"),
        list("a long key").header("authorization", format!("Bearer {}", "x".repeat(10_000))),
        list("a prefix alone").header("authorization", "Bearer ctl_"),
        list("an agent's prefix alone").header("authorization", "Bearer cta_"),
        list("an agent without secret").header("authorization", format!("Bearer cta_{agent}")),
        list("an agent with an empty secret")
            .header("authorization", format!("Bearer cta_{agent}.")),
        list("an agent that is no id").header("authorization", "Bearer cta_../x.y"),
        list("an agent that is unknown").header("authorization", "Bearer cta_agt-none.y"),
        list("a join token").header("authorization", format!("Bearer {}", world.join_token)),
        list("a session as key").header("authorization", "Bearer cts_x"),
        list("an empty cookie").header("cookie", "__Host-certctl_session="),
        list("an unknown session").header("cookie", "__Host-certctl_session=cts_x"),
        list("a key as session").header(
            "cookie",
            format!("__Host-certctl_session={}", world.app.admin_key()),
        ),
        list("a cookie that is no text").header("cookie", b"__Host-certctl_session=\xff"),
        list("another cookie").header("cookie", "session=cts_x; ;;=;"),
    ];
    world.refuse(cases).await;
}

/// Whoever names another version than the present one changes nothing.
#[tokio::test]
async fn tags() {
    let world = World::new().await;
    let certificate = format!("{CERTIFICATES}/web");
    let mut cases = Vec::new();
    for (name, tag) in [
        ("an old tag", b"\"1.0123abcd\"".as_slice()),
        ("a weak tag", b"W/\"1.0123abcd\""),
        ("a tag of a list", b"\"9f86d081884c7d65\""),
        (
            "a version beyond numbers",
            b"\"99999999999999999999.0123abcd\"",
        ),
        ("a tag without quotes", b"1.0123abcd"),
        ("a tag that is no text", b"\xff\xfe"),
        ("an empty tag", b""),
    ] {
        for (method, sent) in [("PUT", "{\"name\": \"lost\"}"), ("DELETE", "")] {
            let mut case = body(
                name,
                &certificate,
                sent,
                &["changed since", "read it again"],
            );
            case.method = method;
            cases.push(case.status(412).header("if-match", tag));
        }
    }
    world.refuse(cases).await;
}

/// Headers that nothing here reads do no harm.
#[tokio::test]
async fn headers_that_are_not_read_do_no_harm() {
    let world = World::new().await;
    for (name, value) in [
        ("content-type", b"text/plain; charset=\xff".as_slice()),
        ("content-encoding", b"gzip"),
        ("x-request-id", b"../../etc"),
        ("accept", b"\xff"),
        ("expect", b"the unexpected"),
        ("if-none-match", b"\xff"),
    ] {
        let call = world.app.admin("GET", CERTIFICATES).header(name, value);
        let answer = call.send().await;
        assert_ne!(answer.headers["x-request-id"], "../../etc");
        answer.expect(200);
    }
}
