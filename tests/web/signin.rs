//! Sign-in, sessions, sign-out.

use super::{Desk, browser};
use axum::body::Body;
use certctl::access::Role;
use http::{Method, StatusCode, header};
use std::time::Duration;

const SESSION: &str = "__Host-certctl_session";

#[tokio::test]
async fn a_key_opens_a_session() {
    let desk = Desk::open().await;
    let page = desk.get("/login", None).await;
    assert_eq!(page.status, StatusCode::OK);
    let key = page.page().by_id("key").unwrap();
    assert_eq!(key.attr("type").as_deref(), Some("password"));

    let form = format!("key=%20{}%0D%0A", desk.admin);
    let answer = desk.post("/login", None, &form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.header("location"), "/certificates");
    assert_eq!(answer.header("cache-control"), "no-store");
    let cookie = answer.header("set-cookie").to_owned();
    let mut parts: Vec<&str> = cookie.split("; ").collect();
    let value = parts.remove(0);
    parts.sort_unstable();
    assert_eq!(
        parts,
        [
            "HttpOnly",
            "Max-Age=28800",
            "Path=/",
            "SameSite=Lax",
            "Secure"
        ]
    );
    assert!(value.starts_with(&format!("{SESSION}=cts_")), "{value}");
    assert!(!value.contains(&desk.admin));

    let page = desk.get("/certificates", Some(value)).await.page();
    assert!(page.one("header").text().contains("admin"));
}

