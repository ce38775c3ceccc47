//! A server that is told to stop while a backup is on its way.

use crate::{cli::home::Home, support::TestApp};
use async_trait::async_trait;
use bytes::Bytes;
use certctl::{
    app::backup::S3Access,
    config::S3Config,
    net::{CallError, Transport},
};
use http::{Method, Request, Response};
use nix::sys::signal::Signal;
use serde_json::json;
use std::{
    future::pending,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// A service that begins and aborts uploads, and takes a part for ever.
struct Slow {
    seen: Mutex<Vec<(Method, String)>>,
    stop: CancellationToken,
}

#[async_trait]
impl Transport for Slow {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let query = request.uri().query().unwrap_or_default();
        let upload = query.split('&').any(|pair| pair == "uploadId=one");
        let what = if upload { "of the upload" } else { "" };
        let method = request.method().clone();
        self.seen
            .lock()
            .unwrap()
            .push((method.clone(), what.to_owned()));
        if method == Method::PUT {
            self.stop.cancel();
            pending::<()>().await;
        }
        let begun = "<InitiateMultipartUploadResult \
                     xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>b</Bucket><Key>k</Key>\
                     <UploadId>one</UploadId></InitiateMultipartUploadResult>";
        Ok(Response::new(begun.into()))
    }
}

#[tokio::test]
async fn an_upload_that_is_stopped_is_taken_back() {
    let stop = CancellationToken::new();
    let slow = Arc::new(Slow {
        seen: Mutex::default(),
        stop: stop.clone(),
    });
    let config = S3Config {
        endpoint: "http://127.0.0.1:1".into(),
        region: "us-east-1".into(),
        keys: None,
    };
    let access = S3Access {
        http: slow.clone(),
        stop,
        ..S3Access::new(&config).unwrap()
    };
    let place = access.place("b", "").unwrap();
    let failed = place.put("k", &vec![1; 20 << 20][..]).await.unwrap_err();
    assert!(failed.to_string().contains("the server stops"), "{failed}");
    let seen = slow.seen.lock().unwrap();
    let seen: Vec<_> = seen
        .iter()
        .map(|(m, what)| (m.as_str(), what.as_str()))
        .collect();
    let of = "of the upload";
    assert_eq!(seen, [("POST", ""), ("PUT", of), ("DELETE", of)]);
}

/// The service takes the call and never answers.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a peer of the test's own")]
async fn a_server_that_sends_a_backup_stops_at_once_and_leaves_nothing() {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", service.local_addr().unwrap());
    let home = Home::new();
    let server = home.server_with(&[("CERTCTL_BACKUP_S3_ENDPOINT", &endpoint)]);
    let wanted = json!({"sink": "s3://backups", "without_keys": true});
    home.api().post("/backups", wanted).await;
    let _open = service.accept().unwrap();
    server.signal(Signal::SIGTERM);
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(
        !ended.stderr.contains("cut at the end of the drain"),
        "{ended:?}"
    );
    let left = std::fs::read_dir(home.data()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    let temporary = |name: &std::ffi::OsString| name.to_string_lossy().starts_with(".certctl-");
    assert!(!left.iter().any(temporary), "{left:?}");
}

/// One for a directory, and the proof of one, end as well.
#[tokio::test]
async fn a_backup_that_is_begun_while_the_server_stops_is_not_made() {
    let app = TestApp::start().await;
    let dir = app.file("backups");
    let wanted = json!({"sink": format!("dir:{}", dir.display()), "without_keys": true});
    let mut held = app.hold_next_commit();
    let call = app.post("/api/v1/backups", wanted);
    let stopped = async {
        held.there().await;
        let tasks = &app.app.tasks;
        let goes_on = async {
            tasks.token().cancelled().await;
            held.release();
        };
        tokio::join!(tasks.shutdown(Duration::from_secs(20)), goes_on).0
    };
    let (_, late) = tokio::join!(call, stopped);
    assert!(late.is_empty(), "{late:?}");
    let left = std::fs::read_dir(&dir).map(Iterator::count).unwrap_or(0);
    assert_eq!(left, 0);
}
