//! `certctl backup` and `certctl restore`, on the real binary.

use super::{
    home::Home,
    process::{Ended, certctl, run},
};
use age::secrecy::ExposeSecret;
use certctl::sys::Lock;
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{MetadataExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// A server that nobody runs.
const ELSEWHERE: &str = "https://certctl.invalid:8443";

/// A recipient, and the file of the identity that opens what it gets.
fn recipient(home: &Home) -> (String, PathBuf) {
    let identity = age::x25519::Identity::generate();
    let file = home.beside("identity.txt");
    let text = identity.to_string();
    fs::write(
        &file,
        format!("# made for a test\n{}\n", text.expose_secret()),
    )
    .unwrap();
    (identity.to_public().to_string(), file)
}

fn sink(home: &Home) -> String {
    format!("dir:{}", home.beside("backups").display())
}

/// What a server answers to reads of things that a restore brings back.
async fn reads(home: &Home) -> Vec<Value> {
    let mut all = Vec::new();
    for path in [
        "/owners",
        "/certificates",
        "/certificates/localhost/versions",
        "/issuers",
        "/profiles",
        "/targets",
        "/auth/keys",
        "/audit/audit-1",
    ] {
        all.push(home.api().get(path).await);
    }
    all
}

#[tokio::test]
async fn what_was_backed_up_comes_back_behind_a_fence() {
    let home = Home::new();
    let running = home.quickstart();
    let (to, identity) = recipient(&home);
    let (sink, identity) = (sink(&home), identity.display().to_string());
    let owner = |name: &str| json!({"name": name, "email": "a@b.example"});
    home.api().post("/owners", owner("before")).await;
    let reason = json!({"reason": "keyCompromise"});
    home.api()
        .post("/certificates/localhost/revoke", reason)
        .await;

    // The server makes it. What the revocation brings with it may still be on its way.
    let (made, before) = loop {
        let before = reads(&home).await;
        let made = home.json(&format!("backup create --sink {sink} --encrypt-to {to}"));
        if reads(&home).await == before {
            break (made, before);
        }
    };
    let name = made["name"].as_str().unwrap();
    let place = home.beside("backups").join(name);
    assert_eq!(made["bytes"], fs::metadata(&place).unwrap().len());
    let place = place.display().to_string();
    home.api().post("/owners", owner("after")).await;

    // This machine opens it by its own key, another by the identity.
    let read = home.json(&format!("backup verify {place}"));
    assert_eq!(read["with_keys"], true);
    let proof = home.json(&format!("backup verify {place} --restore"));
    assert_eq!(proof["proof"]["ca_keys"], 3);
    for (read, proven) in [(&read, &proof), (&read["proof"], &proof["proof"])] {
        let (read, proven) = (read.as_object().unwrap(), proven.as_object().unwrap());
        assert!(proven.keys().all(|key| read.contains_key(key)), "{read:?}");
    }
    assert_eq!(read["proof"]["rows"], proof["proof"]["rows"]);
    // That it was restored says more than another reading.
    home.run(&format!("backup verify {place}")).good();
    assert!(
        proof["proof"]["created_at"]
            .as_str()
            .unwrap()
            .ends_with('Z'),
        "{proof}"
    );
    for command in ["list", "prune"] {
        let missing = home.beside("nothing").display().to_string();
        let refused = home
            .run(&format!("backup {command} --sink dir:{missing}"))
            .bad(73);
        assert!(refused.contains(&missing), "{refused}");
    }
    let listed = home.json(&format!("backup list --sink {sink}"));
    assert_eq!(listed["data"][0]["proven_by_restore"], true, "{listed}");

    // A running store is left alone.
    let refused = home.run(&format!("restore {place} --yes")).bad(75);
    assert!(refused.contains("a server runs on"), "{refused}");
    running.signal(Signal::SIGTERM);
    running.end();

    let nothing = home.json(&format!("restore {place} --dry-run"));
    assert_eq!(nothing["kept"], Value::Null);
    assert!(
        nothing["proof"]["created_at"]
            .as_str()
            .unwrap()
            .ends_with('Z'),
        "{nothing}"
    );
    let new = home.beside("new");
    let into = format!("--into {}", new.join("deep").display());
    home.run(&format!(
        "restore {place} --dry-run {into} --identity {identity}"
    ))
    .good();
    assert!(!new.exists(), "a dry run makes no directory");
    let server = home.server();
    assert_eq!(home.api().get("/owners").await["total"], 2, "a dry run");
    server.signal(Signal::SIGTERM);
    server.end();
    let done = home.json(&format!("restore {place} --yes"));
    let kept = PathBuf::from(done["kept"].as_str().unwrap());
    for file in ["certctl.redb", "machine.key"] {
        assert!(kept.join(file).exists(), "{file} is not in {kept:?}");
    }
    let left = fs::read_dir(home.data()).unwrap();
    let mut left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!left.any(|name| name.ends_with(".scratch")));

    let server = home.server();
    assert_eq!(reads(&home).await, before, "as it was");
    let api = home.api();
    let refused = api.call(Method::POST, "/api/v1/owners", &owner("x")).await;
    let (status, body) = refused.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("certctl restore unfence"), "{message}");
    let plan = home.json("restore plan");
    assert_eq!(
        (&plan["fenced"], &plan["backup"]),
        (&json!(true), &json!(name))
    );
    let said = home.run("restore plan").good();
    assert!(said.contains("The fence stands"), "{said}");
    let said = home.run("status").good();
    let unfence = format!("--data-dir {} restore unfence`", home.data().display());
    assert!(
        said.contains("warning ") && said.contains(&unfence),
        "{said}"
    );
    let event = &home.api().get("/audit?action=store_restored").await["data"][0];
    assert_eq!(
        event["details"]["audit_head"], done["audit_head"],
        "{event}"
    );
    assert_ne!(done["audit_head"], done["replaced_audit_head"]);

    // The directory that is typed comes before a server that is set for all commands.
    let mut unfence = home.command("restore unfence");
    run(unfence.env("CERTCTL_SERVER_URL", ELSEWHERE)).good();
    home.api().post("/owners", owner("x")).await;
    assert_eq!(home.json("restore plan")["fenced"], false);
    server.signal(Signal::SIGTERM);
    server.end();

    // Another machine, which has nothing but the identity.
    let there = home.beside("there");
    let into = format!("--into {}", there.display());
    let refused = home.run(&format!("restore {place} --yes {into}")).bad(65);
    assert!(refused.contains("--identity"), "{refused}");
    let mut restore = home.command(&format!(
        "restore {place} --yes {into} --identity {identity}"
    ));
    let restored = run(restore.env("CERTCTL_SERVER_URL", ELSEWHERE));
    let (notice, next) = (&restored.stderr, &restored.stdout);
    let store = format!("the store in {},", there.display());
    assert!(notice.contains(&store), "{restored:?}");
    let unfence = format!("--data-dir {} restore unfence`", there.display());
    assert!(next.contains(&unfence), "{restored:?}");
    let key = fs::read(there.join("machine.key")).unwrap();
    assert_eq!(key, fs::read(home.path("machine.key")).unwrap());
    let elsewhere = Home::new();
    fs::rename(&there, elsewhere.data()).unwrap();
    let _server = elsewhere.server();
    assert_eq!(reads(&elsewhere).await, before);
    elsewhere.run("audit verify").good();
}

