//! Schemathesis: requests of every shape that the document allows, and many that it does not. What
//! comes back must be in the document, and no fault of the server's.

use crate::support::{TestApp, text};
use axum::Router;
use certctl::access::Role;
use serde_json::json;
use std::{fmt::Write as _, net::SocketAddr, process::Stdio};

/// Requests of random shape for each operation.
const EXAMPLES: &str = "8";

/// The checks that are made of each answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,\
                      unsupported_method";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_answer_is_in_the_document() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    agent.run(&app).await;
    app.certificate("next", &[&target]).await;
    let jobs = app.list("/api/v1/jobs").await;
    let token = app
        .post("/api/v1/agents/tokens", json!({}))
        .await
        .expect(201);
    let operator = app.key(Role::Admin).await;
    // What is there, so that reading it can be seen to answer as the document says.
    let there = [
        ("certificates/{id}", "web".to_owned()),
        ("certificates/{id}/versions", "web".to_owned()),
        ("certificates/{id}/deployments", "web".to_owned()),
        ("certificates/{id}/served", "web".to_owned()),
        ("certificates/{id}/export/pem", "web".to_owned()),
        ("issuers/{id}", "iss-local".to_owned()),
        ("targets/{id}", target.clone()),
        ("agents/{id}", agent.id.clone()),
        ("agents/tokens/{id}", text(&token["id"])),
        ("jobs/{id}", text(&jobs[0]["id"])),
        ("audit/{id}", "audit-1".to_owned()),
        ("auth/roles/{id}", "r-viewer".to_owned()),
    ];
    // A row with other fields than all is not what the document calls one.
    let mut settings = "[parameters]\nfields = \"\"\n".to_owned();
    for (path, id) in there {
        write!(
            settings,
            "\n[[operations]]\ninclude-name = \"GET /api/v1/{path}\"\nparameters = {{ id = \
             \"{id}\" }}\n"
        )
        .unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("schemathesis.toml");
    std::fs::write(&file, settings).unwrap();
    let address = serve(app.router()).await;
    let said = tokio::process::Command::new("schemathesis")
        .arg("--config-file")
        .arg(&file)
        .arg("run")
        .arg(format!("http://{address}/api/v1/openapi.json"))
        .args(["--url", &format!("http://{address}")])
        .args(["--header", &format!("Authorization: Bearer {operator}")])
        .args(["--checks", CHECKS, "--max-examples", EXAMPLES])
        .args(["--phases", "examples,coverage,fuzzing", "--workers", "1"])
        .args(["--generation-database", "none", "--seed", "1"])
        .args(["--max-failures", "20", "--no-color"])
        // It would retire the agent, and wait for work.
        .args(["--exclude-path-regex", "/agents/.id.(/work)?$"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .await
        .expect("schemathesis is installed by tests/run");
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(
        said.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&said.stderr)
    );
    app.check().await;
}

/// Serves plain HTTP on a port of this machine.
#[expect(clippy::disallowed_methods, reason = "a peer of the test's own")]
async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
