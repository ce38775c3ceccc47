//! A store moves to a database and back, by backup and restore.

use super::{
    home::Home,
    postgres::url,
    process::{Ended, Process, run},
};
use crate::support::{
    invariants,
    postgres::{Cluster, Database},
};
use certctl::store::{
    Committer, Store,
    backup::{Item, Keys, Reader},
};
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

/// Added to the numbers of revocation lists by each restore.
const CRL_GAP: i64 = 1 << 20;

/// A machine whose store is in a database.
struct There<'a> {
    home: Home,
    database: &'a Database<'a>,
}

impl There<'_> {
    fn run(&self, line: &str) -> Ended {
        let mut command = self.home.command(line);
        run(command.env("CERTCTL_DATABASE_URL", url(self.database)))
    }

    fn json(&self, line: &str) -> Value {
        let text = self.run(&format!("{line} --output json")).good();
        serde_json::from_str(&text).unwrap()
    }

    fn server(&self) -> Process {
        let url = url(self.database);
        self.home.server_with(&[("CERTCTL_DATABASE_URL", &url)])
    }

    /// The store's schemas.
    fn schemas(&self) -> Vec<String> {
        let found = self
            .database
            .sql("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'certctl%' ORDER BY nspname");
        found.lines().map(str::to_owned).collect()
    }
}

fn stop(server: Process) {
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().status.code(), Some(0));
}

/// What a bundle holds, line by line.
#[derive(Debug, Default, PartialEq)]
struct Export {
    rows: BTreeMap<(String, String), (u64, String)>,
    counters: BTreeMap<Vec<u8>, i64>,
    entries: Vec<(String, u64, [u8; 32], Vec<u8>)>,
}

impl Export {
    fn of(bundle: &Path) -> Self {
        let mut reader = Reader::new(File::open(bundle).unwrap(), &Keys::default()).unwrap();
        let mut all = Self::default();
        while let Ok(item) = reader.next_item().unwrap() {
            match item {
                Item::Row(coll, row) => {
                    let doc = String::from_utf8(row.doc.to_vec()).unwrap();
                    all.rows
                        .insert((coll, row.id.to_string()), (row.version, doc));
                }
                Item::Gone(..) => panic!("no increment"),
                Item::Counter(name, value) => drop(all.counters.insert(name, value)),
                Item::Entry(stream, entry) => {
                    let doc = entry.doc.to_vec();
                    all.entries.push((stream, entry.number, entry.link, doc));
                }
            }
        }
        all
    }

    /// Without what a restore writes down of itself, of which there is something to see.
    fn before_its_restore(mut self) -> Self {
        let place = ("restoration".to_owned(), "restoration".to_owned());
        let noted = self.rows.remove(&place);
        assert!(noted.is_some(), "{:?}", self.rows.keys());
        let event = self.entries.pop().unwrap();
        let event = String::from_utf8(event.3).unwrap();
        assert!(event.contains("store_restored"), "{event}");
        let mut lists = 0;
        for (name, value) in &mut self.counters {
            if name.starts_with(b"crl") {
                *value -= CRL_GAP;
                lists += 1;
            }
        }
        assert!(lists > 0, "{:?}", self.counters);
        // A list that was never made has no number.
        self.counters.retain(|_, value| *value != 0);
        self
    }
}

/// Makes a backup, by whoever runs there; gives its file.
fn backup(made: &Value, home: &Home) -> PathBuf {
    home.beside("backups").join(made["name"].as_str().unwrap())
}

fn create(home: &Home) -> String {
    let sink = home.beside("backups");
    format!("backup create --sink dir:{} --without-keys", sink.display())
}

/// The same machine, as to the key that opens its secrets.
fn takes_key(home: &Home, from: &Home) {
    fs::create_dir_all(home.data()).unwrap();
    fs::copy(from.path("machine.key"), home.path("machine.key")).unwrap();
}

const CRL: &str = "/.well-known/pki/crl/ca-local-issuing/0.crl";

