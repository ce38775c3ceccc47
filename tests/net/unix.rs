//! The unix socket.

use super::pki::{AMPLE, fetch, router, serve, text};
use certctl::{
    net::{BindError, CallError, HttpClient, HttpOptions, Limits, Listener, Transport},
    sys::Tasks,
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
};

fn client(path: &Path) -> HttpClient {
    HttpClient::unix(path.into(), HttpOptions::default())
}

#[tokio::test]
async fn the_callers_user_is_known_and_the_file_is_guarded_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("certctl.sock");
    let tasks = Tasks::new();
    serve(
        Listener::unix(&path, 0o660).unwrap(),
        router(),
        Limits::default(),
        &tasks,
    );
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o660
    );
    let response = client(&path)
        .call(fetch("http://localhost/peer"))
        .await
        .unwrap();
    let uid = nix::unistd::getuid().as_raw();
    assert_eq!(text(response), format!("Unix {{ uid: {uid} }}"));
    assert_eq!(tasks.shutdown(AMPLE).await, BTreeMap::new());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_dead_servers_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("certctl.sock");
    // The standard library's listener leaves its file behind, as a killed process does.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let absent = client(&path)
        .call(fetch("http://localhost/"))
        .await
        .unwrap_err();
    assert!(matches!(absent, CallError::Socket { .. }));
    assert!(
        absent.to_string().contains("check that the server runs"),
        "{absent}"
    );
    let tasks = Tasks::new();
    serve(
        Listener::unix(&path, 0o600).unwrap(),
        router(),
        Limits::default(),
        &tasks,
    );
    let response = client(&path)
        .call(fetch("http://localhost/"))
        .await
        .unwrap();
    assert_eq!(text(response), "HTTP/1.1");
    tasks.shutdown(AMPLE).await;
}

#[tokio::test]
async fn a_live_servers_socket_and_other_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("certctl.sock");
    let live = Listener::unix(&path, 0o600).unwrap();
    let error = Listener::unix(&path, 0o600).err().unwrap();
    assert!(matches!(error, BindError::SocketTaken(_)));
    assert!(
        error.to_string().contains("in use by a running server"),
        "{error}"
    );
    assert!(path.exists());
    drop(live);
    fs::write(&path, b"precious").unwrap();
    let error = Listener::unix(&path, 0o600).err().unwrap();
    assert!(error.to_string().contains("no socket"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_successors_socket_survives_the_predecessor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("certctl.sock");
    let old = Listener::unix(&path, 0o600).unwrap();
    fs::remove_file(&path).unwrap();
    let _new = Listener::unix(&path, 0o600).unwrap();
    drop(old);
    assert!(path.exists());
}
