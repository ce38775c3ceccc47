//! Revoked and archived: at once everywhere, for good, and in the lists of the CA.

use super::{renewal, story};
use crate::support::{DAY, HOUR, MINUTE, TestAgent, TestApp, text};
use certctl::id::Id;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

const ISSUER: &str = "iss-local";

/// What a CA's list says.
#[derive(Debug, PartialEq)]
struct List {
    number: u64,
    /// Serial number, and the code of the reason.
    revoked: BTreeMap<String, Option<u8>>,
}

async fn list_of(app: &TestApp, ca: &str) -> List {
    let id: Id = ca.parse().unwrap();
    let list = app.app.crl(&id).await.unwrap();
    let (rest, parsed) = CertificateRevocationList::from_der(&list.der).unwrap();
    assert!(rest.is_empty());
    assert!(parsed.last_update().timestamp() <= app.now().seconds());
    let next = parsed.next_update().unwrap().timestamp();
    assert!(next >= app.now().seconds() + 6 * 86_400);
    let number = parsed.crl_number().unwrap().to_string().parse().unwrap();
    assert_eq!(number, list.number);
    let revoked = parsed.iter_revoked_certificates().map(|entry| {
        let serial = format!("{:x}", entry.user_certificate);
        (serial, entry.reason_code().map(|(_, code)| code.0))
    });
    List {
        number,
        revoked: revoked.collect(),
    }
}

async fn revoke(app: &TestApp, id: &str, reason: &str) {
    let path = format!("/api/v1/certificates/{id}/revoke");
    let answer = app.post(&path, json!({"reason": reason})).await.expect(200);
    assert_eq!(answer, json!({"status": "revoked"}));
}

async fn named(app: &TestApp, status: &str) -> Vec<String> {
    let rows = app
        .list(&format!("/api/v1/certificates?status={status}"))
        .await;
    rows.iter().map(|row| text(&row["id"])).collect()
}

async fn serials(app: &TestApp, id: &str) -> Vec<String> {
    let rows = app
        .list(&format!("/api/v1/certificates/{id}/versions"))
        .await;
    rows.iter().map(|row| text(&row["serial_number"])).collect()
}

story!(revoked_everywhere_at_once);
async fn revoked_everywhere_at_once(mut app: TestApp) {
    let agent = renewal::active(&mut app).await;
    app.post("/api/v1/certificates/web/renew", json!({}))
        .await
        .expect(202);
    agent.run(&app).await;
    app.step().await;
    let before = list_of(&app, ISSUER).await;
    assert_eq!(before.revoked.len(), 0);
    let serials = serials(&app, "web").await;
    assert_eq!(serials.len(), 2);

    revoke(&app, "web", "keyCompromise").await;
    app.step().await;
    let shown = app.shown("web").await;
    assert_eq!(shown["status"], "Revoked");
    assert_eq!(shown["revocation_reason"], "keyCompromise");
    assert_eq!(shown["revoked_at"], app.now().to_string());
    assert_eq!(shown["holders"][0]["plan"], "exempt");
    assert_eq!(named(&app, "revoked").await, ["web"]);
    for other in ["Active", "Expiring", "Pending", "Archived", "Failed"] {
        assert!(named(&app, other).await.is_empty(), "{other}");
    }
    // Every version is on the list, by the first look after the answer.
    let after = list_of(&app, ISSUER).await;
    let expected: BTreeMap<_, _> = serials.into_iter().map(|s| (s, Some(1))).collect();
    assert_eq!(after.revoked, expected);
    assert!(after.number > before.number);
    assert_eq!(list_of(&app, "ca-local-issuing").await.revoked, expected);
    assert_eq!(list_of(&app, "ca-local-root").await.revoked.len(), 0);

    // Nothing is done for it again.
    for (call, body) in [
        ("renew", json!({})),
        ("deploy", json!({})),
        ("versions", json!({"csr_pem": csr()})),
    ] {
        let path = format!("/api/v1/certificates/web/{call}");
        let told = app.post(&path, body).await.refused(409);
        assert!(told.contains("revoked"), "{call}: {told}");
    }
    let again = app.post("/api/v1/certificates/web/revoke", json!({})).await;
    assert!(again.refused(400).contains("revoked already"));
    app.pass(200 * DAY, DAY).await;
    assert_eq!(agent.work(&app).await.len(), 0);
    assert_eq!(app.status("web").await, "Revoked");
    app.step().await;
    // An entry leaves the list a while after its certificate has ended.
    assert_eq!(list_of(&app, ISSUER).await.revoked.len(), 0);
}

pub fn csr() -> String {
    use certctl::{
        crypt::{Crypto, RingCrypto},
        pki::{KeyAlgorithm, csr},
    };
    let key = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
    csr::build(key.pkcs8_der(), None, &["x.example.org".parse().unwrap()]).unwrap()
}

