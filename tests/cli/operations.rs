//! `certctl db`, `certctl secrets`, `certctl compact`, and the page about them.

use super::{
    home::Home,
    postgres::{until_ready, url},
    process::{Process, run},
};
use crate::support::postgres::{Cluster, Database};
use certctl::{
    app::{PasswordChanged, PasswordError, rotate_password},
    config::{self, DatabaseConfig, Environment, Flags},
    crypt::OsRng,
    sys::{Disk, FileError, Files, Metadata, Owner},
};
use http::StatusCode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// A role that logs in by a password only, on an address.
fn with_password(cluster: &Cluster, database: &Database<'_>, password: &str) -> String {
    database.sql(&format!(
        "CREATE ROLE app LOGIN SUPERUSER PASSWORD '{password}'"
    ));
    let rules = cluster.data().join("pg_hba.conf");
    let mut text = fs::read_to_string(&rules).unwrap();
    text.insert_str(0, "host all app 0.0.0.0/0 scram-sha-256\n");
    fs::write(&rules, text).unwrap();
    cluster.reload();
    format!("postgres://app@{}:5432/{}", cluster.address, database.name)
}

#[tokio::test(flavor = "multi_thread")]
async fn db_ping_tells_how_the_store_is_reached() {
    let home = Home::new();
    let said = home.json("db ping");
    assert_eq!(
        (&said["engine"], &said["there"]),
        (&json!("redb"), &json!(false))
    );
    let server = home.server();
    assert_eq!(home.json("db ping")["held"], true);
    server.signal(Signal::SIGTERM);
    server.end();
    assert_eq!(home.json("db ping")["held"], false);
    fs::write(home.path("certctl.redb"), "no store").unwrap();
    home.run("db ping").bad(74);

    let cluster = Cluster::start("");
    let database = cluster.database();
    let address = with_password(&cluster, &database, "right");
    let ping = |address: &str, password: &str| {
        let mut command = home.command("db ping --output json");
        command.env("CERTCTL_DATABASE_URL", address);
        command.env("CERTCTL_DATABASE_PASSWORD", password);
        run(&mut command)
    };
    let said: Value = serde_json::from_str(&ping(&address, "right").good()).unwrap();
    assert_eq!(said["role"], "app");
    assert_eq!(said["format"], Value::Null, "no store was made: {said}");
    assert_eq!(said["takes_commits"], true);
    assert_eq!(said["encrypted"], false);
    let wrong = ping(&address, "wrong").bad_json(78);
    assert!(
        wrong.contains("28P01") && !wrong.contains("wrong"),
        "{wrong}"
    );

    let url = url(&database);
    let other = Home::new();
    let server = other.server_with(&[("CERTCTL_DATABASE_URL", url.as_str())]);
    let said: Value = serde_json::from_str(&ping(&address, "right").good()).unwrap();
    assert_eq!(
        (&said["format"], &said["others"]),
        (&json!(1), &json!(1)),
        "{said}"
    );
    server.signal(Signal::SIGTERM);
    server.end();
    // A role that may only read.
    database.sql("ALTER ROLE app NOSUPERUSER");
    let ended = ping(&address, "right");
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(said["takes_commits"], false);
    let refused = ended.bad_json(1);
    assert!(refused.contains("lacks rights"), "{refused}");
    database.sql(&format!(
        "ALTER ROLE app SUPERUSER; ALTER DATABASE {} SET default_transaction_read_only = on",
        database.name
    ));
    let refused = ping(&address, "right").bad_json(1);
    assert!(
        refused.contains("it is read-only") && refused.contains("default_transaction_read_only"),
        "{refused}"
    );
    cluster.kill();
    ping(&address, "right").bad_json(69);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_rotated_under_a_running_server() {
    let cluster = Cluster::start("log_min_messages = log\nlog_statement = 'all'");
    let database = cluster.database();
    let address = with_password(&cluster, &database, "old");
    let home = Home::new();
    let file = home.beside("password");
    fs::write(&file, "old\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let path = file.display().to_string();
    let settings = [
        ("CERTCTL_DATABASE_URL", address.as_str()),
        ("CERTCTL_DATABASE_PASSWORD_FILE", path.as_str()),
    ];
    let server = home.server_with(&settings);
    let rotate = |line: &str, settings: &[(&str, &str)]| {
        let mut command = home.command(&format!("db rotate-password --output json{line}"));
        run(command.envs(settings.iter().copied()))
    };
    let done: Value = serde_json::from_str(&rotate("", &settings).good()).unwrap();
    assert_eq!(done["written"], path.as_str());
    let new = fs::read_to_string(&file).unwrap();
    assert_eq!(new.trim_end().len(), 43);
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert!(!home.beside("password.next").exists());
    // All its sessions end, and it logs in by what the file has now.
    let end = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity \
               WHERE usename = 'app'";
    assert_eq!(database.sql(end), "t");
    until_ready(&home, StatusCode::OK).await;
    let team = json!({"id": "after", "name": "after"});
    home.api().until("/teams", |_| true).await;
    home.api().post("/teams", team).await;
    let log = cluster.log();
    assert!(log.contains("ALTER ROLE"), "{log}");
    assert!(!log.contains(new.trim_end()), "the log holds the password");

    let old = [
        ("CERTCTL_DATABASE_URL", address.as_str()),
        ("CERTCTL_DATABASE_PASSWORD", "old"),
    ];
    run(home.command("db ping").envs(old)).bad(78);
    let nowhere = rotate("", &old).bad_json(1);
    assert!(nowhere.contains("--password-file"), "{nowhere}");
    let given = home.beside("given");
    fs::write(&given, "päss wörd'\n").unwrap();
    let line = format!(" --password-file {}", given.display());
    let present = new.trim_end();
    let present = [old[0], ("CERTCTL_DATABASE_PASSWORD", present)];
    let done: Value = serde_json::from_str(&rotate(&line, &present).good()).unwrap();
    assert_eq!(done["to_be_set"], true);
    let now = [old[0], ("CERTCTL_DATABASE_PASSWORD", "päss wörd'")];
    run(home.command("db ping").envs(now)).good();
    server.signal(Signal::SIGTERM);
    server.end();
    let file = rotate("", &[]).bad_json(1);
    assert!(file.contains("is a file and has no password"), "{file}");
}

/// A disk that takes so many changes, and then nothing more.
struct Cut(AtomicUsize);

impl Cut {
    fn take(&self, path: &Path) -> Result<(), FileError> {
        let left = &self.0;
        let taken = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        taken.map(drop).map_err(|_| FileError {
            op: "write",
            path: path.to_owned(),
            source: io::Error::other("cut by the test"),
        })
    }
}

impl Files for Cut {
    fn read(&self, path: &Path, max: usize) -> Result<Vec<u8>, FileError> {
        Disk.read(path, max)
    }
    fn write_durable(&self, path: &Path, _: &[u8], _: u32) -> Result<(), FileError> {
        panic!("{} is written without its owner", path.display())
    }
    fn write_owned(
        &self,
        path: &Path,
        bytes: &[u8],
        mode: u32,
        owner: Owner,
    ) -> Result<(), FileError> {
        self.take(path)?;
        Disk.write_owned(path, bytes, mode, owner)
    }
    fn make_dir(&self, path: &Path, _: u32) -> Result<(), FileError> {
        panic!("{}", path.display())
    }
    fn flip_link(&self, link: &Path, _: &Path) -> Result<(), FileError> {
        panic!("{}", link.display())
    }
    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, FileError> {
        Disk.read_link(path)
    }
    fn remove(&self, path: &Path) -> Result<(), FileError> {
        panic!("{}", path.display())
    }
    fn remove_tree(&self, path: &Path) -> Result<(), FileError> {
        panic!("{}", path.display())
    }
    fn list(&self, dir: &Path) -> Result<Vec<OsString>, FileError> {
        Disk.list(dir)
    }
    fn metadata(&self, path: &Path) -> Result<Option<Metadata>, FileError> {
        Disk.metadata(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.take(to)?;
        Disk.rename(from, to)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_anywhere_of_a_rotation_locks_nobody_out() {
    let cluster = Cluster::start("");
    let database = cluster.database();
    let address = with_password(&cluster, &database, "old");
    let home = Home::new();
    let (file, next) = (home.beside("password"), home.beside("password.next"));
    fs::write(&file, "old\n").unwrap();
    let path = file.display().to_string();
    let settings = [
        ("CERTCTL_DATABASE_URL", address.as_str()),
        ("CERTCTL_DATABASE_PASSWORD_FILE", path.as_str()),
    ];
    let database_config = || -> DatabaseConfig {
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env = Environment::read(settings, None, &|path| fs::read_to_string(path));
        let (config, _) = config::server(&env, Flags::default()).unwrap();
        config.database.unwrap()
    };
    let logs_in = || run(home.command("db ping").envs(settings)).good();
    let link = home.beside("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();

    for steps in 0..3 {
        let before = fs::read_to_string(&file).unwrap();
        let cut = Cut(AtomicUsize::new(steps));
        let config = database_config();
        let outcome = rotate_password(Some(&config), &cut, &OsRng, None).await;
        match (steps, outcome) {
            (0, Err(PasswordError::Before(_))) => {
                assert!(!next.exists());
                assert_eq!(fs::read_to_string(&file).unwrap(), before);
            }
            // The database has it, and the file not yet.
            (1, Err(e @ PasswordError::After { .. })) => {
                assert!(e.to_string().contains("password.next"), "{e}");
                assert_eq!(fs::read_to_string(&file).unwrap(), before);
                logs_in();
                let left = fs::read_to_string(&next).unwrap();
                let whole = rotate_password(Some(&config), &Disk, &OsRng, None).await;
                assert_eq!(whole.unwrap(), PasswordChanged::Written(file.clone()));
                assert_eq!(fs::read_to_string(&file).unwrap(), left, "another one");
            }
            (2, Ok(PasswordChanged::Written(_))) => {
                assert_ne!(fs::read_to_string(&file).unwrap(), before);
            }
            (steps, other) => panic!("{steps}: {other:?}"),
        }
        logs_in();
        assert!(!next.exists(), "{steps}");
    }
    // Cut before the database was told.
    fs::write(&next, "never told\n").unwrap();
    logs_in();
    let config = database_config();
    let whole = rotate_password(Some(&config), &Disk, &OsRng, None).await;
    whole.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "never told\n");
    logs_in();
    // A file that is replaced from outside.
    let mut linked = database_config();
    linked.password_file = Some(link);
    let refused = rotate_password(Some(&linked), &Disk, &OsRng, None).await;
    assert!(
        matches!(refused, Err(PasswordError::Link(_))),
        "{refused:?}"
    );
    logs_in();
}

#[test]
fn secrets_are_sealed_anew_without_a_server_and_old_backups_open() {
    let home = Home::new();
    let server = home.server();
    let sink = format!("dir:{}", home.beside("backups").display());
    let to = age::x25519::Identity::generate().to_public();
    let made = home.json(&format!("backup create --sink {sink} --encrypt-to {to}"));
    let backup = home.beside("backups").join(made["name"].as_str().unwrap());
    assert_eq!(home.run("secrets reseal").status.code(), Some(2));
    assert_eq!(home.json("secrets status")["keys"][0]["values"], 3);
    server.signal(Signal::SIGTERM);
    server.end();

    let keys = home.json("secrets rotate");
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    let done = home.json("secrets reseal --all");
    assert_eq!(done["resealed"], 3, "{done}");
    assert_eq!(done["dropped"].as_array().unwrap().len(), 1);
    let said = home.run("secrets status").good();
    assert!(said.contains("new values"), "{said}");
    let line = format!("backup verify {} --restore", backup.display());
    assert_eq!(home.json(&line)["proof"]["ca_keys"], 3);
    let server = home.server();
    assert_eq!(home.json("secrets reseal --all")["resealed"], 0);
    home.run("issuers test iss-local").good();
    server.signal(Signal::SIGTERM);
    server.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_compacted_and_can_be_cut_there() {
    let home = Home::new();
    let server = home.server();
    for n in 0..150 {
        let text = "x".repeat(900);
        let team = json!({"id": format!("t{n}"), "name": format!("t{n}"), "description": text});
        home.api().post("/teams", team).await;
    }
    let refused = home.run("compact").bad(75);
    assert!(refused.contains("a server runs on"), "{refused}");
    server.signal(Signal::SIGTERM);
    server.end();
    let whole = fs::read(home.path("certctl.redb")).unwrap();
    for after in [1, 4, 9, 20, 35, 60] {
        fs::write(home.path("certctl.redb"), &whole).unwrap();
        let process = Process::start(&mut home.command("compact"));
        // Any moment will do.
        tokio::time::sleep(Duration::from_millis(after)).await;
        process.kill();
        let mut command = home.command("doctor --output json");
        let report = run(&mut command);
        assert_eq!(
            report.status.code(),
            Some(3),
            "after {after} ms: {report:?}"
        );
    }
    // The last of them may have come to its end.
    fs::write(home.path("certctl.redb"), &whole).unwrap();
    let done = home.json("compact");
    let [before, after] = ["before", "after"].map(|at| done[at].as_u64().unwrap());
    assert!(after < before, "{done}");
    assert_eq!(
        after,
        fs::metadata(home.path("certctl.redb")).unwrap().len()
    );
    let server = home.server();
    assert_eq!(home.api().get("/teams").await["total"], 150);
    drop(server);
    let empty = Home::new().run("compact").bad(66);
    assert!(empty.contains("holds no store"), "{empty}");

    let database = Cluster::shared().database();
    let url = url(&database);
    let other = Home::new();
    let settings = [("CERTCTL_DATABASE_URL", url.as_str())];
    let server = other.server_with(&settings);
    let mut command = other.command("compact --output json");
    let done = run(command.envs(settings)).good();
    let done: Value = serde_json::from_str(&done).unwrap();
    let tables = done["tables"].as_array().unwrap();
    assert!(tables.iter().any(|table| table["name"] == "rows"), "{done}");
    drop(server);
}

/// Each command of the page about operations, in its order, but for those that want a database.
#[test]
fn the_commands_of_the_page_about_operations_work() {
    let home = Home::new();
    let server = home.server();
    let page = fs::read_to_string("docs/operations.md").unwrap();
    let lines = page.lines();
    let lines: Vec<&str> = lines
        .filter_map(|line| line.strip_prefix("certctl "))
        .filter(|line| !line.starts_with("db rotate-password"))
        .collect();
    assert!(lines.len() >= 8, "{lines:?}");
    let (stopped, running): (Vec<&str>, Vec<&str>) = lines
        .into_iter()
        .partition(|line| line.starts_with("compact"));
    for line in running {
        let ended = home.run(line);
        let code = if line.starts_with("doctor") { 3 } else { 0 };
        assert_eq!(ended.status.code(), Some(code), "{line}: {ended:?}");
    }
    server.signal(Signal::SIGTERM);
    server.end();
    for line in stopped {
        home.run(line).good();
    }
}

/// Whatever opens the store ends alike, and says it once.
#[test]
fn commands_say_alike_that_the_database_is_away() {
    let home = Home::new();
    home.quickstart_to_its_end().good();
    let sink = home.beside("sink");
    fs::create_dir(&sink).unwrap();
    let create = format!("backup create --sink dir:{} --without-keys", sink.display());
    home.run(&create).good();
    let mut made = fs::read_dir(&sink).unwrap();
    let backup = made.next().unwrap().unwrap().path();
    let password = home.beside("password");
    fs::write(&password, "new").unwrap();
    let away = |line: &str| {
        let mut command = home.command(line);
        command.env(
            "CERTCTL_DATABASE_URL",
            "postgres://app:old@127.0.0.1:1/certctl",
        );
        run(&mut command)
    };
    for line in [
        "migrate status",
        "migrate plan",
        "migrate verify",
        "migrate down --to 1",
        "compact",
        "secrets status",
        "secrets rotate",
        "secrets reseal --all",
        "db ping",
        &format!("db rotate-password --password-file {}", password.display()),
        &create,
        &format!("restore {} --yes", backup.display()),
    ] {
        let said = away(line).bad(69);
        assert!(said.contains("127.0.0.1 port 1"), "{line}: {said}");
    }
    let looked = away("doctor --output json");
    assert_eq!(looked.status.code(), Some(4), "{looked:?}");
    let ill: Value = serde_json::from_str(&looked.stdout).unwrap();
    let findings = ill["findings"].as_array().unwrap().iter();
    let errors: Vec<_> = findings.filter(|f| f["severity"] == "error").collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!(errors[0]["check"], "database");
}

#[test]
fn what_works_on_the_store_of_this_machine_takes_no_server() {
    let home = Home::new();
    for line in [
        "compact",
        "migrate status",
        "rollback --to 1",
        "db ping",
        "restore x --yes",
    ] {
        let refused = home
            .run(&format!("{line} --server https://other:8443"))
            .bad(2);
        assert!(
            refused.contains("https://other:8443: run it there"),
            "{refused}"
        );
    }
}

#[test]
fn the_machine_key_is_made_anew_while_no_server_runs() {
    let home = Home::new();
    let server = home.server();
    let key = || fs::read_to_string(home.path("machine.key")).unwrap();
    let old = key();
    home.run("secrets rotate-machine-key").bad(75);
    server.signal(Signal::SIGTERM);
    server.end();
    let mut given = home.command("secrets rotate-machine-key");
    let given = run(given.env("CERTCTL_MACHINE_KEY", old.trim())).bad(78);
    assert!(given.contains("write the key into machine.key"), "{given}");
    assert_eq!(key(), old);
    let said = home.run("secrets rotate-machine-key").good();
    assert!(said.contains("machine.key is new"), "{said}");
    assert_ne!(key(), old);
    let server = home.server();
    server.signal(Signal::SIGTERM);
    server.end().good_with_log();
}
