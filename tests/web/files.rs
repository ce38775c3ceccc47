//! The embedded files.

use super::{Desk, browser};
use axum::body::Body;
use http::{Method, StatusCode, header};

const VENDORED: &str = include_str!("../../web/README.md");

#[tokio::test]
async fn every_file_a_page_names_is_there_and_may_be_kept() {
    let desk = Desk::open().await;
    let session = desk.admin().await;
    let page = desk.get("/certificates", Some(&session)).await.page();
    let mut kinds = Vec::new();
    for e in page.all("*") {
        for (name, address) in e.attrs() {
            if !matches!(name.as_str(), "src" | "href") || !address.starts_with("/static/") {
                continue;
            }
            let answer = desk.get(&address, None).await;
            assert_eq!(answer.status, StatusCode::OK, "{address}");
            let keep = answer.header("cache-control");
            assert_eq!(keep, "public, max-age=31536000, immutable");
            let kind = answer.header("content-type");
            let fits = match address
                .split('?')
                .next()
                .unwrap()
                .rsplit('.')
                .next()
                .unwrap()
            {
                "css" => kind == "text/css; charset=utf-8",
                "js" => kind == "text/javascript; charset=utf-8",
                "svg" => kind == "image/svg+xml",
                _ => false,
            };
            assert!(fits, "{address}: {kind}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            if let Some((_, icon)) = address.split_once('#') {
                assert!(answer.text().contains(&format!("id=\"{icon}\"")), "{icon}");
            }
            kinds.push(kind.to_owned());
        }
    }
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}

#[tokio::test]
async fn what_a_browser_has_is_not_sent_again() {
    let desk = Desk::open().await;
    let plain = desk.get("/static/app.css", None).await;
    assert_eq!(plain.header("cache-control"), "no-cache");
    let tag = plain.header("etag").to_owned();
    let ask = async |known: &str| {
        let request = browser(Method::GET, "/static/app.css", None)
            .header(header::IF_NONE_MATCH, known)
            .body(Body::empty())
            .unwrap();
        desk.send(request).await
    };
    for known in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"a\", {tag}"),
        "*".into(),
    ] {
        let answer = ask(&known).await;
        assert_eq!(answer.status, StatusCode::NOT_MODIFIED, "{known}");
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("etag"), tag);
    }
    for unknown in ["\"a\"", "", &tag[1..]] {
        assert_eq!(ask(unknown).await.status, StatusCode::OK, "{unknown}");
    }
    let stale = desk.get("/static/app.css?v=0123456789abcdef", None).await;
    assert_eq!(stale.header("cache-control"), "no-cache");
}

#[tokio::test]
async fn what_is_not_embedded_is_not_there() {
    let desk = Desk::open().await;
    for path in [
        "/static/",
        "/static/nothing.css",
        "/static/../Cargo.toml",
        "/static/..%2F..%2FCargo.toml",
        "/static/%2Fetc%2Fpasswd",
        "/static/%2e%2e%2ftemplates%2flogin.html",
        "/static/app.css/",
        "/static/APP.CSS",
    ] {
        let answer = desk.get(path, None).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.page().text().contains("There is no such page"));
    }
    let answer = desk.post("/static/app.css", None, "").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_vendored_file_is_the_one_written_down() {
    let desk = Desk::open().await;
    let htmx = desk.get("/static/htmx.min.js", None).await;
    let hash = ring::digest::digest(&ring::digest::SHA256, &htmx.body);
    let hash = data_encoding::HEXLOWER.encode(hash.as_ref());
    assert!(VENDORED.contains(&hash), "{hash}");
    let licence = desk.get("/static/htmx.LICENSE.txt", None).await;
    assert_eq!(licence.header("content-type"), "text/plain; charset=utf-8");
    assert!(licence.text().contains("Zero-Clause BSD"));
}
