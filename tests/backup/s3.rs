//! Backups in S3, as moto's server speaks it.

use crate::cli::home::Home;
use crate::cli::process::run;
use bytes::Bytes;
use certctl::{
    app::backup::S3Access,
    config::S3Config,
    net::{Dialer, Guard, HttpClient, HttpOptions, Resolver, Transport, Trust},
    sys::{Disk, Files},
};
use http::{Method, Request, StatusCode};
use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
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
