//! Backups in S3, as moto's server speaks it.

use crate::cli::home::Home;
use crate::cli::process::run;
use async_trait::async_trait;
use bytes::Bytes;
use certctl::{
    app::backup::S3Access,
    config::S3Config,
    net::{
        CallError, Deadline, Dialer, Guard, HttpClient, HttpOptions, Resolver, Transport, Trust,
    },
    sys::{Disk, Files},
};
use http::{Method, Request, Response, StatusCode};
use std::{
    collections::VecDeque,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{interval, timeout};

/// moto's server; killed when dropped.
struct Moto {
    child: Child,
    endpoint: String,
    client: HttpClient,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Moto {
    /// A server with the bucket `backups`.
    #[expect(
        clippy::disallowed_methods,
        reason = "a port for a peer of the test's own"
    )]
    async fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto_server is installed by tests/run");
        let dialer = Dialer::new(Resolver::system(), Guard::Any);
        let client = HttpClient::foreign(dialer, &Trust::System, HttpOptions::default()).unwrap();
        let endpoint = format!("http://127.0.0.1:{port}");
        let moto = Self {
            child,
            endpoint,
            client,
        };
        let mut again = interval(Duration::from_millis(50));
        let up = timeout(Duration::from_secs(60), async {
            loop {
                again.tick().await;
                if moto.call(Method::PUT, "/backups").await == Some(StatusCode::OK) {
                    break;
                }
            }
        });
        up.await.expect("moto's server makes a bucket");
        moto
    }

    async fn call(&self, method: Method, path: &str) -> Option<StatusCode> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint))
            .body(Bytes::new())
            .unwrap();
        Some(self.client.call(request).await.ok()?.status())
    }

    fn access(&self) -> S3Access {
        S3Access::new(&S3Config {
            endpoint: self.endpoint.clone(),
            region: "eu-central-1".into(),
            keys: Some(("key".into(), "secret".to_owned().into())),
        })
        .unwrap()
    }
}

#[tokio::test]
async fn objects_of_several_parts_come_back_as_they_were() {
    let moto = Moto::start().await;
    let dir = tempfile::tempdir().unwrap();
    let access = moto.access();
    let place = access.place("backups", "a/").unwrap();
    let whole: Vec<u8> = (0..40_u32 << 20).map(|n| (n % 251) as u8).collect();
    for (name, length) in [
        ("big", whole.len()),
        ("part", 16 << 20),
        ("small", 3),
        ("none", 0),
    ] {
        let bytes = &whole[..length];
        assert_eq!(place.put(name, bytes).await.unwrap(), length as u64);
        let path = dir.path().join(name);
        let mut pending = Disk.begin(&path, 0o600).unwrap();
        if length > 0 {
            place.fetch(name, &mut *pending).await.unwrap();
        }
        pending.place().unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes, "{name}");
    }
    let mut listed: Vec<_> = place.list().await.unwrap();
    listed.sort_by_key(|object| object.bytes);
    let names: Vec<_> = listed.iter().map(|o| (o.name.as_str(), o.bytes)).collect();
    let big = whole.len() as u64;
    assert_eq!(
        names,
        [("none", 0), ("small", 3), ("part", 16 << 20), ("big", big)]
    );
    place.delete("big").await.unwrap();
    assert!(place.get("big").await.unwrap().is_none());
    let elsewhere = access.place("nothing-there", "").unwrap();
    let refused = elsewhere.put("x", &b"x"[..]).await.unwrap_err();
    assert!(refused.to_string().contains("NoSuchBucket"), "{refused}");
}

