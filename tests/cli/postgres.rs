//! A server whose store is a database.

use super::{
    home::Home,
    process::{AMPLE, Process, run},
};
use crate::support::postgres::{Cluster, Database, USER};
use certctl::store::{COLLECTIONS, Postgres};
use http::{Method, StatusCode};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, time::Duration};
use tokio::time::{interval, timeout};

/// Leads a server there.
pub fn url(database: &Database<'_>) -> String {
    let dir = database.cluster.socket_dir().display().to_string();
    format!(
        "postgres://{USER}@{}/{}",
        dir.replace('/', "%2F"),
        database.name
    )
}

/// Asks `/ready` until it answers so.
pub async fn until_ready(home: &Home, wanted: StatusCode) {
    let mut again = interval(Duration::from_millis(50));
    let asked = timeout(AMPLE, async {
        loop {
            again.tick().await;
            let answer = home.api().call(Method::GET, "/ready", &Value::Null).await;
            if answer.is_ok_and(|(status, _)| status == wanted) {
                return;
            }
        }
    });
    asked.await.expect("it comes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_outlives_an_outage_of_its_database() {
    let cluster = Cluster::start("");
    let database = cluster.database();
    let home = Home::new();
    let url = url(&database);
    let settings = [("CERTCTL_DATABASE_URL", url.as_str())];
    let server = home.server_with(&settings);
    assert!(!home.path("certctl.redb").exists());
    let team = |id: &str| json!({"id": id, "name": id});
    for n in 0..5 {
        home.api().post("/teams", team(&format!("t{n}"))).await;
    }
    home.api()
        .post(
            "/certificates",
            json!({
                "id": "www", "name": "www", "common_name": "www.example.org",
            }),
        )
        .await;

    // Frozen, it keeps its connections.
    let sessions = database.sessions();
    assert!(!sessions.is_empty());
    let all = |signal| sessions.iter().try_for_each(|pid| kill(*pid, signal));
    all(Signal::SIGSTOP).unwrap();
    until_ready(&home, StatusCode::SERVICE_UNAVAILABLE).await;
    all(Signal::SIGCONT).unwrap();
    until_ready(&home, StatusCode::OK).await;

    cluster.kill();
    until_ready(&home, StatusCode::SERVICE_UNAVAILABLE).await;
    for (method, path, body) in [
        (Method::GET, "/api/v1/teams", Value::Null),
        (Method::POST, "/api/v1/teams", team("lost")),
    ] {
        let (status, said) = home.api().call(method, path, &body).await.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{said}");
    }
    cluster.up();
    until_ready(&home, StatusCode::OK).await;
    home.api().post("/teams", team("after")).await;
    let teams = |list: Value| -> BTreeSet<String> {
        let rows = list["data"].as_array().unwrap().iter();
        rows.map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let expected: BTreeSet<String> = ["t0", "t1", "t2", "t3", "t4", "after"]
        .map(String::from)
        .into();
    assert_eq!(teams(home.api().get("/teams").await), expected);

    // Another process finds the same.
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().status.code(), Some(0));
    let server = home.server_with(&settings);
    assert_eq!(teams(home.api().get("/teams").await), expected);
    views_show_what_there_is_and_no_secret(&database);
    the_pages_queries_run(&database);
    let shown = home.command("config show").envs(settings).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("CERTCTL_DATABASE_URL") && !shown.contains("postgres://"),
        "{shown}"
    );
    server.signal(Signal::SIGTERM);
    server.end();
}

fn views_show_what_there_is_and_no_secret(database: &Database<'_>) {
    // What no view may show: all that a document keeps under such a name.
    let secrets = database.sql(
        "SELECT DISTINCT s #>> '{}' FROM certctl_store.rows, \
         jsonb_path_query(doc, 'strict $.** ? (@.type() == \"object\").keyvalue() ? \
           (@.key like_regex \"secret_sha256$|^sealed|^ct$|^nonce$|^salt$|request_sha256\").value') s \
         WHERE jsonb_typeof(s) = 'string' AND length(s #>> '{}') > 16",
    );
    assert!(secrets.lines().count() > 3, "{secrets}");
    let mut certificates = 0;
    for (coll, view) in Postgres::views() {
        let shown = database.sql(&format!("SELECT to_jsonb(v) FROM certctl.{view} v"));
        for secret in secrets.lines() {
            assert!(!shown.contains(secret), "{view} shows {secret}");
        }
        certificates += usize::from(coll == "certificate" && shown.contains("www.example.org"));
    }
    assert_eq!(certificates, 1);
    let read = database
        .sql("SELECT count(*) FROM certctl.audit_events WHERE at > now() - interval '1 hour'");
    assert!(read.parse::<u32>().unwrap() > 5, "{read}");
    let written = database.sql(
        "CREATE ROLE reader; GRANT USAGE ON SCHEMA certctl TO reader; \
         GRANT SELECT ON ALL TABLES IN SCHEMA certctl TO reader; SET ROLE reader; \
         SELECT has_schema_privilege('certctl_store', 'USAGE'), count(*) FROM certctl.teams",
    );
    assert_eq!(written, "f|6");
}

fn the_pages_queries_run(database: &Database<'_>) {
    let page = fs::read_to_string("docs/postgres.md").unwrap();
    let blocks = page.split("```sql\n").skip(1);
    let queries: Vec<&str> = blocks
        .map(|block| block.split("```").next().unwrap())
        .filter(|query| query.starts_with("SELECT"))
        .collect();
    assert_eq!(queries.len(), 3);
    for query in queries {
        database.sql(query);
    }
}

