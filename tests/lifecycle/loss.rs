//! Agents that take work and vanish, or stay away.

use super::{
    renewal::{active, next_at},
    story,
};
use crate::support::{DAY, HOUR, MINUTE, TestAgent, TestApp, text, time};
use certctl::{
    agent::protocol::{FailureClass, Outcome},
    clock::Time,
    id::Id,
    jobs::Heard,
};
use serde_json::json;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

story!(a_lost_lease_is_given_again);
async fn a_lost_lease_is_given_again(mut app: TestApp) {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let lost = agent.job(&app).await;
    app.step().await;
    app.advance(MINUTE - SECOND);
    app.tick().await;
    app.step().await;
    assert!(
        agent.work(&app).await.is_empty(),
        "the lease is not over yet"
    );
    app.advance(SECOND);
    app.tick().await;
    app.step().await;
    app.advance(5 * SECOND);
    let again = agent.job(&app).await;
    assert_eq!(again.id, lost.id);
    app.step().await;
    agent.submit_csr(&app, &lost).await.refused(409);
    agent.submit_csr(&app, &again).await.expect(202);
    app.step().await;
    agent.run(&app).await;
    app.step().await;
    assert_eq!(app.status("web").await, "Active");
}

story!(an_agent_that_loses_every_job_fails_the_order_which_is_tried_again);
async fn an_agent_that_loses_every_job_fails_the_order_which_is_tried_again(mut app: TestApp) {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let first = text(&app.shown("web").await["holders"][0]["order_id"]);
    for _ in 0..3 {
        agent.job(&app).await;
        app.advance(MINUTE);
        app.tick().await;
        app.step().await;
        app.advance(10 * SECOND);
    }
    assert_eq!(app.status("web").await, "Failed");
    let order = app.get(&format!("/api/v1/orders/{first}")).await;
    assert_eq!(order["state"], "failed");
    let retry = time(&order["retry_at"]);
    assert_eq!(retry, next_at(&app).await);
    app.advance_to(retry);
    app.tick().await;
    app.step().await;
    assert_eq!(app.status("web").await, "Pending");
    let second = text(&app.shown("web").await["holders"][0]["order_id"]);
    let order = app.get(&format!("/api/v1/orders/{second}")).await;
    assert_eq!(order["attempt"], 2);
    agent.run(&app).await;
    app.step().await;
    assert_eq!(app.status("web").await, "Active");
    assert_eq!(app.shown("web").await["holders"][0].get("last_error"), None);
}

story!(failed_attempts_come_ever_later_and_start_anew_with_the_next_version);
async fn failed_attempts_come_ever_later_and_start_anew_with_the_next_version(mut app: TestApp) {
    let agent = active(&mut app).await;
    app.advance_to(next_at(&app).await);
    let failed = Outcome::Failed {
        class: FailureClass::Permanent,
        reason: "no key can be made".into(),
    };
    let mut waits = Vec::new();
    for _ in 0..7 {
        app.tick().await;
        let job = agent.job(&app).await;
        agent.report(&app, &job, &failed).await.expect(200);
        app.step().await;
        assert_eq!(app.status("web").await, "Failed");
        let next = next_at(&app).await;
        waits.push(next.since(app.now()));
        app.advance_to(next.minus(SECOND));
        app.tick().await;
        assert!(agent.work(&app).await.is_empty());
        app.advance_to(next);
    }
    assert_eq!(
        waits,
        [HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 16 * HOUR, DAY, DAY]
    );
    app.tick().await;
    agent.run(&app).await;
    app.step().await;
    assert_eq!(app.status("web").await, "Active");
    app.advance_to(next_at(&app).await);
    app.tick().await;
    let order = text(&app.shown("web").await["holders"][0]["order_id"]);
    assert_eq!(
        app.get(&format!("/api/v1/orders/{order}")).await["attempt"],
        1
    );
}