story!(what_goes_on_for_a_revoked_certificate_ends);
async fn what_goes_on_for_a_revoked_certificate_ends(mut app: TestApp) {
    let agent = renewal::active(&mut app).await;
    app.post("/api/v1/certificates/web/renew", json!({}))
        .await
        .expect(202);
    let issuance = agent.job(&app).await;
    app.step().await;
    revoke(&app, "web", "cessationOfOperation").await;
    app.step().await;
    // The agent's CSR comes late: there is no version of it.
    let told = agent.submit_csr(&app, &issuance).await.refused(409);
    assert!(told.contains("cancelled"), "{told}");
    assert_eq!(serials(&app, "web").await.len(), 1);
    app.step().await;
    app.pass(HOUR, MINUTE).await;
    assert_eq!(agent.work(&app).await.len(), 0);
    let jobs = app.list("/api/v1/jobs?status=Running").await;
    assert_eq!(jobs.len(), 0, "{jobs:?}");
    assert_eq!(app.status("web").await, "Revoked");
    app.step().await;
}

story!(a_deployment_under_way_ends_with_its_certificate);
async fn a_deployment_under_way_ends_with_its_certificate(mut app: TestApp) {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let issuance = agent.job(&app).await;
    agent.submit_csr(&app, &issuance).await.expect(202);
    let deployment = agent.job(&app).await;
    app.step().await;
    revoke(&app, "web", "superseded").await;
    app.step().await;
    // Its lease lapses, and nobody tries again.
    app.pass(3 * HOUR, MINUTE).await;
    assert_eq!(agent.work(&app).await.len(), 0);
    let job = app.get(&format!("/api/v1/jobs/{}", deployment.id)).await;
    assert_eq!(job["status"], "Cancelled", "{job}");
    app.step().await;
}

story!(archived_for_good);
async fn archived_for_good(mut app: TestApp) {
    let agent = renewal::active(&mut app).await;
    let archive = || app.admin("DELETE", "/api/v1/certificates/web").send();
    archive().await.expect(204);
    archive().await.expect(204);
    app.step().await;
    assert_eq!(app.status("web").await, "Archived");
    assert_eq!(named(&app, "archived").await, ["web"]);
    assert!(named(&app, "active").await.is_empty());
    // Its target serves others now.
    let target = text(&app.list("/api/v1/targets").await[0]["id"]);
    app.certificate("next", &[&target]).await;
    app.admin("DELETE", "/api/v1/certificates/next")
        .send()
        .await
        .expect(204);
    app.step().await;
    app.pass(40 * DAY, DAY).await;
    assert_eq!(agent.work(&app).await.len(), 0);
    app.step().await;
    // Its version is good still, and its key may come to be known.
    revoke(&app, "web", "keyCompromise").await;
    assert_eq!(app.status("web").await, "Revoked");
    let serial = serials(&app, "web").await.remove(0);
    assert_eq!(
        list_of(&app, ISSUER).await.revoked,
        [(serial, Some(1))].into()
    );
    let told = app.post("/api/v1/certificates/web/revoke", json!({})).await;
    assert!(told.refused(400).contains("revoked already"));
    app.pass(60 * DAY, DAY).await;
    assert_eq!(agent.work(&app).await.len(), 0);
    app.step().await;
}

story!(numbers_of_lists_rise_and_never_come_back);
async fn numbers_of_lists_rise_and_never_come_back(mut app: TestApp) {
    let mut last = list_of(&app, ISSUER).await.number;
    // A list that is fresh is served again.
    assert_eq!(list_of(&app, ISSUER).await.number, last);
    for round in 0..5 {
        match round % 3 {
            0 => app.restart().await,
            1 => app.advance(HOUR),
            _ => {
                let id = format!("c{round}");
                app.certificate(&id, &[]).await;
                let path = format!("/api/v1/certificates/{id}/versions");
                app.post(&path, json!({"csr_pem": csr()})).await.expect(201);
                revoke(&app, &id, "unspecified").await;
            }
        }
        app.step().await;
        let list = list_of(&app, ISSUER).await;
        assert!(list.number > last, "{round}: {} after {last}", list.number);
        last = list.number;
    }
    // The look of the loop makes it anew, before anybody asks.
    app.advance(2 * HOUR);
    app.tick().await;
    let made = app.app.crl(&ISSUER.parse().unwrap()).await.unwrap();
    assert_eq!(made.made_at, app.now());
    assert!(made.number > last);
}

#[tokio::test]
async fn what_cannot_be_revoked_is_refused_and_nothing_changes() {
    let app = TestApp::start().await;
    app.certificate("empty", &[]).await;
    let before = app.seq();
    let at = |id: &str| format!("/api/v1/certificates/{id}/revoke");
    let cases = [
        ("nosuch", json!({}), 404, "nosuch"),
        ("empty", json!({}), 404, "version"),
        ("empty", json!({"reason": "removeFromCRL"}), 400, "reason: "),
        (
            "empty",
            json!({"reason": "aACompromise"}),
            400,
            "keyCompromise",
        ),
        ("empty", json!({"reason": "KEYCOMPROMISE"}), 400, "reason: "),
        ("empty", json!({"reason": 1}), 400, "reason"),
    ];
    for (id, body, status, says) in cases {
        let told = app.post(&at(id), body.clone()).await.refused(status);
        assert!(told.contains(says), "{body}: {told}");
    }
    assert_eq!(app.seq(), before);
}

