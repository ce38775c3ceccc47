//! Restores onto machines that know nothing of each other.

use super::{Scene, store_in};
use certctl::{
    app::backup::{Bench, Keys, Locking, create},
    domain::Restoration,
    sys::Disk,
};
use std::{collections::BTreeSet, path::Path, time::Duration};

/// Restores into an empty directory; the version of what the restore wrote.
async fn onto_a_new_machine(scene: &Scene, name: &str, into: &Path) -> u64 {
    let keys = Keys::default().passphrase("word".to_owned().into());
    let bench = Bench {
        machine: None,
        ..scene.bench()
    };
    scene.restore(name, into, &keys, bench).await.unwrap();
    let row = store_in(into)
        .get::<Restoration>(&Restoration::ID.parse().unwrap())
        .await;
    row.unwrap().unwrap().version()
}

#[tokio::test]
async fn no_two_of_them_give_the_same_versions() {
    let scene = Scene::new().await;
    let locking = Locking::Passphrase("word".to_owned().into());
    let made = create(
        scene.source(&Disk),
        &scene.sink(),
        &locking,
        None,
        &mut |_| {},
    )
    .await;
    let name = made.unwrap().name;
    let mut seen = BTreeSet::new();
    for (n, after) in [1, 1, 2, 300, 86_400].into_iter().enumerate() {
        scene.app.advance(Duration::from_secs(after));
        let into = scene.dir.path().join(format!("there-{n}"));
        let last = onto_a_new_machine(&scene, &name, &into).await;
        // Versions are signed in documents and databases.
        assert!(i64::try_from(last).is_ok());
        // A billion commits would have to be made in that second.
        assert!(
            seen.iter().all(|other| last - other > 1 << 29),
            "{seen:?} {last}"
        );
        seen.insert(last);
    }
}