#[tokio::test]
async fn increments_bring_back_what_came_after_the_base() {
    let home = Home::new();
    let server = home.server();
    let sink = sink(&home);
    let create = |since: &str| {
        let made = home.json(&format!(
            "backup create --sink {sink} --without-keys{since}"
        ));
        home.beside("backups").join(made["name"].as_str().unwrap())
    };
    let base = create("");
    let add = async |n: u32| {
        let owner = json!({"id": format!("o-{n}"), "name": format!("o {n}"), "email": "a@b.c"});
        home.api().post("/owners", owner).await;
    };
    for n in 0..100 {
        add(n).await;
    }
    let first = create(" --since last");
    for n in 100..200 {
        add(n).await;
    }
    let last = create(" --since last");
    let audit = home.api().get("/audit?limit=1").await["data"][0]["id"].clone();
    server.signal(Signal::SIGTERM);
    server.end();

    let name = last.file_name().unwrap().to_str().unwrap();
    let line = format!("restore {} --yes --with-increments {sink}", base.display());
    // One is missing: which, between which two, and what helps.
    let away = home.beside("away");
    fs::rename(&first, &away).unwrap();
    let seq = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.split('-').nth(2).unwrap().to_owned()
    };
    let base_name = base.file_name().unwrap().to_str().unwrap();
    let said = format!(
        "is missing between {base_name}, which ends at {}, and {name}, which holds only what came \
         after {}: the one with -{}- in its name",
        seq(&base),
        seq(&first),
        seq(&first)
    );
    let named = format!("restore {} {} --yes", base.display(), last.display());
    for line in [&line, &named] {
        let refused = home.run(line).bad(1);
        assert!(refused.contains(&said), "{refused}");
        assert!(refused.contains(&format!("--before {name}")), "{refused}");
    }
    let said = home.run(&format!("{line} --before {name}")).good();
    // What is to be typed next names the data directory that was named.
    let next = format!("--data-dir {} restore plan`", home.data().display());
    assert!(said.contains(&next), "{said}");
    // Also where settings name it, and a server elsewhere to which that would go.
    let mut by_settings = certctl(format!("{line} --before {name}").split(' '));
    by_settings.env("CERTCTL_DATA_DIR", home.data());
    let said = run(by_settings.env("CERTCTL_SERVER_URL", ELSEWHERE)).stdout;
    assert!(said.contains(&next), "{said}");
    // One that is damaged is not called by the name of its base.
    let whole = fs::read(&away).unwrap();
    fs::write(&first, &whole[..whole.len() / 2]).unwrap();
    let refused = home.run(&line).bad(65);
    let first_name = first.file_name().unwrap().to_str().unwrap();
    assert!(
        refused.contains(&format!("{first_name} is not good")),
        "{refused}"
    );
    fs::rename(&away, &first).unwrap();
    // What is only called as one is stands in nobody's way, and is told.
    let garbage = last.with_file_name(name.replace(
        &format!("-{}-", seq(&last)),
        &format!("-{}-", seq(&last).parse::<u64>().unwrap() - 1),
    ));
    fs::write(&garbage, "notes\n").unwrap();
    let ended = home.run(&line);
    fs::remove_file(&garbage).unwrap();
    let garbage = garbage.file_name().unwrap().to_str().unwrap();
    let said = format!("{sink}/{garbage} is left out: it is no backup");
    assert!(ended.stderr.contains(&said), "{ended:?}");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let server = home.server();
    assert_eq!(home.api().get("/owners").await["total"], 200);
    home.run("audit verify").good();
    let restored = &home.api().get("/audit?action=store_restored").await["data"][0];
    let number = |id: &Value| -> u64 {
        let id = id.as_str().unwrap();
        id.strip_prefix("audit-").unwrap().parse().unwrap()
    };
    assert!(
        number(&restored["id"]) > number(&audit),
        "after all of them"
    );
    server.signal(Signal::SIGTERM);
    server.end();

    home.run(&format!("{line} --before {name}")).good();
    let _server = home.server();
    assert_eq!(home.api().get("/owners").await["total"], 100);
}