#[tokio::test]
async fn backups_go_to_s3_and_come_from_there() {
    let moto = Moto::start().await;
    let home = Home::new();
    let settings = [
        ("CERTCTL_BACKUP_S3_ENDPOINT", moto.endpoint.as_str()),
        ("CERTCTL_BACKUP_S3_ACCESS_KEY", "key"),
        ("CERTCTL_BACKUP_S3_SECRET_KEY", "secret"),
    ];
    let server = home.server_with(&settings);
    let with = |line: &str| run(home.command(line).envs(settings));
    let sink = "s3://backups/ca/one";
    let create = format!("backup create --sink {sink} --without-keys --output json");
    let made: serde_json::Value = serde_json::from_str(&with(&create).good()).unwrap();
    let name = made["name"].as_str().unwrap();
    with(&format!("backup verify {sink}/{name} --restore")).good();
    let listed = with(&format!("backup list --sink {sink}")).good();
    assert!(
        listed.contains(name) && listed.contains("restored"),
        "{listed}"
    );

    // What is only called a backup is none.
    let number: u64 = made["seq"].as_str().unwrap().parse().unwrap();
    let seq = format!("-{number}-");
    let access = moto.access();
    let place = access.place("backups", "ca/one/").unwrap();
    for (more, text) in [(1, &b""[..]), (2, b"notes")] {
        let seq_of_other = format!("-{}-", number + more);
        let garbage = name.replace(&seq, &seq_of_other);
        place.put(&garbage, text).await.unwrap();
        // Whatever was noted of it.
        let note = place.get(&format!("{name}.proven")).await.unwrap().unwrap();
        place
            .put(&format!("{garbage}.proven"), &note[..])
            .await
            .unwrap();
        let listed = with(&format!("backup list --sink {sink}"));
        let said = format!("{garbage} is not counted: it is no backup of certctl");
        assert!(listed.stderr.contains(&said), "{listed:?}");
        let good = listed.stdout.lines().find(|line| line.contains(name));
        assert!(!good.unwrap().contains("unusable"), "{listed:?}");
    }

    let missing = with("backup create --sink s3://nowhere/x --without-keys");
    let missing = missing.bad(73);
    assert!(missing.contains("NoSuchBucket"), "{missing}");
    let unset = home.run(&format!("backup list --sink {sink}")).bad(73);
    assert!(unset.contains("CERTCTL_BACKUP_S3_ENDPOINT"), "{unset}");
    let half = run(home
        .command("backup list --sink s3://a")
        .env("CERTCTL_BACKUP_S3_ACCESS_KEY", "k"));
    assert_eq!(half.status.code(), Some(78), "{half:?}");

    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.end();
    let said = with(&format!("restore {sink}/{name} --yes")).good();
    assert!(said.contains("restored into"), "{said}");
    let names: Vec<_> = Disk.list(&home.data()).unwrap();
    let left = names
        .iter()
        .filter(|n| n.to_string_lossy().starts_with(".certctl-"));
    assert_eq!(left.count(), 0, "what was fetched is gone: {names:?}");
}

/// What becomes of a call.
#[derive(Clone, Copy)]
enum Fault {
    /// It is answered by this.
    Status(u16, &'static str),
    /// It never arrives.
    Broken,
    /// It is done, and its answer lost.
    Lost,
    /// A bit of it is another one when it arrives.
    Changed,
    /// Nothing.
    Not,
}

/// A way to a service that looks at the sums of what arrives, on which calls fail as told.
struct Shaky {
    http: Arc<dyn Transport>,
    faults: Mutex<VecDeque<Fault>>,
    calls: AtomicUsize,
}

#[async_trait]
impl Transport for Shaky {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = self.faults.lock().unwrap().pop_front();
        let (head, mut body) = request.into_parts();
        let Deadline(limit) = head.extensions.get().unwrap();
        let begins = head
            .headers
            .get("range")
            .is_some_and(|range| range.len() < 12);
        let carries = head.method == Method::PUT
            || head.method == Method::POST
            || head.headers.contains_key("range") && !begins;
        let most = if carries { 300 } else { 30 };
        assert_eq!(limit.as_secs(), most, "{head:?}");
        let broken = || CallError::Broken("by the test".into());
        let answer = |status: u16, code: &str| {
            let says = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
            Ok(Response::builder()
                .status(status)
                .body(says.into())
                .unwrap())
        };
        match fault.unwrap_or(Fault::Not) {
            Fault::Status(status, code) => return answer(status, code),
            Fault::Broken => return Err(broken()),
            Fault::Lost => {
                self.http.call(Request::from_parts(head, body)).await?;
                return Err(broken());
            }
            Fault::Changed => {
                let mut bytes = body.to_vec();
                bytes[7] ^= 4;
                body = bytes.into();
            }
            Fault::Not => {}
        }
        if head.method == Method::PUT {
            let sum = ring::digest::digest(&ring::digest::SHA256, &body);
            let sum = data_encoding::BASE64.encode(sum.as_ref());
            if head.headers["x-amz-checksum-sha256"] != sum.as_str() {
                return answer(400, "BadDigest");
            }
        }
        self.http.call(Request::from_parts(head, body)).await
    }
}

/// A way there on which these faults come in turn, and how long was waited.
fn shaky(moto: &Moto, faults: &[Fault]) -> (S3Access, Arc<Shaky>, Arc<Mutex<Vec<Duration>>>) {
    let access = moto.access();
    let way = Arc::new(Shaky {
        http: access.http.clone(),
        faults: Mutex::new(faults.iter().copied().collect()),
        calls: AtomicUsize::new(0),
    });
    let rests: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let waited = rests.clone();
    let access = S3Access {
        http: way.clone(),
        rest: Arc::new(move |time| {
            waited.lock().unwrap().push(time);
            Box::pin(std::future::ready(()))
        }),
        ..access
    };
    (access, way, rests)
}

