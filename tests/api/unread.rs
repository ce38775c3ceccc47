//! A refusal waits for the rest of the request's body: clients of HTTP/2 lose it else.

use crate::support::TestApp;
use axum::body::{Body, Bytes};
use futures_util::stream::{self, StreamExt};
use http::Request;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tower::ServiceExt;

#[tokio::test]
async fn what_is_refused_was_read_to_its_end() {
    let app = TestApp::start().await;
    for (method, path, key, status) in [
        ("POST", "/api/v1/teams", "wrong", 401),
        ("POST", "/api/v1/nowhere", "wrong", 404),
        ("POST", "/health", "wrong", 405),
        ("DELETE", "/api/v1/audit", "wrong", 405),
        ("POST", "/api/v1/certificates/none/renew", "wrong", 401),
    ] {
        let read = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&read);
        let parts = stream::iter(0..10).map(move |_| {
            count.fetch_add(1, SeqCst);
            Ok::<_, Infallible>(Bytes::from_static(&[b' '; 1000]))
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .body(Body::from_stream(parts))
            .unwrap();
        let answer = app.router().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(read.load(SeqCst), 10, "{method} {path}");
    }
}

/// Whoever sends without an end is answered all the same.
#[tokio::test(start_paused = true)]
async fn an_endless_body_is_not_waited_for() {
    let app = TestApp::start().await;
    for endless in [
        stream::repeat(Bytes::from_static(&[b' '; 64 << 10])).left_stream(),
        stream::pending().right_stream(),
    ] {
        let request = Request::post("/api/v1/teams")
            .header("authorization", "Bearer wrong")
            .body(Body::from_stream(endless.map(Ok::<_, Infallible>)))
            .unwrap();
        let answer = app.router().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 401);
    }
}