/// Who restores over the store of another server is told so, by `--dry-run`, too.
#[test]
fn a_store_of_another_server_is_told() {
    let (home, other) = (Home::new(), Home::new());
    let word = home.beside("word");
    fs::write(&word, "correct horse").unwrap();
    let opens = format!("--passphrase-file {}", word.display());
    let made = [&home, &other].map(|home| {
        let server = home.server();
        let made = home.json(&format!("backup create --sink {} {opens}", sink(home)));
        server.signal(Signal::SIGTERM);
        server.end();
        home.beside("backups").join(made["name"].as_str().unwrap())
    });
    let restore = |place: &Path, how: &str| {
        let place = place.display();
        home.run(&format!("restore {place} {opens}{how} --output json"))
    };
    let of = |ended: &Ended| -> (Value, Value) {
        let done: Value = serde_json::from_str(&ended.stdout).unwrap();
        (done["store"].clone(), done["replaced_store"].clone())
    };
    let own = restore(&made[0], " --dry-run");
    assert!(!own.stdout.contains("another store"), "{own:?}");
    let (comes, there) = of(&own);
    assert!(comes.is_string() && comes == there, "{own:?}");
    for how in [" --dry-run", " --yes"] {
        let told = restore(&made[1], how);
        assert_eq!(told.stderr, "", "programs read it in the result");
        let done: Value = serde_json::from_str(&told.stdout).unwrap();
        let warning = done["warnings"][0].as_str().unwrap();
        assert!(warning.contains("this is another store"), "{told:?}");
        let (comes, was) = of(&told);
        assert_eq!(was, there);
        for store in [&comes, &was] {
            let short = &store.as_str().unwrap()[..12];
            assert!(warning.contains(short), "{told:?}");
        }
    }
    // Nobody is there to be asked; the question is about both.
    let asked = restore(&made[0], "").bad_json(2);
    let line = format!("restore {} {opens}", made[0].display());
    for asked in [asked, home.run(&line).bad(2)] {
        for says in ["this is another store", "is kept beside it", "--yes"] {
            assert!(asked.contains(says), "{asked}");
        }
    }
}