async fn revoked(home: &Home) -> BTreeSet<String> {
    let list = home.api().bytes(CRL).await;
    let (_, list) = CertificateRevocationList::from_der(&list).unwrap();
    let serials = list.iter_revoked_certificates();
    serials
        .map(|entry| format!("{:x}", entry.user_certificate))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_to_a_database_and_back_equal_row_by_row() {
    let here = Home::new();
    let running = here.quickstart();
    let reason = json!({"reason": "keyCompromise"});
    here.api()
        .post("/certificates/localhost/revoke", reason)
        .await;
    for n in 0..30 {
        let team = json!({"id": format!("t{n}"), "name": format!("ä \u{1f600} \"{n}\"")});
        here.api().post("/teams", team).await;
    }
    stop(running);
    let server = here.server();
    let serials = revoked(&here).await;
    assert!(!serials.is_empty());
    stop(server);

    let database = Cluster::shared().database();
    let there = There {
        home: Home::new(),
        database: &database,
    };
    takes_key(&there.home, &here);
    let first = backup(&here.json(&create(&here)), &here);
    let line = format!("restore {} --yes", first.display());
    let done = there.json(&line);
    assert_eq!(done["kept"], Value::Null, "there was nothing: {done}");
    assert_eq!(there.schemas(), ["certctl", "certctl_store"]);
    // No server runs: the command opens the database itself.
    let second = backup(&there.json(&create(&there.home)), &there.home);
    there.json(&format!("backup verify {} --restore", second.display()));

    let back = Home::new();
    takes_key(&back, &here);
    back.json(&format!("restore {} --yes", second.display()));
    let third = backup(&back.json(&create(&back)), &back);
    let (first, second, third) = (Export::of(&first), Export::of(&second), Export::of(&third));
    let sizes = (first.rows.len(), first.entries.len());
    assert!(sizes > (45, 0) && sizes.1 > 30, "{sizes:?}");
    assert_eq!(
        Export::of(&backup(&there.json(&create(&there.home)), &there.home)),
        second
    );
    // The second restore finds the first one's row and writes it again.
    let mut third = third.before_its_restore();
    third.rows.extend(
        second
            .rows
            .iter()
            .filter(|((coll, _), _)| coll == "restoration")
            .map(|(place, row)| (place.clone(), row.clone())),
    );
    assert_eq!(third, second);
    assert_eq!(second.before_its_restore(), first);

    // Both go on, with what was revoked.
    let server = there.server();
    let certificate = there.home.api().get("/certificates/localhost").await;
    assert_eq!(certificate["status"], "Revoked", "{certificate}");
    let list = there.home.api().answer(Method::GET, CRL, &json!({})).await;
    let status = list.unwrap().status();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "behind the fence");
    there.home.run("restore unfence").good();
    assert_eq!(revoked(&there.home).await, serials);
    there
        .home
        .api()
        .post("/teams", json!({"id": "x", "name": "x"}))
        .await;
    there.home.run("audit verify").good();
    let shown = database.sql("SELECT count(*) FROM certctl.teams");
    assert_eq!(shown, "31");
    stop(server);
    let engine: Arc<_> = Arc::new(database.open().await);
    let store = Store::start(engine, Committer::Inline, Box::new(|_| ())).unwrap();
    invariants::check(&store).await;
    let server = back.server();
    back.run("restore unfence").good();
    assert_eq!(revoked(&back).await, serials);
    let certificate = back.api().get("/certificates/localhost").await;
    assert_eq!(certificate["status"], "Revoked", "{certificate}");
    stop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_replaces_a_databases_store_at_once_and_keeps_the_old_one() {
    let database = Cluster::shared().database();
    let there = There {
        home: Home::new(),
        database: &database,
    };
    let team = |id: &str| json!({"id": id, "name": id});
    let teams = || database.sql("SELECT string_agg(id, ' ' ORDER BY id) FROM certctl.teams");
    let server = there.server();
    there.home.api().post("/teams", team("before")).await;
    let made = there.home.json(&create(&there.home));
    let place = backup(&made, &there.home);
    there.home.api().post("/teams", team("after")).await;

    // Not beside a server, nor beside anybody else's session of it.
    let line = format!("restore {} --yes", place.display());
    let refused = there.run(&line).bad(75);
    assert!(refused.contains("servers or commands have"), "{refused}");
    stop(server);
    assert_eq!(there.schemas(), ["certctl", "certctl_store"]);
    let dry = there.json(&format!("restore {} --dry-run", place.display()));
    assert_eq!(
        (&dry["dry_run"], &dry["kept"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(teams(), "after before");

    // That of another server is told.
    let other = Home::new();
    let word = other.beside("word");
    fs::write(&word, "correct horse").unwrap();
    let opens = format!("--passphrase-file {}", word.display());
    stop(other.server());
    let sink = other.beside("backups");
    let line_of_other = format!("backup create --sink dir:{} {opens}", sink.display());
    let theirs = backup(&other.json(&line_of_other), &other);
    let told = there.run(&format!("restore {} --dry-run {opens}", theirs.display()));
    assert!(told.stderr.contains("this is another store"), "{told:?}");
    assert!(
        !there
            .run(&format!("{line} --dry-run"))
            .stderr
            .contains("another store")
    );
    assert_eq!(teams(), "after before");

    // One that is damaged changes nothing and leaves nothing.
    let bytes = fs::read(&place).unwrap();
    let mut bad = bytes.clone();
    let end = bad.len() - 40;
    bad[end] ^= 1;
    let damaged = there.home.beside("damaged.backup");
    fs::write(&damaged, &bad).unwrap();
    there
        .run(&format!("restore {} --yes", damaged.display()))
        .bad(65);
    assert_eq!(there.schemas(), ["certctl", "certctl_store"]);
    assert_eq!(teams(), "after before");

    // What a restore that was killed has left is in nobody's way.
    database.sql("CREATE SCHEMA certctl_restore; CREATE TABLE certctl_restore.meta (x int)");
    database.sql("CREATE ROLE looks; GRANT SELECT ON certctl.teams TO looks");
    let done = there.json(&line);
    let kept = done["kept"].as_str().unwrap();
    assert!(kept.starts_with("certctl_store_pre_restore_"), "{kept}");
    assert_eq!(there.schemas(), ["certctl", "certctl_store", kept]);
    assert_eq!(teams(), "before");
    let may = database.sql("SELECT has_table_privilege('looks', 'certctl.teams', 'SELECT')");
    assert_eq!(may, "t", "the views are the same");
    database.sql("DROP OWNED BY looks; DROP ROLE looks");
    let server = there.server();
    let plan = there.home.json("restore plan");
    assert_eq!(plan["fenced"], true);
    stop(server);

    // The page says how the old one comes back.
    let page = fs::read_to_string("docs/backup.md").unwrap();
    let block = page.split("```sql\n").nth(1).unwrap();
    let sql = block.split("```").next().unwrap();
    let placeholder = "certctl_store_pre_restore_20261128t173500_000000z";
    assert!(sql.contains(placeholder), "{sql}");
    database.sql(&sql.replace(placeholder, kept));
    let server = there.server();
    let found = there.home.api().get("/teams").await;
    assert_eq!(found["total"], 2, "{found}");
    stop(server);
    assert_eq!(teams(), "after before");
}
