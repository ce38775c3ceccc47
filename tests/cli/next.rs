//! Two versions of the program on one store: the later one writes it, and the ordinary one opens
//! it, refuses it, and undoes what was written, though it has never heard of it.

use super::{
    home::{Home, served},
    process::{Ended, Process, run},
};
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The later version, built once: dependencies are those of the tests.
fn later() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let args = [
            "build",
            "--locked",
            "--quiet",
            "--features",
            "next-format",
            "--example",
            "certctl-next",
        ];
        let built = Command::new(env!("CARGO"))
            .args(args)
            .status()
            .expect("cargo");
        assert!(built.success(), "the later version can be built");
        let ordinary = Path::new(env!("CARGO_BIN_EXE_certctl"));
        ordinary.with_file_name("examples").join("certctl-next")
    })
}

impl Home {
    /// A command line of the later version.
    pub fn later(&self, line: &str) -> Command {
        let mut command = Command::new(later());
        command.env_clear().stdin(Stdio::null());
        command.args([OsString::from("--data-dir"), self.data().into()]);
        command.args(line.split(' '));
        command
    }

    fn serving(&self, later: bool, settings: &[(&str, &str)]) -> Process {
        let line = format!("server --listen {}", self.control());
        let mut command = if later {
            self.later(&line)
        } else {
            self.command(&line)
        };
        command.envs(settings.iter().copied());
        Process::start(&mut command)
    }
}

/// The backups that went before migrations.
fn backups(home: &Home) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(home.data().join("before-migrations"));
    let entries = listed.into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn stopped(server: Process) -> Ended {
    server.signal(Signal::SIGTERM);
    server.end()
}

async fn ready(home: &Home) -> (StatusCode, Value) {
    home.api()
        .call(Method::GET, "/ready", &Value::Null)
        .await
        .unwrap()
}

async fn ahead(home: &Home) -> f64 {
    let text = home.api().text("/api/v1/metrics/prometheus").await;
    let line = text
        .lines()
        .find(|line| line.starts_with("certctl_schema_ahead "));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .expect("the gauge")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_undoes_what_it_has_never_heard_of() {
    let home = Home::new();
    let server = home.serving(true, &[]);
    server.line(" ready ");
    home.api()
        .post(
            "/owners",
            json!({"id": "own-ada", "name": "Ada", "email": "ada@example.com"}),
        )
        .await;
    home.api()
        .post("/teams", json!({"id": "team-web", "name": "Web"}))
        .await;
    stopped(server).good_with_log();

    // The rename is not for it.
    let status = home.json("migrate status");
    assert_eq!(status["standing"], "too_new");
    assert_eq!(
        (&status["format"], &status["program_format"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(
        status["migrations"][1]["edits"],
        json!(["rename email to address"])
    );
    let refused = home.serving(false, &[]).end();
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(
        refused.stderr.contains(&format!(
            "--data-dir {} migrate down --to 1`",
            home.data().display()
        )),
        "{refused:?}"
    );
    assert!(refused.stderr.contains(" restore`"), "{refused:?}");

    let plan = home.json("rollback --to 2 --dry-run");
    assert_eq!((&plan["from"], &plan["to"]), (&json!(3), &json!(2)));
    assert_eq!(
        home.json("migrate status")["format"],
        3,
        "a dry run changes nothing"
    );
    home.run("migrate verify").good();

    // What was added is.
    home.run("migrate down --to 2").good();
    let server = home.serving(false, &[]);
    server.line("a later version has changed the store");
    server.line(" ready ");
    assert_eq!(ready(&home).await.0, StatusCode::OK);
    assert_eq!(ahead(&home).await, 1.0);
    let ada = home.api().get("/owners/own-ada").await;
    assert_eq!(ada["email"], "ada@example.com");
    home.api()
        .post(
            "/owners",
            json!({"id": "own-bob", "name": "Bob", "email": "bob@example.com"}),
        )
        .await;
    let in_use = home.run("migrate down --to 1").bad(75);
    assert!(in_use.contains("another certctl runs"), "{in_use}");
    stopped(server).good_with_log();

    let before = backups(&home);
    home.run("rollback --to 1").good();
    // What was there is kept first, and can be read.
    let made = backups(&home);
    assert_eq!(made.len(), before.len() + 1, "{made:?}");
    for backup in &made {
        home.run(&format!("backup verify {}", backup.display()))
            .good();
    }
    let status = home.json("migrate status");
    assert_eq!(
        (&status["standing"], &status["migrations"]),
        (&json!("current"), &json!([]))
    );
    let server = home.serving(false, &[]);
    server.line(" ready ");
    assert_eq!(ahead(&home).await, 0.0);
    assert_eq!(
        home.api().get("/owners/own-ada").await["email"],
        "ada@example.com"
    );
    stopped(server).good_with_log();

    // And up again, this time by a job that the later version waits for.
    let server = home.serving(true, &[("CERTCTL_MIGRATIONS_VIA_HOOK", "TRUE")]);
    server.line("waiting for the store");
    let presented = served(home.control()).await;
    let api = home.api_trusting(presented.last().expect("a CA"));
    let (status, says) = api.call(Method::GET, "/ready", &Value::Null).await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(says["status"], "schema_behind", "{says}");
    assert_eq!(
        home.json("migrate status")["format"],
        1,
        "it changes nothing"
    );
    run(&mut home.later("server --migrate-only")).good_with_log();
    server.line(" ready ");
    assert_eq!(ready(&home).await.0, StatusCode::OK);
    for (owner, email) in [
        ("own-ada", "ada@example.com"),
        ("own-bob", "bob@example.com"),
    ] {
        assert_eq!(
            home.api().get(&format!("/owners/{owner}")).await["email"],
            email
        );
    }
    stopped(server).good_with_log();
}