/// What is called a backup and is none is named, and nothing follows it.
#[test]
fn what_is_only_called_a_backup_is_named() {
    let home = Home::new();
    let server = home.server();
    let sink = sink(&home);
    let made = home.json(&format!("backup create --sink {sink} --without-keys"));
    let (name, seq) = (
        made["name"].as_str().unwrap(),
        made["seq"].as_str().unwrap().parse::<u64>().unwrap(),
    );
    let garbage = name.replace(&format!("-{seq}-"), &format!("-{}-", seq + 1_000));
    fs::write(home.beside("backups").join(&garbage), "notes\n").unwrap();
    let listed = home.run(&format!("backup list --sink {sink}"));
    assert!(
        listed.stderr.contains(&format!("{garbage} is not counted")),
        "{listed:?}"
    );
    let row = listed.stdout.lines().find(|line| line.contains(&garbage));
    assert!(row.unwrap().contains("unusable"), "{listed:?}");
    let since = format!("backup create --sink {sink} --without-keys --since");
    let made = home.json(&format!("{since} last"));
    let place = format!("{sink}/{}", made["name"].as_str().unwrap());
    home.run(&format!("backup verify {place} --restore")).good();
    home.run(&format!("{since} {garbage}")).bad(1);
    let settings = [
        ("CERTCTL_BACKUP_SCHEDULE", "1d"),
        ("CERTCTL_BACKUP_SINK", sink.as_str()),
        ("CERTCTL_BACKUP_ENCRYPT_TO", recipient(&home).0.leak()),
    ];
    server.signal(Signal::SIGTERM);
    server.end();
    let doctor = run(home.command("doctor --quick").envs(settings));
    let said = format!("{sink}/{garbage}: It is no backup");
    let said = said.to_lowercase();
    assert!(doctor.stdout.to_lowercase().contains(&said), "{doctor:?}");
}

/// A machine key that cannot be read is not taken for none.
#[test]
fn a_machine_key_that_cannot_be_read_is_kept() {
    let home = Home::new();
    let sink = sink(&home);
    let server = home.server();
    let word = home.beside("word");
    fs::write(&word, "correct horse\n").unwrap();
    let word = word.display();
    let made = home.json(&format!(
        "backup create --sink {sink} --passphrase-file {word}"
    ));
    server.signal(Signal::SIGTERM);
    server.end();
    let place = home.beside("backups").join(made["name"].as_str().unwrap());
    let line = format!("restore {} --yes --passphrase-file {word}", place.display());
    let key = home.path("machine.key");
    fs::write(&key, "no key\n").unwrap();
    let store = fs::read(home.path("certctl.redb")).unwrap();
    for line in [&line, &format!("{line} --dry-run")] {
        let refused = home.run(line).bad(1);
        assert!(refused.contains("be the user"), "{refused}");
    }
    assert_eq!(fs::read(&key).unwrap(), b"no key\n");
    assert!(fs::read(home.path("certctl.redb")).unwrap() == store);
    fs::remove_file(&key).unwrap();
    home.run(&line).good();
    assert!(fs::read_to_string(&key).unwrap() != "no key\n");
    let _server = home.server();
}

