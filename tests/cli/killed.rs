//! Commands that are killed at any moment, and disks that are full: what was there is there, or
//! what is to be, and nothing in between.
//!
//! `CERTCTL_TEST_KILLS` says how often (12); `CERTCTL_TEST_SEED` repeats an earlier run's moments.

use super::{
    disk::SmallDisk,
    home::Home,
    postgres::url,
    process::{AMPLE, Process, run},
};
use crate::{
    chaos::Dice,
    support::{invariants, postgres::Cluster},
};
use certctl::{
    domain::Team,
    store::{Committer, Redb, Scan, Store, TEAM_NAME},
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::{
    fs,
    hash::BuildHasher,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

pub fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    }
}

/// Starts commands and kills them somewhere within the time that one took which was not.
struct Killer {
    dice: Dice,
    takes: Duration,
    ended: u32,
    killed: u32,
}

impl Killer {
    /// `first` runs to its end.
    fn new(first: &mut Command) -> Self {
        let random = std::hash::RandomState::new().hash_one(0);
        let seed = number("CERTCTL_TEST_SEED", random);
        println!("CERTCTL_TEST_SEED={seed}");
        let began = Instant::now();
        let ended = run(first);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        Self {
            dice: Dice(seed),
            takes: began.elapsed(),
            ended: 0,
            killed: 0,
        }
    }

    fn kill(&mut self, command: &mut Command) {
        let process = Process::start(command);
        let micros = usize::try_from(self.takes.as_micros()).unwrap();
        let moment = Duration::from_micros(self.dice.roll(micros + 1) as u64);
        std::thread::sleep(moment);
        let ended = process.killed();
        match ended.code() {
            Some(0) => self.ended += 1,
            Some(_) => panic!("it failed by itself: {ended}"),
            None => self.killed += 1,
        }
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        println!("{} killed, {} ended before", self.killed, self.ended);
    }
}

/// How many teams the store in a file has, looked at as a whole, in a copy.
pub async fn teams(file: &Path) -> usize {
    let copy = file.with_extension("copy");
    fs::copy(file, &copy).unwrap();
    let mut database = redb::Database::open(&copy).unwrap();
    assert!(database.check_integrity().unwrap(), "the store was damaged");
    drop(database);
    let engine = Redb::open(&copy).unwrap();
    let store = Store::start(Arc::new(engine), Committer::Inline, Box::new(|_| ())).unwrap();
    invariants::check(&store).await;
    let all = store.scan::<Team>(Scan::all(TEAM_NAME, 1_000)).await;
    fs::remove_file(&copy).unwrap();
    all.unwrap().len()
}

/// Has a server make these teams, and a backup after it of them all; gives its file.
pub async fn with_teams(home: &Home, settings: &[(&str, &str)], from: usize, to: usize) -> PathBuf {
    let server = home.server_with(settings);
    for n in from..to {
        let team = json!({"id": format!("t{n}"), "name": format!("t{n}")});
        home.api().post("/teams", team).await;
    }
    let sink = home.beside("backups").display().to_string();
    let line = format!("backup create --sink dir:{sink} --without-keys");
    let made = home.json(&line);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().status.code(), Some(0));
    home.beside("backups").join(made["name"].as_str().unwrap())
}

