//! Orders, renewals and requesters' CSRs.

use super::*;

#[tokio::test]
async fn an_order() {
    let (app, agent, target) = world().await;
    let order = text(&app.shown("web").await["holders"][0]["order_id"]);
    let path = format!("/api/v1/orders/{order}");
    let always = [
        "id",
        "certificate_id",
        "holder",
        "attempt",
        "state",
        "opened_at",
        "deployments",
    ];
    let shown = app.get(&path).await;
    fields(&shown, &always);
    assert_eq!(
        (&shown["state"], &shown["attempt"]),
        (&json!("open"), &json!(1))
    );
    assert_eq!(shown["deployments"], json!([]));

    let issuance = agent.job(&app).await;
    agent.submit_csr(&app, &issuance).await.expect(202);
    let shown = app.get(&path).await;
    let issued: Vec<&str> = always.into_iter().chain(["serial_number"]).collect();
    fields(&shown, &issued);
    assert_eq!(shown["state"], "issued");
    let deployment = &shown["deployments"][0];
    fields(
        deployment,
        &["target_id", "target_name", "serial_number", "state"],
    );
    assert_eq!(deployment["target_id"], target.as_str());
    assert_eq!(deployment["target_name"], "web");
    assert_eq!(deployment["state"], "pending");
    assert_eq!(deployment["serial_number"], shown["serial_number"]);
}

#[tokio::test]
async fn a_failed_order_says_why_and_when_again() {
    let (app, agent, _) = world().await;
    let order = text(&app.shown("web").await["holders"][0]["order_id"]);
    let issuance = agent.job(&app).await;
    let failed = Outcome::Failed {
        class: certctl::agent::protocol::FailureClass::Operator,
        reason: "no room for a key".into(),
    };
    agent.report(&app, &issuance, &failed).await.expect(200);
    let shown = app.get(&format!("/api/v1/orders/{order}")).await;
    assert_eq!(shown["state"], "failed");
    assert_eq!(shown["error"], "no room for a key");
    assert_eq!(time(&shown["retry_at"]), app.now().plus(HOUR));
    let shown = app.shown("web").await;
    assert_eq!(shown["status"], "Failed");
    assert_eq!(
        shown["problem"],
        "the last attempt failed: no room for a key"
    );
    assert_eq!(shown["holders"][0]["last_error"], "no room for a key");
}

#[tokio::test]
async fn a_renewal_points_to_its_order_and_is_opened_once() {
    let (app, agent, _) = world().await;
    agent.run(&app).await;
    let renew = || app.admin("POST", "/api/v1/certificates/web/renew").send();
    let (first, second) = tokio::join!(renew(), renew());
    let place = |a: &Answer| a.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(place(&first), place(&second));
    let place = place(&first);
    let first = first.expect(202);
    fields(&first, &["status", "order_ids"]);
    assert_eq!(first["status"], "renewal_triggered");
    assert_eq!(first, second.expect(202));
    assert_eq!(app.get(&place).await["id"], first["order_ids"][0]);
    assert_eq!(app.status("web").await, "RenewalInProgress");
    app.check().await;
}

#[tokio::test]
async fn a_renewal_without_an_agent_says_what_to_do() {
    let app = TestApp::start().await;
    app.certificate("outside", &[]).await;
    let renew = app.post("/api/v1/certificates/outside/renew", Value::Null);
    let message = renew.await.refused(409);
    assert!(
        message.contains("target") && message.contains("CSR"),
        "{message}"
    );
}

#[tokio::test]
async fn a_requesters_csr_is_answered_with_a_version_once_per_key() {
    let (app, agent, _) = world().await;
    let job = agent.job(&app).await;
    let (csr, other) = (agent.make_csr(&job), agent.make_csr(&job));
    app.certificate("outside", &[]).await;
    let ask = |csr: &str, key: &str| {
        let call = app.admin("POST", "/api/v1/certificates/outside/versions");
        call.header("idempotency-key", key)
            .json(&json!({"csr_pem": csr}))
            .send()
    };
    let (first, again) = tokio::join!(ask(&csr, "k1"), ask(&csr, "k1"));
    let first = first.expect(201);
    assert_eq!(again.expect(201), first);
    assert_eq!(first["holder"], "requester");
    assert!(text(&first["pem_chain"]).starts_with("-----BEGIN CERTIFICATE-----"));
    ask(&other, "k1").await.refused(409);
    let second = ask(&csr, "k2").await.expect(201);
    assert_ne!(second["serial_number"], first["serial_number"]);
    let shown = app.shown("outside").await;
    assert_eq!(shown["holders"][0]["plan"], "exempt");
    assert!(shown["holders"][0]["reason"].is_string());
    assert_eq!(
        shown["holders"][0]["serial_number"],
        second["serial_number"]
    );
    assert_eq!(
        app.list("/api/v1/certificates/outside/versions")
            .await
            .len(),
        2
    );
    app.check().await;
}

#[tokio::test]
async fn a_certificate_may_come_with_its_first_csr() {
    let (app, agent, _) = world().await;
    let csr = agent.make_csr(&agent.job(&app).await);
    let body = json!({"id": "o", "name": "o", "common_name": "o.example.org", "csr_pem": csr});
    let made = app.post("/api/v1/certificates", body).await.expect(201);
    assert_eq!(made["status"], "Active");
    let version = &app.list("/api/v1/certificates/o/versions").await[0];
    let chain = Chain::from_pem(&text(&version["pem_chain"])).unwrap();
    // The CSR asked for other names; the certificate's own are what is issued.
    assert_eq!(chain.leaf().sans(), [San::Dns("o.example.org".into())]);
}
