//! A disk that is full: said clearly, and nothing acknowledged is lost.

use super::{
    home::Home,
    process::{AMPLE, Process},
};
use http::{Method, StatusCode};
use serde_json::json;
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::PathBuf,
    process::Command,
    time::Duration,
};

/// A small file system in memory on a home's data directory. Mounting needs root.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounted on its data directory, which is not there yet.
    pub fn on(home: &Home) -> Self {
        Self::of(home, 16)
    }

    /// As [`on`](Self::on), of so many MiB.
    pub fn of(home: &Home, mib: u32) -> Self {
        let dir = home.data();
        fs::create_dir(&dir).unwrap();
        let mut mount = Command::new("mount");
        let options = format!("size={mib}m,mode=0700");
        mount.args(["-t", "tmpfs", "-o", &options, "certctl-test"]);
        assert!(mount.arg(&dir).status().unwrap().success());
        Self(dir)
    }

    /// Takes all space there is.
    pub fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        for size in [1 << 16, 1 << 10, 1] {
            let block = vec![0; size];
            let error = loop {
                if let Err(e) = file.write_all(&block) {
                    break e;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull);
        }
    }

    /// Gives back so many bytes.
    pub fn give(&self, bytes: u64) {
        let file = File::options()
            .write(true)
            .open(self.0.join("filler"))
            .unwrap();
        file.set_len(file.metadata().unwrap().len() - bytes)
            .unwrap();
    }

    /// Gives all of it back.
    pub fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_stops_the_server_and_loses_nothing() {
    let home = Home::new();
    let disk = SmallDisk::on(&home);
    // It is told to go on to the last byte.
    let mut quickstart = home.quickstart_command();
    let running = Process::start(quickstart.env("CERTCTL_DISK_RESERVE", "0"));
    running.line("Ctrl-C stops.");
    let serial = home.live_serial("localhost");
    disk.fill();
    disk.give(512 << 10);

    let mut acknowledged = Vec::new();
    for number in 0.. {
        assert!(number < 1000, "the disk never filled up");
        let id = format!("full-{number}");
        let new = json!({
            "id": id, "name": id, "common_name": "www.example.org",
            "target_ids": ["tgt-local-files"],
        });
        match home
            .api()
            .call(Method::POST, "/api/v1/certificates", &new)
            .await
        {
            Ok((StatusCode::CREATED, _)) => acknowledged.push(id),
            Ok((StatusCode::INTERNAL_SERVER_ERROR, _)) | Err(_) => break,
            Ok((status, body)) => panic!("{status} {body}"),
        }
    }
    let ended = running.end();
    assert_eq!(ended.status.code(), Some(74), "{ended:?}");
    assert!(
        ended.stderr.contains("the store cannot be written"),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains("No space left on device"),
        "{ended:?}"
    );
    assert!(!acknowledged.is_empty());

    disk.free();
    let _running = home.quickstart();
    assert_eq!(home.live_serial("localhost"), serial);
    for id in &acknowledged {
        let targets = home.api().deployed(id).await;
        assert_eq!(targets["data"][0]["deployment"]["state"], "confirmed");
    }
}

/// Long before that, a server that keeps a reserve begins nothing new, and says so.
#[tokio::test]
async fn while_little_room_is_left_nothing_new_is_begun_and_all_is_read() {
    let home = Home::new();
    let disk = SmallDisk::on(&home);
    let running = home.quickstart();
    disk.fill();
    disk.give(512 << 10);
    running.line("nothing new is begun below");
    let new = json!({"name": "late", "common_name": "late.example.org"});
    let create = async || {
        let path = "/api/v1/certificates";
        home.api().call(Method::POST, path, &new).await.unwrap()
    };
    let (status, told) = create().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{told}");
    let text = home.run("certs list").good();
    assert!(text.contains("localhost"), "{text}");
    let fault = home.run("certs renew localhost").bad(69);
    assert!(
        fault.contains("free space in its data directory"),
        "{fault}"
    );
    let ready = home.api().call(Method::GET, "/ready", &json!(null)).await;
    let (status, ready) = ready.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert!(ready["warning"].is_string(), "{ready}");
    disk.free();
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let made = async {
        while create().await.0 != StatusCode::CREATED {
            looks.tick().await;
        }
    };
    tokio::time::timeout(AMPLE, made).await.unwrap();
}

#[test]
fn a_start_on_a_full_disk_is_told_in_one_line() {
    let home = Home::new();
    let disk = SmallDisk::on(&home);
    disk.fill();
    let fault = home.quickstart_to_its_end().bad(74);
    assert!(fault.to_lowercase().contains("no space left"), "{fault}");
    disk.free();
    home.quickstart_to_its_end().good();
}