#[tokio::test]
async fn calls_that_fail_for_a_moment_are_made_again() {
    use Fault::{Broken, Changed, Lost, Not, Status};
    let moto = Moto::start().await;
    let busy = Status(503, "SlowDown");
    let whole: Vec<u8> = (0..40_u32 << 20).map(|n| (n % 251) as u8).collect();
    let faults = [
        // The upload is begun,
        &[busy, Not][..],
        // then its three parts,
        &[Changed, Not],
        &[Broken, Status(429, "TooManyRequests"), Lost, Not],
        &[busy, busy, busy, Not],
        // and its end, which may be told late.
        &[
            Status(200, "InternalError"),
            Lost,
            Status(404, "NoSuchUpload"),
            Not,
        ],
    ];
    let (access, way, rests) = shaky(&moto, &faults.concat());
    let place = access.place("backups", "a/").unwrap();
    let sent = place.put("big", &whole[..]).await.unwrap();
    assert_eq!(sent, whole.len() as u64);
    assert!(way.faults.lock().unwrap().is_empty());
    let rests = rests.lock().unwrap().clone();
    assert_eq!(rests.len(), 10);
    let between = |n: usize, most: u64| {
        let (most, rest) = (Duration::from_millis(most), rests[n]);
        assert!(
            most / 2 <= rest && rest <= most,
            "{n}: {rest:?} of {most:?}"
        );
    };
    // Of the last part.
    for (n, most) in [(5, 250), (6, 1_000), (7, 4_000)] {
        between(n, most);
    }
    way.faults.lock().unwrap().extend([busy, Broken]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big");
    let mut pending = Disk.begin(&path, 0o600).unwrap();
    place.fetch("big", &mut *pending).await.unwrap();
    pending.place().unwrap();
    assert!(std::fs::read(&path).unwrap() == whole);
}

#[tokio::test]
async fn what_does_not_pass_is_told_and_leaves_nothing() {
    use Fault::{Changed, Not, Status};
    let moto = Moto::start().await;
    let busy = Status(500, "InternalError");
    let (access, way, _) = shaky(&moto, &[Not, busy, busy, busy, busy]);
    let place = access.place("backups", "b/").unwrap();
    let whole = vec![1; 20 << 20];
    let failed = place.put("big", &whole[..]).await.unwrap_err().to_string();
    assert!(failed.contains("InternalError"), "{failed}");
    assert!(failed.contains("it was tried 4 times"), "{failed}");
    assert!(place.list().await.unwrap().is_empty());
    let request = Request::get(format!("{}/backups?uploads", moto.endpoint));
    let uploads = moto.client.call(request.body(Bytes::new()).unwrap()).await;
    let uploads = String::from_utf8(uploads.unwrap().into_body().to_vec()).unwrap();
    assert!(uploads.contains("ListMultipartUploadsResult"), "{uploads}");
    assert!(!uploads.contains("<UploadId>"), "{uploads}");

    way.faults.lock().unwrap().extend([Changed; 4]);
    let failed = place.put("small", &b"more than seven"[..]).await;
    let failed = failed.unwrap_err().to_string();
    assert!(failed.contains("BadDigest"), "{failed}");
    assert!(place.list().await.unwrap().is_empty());

    // What is told late may be final: upload, two parts, the end, and away with them.
    let before = way.calls.load(Ordering::SeqCst);
    let late = [Not, Not, Not, Status(200, "InvalidPart")];
    way.faults.lock().unwrap().extend(late);
    let failed = place.put("big", &whole[..]).await.unwrap_err().to_string();
    assert!(failed.contains("InvalidPart"), "{failed}");
    assert_eq!(way.calls.load(Ordering::SeqCst), before + 5);

    // A beginning is waited for no longer than other short answers.
    place.put("small", &b"more than seven"[..]).await.unwrap();
    assert_eq!(place.beginning("small", 4).await.unwrap(), "more");

    // What will be answered the same again is not asked again.
    let before = way.calls.load(Ordering::SeqCst);
    let denied = Status(403, "AccessDenied");
    way.faults.lock().unwrap().push_back(denied);
    let failed = place.get("small").await.unwrap_err().to_string();
    assert!(failed.contains("AccessDenied"), "{failed}");
    assert_eq!(way.calls.load(Ordering::SeqCst), before + 1);
}
