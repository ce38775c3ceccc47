//! No fault of ours may flood a CA: an agent's line opens 100 orders at once
//! and one a minute, a requester's 1,000 and ten a second.

use super::{renewal::active, story};
use crate::support::{Answer, HOUR, MINUTE, TestAgent, TestApp};
use certctl::{
    agent::protocol::{FailureClass, Outcome},
    crypt::{Crypto, RingCrypto},
    pki::{KeyAlgorithm, csr},
    store::Key,
};
use serde_json::json;

/// Asks for a renewal, and has the agent refuse it, so that the next one is asked for anew.
async fn renew_in_vain(app: &TestApp, agent: &TestAgent) -> Answer {
    let answer = app.post("/api/v1/certificates/web/renew", json!({})).await;
    if answer.status == 202 {
        let failed = Outcome::Failed {
            class: FailureClass::Permanent,
            reason: "not today".into(),
        };
        let job = agent.job(app).await;
        agent.report(app, &job, &failed).await.expect(200);
    }
    answer
}

story!(a_hundred_orders_and_no_more);
async fn a_hundred_orders_and_no_more(mut app: TestApp) {
    let agent = active(&mut app).await;
    // The first order was the first of the hundred.
    for _ in 1..100 {
        renew_in_vain(&app, &agent).await.expect(202);
    }
    app.step().await;
    let before = app.seq();
    let refused = renew_in_vain(&app, &agent).await;
    assert_eq!(refused.headers["retry-after"], "60");
    let message = refused.refused(429);
    assert!(message.contains("too many orders"), "{message}");
    assert_eq!(app.seq(), before);
    app.step().await;

    app.advance(MINUTE);
    renew_in_vain(&app, &agent).await.expect(202);
    renew_in_vain(&app, &agent).await.refused(429);
    app.step().await;
}

#[tokio::test]
async fn the_budget_of_one_certificate_is_not_anothers() {
    let mut app = TestApp::start().await;
    let agent = active(&mut app).await;
    for _ in 1..100 {
        renew_in_vain(&app, &agent).await.expect(202);
    }
    renew_in_vain(&app, &agent).await.refused(429);
    let target = app.target(&agent, "other").await;
    app.certificate("other", &[&target]).await;
    agent.run(&app).await;
    assert_eq!(app.status("other").await, "Active");
}

#[tokio::test]
async fn a_requester_has_a_budget_too() {
    let app = TestApp::start().await;
    app.certificate("outside", &[]).await;
    let key = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
    let csr = csr::build(key.pkcs8_der(), None, &[]).unwrap();
    let ask = || {
        let path = "/api/v1/certificates/outside/versions";
        app.admin("POST", path).json(&json!({"csr_pem": csr}))
    };
    ask().send().await.expect(201);
    // As 998 others would.
    let mut unit = app.app.store.unit(app.unit_id(), app.now());
    let budget = Key::new().text("orders").text("outside").text("requester");
    unit.take(budget, 998, MINUTE / 600, 1_000);
    unit.commit().await.unwrap();
    let once = || ask().header("idempotency-key", "k");
    once().send().await.expect(201);
    let before = app.seq();
    let refused = ask().send().await;
    assert!(refused.headers.contains_key("retry-after"));
    assert!(refused.refused(429).contains("too many orders"));
    // What was issued already is answered.
    once().send().await.expect(201);
    assert_eq!(app.seq(), before);
    app.advance(MINUTE / 600);
    ask().send().await.expect(201);
}

#[tokio::test]
async fn a_spent_budget_has_room_again_when_the_retry_is_due() {
    let mut app = TestApp::start().await;
    let agent = active(&mut app).await;
    for _ in 1..100 {
        renew_in_vain(&app, &agent).await.expect(202);
    }
    renew_in_vain(&app, &agent).await.refused(429);
    // The retry of the last attempt is due after a day.
    app.pass(24 * HOUR, HOUR).await;
    agent.run(&app).await;
    app.check().await;
    assert_eq!(app.status("web").await, "Active");
}
