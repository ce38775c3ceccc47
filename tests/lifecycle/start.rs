//! The first start, cut anywhere, and what later ones need.

use super::renewal::active;
use crate::support::TestApp;
use certctl::{app::StartError, crypt::MachineKey};

#[tokio::test]
async fn a_first_start_cut_at_any_commit_is_finished_by_the_next() {
    let mut cuts = 0;
    while let Some(mut app) = TestApp::start_cut_after(cuts).await {
        cuts += 1;
        let told = std::fs::read_to_string(app.file("first-start.txt")).unwrap();
        assert!(told.contains(app.admin_key()), "the file has another key");
        active(&mut app).await;
        app.restart().await;
        app.check().await;
        let actions = app.actions().await;
        for once in ["key_ring_created", "api_key_created"] {
            assert_eq!(actions.iter().filter(|a| *a == once).count(), 1, "{once}");
        }
        let cas = actions.iter().filter(|a| *a == "ca_created").count();
        assert_eq!(cas, 2, "the local CA and the system CA");
    }
    assert!(cuts >= 4, "ring, records, CAs, key: {cuts}");
}

/// The first key is made once: after it was revoked no start brings an administrator back.
#[tokio::test]
async fn a_first_key_that_was_revoked_stays_so() {
    let mut app = TestApp::start().await;
    let file = app.file("first-start.txt");
    std::fs::remove_file(&file).unwrap();
    let other = app.key(certctl::access::Role::Admin).await;
    app.call("DELETE", "/api/v1/auth/keys/admin")
        .bearer(&other)
        .send()
        .await
        .expect(204);
    app.restart().await;
    assert!(!file.exists());
    let keys = app.call("GET", "/api/v1/auth/keys").bearer(&other);
    let keys = keys.send().await.expect(200);
    assert!(!keys.to_string().contains("key-first-admin"), "{keys}");
}

#[tokio::test]
async fn a_store_is_not_opened_without_its_machine_key() {
    let app = TestApp::start().await;
    let file = app.file("machine.key");
    let key = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let refused = app.start_again().await.err().unwrap();
    let StartError::MachineKeyMissing(path) = &refused else {
        panic!("{refused}");
    };
    assert_eq!(*path, file.display().to_string());

    let other = MachineKey::generate(&*app.app.rng);
    std::fs::write(&file, other.to_text().as_bytes()).unwrap();
    let refused = app.start_again().await.err().unwrap();
    assert!(matches!(refused, StartError::Ring(_)), "{refused}");

    std::fs::write(&file, key).unwrap();
    assert!(app.start_again().await.is_ok());
}

#[tokio::test]
async fn what_the_first_start_writes_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let app = TestApp::start().await;
    for name in ["machine.key", "first-start.txt"] {
        let mode = std::fs::metadata(app.file(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
