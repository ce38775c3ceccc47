//! What a backup holds is a state that there was.

use super::Scene;
use certctl::{
    app::backup::{Locking, create, prove},
    domain::Owner,
    store::{
        AUDIT, Committer, Engine, Memory, Store,
        backup::{Keys, Reader, load},
    },
    sys::{Disk, Files},
};
use futures_util::stream;
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

#[tokio::test]
async fn a_backup_among_writes_restores_to_a_state_that_there_was() {
    let scene = Scene::new().await;
    let ended = AtomicBool::new(false);
    let owner = |n: u32| json!({"name": format!("o{n}"), "email": "a@b.example"});
    for n in 0..50 {
        scene.app.post("/api/v1/owners", owner(n)).await.expect(201);
    }
    let (sink, locking) = (scene.sink(), Locking::WithoutKeys);
    let mut names = Vec::new();
    let make = async {
        for _ in 0..5 {
            let made = create(scene.source(&Disk), &sink, &locking, None, &mut |_| {}).await;
            names.push(made.unwrap().name);
        }
        ended.store(true, Ordering::SeqCst);
    };
    let write = async {
        let mut n = 50;
        while !ended.load(Ordering::SeqCst) {
            scene.app.post("/api/v1/owners", owner(n)).await.expect(201);
            n += 1;
        }
        n
    };
    let ((), written) = tokio::join!(make, write);
    let mut seen = Vec::new();
    names.dedup();
    for name in &names {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let from = Disk.open(&scene.path().join(name)).unwrap();
        let bundle = Reader::new(from, &Keys::default());
        load(stream::iter([bundle]), &*engine, |h| h.seq, &mut |_| {})
            .await
            .unwrap();
        let store = Store::start(engine, Committer::Inline, Box::new(|_| {})).unwrap();
        let owners = store.every::<Owner>().await.unwrap().len();
        let events = store.verify_stream(AUDIT).await.unwrap();
        let events = store.tail(AUDIT, events + 1, 100_000).await.unwrap();
        let made = events.iter().filter(|e| {
            let event: serde_json::Value = serde_json::from_slice(&e.doc).unwrap();
            event["action"] == "owner_created"
        });
        assert_eq!(made.count(), owners, "an owner and its event are one state");
        seen.push(owners);
    }
    assert!(seen.is_sorted() && seen[0] >= 50, "{seen:?}");
    assert!(written > 50, "nothing was written meanwhile");

    let name = names.last().unwrap();
    let from = Disk.open(&scene.path().join(name)).unwrap();
    let bundle = Reader::new(from, &Keys::default());
    let proof = prove(
        name,
        stream::iter([bundle]),
        scene.bench(),
        scene.dir.path(),
        &mut |_| {},
    )
    .await
    .unwrap();
    assert_eq!(proof.ca_keys, 3);
    let left: Vec<_> = Disk.list(scene.dir.path()).unwrap();
    assert_eq!(left, ["backups"], "no scratch store is left");
}
