//! The backup that is made before a migration, where there is a database's address and nothing
//! else.

use super::Scene;
use age::secrecy::ExposeSecret;
use certctl::{
    app::backup::{Keys, Machine, Place},
    config::{self, Environment, Flags},
};

fn machine(scene: &Scene, settings: &[(&str, &str)]) -> Machine {
    let settings = settings.iter();
    let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let flags = Flags {
        data_dir: Some(scene.dir.path().join("empty")),
        ..Flags::default()
    };
    let config = config::server(&Environment::new(settings), flags)
        .unwrap()
        .0;
    Machine::this(config).unwrap()
}

#[tokio::test]
async fn no_machine_key_is_needed() {
    let scene = Scene::new().await;
    let store = &scene.app.app.store;
    let read = async |machine: &Machine, place: &Place, keys: Keys| {
        let read = machine.verify(place, keys, &mut |_| {}).await;
        read.map(|(header, _)| header.machine_key.is_some())
    };
    // In the data directory, unless backups have another place.
    let bare = machine(&scene, &[]);
    let place = bare.create_of(store).await.unwrap();
    let sink = format!(
        "dir:{}",
        scene.dir.path().join("empty/before-migrations").display()
    );
    assert_eq!(place.sink.to_string(), sink);
    assert!(!read(&bare, &place, Keys::default()).await.unwrap());

    let identity = age::x25519::Identity::generate();
    let sink = scene.sink().to_string();
    let with = machine(
        &scene,
        &[
            ("CERTCTL_BACKUP_SCHEDULE", "6h"),
            ("CERTCTL_BACKUP_SINK", &sink),
            (
                "CERTCTL_BACKUP_ENCRYPT_TO",
                &identity.to_public().to_string(),
            ),
        ],
    );
    let place = with.create_of(store).await.unwrap();
    assert_eq!(place.sink, scene.sink());
    let locked = read(&with, &place, Keys::default()).await.unwrap_err();
    assert!(locked.to_string().contains("no key at hand"), "{locked}");
    let text = identity.to_string();
    let keys = Keys::default().identities(text.expose_secret()).unwrap();
    assert!(!read(&with, &place, keys).await.unwrap());
}
