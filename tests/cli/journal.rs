//! What came after the newest backup comes back from the journal.

use super::{home::Home, process::run};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;

#[tokio::test]
async fn two_hundred_writes_after_the_backup_are_back() {
    let home = Home::new();
    let passphrase = home.beside("passphrase");
    fs::write(&passphrase, "correct horse\n").unwrap();
    let sink = |name: &str| format!("dir:{}", home.beside(name).display());
    let (backups, journal) = (sink("backups"), sink("journal"));
    let settings = [
        ("CERTCTL_BACKUP_SCHEDULE", "1d"),
        ("CERTCTL_BACKUP_SINK", &backups),
        (
            "CERTCTL_BACKUP_PASSPHRASE_FILE",
            passphrase.to_str().unwrap(),
        ),
        ("CERTCTL_BACKUP_JOURNAL_SINK", &journal),
        ("CERTCTL_BACKUP_JOURNAL_EVERY", "1s"),
    ];
    let server = home.server_with(&settings);
    let api = home.api();
    let proven = |state: &serde_json::Value| state["data"][0]["proven_by_restore"] == true;
    let state = api.until("/backups", proven).await;
    let base = state["newest"]["name"].as_str().unwrap().to_owned();
    let add = async |n: u32| {
        let owner = json!({"id": format!("o-{n}"), "name": format!("o {n}"), "email": "a@b.c"});
        home.api().post("/owners", owner).await;
    };
    let covered = async || {
        let made = home.api().get("/backups").await["journal"]["made"].clone();
        let more = |s: &serde_json::Value| s["journal"]["made"].as_u64() > made.as_u64();
        let state = home.api().until("/backups", more).await;
        state["journal"]["newest"].clone()
    };
    for n in 0..100 {
        add(n).await;
    }
    let middle = covered().await["name"].as_str().unwrap().to_owned();
    for n in 100..200 {
        add(n).await;
    }
    let last = covered().await;
    let log = home.api().get("/audit?limit=1").await["data"][0]["id"].clone();
    let entries = format!("audit-{}", last["audit_entries"]);
    assert_eq!(log, entries.as_str(), "nothing was told after it");
    let scrape = api.text("/api/v1/metrics/prometheus").await;
    assert!(
        scrape.contains("certctl_backup_journal_lag_seconds"),
        "{scrape}"
    );
    // An increment is proven with what it follows, which is in another sink.
    let increment = format!("{journal}/{}", last["name"].as_str().unwrap());
    let word = passphrase.display();
    let prove = |more: &str, settings: &[(&str, &str)]| {
        let line = format!("backup verify {increment} --restore --passphrase-file {word}{more}");
        run(home.command(&line).envs(settings.iter().copied()))
    };
    let told = prove("", &settings).good();
    assert!(told.contains(&format!("upon {base}")), "{told}");
    let alone = prove("", &[]).bad(1);
    assert!(alone.contains("--base SINK/NAME"), "{alone}");
    let based = prove(&format!(" --base {backups}/{base} --output json"), &[]).good();
    let based: serde_json::Value = serde_json::from_str(&based).unwrap();
    assert_eq!(based["base"], base.as_str());
    assert_eq!(based["proof"]["audit_entries"], last["audit_entries"]);
    server.signal(Signal::SIGKILL);
    server.end();

    // Another machine, which knows nothing but the passphrase.
    let there = Home::new();
    let base = home.beside("backups").join(&base);
    let restore = |more: &str| {
        let mut command = there.command(&format!(
            "restore {} --yes --replay-journal --passphrase-file {}{more}",
            base.display(),
            passphrase.display()
        ));
        run(command.envs(settings))
    };
    let owners = async |server| {
        let total = there.api().get("/owners").await["total"].clone();
        let server: super::process::Process = server;
        server.signal(Signal::SIGTERM);
        server.end();
        total
    };
    // A journal whose directory is not made yet, or not mounted, is told of.
    let line = format!(
        "restore {} --dry-run --replay-journal --passphrase-file {}",
        base.display(),
        passphrase.display()
    );
    let missing = format!("dir:{}", home.beside("missing").display());
    let mut without = there.command(&line);
    without.envs(settings);
    without.env("CERTCTL_BACKUP_JOURNAL_SINK", &missing);
    let without = run(&mut without);
    assert_eq!(without.status.code(), Some(0), "{without:?}");
    let said = format!("the journal {missing} is not there");
    assert!(without.stderr.contains(&said), "{without:?}");
    assert!(!home.beside("missing").exists());
    // Nobody who is not asked gets less than was asked for.
    fs::create_dir(home.beside("empty")).unwrap();
    let empty = sink("empty");
    for (journal, why) in [(&missing, "is not there"), (&empty, "holds nothing")] {
        let line = line.replace("--dry-run", "--yes");
        let mut without = there.command(&line);
        without.envs(settings);
        without.env("CERTCTL_BACKUP_JOURNAL_SINK", journal);
        let refused = run(&mut without).bad(1);
        assert!(
            refused.contains(&format!("the journal {journal} {why}")),
            "{refused}"
        );
        assert!(refused.contains("leave out --replay-journal"), "{refused}");
        assert!(!there.path("certctl.redb").exists());
    }
    // A full one alone, and an increment alone, are not what is wanted where there is a journal.
    let alone = line.replace(" --replay-journal", "");
    let told = run(there.command(&alone).envs(settings));
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    assert!(
        told.stderr.contains("--replay-journal takes them"),
        "{told:?}"
    );
    let increments = fs::read_dir(home.beside("journal")).unwrap();
    let increments = increments.map(|entry| entry.unwrap().path());
    let increment = increments.filter(|path| path.extension() == Some("increment".as_ref()));
    let increment = increment.min().unwrap();
    let line = format!("restore {} --yes", increment.display());
    let refused = there.run(&line).bad(2);
    assert!(refused.contains("is an increment"), "{refused}");
    restore("").good();
    assert_eq!(owners(there.server()).await, 200);
    // Behind the fence the journal rests, and keeps what it has.
    let before = fs::read_dir(home.beside("journal")).unwrap().count();
    let server = there.server_with(&settings);
    let rests = |s: &serde_json::Value| {
        s["journal"]["waits"]
            .as_str()
            .is_some_and(|w| w.contains("fence"))
    };
    there.api().until("/backups", rests).await;
    there.run("audit verify").good();
    server.signal(Signal::SIGTERM);
    server.end();
    assert_eq!(
        fs::read_dir(home.beside("journal")).unwrap().count(),
        before
    );

    // An increment before that one may hold all of the first hundred, or there is none, which is told.
    let until = restore(&format!(" --before {middle}"));
    let none = format!("and is before {middle}");
    assert!(
        until.stderr.is_empty() || until.stderr.contains(&none),
        "{until:?}"
    );
    until.good_with_log();
    assert!(owners(there.server()).await.as_u64().unwrap() <= 100);
}