/// Two agents, each with its own version: both are revoked.
#[tokio::test]
async fn the_versions_of_all_holders_are_revoked() {
    let app = TestApp::start().await;
    let agents: [TestAgent; 2] = [app.agent("a").await, app.agent("b").await];
    let targets = [
        app.target(&agents[0], "ta").await,
        app.target(&agents[1], "tb").await,
    ];
    app.certificate("web", &[&targets[0], &targets[1]]).await;
    for agent in &agents {
        agent.run(&app).await;
    }
    revoke(&app, "web", "unspecified").await;
    let list = list_of(&app, ISSUER).await;
    let expected = serials(&app, "web").await.into_iter().map(|s| (s, None));
    assert_eq!(list.revoked, expected.collect());
    assert_eq!(list.revoked.len(), 2);
    app.check().await;
}

/// The version of an agent that has the certificate no more is as good as any.
#[tokio::test]
async fn what_was_moved_away_from_is_revoked_before_the_new_agent_has_a_version() {
    let app = TestApp::start().await;
    let agents: [TestAgent; 2] = [app.agent("a").await, app.agent("b").await];
    let first = app.target(&agents[0], "ta").await;
    let second = app.target(&agents[1], "tb").await;
    app.certificate("web", &[&first]).await;
    agents[0].run(&app).await;
    app.admin("PUT", "/api/v1/certificates/web")
        .json(&json!({"target_ids": [second]}))
        .send()
        .await
        .expect(200);
    revoke(&app, "web", "keyCompromise").await;
    let list = list_of(&app, ISSUER).await;
    assert_eq!(list.revoked.len(), 1);
    assert_eq!(app.status("web").await, "Revoked");
    app.check().await;
}

/// A requester's many versions are revoked in several commits, the certificate with the first.
#[tokio::test]
async fn more_versions_than_fit_one_commit_are_all_revoked() {
    let app = TestApp::start().await;
    app.certificate("web", &[]).await;
    let csr = csr();
    for _ in 0..501 {
        app.post("/api/v1/certificates/web/versions", json!({"csr_pem": csr}))
            .await
            .expect(201);
    }
    revoke(&app, "web", "keyCompromise").await;
    assert_eq!(list_of(&app, ISSUER).await.revoked.len(), 501);
    assert_eq!(app.status("web").await, "Revoked");
    let ended = app.list("/api/v1/audit?action=certificate_revoked").await;
    assert_eq!(ended.len(), 1);
    app.check().await;
}

/// Whichever of the commits is the last before the process dies, the rest follows by itself.
#[tokio::test]
async fn a_revocation_that_was_cut_is_finished() {
    let mut app = TestApp::start().await;
    app.certificate("web", &[]).await;
    let csr = csr();
    for _ in 0..1_001 {
        app.post("/api/v1/certificates/web/versions", json!({"csr_pem": csr}))
            .await
            .expect(201);
        app.advance(MINUTE / 600);
    }
    app.cut_after(1);
    let path = "/api/v1/certificates/web/revoke";
    let cut = app.post(path, json!({"reason": "keyCompromise"})).await;
    assert_eq!(cut.status, 503);
    app.restart().await;
    assert_eq!(app.status("web").await, "Revoked");
    assert_eq!(list_of(&app, ISSUER).await.revoked.len(), 500);
    let path = "/api/v1/certificates/web/versions";
    app.post(path, json!({"csr_pem": csr})).await.refused(409);
    // The loop is cut, too.
    app.cut_after(1);
    let _ = certctl::reconcile::look(&app.app).await;
    app.restart().await;
    app.tick().await;
    let list = list_of(&app, ISSUER).await;
    assert_eq!(list.revoked.len(), 1_001);
    assert!(list.revoked.values().all(|reason| *reason == Some(1)));
    let ended = app.list("/api/v1/audit?action=certificate_revoked").await;
    assert_eq!(ended.len(), 1);
    app.check().await;
}

#[tokio::test]
async fn exported_is_what_was_issued_last() {
    let app = TestApp::start().await;
    app.certificate("web", &[]).await;
    let path = "/api/v1/certificates/web/export/pem";
    let told = app.admin("GET", path).send().await.refused(404);
    assert!(told.contains("version"), "{told}");
    let made = app
        .post(
            "/api/v1/certificates/web/versions",
            json!({"csr_pem": csr()}),
        )
        .await
        .expect(201);
    let export = app.get(path).await;
    let part = |name: &str| text(&export[name]);
    assert_eq!(part("full_pem"), text(&made["pem_chain"]));
    assert_eq!(part("full_pem"), part("cert_pem") + &part("chain_pem"));
    let file = app
        .admin("GET", &format!("{path}?download=true"))
        .send()
        .await;
    assert_eq!(file.headers["content-type"], "application/x-pem-file");
    assert!(
        file.headers["content-disposition"]
            .to_str()
            .unwrap()
            .contains("certificate.pem")
    );
    assert_eq!(file.expect(200), Value::Null);
}