/// What is restored belongs to whom the directory belongs to.
#[test]
fn what_root_restores_is_the_servers() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    const SERVER: u32 = 65534;
    let home = Home::new();
    let sink = sink(&home);
    let server = home.server();
    let made = home.json(&format!("backup create --sink {sink} --without-keys"));
    server.signal(Signal::SIGTERM);
    server.end();
    let place = home.beside("backups").join(made["name"].as_str().unwrap());
    chown(home.data(), Some(SERVER), Some(SERVER)).unwrap();
    let line = format!("restore {} --yes --output json", place.display());
    let done: Value = serde_json::from_str(&home.run(&line).good()).unwrap();
    let kept = PathBuf::from(done["kept"].as_str().unwrap());
    for path in [home.path("certctl.redb"), kept] {
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid()), (SERVER, SERVER), "{path:?}");
    }
}

#[tokio::test]
async fn increments_without_keys_are_opened_by_the_bases() {
    let home = Home::new();
    let server = home.server();
    let sink = sink(&home);
    let word = home.beside("word");
    fs::write(&word, "correct horse").unwrap();
    let opens = format!("--passphrase-file {}", word.display());
    let made = home.json(&format!("backup create --sink {sink} {opens}"));
    let owner = json!({"id": "o", "name": "o", "email": "a@b.c"});
    home.api().post("/owners", owner).await;
    let more = format!("backup create --sink {sink} --without-keys --since last");
    home.run(&more).good();
    server.signal(Signal::SIGTERM);
    server.end();
    let base = home.beside("backups").join(made["name"].as_str().unwrap());
    let elsewhere = Home::new();
    elsewhere
        .run(&format!(
            "restore {} --yes {opens} --with-increments {sink}",
            base.display()
        ))
        .good();
    let _server = elsewhere.server();
    assert_eq!(elsewhere.api().get("/owners").await["total"], 1);
}

/// What a crash left of a scratch store goes, what somebody is at work in stays.
#[test]
fn what_a_crash_leaves_of_a_scratch_store_is_removed() {
    const DEAD: &str = "restore-0000000000000000.scratch";
    const LIVE: &str = "restore-00000000000000ff.scratch";
    let home = Home::new();
    let server = home.server();
    let sink = sink(&home);
    let made = home.json(&format!("backup create --sink {sink} --without-keys"));
    server.signal(Signal::SIGTERM);
    server.end();
    let place = home.beside("backups").join(made["name"].as_str().unwrap());
    let leave = || {
        for name in [DEAD, "verify-0000000000000001.scratch"] {
            fs::create_dir(home.path(name)).unwrap();
            fs::write(home.path(name).join("certctl.redb"), "x").unwrap();
        }
    };
    let scratches = || {
        let names = fs::read_dir(home.data()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".scratch")).count()
    };
    fs::create_dir(home.path(LIVE)).unwrap();
    let live = Lock::take(&home.path(LIVE).join("lock")).unwrap().unwrap();
    let link = home.path("verify-00000000000000aa.scratch");
    symlink(home.beside("backups"), link).unwrap();
    leave();
    assert_eq!(scratches(), 4);
    drop(home.server());
    assert_eq!(scratches(), 2, "the server's start");
    leave();
    let line = format!("restore {} --yes", place.display());
    home.run(&line).good();
    assert_eq!(scratches(), 2, "a restore");
    drop(live);
    drop(home.server());
    assert_eq!(scratches(), 1, "a link is not followed");
    assert!(place.exists());
    // Nobody else's place is taken.
    let line = format!(
        "backup verify {} --restore --scratch {}",
        place.display(),
        home.beside("").display()
    );
    fs::create_dir(home.beside("verify.scratch")).unwrap();
    fs::write(home.beside("verify.scratch/mine"), "x").unwrap();
    fs::create_dir(home.beside(DEAD)).unwrap();
    home.run(&line).good();
    assert!(home.beside("verify.scratch/mine").exists());
    assert!(!home.beside(DEAD).exists(), "what was killed there");
    fs::create_dir(home.beside(DEAD)).unwrap();
    let into = home.beside("new");
    let line = format!(
        "restore {} --dry-run --into {}",
        place.display(),
        into.display()
    );
    home.run(&line);
    assert!(!home.beside(DEAD).exists(), "what a dry run left above");
}