#[test]
fn every_collection_has_a_view() {
    let viewed: Vec<&str> = Postgres::views().map(|(coll, _)| coll).collect();
    for collection in COLLECTIONS {
        let name = collection.name();
        let views = viewed.iter().filter(|coll| **coll == name).count();
        assert_eq!(
            views, 1,
            "{name}: list its columns in src/store/postgres/views.rs"
        );
    }
}

#[test]
fn a_wrong_password_is_explained() {
    let cluster = Cluster::start("");
    let database = cluster.database();
    database.sql("CREATE ROLE app LOGIN SUPERUSER PASSWORD 'p/+=@: %ä'");
    // Passwords are asked for from the next connection on.
    let rules = cluster.data().join("pg_hba.conf");
    let mut text = fs::read_to_string(&rules).unwrap();
    text.insert_str(0, "host all app 0.0.0.0/0 scram-sha-256\n");
    fs::write(&rules, text).unwrap();
    cluster.reload();
    let home = Home::new();
    let line = format!("server --listen {}", home.control());
    let with = |user: &str, password: &str| {
        let mut command = home.command(&line);
        let place = format!("{}:5432/{}", cluster.address, database.name);
        command.env("CERTCTL_DATABASE_URL", format!("postgres://{user}@{place}"));
        command.env("CERTCTL_DATABASE_PASSWORD", password);
        command.env("CERTCTL_LOG_LEVEL", "error");
        command
    };
    let fault = run(&mut with("app", "old")).bad(78);
    for part in [
        "28P01",
        "first boot",
        "ALTER ROLE",
        "LOSE ALL DATA",
        "kubectl delete pvc",
    ] {
        assert!(fault.contains(part), "{part:?} in {fault}");
    }
    assert!(!fault.contains("old\""), "{fault}");
    // What is plain and undoes nothing comes first.
    let at = |part| fault.find(part).unwrap();
    assert!(at("db ping") < at("ALTER ROLE"), "{fault}");
    assert!(at("ALTER ROLE") < at("in a container"), "{fault}");
    // Other faults do not say so.
    let mut other = with("app", "p/+=@: %ä");
    other.env(
        "CERTCTL_DATABASE_URL",
        format!("postgres://app@{}:5432/nosuch", cluster.address),
    );
    let fault = run(&mut other).bad(78);
    assert!(
        fault.contains("3D000") && !fault.contains("28P01"),
        "{fault}"
    );
    let mut right = with("app", "p/+=@: %ä");
    right.env("CERTCTL_LOG_LEVEL", "info");
    let server = Process::start(&mut right);
    server.line(" ready ");
    server.signal(Signal::SIGTERM);
    let ended = server.end();
    assert!(
        !ended.stderr.contains("p/+=") && !ended.stdout.contains("p/+="),
        "{ended:?}"
    );
}

#[test]
fn wrong_addresses_are_told_whole() {
    let home = Home::new();
    for (url, parts) in [
        ("mysql://u@h/d", &["postgres://user:password@host"][..]),
        (
            "postgres://host",
            &["the user is missing", "the database's name is missing"],
        ),
        ("postgres://u@/d", &["the host is missing"]),
        (
            "postgres://u:p@h:port/d?sslmode=prefer",
            &["no number", "talked out of TLS"],
        ),
        (
            "postgres://u:hush%FF@h/d?sslmode=x&nosuch=1&sslrootcert=a.pem",
            &[
                "the password is not percent-encoded",
                "sslmode is to be",
                "neither sslmode nor sslrootcert",
                "whole path",
            ],
        ),
        ("postgres://u:hush/d@h/d", &["no number"]),
        ("postgres://u:h@sh/d@h/d", &["an @", "%40"]),
        ("postgres://u:h@sh@h/d", &["an @", "%40"]),
        (
            "postgres://u:ab?hush3cret@h/d",
            &["neither sslmode nor sslrootcert", "%3F"],
        ),
        ("postgres://u@%2Frun/d?sslmode=require", &["unix socket"]),
        (
            "postgres://u@h/d?sslmode=require&sslrootcert=/a.pem",
            &["only looked at with"],
        ),
    ] {
        let mut command = home.command("config check");
        command.env("CERTCTL_DATABASE_URL", url);
        command.env("CERTCTL_DATABASE_MAX_CONNS", "0");
        let ended = run(&mut command);
        assert_eq!(ended.status.code(), Some(78), "{ended:?}");
        assert!(
            ended.stderr.contains("CERTCTL_DATABASE_MAX_CONNS: "),
            "{ended:?}"
        );
        for part in parts {
            assert!(ended.stderr.contains(part), "{url}: {part:?} in {ended:?}");
        }
        assert!(!ended.stderr.contains("hush"), "{ended:?}");
    }
    for (settings, part) in [
        (
            vec![("CERTCTL_DATABASE_PASSWORD", "x")],
            "without CERTCTL_DATABASE_URL",
        ),
        (
            vec![
                ("CERTCTL_DATABASE_PASSWORD", "x"),
                ("CERTCTL_DATABASE_URL", "postgres://u:y@localhost/d"),
            ],
            "another password",
        ),
    ] {
        let ended = run(home.command("config check").envs(settings));
        assert!(ended.stderr.contains(part), "{ended:?}");
    }
}