#[tokio::test]
async fn a_wrong_key_is_told_and_not_repeated() {
    let desk = Desk::open().await;
    let right = desk.admin.clone();
    let almost = format!("{}x", &right[..right.len() - 1]);
    for wrong in [
        almost.as_str(),
        "ctl_",
        "hunter2",
        "",
        "%00%FF",
        "cts_abc",
        "cta_a.b",
    ] {
        let answer = desk.post("/login", None, &format!("key={wrong}")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{wrong}");
        assert!(!answer.headers.contains_key(header::SET_COOKIE));
        let page = answer.page();
        assert!(page.by_id("wrong").unwrap().text().contains("not valid"));
        let key = page.by_id("key").unwrap();
        assert_eq!(key.attr("value"), None);
        assert_eq!(key.attr("aria-invalid").as_deref(), Some("true"));
        assert!(wrong.len() < 5 || !answer.text().contains(wrong), "{wrong}");
    }
}

#[tokio::test]
async fn garbage_and_too_much_are_refused() {
    let desk = Desk::open().await;
    let admin = desk.admin.clone();
    for (form, status) in [
        (String::new(), StatusCode::UNPROCESSABLE_ENTITY),
        ("\u{fffd}&&=&%".into(), StatusCode::UNPROCESSABLE_ENTITY),
        (
            format!("key={admin}&key={admin}"),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            format!("key={}", "a".repeat(9_000)),
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
    ] {
        let answer = desk.post("/login", None, &form).await;
        assert_eq!(answer.status, status, "{form:.40}");
        assert!(!answer.page().text().contains(&admin));
        assert!(!answer.headers.contains_key(header::SET_COOKIE));
    }
    let json = browser(Method::POST, "/login", None)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(format!("{{\"key\":{admin:?}}}")))
        .unwrap();
    let answer = desk.send(json).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn no_session_no_page() {
    let desk = Desk::open().await;
    let session = desk.admin().await;
    let mut forged = session.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'E' } else { 'A' });
    let key = format!("{SESSION}={}", desk.admin);
    for cookie in [
        None,
        Some(forged.as_str()),
        Some(key.as_str()),
        Some("__Host-certctl_session="),
        Some("certctl_session=x; ;=;"),
    ] {
        let answer = desk.get("/certificates", cookie).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{cookie:?}");
        assert_eq!(answer.header("location"), "/login");
    }

    // Unused it lasts an hour, used it lasts eight.
    let unused = desk.admin().await;
    let hour = Duration::from_secs(3600) - Duration::from_micros(1);
    for _ in 0..8 {
        desk.pass(hour);
        let answer = desk.get("/certificates", Some(&session)).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    desk.pass(Duration::from_micros(8));
    for ended in [session, unused] {
        let answer = desk.get("/certificates", Some(&ended)).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
    }
}

#[tokio::test]
async fn signing_out_ends_the_session_on_the_server() {
    let desk = Desk::open().await;
    let session = desk.admin().await;
    let other = desk.admin().await;
    let answer = desk.post("/logout", Some(&session), "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.header("location"), "/login");
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with(&format!("{SESSION}=;")), "{cookie}");
    assert!(
        cookie.contains("Max-Age=0") && cookie.contains("Secure"),
        "{cookie}"
    );

    let status = async |s: &str| desk.get("/certificates", Some(s)).await.status;
    assert_eq!(status(&session).await, StatusCode::SEE_OTHER);
    assert_eq!(status(&other).await, StatusCode::OK);
    let again = desk.post("/logout", Some(&session), "").await;
    assert_eq!(again.status, StatusCode::SEE_OTHER);
    let page = desk.get("/certificates", Some(&other)).await.page();
    assert!(page.text().contains("session ended"));
}

#[tokio::test]
async fn signing_in_again_ends_the_session_before() {
    let desk = Desk::open().await;
    let before = desk.admin().await;
    let viewer = desk.key(Role::Viewer).await;
    let form = format!("key={viewer}");
    let answer = desk.post("/login", Some(&before), &form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let answer = desk.get("/certificates", Some(&before)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn another_site_can_neither_sign_in_nor_out() {
    let desk = Desk::open().await;
    let session = desk.admin().await;
    let form = format!("key={}", desk.admin);
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.test"),
        ("origin", "null"),
    ] {
        for path in ["/login", "/logout"] {
            let request = browser(Method::POST, path, Some(&session))
                .header(name, value)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Body::from(form.clone()))
                .unwrap();
            let answer = desk.send(request).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}: {value}");
            assert!(!answer.headers.contains_key(header::SET_COOKIE));
            assert!(answer.page().text().contains("This is not allowed"));
        }
    }
    let answer = desk.get("/certificates", Some(&session)).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn one_comes_back_to_where_one_wanted_to_go() {
    let desk = Desk::open().await;
    let answer = desk.get("/certificates?live=off", None).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let login = answer.header("location");
    assert_eq!(login, "/login?next=%2Fcertificates%3Flive%3Doff");

    let page = desk.get(login, None).await.page();
    let fields = page.all("input");
    let next = fields
        .iter()
        .find(|f| f.attr("name").as_deref() == Some("next"));
    assert_eq!(
        next.unwrap().attr("value").as_deref(),
        Some("/certificates?live=off")
    );

    let form = format!("key={}&next=%2Fcertificates%3Flive%3Doff", desk.admin);
    let answer = desk.post("/login", None, &form).await;
    assert_eq!(answer.header("location"), "/certificates?live=off");
}

#[tokio::test]
async fn nobody_is_sent_to_another_site() {
    let desk = Desk::open().await;
    for next in [
        "//evil.test",
        "/%5Cevil.test",
        "%5C%5Cevil.test",
        "https:%2F%2Fevil.test",
        "%09//evil.test",
        "/%09/evil.test",
        "/%0D%0ALocation:evil.test",
        "evil.test",
        "",
        "/login",
        "/logout",
        "/%C3%A9",
    ] {
        let page = desk.get(&format!("/login?next={next}"), None).await.page();
        let fields = page.all("input");
        assert!(
            fields
                .iter()
                .all(|f| f.attr("value").is_none_or(|v| v == "/certificates"))
        );
        let form = format!("key={}&next={next}", desk.admin);
        let answer = desk.post("/login", None, &form).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        assert_eq!(answer.header("location"), "/certificates", "{next}");
    }
    let long = format!("key={}&next=/{}", desk.admin, "a".repeat(2048));
    let answer = desk.post("/login", None, &long).await;
    assert_eq!(answer.header("location"), "/certificates");
}

#[tokio::test]
async fn a_refresh_without_session_leaves_for_sign_in() {
    let desk = Desk::open().await;
    for (from, to) in [
        ("https://certctl.test/certificates", "/login"),
        (
            "https://certctl.test/certificates?live=on",
            "/login?next=%2Fcertificates%3Flive%3Don",
        ),
        ("https://certctl.test//evil.test", "/login"),
        ("nonsense", "/login"),
    ] {
        let request = browser(Method::GET, "/certificates/fragment", None)
            .header("hx-request", "true")
            .header("hx-current-url", from)
            .body(Body::empty())
            .unwrap();
        let answer = desk.send(request).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.header("hx-redirect"), to, "{from}");
    }
}

#[tokio::test]
async fn a_key_that_ends_takes_its_sessions_along() {
    let desk = Desk::open().await;
    let key = desk.key(Role::Viewer).await;
    let session = desk.sign_in(&key).await;
    let id = "key-r-viewer".parse().unwrap();
    let mut unit = desk.app.store.unit(77, desk.app.now());
    let row = unit.load::<certctl::domain::ApiKey>(&id).await.unwrap();
    let now = desk.app.now();
    unit.put(row.map(|mut k| {
        k.expires_at = Some(now.plus(Duration::from_secs(60)));
        k
    }));
    unit.commit().await.unwrap();
    let status = async || desk.get("/certificates", Some(&session)).await.status;
    assert_eq!(status().await, StatusCode::OK);
    desk.pass(Duration::from_secs(60));
    assert_eq!(status().await, StatusCode::SEE_OTHER);
    let answer = desk.post("/login", None, &format!("key={key}")).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}
