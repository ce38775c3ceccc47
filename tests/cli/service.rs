//! The server as a service manager runs it.

use super::{
    home::Home,
    process::{AMPLE, Process, certctl},
};
use certctl::{
    clock::Time,
    domain::JoinToken,
    store::{Committer, Redb, Store},
};
use nix::sys::signal::Signal;
use std::{fs, os::unix::net::UnixDatagram, process::Command, sync::Arc};

/// A data directory whose store takes a while to start: its indexes are to be built.
async fn stale_store(home: &Home) {
    fs::create_dir(home.data()).unwrap();
    let engine = Arc::new(Redb::open(&home.path("certctl.redb")).unwrap());
    let store = Store::start(engine, Committer::Thread, Box::new(|e| panic!("{e}"))).unwrap();
    let now = Time::from_micros(1);
    for page in 0..20_u32 {
        let mut unit = store.unit(page.into(), now);
        for row in 0..1_000 {
            let id = format!("tok-{page}-{row}");
            unit.insert(JoinToken {
                secret_sha256: id.clone(),
                id: id.parse().unwrap(),
                name: String::new(),
                expires_at: now,
                max_uses: 1,
                replace: false,
                names: None,
                revoked_at: None,
                created_at: now,
            });
        }
        unit.commit().await.unwrap();
    }
    store.close().await;
}

#[tokio::test]
async fn a_server_told_to_end_while_it_starts_ends() {
    let home = Home::new();
    stale_store(&home).await;
    let manager = UnixDatagram::bind(home.beside("notify")).unwrap();
    manager.set_read_timeout(Some(AMPLE)).unwrap();
    let mut command = home.command(&format!("server --listen {}", home.control()));
    let server = Process::start(command.env("NOTIFY_SOCKET", home.beside("notify")));
    let mut word = [0; 256];
    let length = manager.recv(&mut word).unwrap();
    let said = String::from_utf8_lossy(&word[..length]);
    assert!(said.starts_with("EXTEND_TIMEOUT_USEC="), "{said}");

    server.signal(Signal::SIGTERM);
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.contains("SIGTERM"), "{ended:?}");
    assert!(!ended.stderr.contains(" ready "), "{ended:?}");
}

#[test]
fn a_server_may_open_as_many_files_as_the_machine_allows() {
    let home = Home::new();
    let line = format!("server --listen {}", home.control());
    let program = certctl::<&str>([]);
    let mut command = Command::new("sh");
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .args(["-c", "ulimit -Sn 256 && exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(home.command(&line).get_args());
    let server = Process::start(&mut command);
    server.line(" ready ");
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let files = limits.lines().find(|l| l.starts_with("Max open files"));
    let numbers: Vec<_> = files.unwrap().split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{limits}");
}
