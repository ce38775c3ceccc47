//! A server that is told to stop while a backup is on its way.

use super::Scene;
use crate::{cli::home::Home, support::TestApp};
use async_trait::async_trait;
use bytes::Bytes;
use certctl::{
    app::backup::{Keys, S3Access, prove},
    config::S3Config,
    net::{CallError, Transport},
    store::backup::Reader,
    sys::{Disk, Files},
};
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response};
use nix::sys::signal::Signal;
use serde_json::json;
use std::{
    future::pending,
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// A service at which the server is stopped by a call of an upload.
struct Slow {
    seen: Mutex<Vec<(Method, String)>>,
    stop: CancellationToken,
    /// By which.
    by: Method,
    /// Whether that is answered.
    answers: bool,
}

impl Slow {
    /// One, and a way to it.
    fn stopped_by(by: Method, answers: bool) -> (Arc<Self>, S3Access) {
        let stop = CancellationToken::new();
        let slow = Arc::new(Self {
            seen: Mutex::default(),
            stop: stop.clone(),
            by,
            answers,
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
        (slow, access)
    }

    fn seen(&self) -> Vec<(String, String)> {
        let seen = self.seen.lock().unwrap();
        let seen = seen.iter().map(|(m, what)| (m.to_string(), what.clone()));
        seen.collect()
    }
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
        if method == self.by && (upload || method != Method::POST) {
            self.stop.cancel();
            tokio::task::yield_now().await;
            if !self.answers {
                pending::<()>().await;
            }
        } else if method == Method::PUT && self.by == Method::DELETE {
            return Err(CallError::TooLarge { max: 1 });
        }
        let begun = "<InitiateMultipartUploadResult \
                     xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>b</Bucket><Key>k</Key>\
                     <UploadId>one</UploadId></InitiateMultipartUploadResult>";
        let answer = Response::builder().header("etag", "one");
        Ok(answer.body(begun.into()).unwrap())
    }
}

#[tokio::test]
async fn an_upload_that_is_stopped_is_taken_back() {
    let (slow, access) = Slow::stopped_by(Method::PUT, false);
    let place = access.place("b", "").unwrap();
    let failed = place.put("k", &vec![1; 20 << 20][..]).await.unwrap_err();
    assert!(failed.to_string().contains("the server stops"), "{failed}");
    let seen = slow.seen();
    let seen: Vec<_> = seen.iter().map(|(m, what)| (&**m, &**what)).collect();
    let of = "of the upload";
    assert_eq!(seen, [("POST", ""), ("PUT", of), ("DELETE", of)]);
}

/// What was sent may be done all the same: its answer is waited for, for some seconds.
#[tokio::test(start_paused = true)]
async fn an_upload_whose_end_is_sent_before_the_stop_is_there() {
    let (_, access) = Slow::stopped_by(Method::POST, true);
    let place = access.place("b", "").unwrap();
    let whole = vec![1; 20 << 20];
    let sent = place.put("k", &whole[..]).await.unwrap();
    assert_eq!(sent, 20 << 20);

    let (slow, access) = Slow::stopped_by(Method::POST, false);
    let place = access.place("b", "").unwrap();
    let began = tokio::time::Instant::now();
    let failed = place.put("k", &whole[..]).await.unwrap_err();
    assert!(failed.to_string().contains("the server stops"), "{failed}");
    assert!(began.elapsed().as_secs() <= 6, "{:?}", began.elapsed());
    assert_eq!(slow.seen().last().unwrap().0, "DELETE");
}

/// It is begun before the stop, which does not wait for its tries.
#[tokio::test(start_paused = true)]
async fn an_upload_that_is_taken_back_keeps_no_stop_waiting() {
    let (slow, access) = Slow::stopped_by(Method::DELETE, false);
    let place = access.place("b", "").unwrap();
    let began = tokio::time::Instant::now();
    place.put("k", &vec![1; 20 << 20][..]).await.unwrap_err();
    assert!(began.elapsed().as_secs() <= 6, "{:?}", began.elapsed());
    assert_eq!(slow.seen().last().unwrap().0, "DELETE");
}

/// The proof of one ends while it goes on, and leaves no scratch store.
#[tokio::test]
async fn a_proof_ends_when_the_server_stops() {
    let scene = Scene::new().await;
    let name = scene.create().await.name;
    let from = Disk.open(&scene.path().join(&name)).unwrap();
    let bundle = Reader::new(from, &Keys::default());
    let stop = &mut |_| scene.stop.cancel();
    let goes_on = AtomicBool::new(false);
    let after = stream::poll_fn(|_| {
        goes_on.store(true, Ordering::SeqCst);
        Poll::Ready(None)
    });
    let bundles = stream::iter([bundle]).chain(after);
    let proof = prove(&name, bundles, scene.bench(), scene.dir.path(), stop);
    let ended = scene.stop.run_until_cancelled(proof).await;
    assert!(ended.is_none(), "it went on to its end");
    assert!(!goes_on.load(Ordering::SeqCst), "it went on for a while");
    assert_eq!(Disk.list(scene.dir.path()).unwrap(), ["backups"]);
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

/// One for a directory ends as well, which is no failure.
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
    let state = app.get("/api/v1/backups").await;
    assert_eq!(state["last"]["failed_step"], "stopped", "{state}");
    assert_eq!(state["failures"], 0, "{state}");
}