pub fn names(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).unwrap();
    let mut all: Vec<String> = all
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_and_restores_that_are_killed() {
    let home = Home::new();
    let kills = number("CERTCTL_TEST_KILLS", 12);
    let small = with_teams(&home, &[], 0, 3).await;
    let large = with_teams(&home, &[], 3, 8).await;
    let file = home.path("certctl.redb");

    let sink = home.beside("sink");
    let create = format!("backup create --sink dir:{} --without-keys", sink.display());
    let mut killer = Killer::new(&mut home.command(&create));
    for _ in 0..kills {
        killer.kill(&mut home.command(&create));
        for name in names(&sink).iter().filter(|name| name.ends_with(".backup")) {
            let place = sink.join(name);
            home.run(&format!("backup verify {}", place.display()))
                .good();
            fs::remove_file(place).unwrap();
            let _ = fs::remove_file(sink.join(format!("{name}.proven")));
        }
        assert_eq!(teams(&file).await, 8);
    }
    drop(killer);

    let restore = |place: &Path| home.command(&format!("restore {} --yes", place.display()));
    let mut killer = Killer::new(&mut restore(&large));
    for n in 0..kills {
        let before = teams(&file).await;
        let (wanted, place) = [(3, &small), (8, &large)][usize::try_from(n % 2).unwrap()];
        killer.kill(&mut restore(place));
        let there = teams(&file).await;
        assert!(
            there == before || there == wanted,
            "{there} of {before}, {wanted}"
        );
        for kept in names(&home.data())
            .iter()
            .filter(|n| n.starts_with("pre-restore"))
        {
            // A directory that was only just made holds nothing yet.
            let kept = home.path(kept);
            let old = kept.join("certctl.redb");
            if old.exists() {
                assert!([3, 8].contains(&teams(&old).await));
            }
            fs::remove_dir_all(kept).unwrap();
        }
    }
    drop(killer);
    run(&mut restore(&small)).good();
    assert_eq!(teams(&file).await, 3);
    assert!(!home.path("restore.scratch").exists());
    let _server = home.server();
    assert_eq!(home.api().get("/teams").await["total"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn restores_into_a_database_that_are_killed() {
    let database = Cluster::shared().database();
    let url = url(&database);
    let settings = [("CERTCTL_DATABASE_URL", url.as_str())];
    let home = Home::new();
    let kills = number("CERTCTL_TEST_KILLS", 12);
    let small = with_teams(&home, &settings, 0, 3).await;
    let large = with_teams(&home, &settings, 3, 8).await;
    let there = || -> usize {
        let found = database.sql("SELECT count(*) FROM certctl.teams");
        found.parse().unwrap()
    };
    // What a killed one's sessions still do ends first.
    let alone = || {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                        AND application_name LIKE 'certctl%'";
        let until = Instant::now() + AMPLE;
        while database.sql(sessions) != "0" {
            assert!(Instant::now() < until, "a session stays");
        }
    };
    let restore = |place: &Path| {
        let mut command = home.command(&format!("restore {} --yes", place.display()));
        command.envs(settings);
        command
    };
    let mut killer = Killer::new(&mut restore(&large));
    for n in 0..kills {
        let before = there();
        let (wanted, place) = [(3, &small), (8, &large)][usize::try_from(n % 2).unwrap()];
        killer.kill(&mut restore(place));
        alone();
        let found = there();
        assert!(
            found == before || found == wanted,
            "{found} of {before}, {wanted}"
        );
        let engine = Arc::new(database.open().await);
        let store = Store::start(engine, Committer::Inline, Box::new(|_| ())).unwrap();
        invariants::check(&store).await;
        drop(store);
        alone();
    }
    drop(killer);
    run(&mut restore(&small)).good();
    assert_eq!(there(), 3);
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'certctl_restore'";
    assert_eq!(database.sql(left), "0");
    let _server = home.server_with(&settings);
    assert_eq!(home.api().get("/teams").await["total"], 3);
}

/// Has a server make owners, which the later program's migrations rewrite.
async fn make_owners(home: &Home, count: usize) {
    let server = home.server();
    for n in 0..count {
        let owner = json!({"id": format!("o{n}"), "name": format!("o{n}"), "email": "a@b.example"});
        home.api().post("/owners", owner).await;
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_are_killed() {
    let home = Home::new();
    with_teams(&home, &[], 0, 5).await;
    make_owners(&home, 200).await;
    let up = || home.later("migrate up --no-backup");
    let down = || home.later("migrate down --to 1 --no-backup --accept-data-loss");
    let mut killer = Killer::new(&mut up());
    run(&mut down());
    for n in 0..number("CERTCTL_TEST_KILLS", 12) {
        killer.kill(&mut if n % 2 == 0 { up() } else { down() });
        // Every row can be read, whatever is still to be written.
        let ended = run(&mut home.later("migrate verify"));
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }
    drop(killer);
    let ended = run(&mut up());
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let ended = run(&mut down());
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(teams(&home.path("certctl.redb")).await, 5);
    let _server = home.server();
    let owners = home.api().get("/owners?per_page=1").await;
    assert_eq!(owners["total"], 200, "{owners}");
    assert_eq!(owners["data"][0]["email"], "a@b.example");
    home.run("audit verify").good();
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_and_restores_on_a_disk_that_is_full() {
    let home = Home::new();
    let disk = SmallDisk::on(&home);
    let place = with_teams(&home, &[], 0, 3).await;
    let restore = format!("restore {} --yes", place.display());
    disk.fill();
    let sink = home.path("sink");
    let create = format!("backup create --sink dir:{} --without-keys", sink.display());
    let fault = home.run(&create).bad(73).to_lowercase();
    assert!(fault.contains("no space"), "{fault}");
    assert!(!sink.exists() || names(&sink).is_empty());
    // Full once some of it is written.
    disk.give(1 << 10);
    let fault = home.run(&create).bad(73);
    let says = ["no space is left in", "of the backup", "name another sink"];
    assert!(says.iter().all(|word| fault.contains(word)), "{fault}");
    assert!(names(&sink).is_empty());
    disk.fill();
    let fault = home.run(&restore);
    assert_ne!(fault.status.code(), Some(0), "{fault:?}");
    assert!(
        fault.stderr.to_lowercase().contains("no space left"),
        "{fault:?}"
    );
    disk.free();
    assert_eq!(teams(&home.path("certctl.redb")).await, 3);
    home.run(&create).good();
    assert_eq!(names(&sink).len(), 1);
    home.run(&restore).good();
    assert_eq!(teams(&home.path("certctl.redb")).await, 3);
}

/// A way that the disk has no room for ends there, with every row readable, and goes on from there
/// once there is more.
#[tokio::test(flavor = "multi_thread")]
async fn migrations_on_a_disk_that_is_full() {
    let home = Home::new();
    let disk = SmallDisk::of(&home, 48);
    make_owners(&home, 500).await;
    disk.fill();
    let fault = run(&mut home.later("migrate up")).bad(73);
    assert!(fault.to_lowercase().contains("no space"), "{fault}");
    run(&mut home.later("migrate verify")).good();

    let up = "migrate up --no-backup";
    let down = "migrate down --to 1 --no-backup --accept-data-loss";
    for way in [up, down] {
        // Nor is there room in the store's own file.
        disk.free();
        home.run("compact").good();
        disk.fill();
        let mut stopped = 0;
        loop {
            let ended = run(&mut home.later(way));
            if ended.status.success() {
                break;
            }
            let fault = ended.bad(74).to_lowercase();
            assert!(fault.contains("no space left"), "{way}: {fault}");
            run(&mut home.later("migrate verify")).good();
            stopped += 1;
            disk.give(16 << 10);
        }
        println!("{way}: stopped {stopped} times");
        assert!(stopped > 1, "{way}: stopped {stopped} times");
    }
    disk.free();
    let _server = home.server();
    let owners = home.api().get("/owners?per_page=1").await;
    assert_eq!(owners["total"], 500, "{owners}");
    assert_eq!(owners["data"][0]["email"], "a@b.example");
    home.run("audit verify").good();
}
