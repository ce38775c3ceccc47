//! The store fails after each number of commits in turn, while certificates are made, issued and
//! revoked: what was acknowledged is there after the next start, and the rest can be done.

use super::revocation::csr;
use crate::support::TestApp;
use serde_json::{Value, json};

/// The calls, in order; each may be repeated. With the status that says that it was done before.
fn calls(csr: &str) -> Vec<(&'static str, Value, u16)> {
    let versions = "/api/v1/certificates/web/versions";
    vec![
        ("/api/v1/teams", json!({"id": "team", "name": "team"}), 409),
        (
            "/api/v1/certificates",
            json!({"id": "web", "name": "web", "common_name": "www.example.org", "csr_pem": csr}),
            409,
        ),
        (versions, json!({"csr_pem": csr}), 201),
        (
            "/api/v1/certificates/web/revoke",
            json!({"reason": "superseded"}),
            400,
        ),
    ]
}

#[tokio::test]
async fn issuance_that_is_cut_at_any_commit_is_done_or_not() {
    let csr = csr();
    let calls = calls(&csr);
    for cut in 0.. {
        let mut app = TestApp::start().await;
        app.cut_after(cut);
        let mut acknowledged = 0;
        for (path, body, _) in &calls {
            let answer = app.post(path, body.clone()).await;
            if !answer.status.is_success() {
                assert!(answer.status.is_server_error(), "{path}: {}", answer.text);
                break;
            }
            acknowledged += 1;
        }
        if acknowledged == calls.len() {
            app.tick_cut().await;
        }
        let whole = acknowledged == calls.len() && cut > 20;
        app.restart().await;
        app.check().await;
        for (n, (path, body, again)) in calls.iter().enumerate() {
            let answer = app.post(path, body.clone()).await;
            let status = answer.status.as_u16();
            if n < acknowledged {
                // Of a revoked certificate nothing more is issued.
                let refused = acknowledged == calls.len() && n == 2;
                let known = status == *again || (refused && [400, 409].contains(&status));
                assert!(
                    known,
                    "cut {cut}: {path} was lost: {status} {}",
                    answer.text
                );
            } else {
                let fresh = answer.status.is_success() || status == *again;
                assert!(fresh, "cut {cut}: {path}: {status} {}", answer.text);
            }
            app.check().await;
        }
        app.tick().await;
        app.check().await;
        let certificate = app.get("/api/v1/certificates/web").await;
        assert_eq!(certificate["status"], "Revoked", "cut {cut}");
        if whole {
            return;
        }
    }
}