/// A disk that takes no more says nothing of the backup.
#[test]
fn a_full_disk_is_not_a_bad_backup() {
    let home = Home::new();
    let server = home.server();
    let sink = sink(&home);
    let made = home.json(&format!("backup create --sink {sink} --without-keys"));
    server.signal(Signal::SIGTERM);
    server.end();
    let place = home.beside("backups").join(made["name"].as_str().unwrap());
    let (place, there) = (place.display(), home.beside("there"));
    for line in [
        format!("backup verify {place} --restore"),
        format!("restore {place} --yes --into {}", there.display()),
    ] {
        let whole = home.command(&line);
        let mut small = Command::new("bash");
        small.env_clear();
        small.args(["-c", r#"trap "" XFSZ; ulimit -f 64; exec "$0" "$@""#]);
        small.arg(whole.get_program()).args(whole.get_args());
        for (name, value) in whole.get_envs() {
            match value {
                Some(value) => small.env(name, value),
                None => small.env_remove(name),
            };
        }
        let refused = run(&mut small).bad(74);
        assert!(
            refused.contains("was not looked at to its end"),
            "{refused}"
        );
    }
    for dir in [home.data(), there] {
        let left = fs::read_dir(dir).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> = left.filter(|name| name.ends_with(".scratch")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn each_failure_has_its_exit_code() {
    let home = Home::new();
    let sink = sink(&home);
    let server = home.server();
    let usage = home.run(&format!("backup create --sink {sink}"));
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
    assert!(usage.stderr.contains("--without-keys"), "{usage:?}");
    fs::write(home.beside("empty"), "\n").unwrap();
    let empty = home.beside("empty").display().to_string();
    let none = home.run(&format!(
        "backup create --sink {sink} --passphrase-file {empty}"
    ));
    assert!(none.bad(1).contains("no passphrase"));

    // What is named for what opens a backup opens nothing.
    let (recipient, _) = self::recipient(&home);
    fs::write(home.beside("recipient"), recipient).unwrap();
    let named = home.beside("recipient").display().to_string();
    for line in ["restore x --yes", "backup verify x"] {
        let none = home.run(&format!("{line} --identity {named}")).bad(1);
        assert!(
            none.contains(&named) && none.contains("age-keygen"),
            "{none}"
        );
    }

    // A file stands where the directory would be.
    fs::write(home.beside("file"), "").unwrap();
    let full = format!("dir:{}", home.beside("file").display());
    let create = |sink: &str| home.run(&format!("backup create --sink {sink} --without-keys"));
    create(&full).bad(73);
    server.signal(Signal::SIGTERM);
    server.end();
    create(&full).bad(73);

    // Without a server the command makes it.
    create(&sink).good();
    let listed = home.json(&format!("backup list --sink {sink}"));
    let name = listed["data"][0]["name"].as_str().unwrap();
    let place = home.beside("backups").join(name);
    let verify = |more: &str| home.run(&format!("backup verify {}{more}", place.display()));
    verify("").good();

    let mut bytes = fs::read(&place).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&place, &bytes).unwrap();
    verify("").bad(65);
    verify(" --restore").bad(65);
    bytes[middle] ^= 1;
    fs::write(&place, &bytes[..middle]).unwrap();
    verify("").bad(65);
    let line = format!("restore {} --yes", place.display());
    home.run(&line).bad(65);
    fs::write(&place, &bytes).unwrap();

    // Its secrets open beside this machine's key alone.
    verify(" --restore").good();
    let there = home.beside("there");
    let refused = home.run(&format!("{line} --into {}", there.display()));
    let refused = refused.bad(65);
    assert!(refused.contains("machine.key"), "{refused}");
    let pruned = home.json(&format!("backup prune --sink {sink} --keep-daily 0"));
    assert_eq!(pruned["kept"], 1, "the newest stays");
    let gone = run(&mut home.command(&format!("backup verify {}x", place.display())));
    assert_eq!(gone.status.code(), Some(73), "{gone:?}");
}
