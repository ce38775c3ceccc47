//! Stores of earlier formats, as programs of their time wrote them.

use super::migrator;
use crate::store::{id, run};
use certctl::{
    domain::{Certificate, Owner, Team},
    store::{AUDIT, Committer, Redb, Store},
};
use flate2::read::GzDecoder;
use std::{fs::File, io, path::Path, sync::Arc};

/// The store file of a format, put into a directory.
pub fn unpack(format: u16, dir: &Path) {
    let from = format!("tests/store/fixtures/format-{format}/certctl.redb.gz");
    let mut from = GzDecoder::new(File::open(from).expect("the fixture"));
    let mut to = File::create(dir.join("certctl.redb")).unwrap();
    io::copy(&mut from, &mut to).unwrap();
}

#[test]
fn a_store_of_the_first_format_opens_and_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    unpack(1, dir.path());
    run(async {
        let engine = Redb::open(&dir.path().join("certctl.redb")).unwrap();
        let committer = Committer::Inline;
        let store = Store::start(Arc::new(engine), committer, Box::new(|_| {})).unwrap();
        let migrator = migrator(&store);
        let known = store.known().await.unwrap();
        migrator
            .up(known.program_format(), None, true)
            .await
            .unwrap();
        let ada = store.get::<Owner>(&id("own-ada")).await.unwrap().unwrap();
        assert_eq!(ada.email, "ada@example.com");
        let team = store.get::<Team>(&id("team-web")).await.unwrap().unwrap();
        assert_eq!(team.name, "Web");
        let certificate = store.get::<Certificate>(&id("localhost")).await.unwrap();
        assert_eq!(certificate.unwrap().targets.len(), 2);
        assert!(store.verify_stream(AUDIT).await.unwrap() > 10);
        // An edit goes through, by way of the index and the first assertion of the format.
        let mut unit = store.unit(1, super::NOW);
        let mut ada = unit.load::<Owner>(&id("own-ada")).await.unwrap();
        ada.email = "ada@example.org".into();
        unit.put(ada);
        unit.commit().await.unwrap();
    });
}