story!(an_agent_away_for_long_finds_its_work_waiting);
async fn an_agent_away_for_long_finds_its_work_waiting(mut app: TestApp) {
    let agent = active(&mut app).await;
    app.advance_to(next_at(&app).await);
    app.tick().await;
    app.step().await;
    let waits = "waits for agent host, which is not online";
    let order = text(&app.shown("web").await["holders"][0]["order_id"]);
    for _ in 0..10 {
        app.pass(DAY, 6 * HOUR).await;
        app.step().await;
        let shown = app.shown("web").await;
        assert_eq!(shown["next"], waits);
        assert_eq!(shown["status"], "RenewalInProgress");
        assert_eq!(
            shown["holders"][0]["order_id"], order,
            "still the same order"
        );
    }
    // It is back.
    agent.run(&app).await;
    app.step().await;
    assert_eq!(app.status("web").await, "Active");
    assert_eq!(app.list("/api/v1/certificates/web/versions").await.len(), 2);
}

story!(an_agent_that_lost_its_disk_gets_new_versions_of_all_it_held);
async fn an_agent_that_lost_its_disk_gets_new_versions_of_all_it_held(mut app: TestApp) {
    let old = active(&mut app).await;
    let target = app.target(&old, "mail").await;
    app.certificate("mail", &[&target]).await;
    old.run(&app).await;
    app.step().await;
    app.advance(10 * MINUTE);
    let token = app.join_token(json!({"replace": true})).await;
    // An agent in name only: it has none of the keys.
    let new = TestAgent::enrol(&app, "host", &token).await;
    app.step().await;
    app.tick().await;
    app.step().await;
    assert_eq!(app.status("web").await, "RenewalInProgress");
    assert_eq!(new.run(&app).await, 4, "a key and a deployment for each");
    app.step().await;
    for certificate in ["web", "mail"] {
        let path = format!("/api/v1/certificates/{certificate}");
        let versions = app.list(&format!("{path}/versions")).await;
        assert_eq!(versions.len(), 2);
        let deployments = app.list(&format!("{path}/deployments")).await;
        let deployment = &deployments[0]["deployment"];
        assert_eq!(deployment["state"], "confirmed");
        assert_eq!(deployment["serial_number"], versions[0]["serial_number"]);
    }
    // Once is enough.
    app.pass(DAY, HOUR).await;
    app.step().await;
    assert!(new.work(&app).await.is_empty());
}

#[tokio::test]
async fn an_agent_is_waited_for_once_it_was_silent_for_five_minutes() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let next = async || text(&app.shown("web").await["next"]);
    app.advance(5 * MINUTE - SECOND);
    assert!(next().await.contains("is making a key"), "{}", next().await);
    app.advance(SECOND);
    assert!(next().await.contains("not online"), "{}", next().await);
    agent.work(&app).await;
    assert!(next().await.contains("is making a key"), "{}", next().await);
}

#[tokio::test]
async fn presence_that_was_written_down_outlives_the_process() {
    let mut app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    app.tick().await;
    app.restart().await;
    let next = text(&app.shown("web").await["next"]);
    assert_eq!(next, "agent host is making a key and CSR");
}

#[test]
fn what_was_heard_is_to_be_written_until_it_is() {
    let heard = Heard::default();
    let id = |text: &str| text.parse::<Id>().unwrap();
    let at = |micros| Time::from_micros(micros);
    heard.hear(&id("a"), at(1));
    heard.hear(&id("b"), at(2));
    let all = [(id("a"), at(1)), (id("b"), at(2))];
    assert_eq!(heard.unwritten(Duration::ZERO), all);
    // The commit failed.
    assert_eq!(heard.unwritten(Duration::ZERO), all);
    heard.hear(&id("b"), at(3));
    heard.written(&all);
    assert_eq!(heard.unwritten(Duration::ZERO), [(id("b"), at(3))]);
    heard.written(&heard.unwritten(Duration::ZERO));
    assert_eq!(heard.unwritten(Duration::ZERO), []);
    assert_eq!(heard.last(&id("a")), Some(at(1)));
}
