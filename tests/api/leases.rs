//! Leases and their fencing tokens: one job is one agent's, under one lease, until it has ended.

use crate::support::{MINUTE, TestAgent, TestApp};
use certctl::{
    agent::protocol::{FailureClass, Outcome, Served, WorkItem, WorkKind},
    clock::Time,
    domain::Target,
};
use serde_json::{Value, json};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// An app, two agents, and a deployment that is leased to the first.
async fn world() -> (TestApp, TestAgent, TestAgent, WorkItem) {
    let app = TestApp::start().await;
    let (agent, other) = (app.agent("mine").await, app.agent("other").await);
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let issuance = agent.job(&app).await;
    agent.submit_csr(&app, &issuance).await.expect(202);
    let deployment = agent.job(&app).await;
    assert_eq!(deployment.kind, WorkKind::Deployment);
    (app, agent, other, deployment)
}

async fn deployment(app: &TestApp) -> Value {
    app.list("/api/v1/certificates/web/deployments").await[0]["deployment"].clone()
}

fn failed() -> Outcome {
    Outcome::Failed {
        class: FailureClass::Permanent,
        reason: "no room".into(),
    }
}

#[tokio::test]
async fn a_leased_job_is_given_to_nobody_else() {
    let (app, agent, other, _) = world().await;
    assert!(agent.work(&app).await.is_empty());
    assert!(other.work(&app).await.is_empty());
}

#[tokio::test]
async fn another_agents_job_is_out_of_reach() {
    let (app, agent, other, item) = world().await;
    let before = app.seq();
    let report = serde_json::to_value(agent.confirmed(&item)).unwrap();
    for (call, body) in [
        ("lease", json!({})),
        ("report", report),
        ("csr", json!({"csr_pem": other_csr()})),
    ] {
        // By its own path, and by the path of the agent that has the job.
        other
            .about(&app, &item, call, body.clone())
            .await
            .refused(403);
        let path = format!("/api/v1/agents/{}/jobs/{}/{call}", agent.id, item.id);
        let mut body = body;
        body["token"] = item.lease.token.clone().into();
        let call = app.call("POST", &path).bearer(&other.credential());
        call.json(&body).send().await.refused(403);
    }
    assert_eq!(app.seq(), before);
    assert_eq!(deployment(&app).await["state"], "pending");
}

fn other_csr() -> String {
    use certctl::crypt::{Crypto, RingCrypto};
    let key = RingCrypto.generate_key(certctl::pki::KeyAlgorithm::EcdsaP256);
    certctl::pki::csr::build(key.unwrap().pkcs8_der(), Some("web.example.org"), &[]).unwrap()
}

#[tokio::test]
async fn a_lease_is_renewed_from_now_on_under_the_same_token() {
    let (app, agent, _, item) = world().await;
    app.advance(20 * SECOND);
    let renewed = agent.about(&app, &item, "lease", json!({})).await;
    let renewed = renewed.expect(200);
    let until: Time = crate::support::time(&renewed["until"]);
    assert_eq!(until, app.now().plus(MINUTE));
    assert_eq!(renewed["cancel"], false);
    let outcome = agent.confirmed(&item);
    agent.report(&app, &item, &outcome).await.expect(200);
}

#[tokio::test]
async fn an_agent_that_starts_ends_its_own_leases_alone() {
    let (app, agent, other, item) = world().await;
    let start = async |agent: &TestAgent| {
        let call = agent.call(&app, "GET", "work?fresh=true");
        call.send().await.expect(200);
    };
    start(&other).await;
    let renewed = agent.about(&app, &item, "lease", json!({})).await;
    renewed.expect(200);
    start(&agent).await;
    app.check().await;
    let lost = agent.about(&app, &item, "lease", json!({})).await;
    lost.refused(409);
    app.advance(5 * SECOND);
    assert_eq!(agent.job(&app).await.id, item.id);
}

#[tokio::test]
async fn a_renewed_lease_is_kept_past_its_first_end() {
    let (app, agent, _, item) = world().await;
    for _ in 0..10 {
        app.advance(40 * SECOND);
        app.tick().await;
        agent
            .about(&app, &item, "lease", json!({}))
            .await
            .expect(200);
    }
    assert!(agent.work(&app).await.is_empty());
}

#[tokio::test]
async fn late_work_counts_as_long_as_nobody_else_has_the_job() {
    let (app, agent, _, item) = world().await;
    app.advance(10 * MINUTE);
    let outcome = agent.confirmed(&item);
    agent.report(&app, &item, &outcome).await.expect(200);
    assert_eq!(deployment(&app).await["state"], "confirmed");
}

#[tokio::test]
async fn an_expired_lease_is_taken_back_and_its_words_are_refused() {
    let (app, agent, _, item) = world().await;
    app.advance(MINUTE);
    app.tick().await;
    let before = app.seq();
    let outcome = agent.confirmed(&item);
    agent.report(&app, &item, &outcome).await.refused(409);
    agent
        .about(&app, &item, "lease", json!({}))
        .await
        .refused(409);
    assert_eq!(app.seq(), before);
    assert_eq!(deployment(&app).await["state"], "pending");
}

#[tokio::test]
async fn a_job_is_given_again_under_another_token_and_the_old_one_is_refused() {
    let (app, agent, _, old) = world().await;
    app.advance(MINUTE);
    app.tick().await;
    app.advance(5 * SECOND);
    let new = agent.job(&app).await;
    assert_eq!(new.id, old.id);
    assert_ne!(new.lease.token, old.lease.token);
    agent.report(&app, &old, &failed()).await.refused(409);
    assert_eq!(deployment(&app).await["state"], "pending");
    let outcome = agent.confirmed(&new);
    agent.report(&app, &new, &outcome).await.expect(200);
    // The first holder comes back after the end.
    agent.report(&app, &old, &failed()).await.refused(409);
    assert_eq!(deployment(&app).await["state"], "confirmed");
    app.check().await;
}

#[tokio::test]
async fn a_repeated_report_is_answered_as_the_first_and_changes_nothing() {
    let (app, agent, _, item) = world().await;
    let outcome = agent.confirmed(&item);
    let first = agent.report(&app, &item, &outcome).await.expect(200);
    let (before, told) = (app.seq(), app.actions().await);
    for _ in 0..3 {
        app.advance(MINUTE);
        let again = agent.report(&app, &item, &outcome).await.expect(200);
        assert_eq!(again, first);
    }
    assert_eq!(app.seq(), before);
    assert_eq!(app.actions().await, told);
}

#[tokio::test]
async fn a_repeated_report_of_failure_is_answered_as_the_first() {
    let (app, agent, _, item) = world().await;
    agent.report(&app, &item, &failed()).await.expect(200);
    let before = app.seq();
    agent.report(&app, &item, &failed()).await.expect(200);
    assert_eq!(app.seq(), before);
    assert_eq!(deployment(&app).await["error"], "no room");
}

#[tokio::test]
async fn a_repeated_report_of_a_passing_failure_is_answered_as_the_first() {
    let (app, agent, _, item) = world().await;
    let passing = Outcome::Failed {
        class: FailureClass::Transient,
        reason: "not now".into(),
    };
    agent.report(&app, &item, &passing).await.expect(200);
    let before = app.seq();
    agent.report(&app, &item, &passing).await.expect(200);
    assert_eq!(app.seq(), before);
}

#[tokio::test]
async fn a_repeated_csr_is_answered_as_the_first_and_issues_once() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let item = agent.job(&app).await;
    let body = json!({"csr_pem": agent.make_csr(&item)});
    agent
        .about(&app, &item, "csr", body.clone())
        .await
        .expect(202);
    let before = app.seq();
    agent.about(&app, &item, "csr", body).await.expect(202);
    // Another key under the ended lease is a repetition too: no second version comes of it.
    agent.submit_csr(&app, &item).await.expect(202);
    assert_eq!(app.seq(), before);
    assert_eq!(app.list("/api/v1/certificates/web/versions").await.len(), 1);
    app.check().await;
}

#[tokio::test]
async fn the_work_of_another_agent_and_jobs_that_are_not_there_are_refused() {
    let (app, agent, other, item) = world().await;
    let before = app.seq();
    let path = format!("/api/v1/agents/{}/work?fresh=true", agent.id);
    let call = app.call("GET", &path).bearer(&other.credential());
    call.send().await.refused(403);
    let mut nothing = item.clone();
    nothing.id = "job-nothing".parse().unwrap();
    let report = serde_json::to_value(agent.confirmed(&item)).unwrap();
    for (call, body) in [
        ("lease", json!({})),
        ("report", report),
        ("csr", json!({"csr_pem": other_csr()})),
    ] {
        agent.about(&app, &nothing, call, body).await.refused(404);
    }
    assert_eq!(app.seq(), before);
    let renewed = agent.about(&app, &item, "lease", json!({})).await;
    renewed.expect(200);
}

#[tokio::test]
async fn leases_whose_answer_was_lost_are_ended_by_the_next_poll() {
    let (app, agent, _, item) = world().await;
    // The agent has the job, and says so.
    let poll = format!("work?holds=job-x,{}", item.id);
    agent.call(&app, "GET", &poll).send().await.expect(200);
    agent
        .about(&app, &item, "lease", json!({}))
        .await
        .expect(200);
    let odd = agent.call(&app, "GET", "work?holds=a%20b").send().await;
    assert!(odd.refused(400).starts_with("holds: "));
    // It never had it.
    agent
        .call(&app, "GET", "work?holds=")
        .send()
        .await
        .expect(200);
    agent
        .about(&app, &item, "lease", json!({}))
        .await
        .refused(409);
    app.advance(5 * SECOND);
    let again = agent.job(&app).await;
    assert_eq!(again.id, item.id);
    agent
        .report(&app, &again, &agent.confirmed(&again))
        .await
        .expect(200);
    app.check().await;
}

#[tokio::test]
async fn a_second_run_of_the_agent_takes_over_and_the_first_ones_words_are_refused() {
    let (app, agent, _, old) = world().await;
    app.advance(10 * MINUTE);
    let call = agent.call(&app, "GET", "work?fresh=true");
    call.send().await.expect(200);
    app.advance(5 * SECOND);
    let new = agent.job(&app).await;
    assert_eq!(new.id, old.id);
    let before = app.seq();
    let late = agent.confirmed(&old);
    agent.report(&app, &old, &late).await.refused(409);
    let lost = agent.about(&app, &old, "lease", json!({})).await;
    lost.refused(409);
    assert_eq!(app.seq(), before);
    let outcome = agent.confirmed(&new);
    agent.report(&app, &new, &outcome).await.expect(200);
    app.check().await;
}

#[tokio::test]
async fn a_late_csr_counts_only_while_nobody_else_has_the_job() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let old = agent.job(&app).await;
    app.advance(MINUTE);
    app.tick().await;
    app.advance(5 * SECOND);
    let new = agent.job(&app).await;
    let before = app.seq();
    agent.submit_csr(&app, &old).await.refused(409);
    assert_eq!(app.seq(), before);
    app.advance(10 * MINUTE);
    agent.submit_csr(&app, &new).await.expect(202);
    assert_eq!(app.list("/api/v1/certificates/web/versions").await.len(), 1);
    app.check().await;
}

#[tokio::test]
async fn a_report_for_a_cancelled_job_is_refused_and_changes_nothing() {
    let (app, agent, _, old) = world().await;
    let renew = app.post("/api/v1/certificates/web/renew", json!({})).await;
    renew.expect(202);
    let renewal = agent.job(&app).await;
    agent.submit_csr(&app, &renewal).await.expect(202);
    // It is to be stopped, and was until its lease ended.
    app.advance(MINUTE);
    app.tick().await;
    let before = app.seq();
    for outcome in [agent.confirmed(&old), failed()] {
        agent.report(&app, &old, &outcome).await.refused(409);
    }
    assert_eq!(app.seq(), before);
    assert_eq!(deployment(&app).await["state"], "pending");
    app.check().await;
}

#[tokio::test]
async fn wrong_tokens_are_refused() {
    let (app, agent, _, item) = world().await;
    let before = app.seq();
    let right: u64 = item.lease.token.parse().unwrap();
    let report = serde_json::to_value(agent.confirmed(&item)).unwrap();
    for (token, status) in [
        (String::new(), 400),
        ("x".into(), 400),
        ("-1".into(), 400),
        ("18446744073709551616".into(), 400),
        ("0".into(), 409),
        ((right - 1).to_string(), 409),
        ((right + 1).to_string(), 409),
        (u64::MAX.to_string(), 409),
    ] {
        let mut wrong = item.clone();
        wrong.lease.token = token.clone();
        for (call, body) in [("lease", json!({})), ("report", report.clone())] {
            let answer = agent.about(&app, &wrong, call, body).await;
            let message = answer.refused(status);
            assert!(
                message.contains("lease"),
                "{call} with {token:?}: {message}"
            );
        }
    }
    assert_eq!(app.seq(), before);
}

#[tokio::test]
async fn an_ended_job_takes_no_lease() {
    let (app, agent, _, item) = world().await;
    let outcome = agent.confirmed(&item);
    agent.report(&app, &item, &outcome).await.expect(200);
    let before = app.seq();
    agent
        .about(&app, &item, "lease", json!({}))
        .await
        .refused(409);
    assert_eq!(app.seq(), before);
}

#[tokio::test]
async fn a_job_takes_only_the_words_of_its_kind() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let issuance = agent.job(&app).await;
    let before = app.seq();
    let confirmed = json!({"outcome": "confirmed", "changed": true, "served": []});
    let answer = agent.about(&app, &issuance, "report", confirmed).await;
    let message = answer.refused(400);
    assert!(message.starts_with("outcome:"), "{message}");
    assert_eq!(app.seq(), before);
    agent.submit_csr(&app, &issuance).await.expect(202);
    let deployment = agent.job(&app).await;
    let before = app.seq();
    let body = json!({"csr_pem": other_csr()});
    agent
        .about(&app, &deployment, "csr", body)
        .await
        .refused(400);
    assert_eq!(app.seq(), before);
}

#[tokio::test]
async fn a_job_lost_three_times_fails_and_is_planned_anew() {
    let (app, agent, _, _) = world().await;
    for _ in 0..2 {
        app.advance(MINUTE);
        app.tick().await;
        app.advance(10 * SECOND);
        agent.job(&app).await;
    }
    app.advance(MINUTE);
    app.tick().await;
    let shown = deployment(&app).await;
    assert_eq!(shown["state"], "failed", "{shown}");
    assert!(shown["retry_at"].is_string());
    app.check().await;
}

#[tokio::test]
async fn work_comes_eight_jobs_at_a_time() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let target = app.target(&agent, "web").await;
    for n in 0..11 {
        app.certificate(&format!("c{n}"), &[&target]).await;
    }
    assert_eq!(agent.work(&app).await.len(), 8);
    assert_eq!(agent.work(&app).await.len(), 3);
    assert_eq!(agent.work(&app).await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_poll_is_answered_when_work_comes() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let target = app.target(&agent, "web").await;
    let began = tokio::time::Instant::now();
    let poll = agent.call(&app, "GET", "work?wait=50").send();
    let targets = [target.as_str()];
    let (answer, _) = tokio::join!(poll, app.certificate("web", &targets));
    assert_eq!(answer.expect(200)["count"], 1);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_poll_is_answered_when_a_failed_job_may_be_begun_again() {
    let (app, agent, _, item) = world().await;
    let passing = Outcome::Failed {
        class: FailureClass::Transient,
        reason: "not now".into(),
    };
    let began = tokio::time::Instant::now();
    let poll = agent.call(&app, "GET", "work?wait=50").send();
    let fail = async {
        agent.report(&app, &item, &passing).await.expect(200);
        app.advance(5 * SECOND);
    };
    let (answer, ()) = tokio::join!(poll, fail);
    assert_eq!(answer.expect(200)["count"], 1);
    assert!(began.elapsed() <= 5 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_poll_ends_empty_at_its_time_and_when_the_server_stops() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let poll = || agent.call(&app, "GET", "work?wait=50").send();
    let began = tokio::time::Instant::now();
    assert_eq!(poll().await.expect(200)["count"], 0);
    assert_eq!(began.elapsed(), 50 * SECOND);
    let stop = app.app.tasks.shutdown(SECOND);
    let began = tokio::time::Instant::now();
    let (answer, _) = tokio::join!(poll(), stop);
    assert_eq!(answer.expect(200)["count"], 0);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_job_that_cannot_be_run_fails_and_keeps_no_other_back() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let (gone, good) = (
        app.target(&agent, "gone").await,
        app.target(&agent, "web").await,
    );
    app.certificate("broken", &[&gone]).await;
    app.certificate("web", &[&good]).await;
    for item in agent.work(&app).await {
        agent.submit_csr(&app, &item).await.expect(202);
    }
    let id = gone.parse().unwrap();
    let target = app.app.store.get::<Target>(&id).await.unwrap().unwrap();
    let mut unit = app.app.store.unit(app.unit_id(), app.now());
    unit.delete(target);
    unit.commit().await.unwrap();
    let web = agent.job(&app).await.certificate_id;
    assert_eq!(web.unwrap().as_str(), "web");
    let told = &app.list("/api/v1/audit").await[0];
    assert_eq!(told["action"], "deployment_failed");
    assert_eq!(told["resource_id"], "broken");
    assert!(agent.work(&app).await.is_empty());
}

#[tokio::test]
async fn polls_at_once_share_the_jobs() {
    let app = TestApp::start().await;
    let agent = app.agent("a").await;
    let target = app.target(&agent, "web").await;
    for n in 0..6 {
        app.certificate(&format!("c{n}"), &[&target]).await;
    }
    let poll = || agent.work(&app);
    let (a, b, c) = tokio::join!(poll(), poll(), poll());
    let mut given: Vec<String> = a
        .iter()
        .chain(&b)
        .chain(&c)
        .map(|j| j.id.to_string())
        .collect();
    given.sort();
    let each = given.len();
    given.dedup();
    assert_eq!((given.len(), each), (6, 6));
    app.check().await;
}

#[tokio::test]
async fn a_report_at_the_moment_its_lease_ends_counts_or_is_refused() {
    let (app, agent, _, item) = world().await;
    app.advance(MINUTE);
    let outcome = agent.confirmed(&item);
    let (answer, ()) = tokio::join!(agent.report(&app, &item, &outcome), app.tick());
    let state = deployment(&app).await["state"].clone();
    match answer.status.as_u16() {
        200 => assert_eq!(state, "confirmed"),
        409 => assert_eq!(state, "pending"),
        other => panic!("{other}"),
    }
    app.check().await;
}

#[tokio::test]
async fn one_report_sent_twice_at_once_is_told_once() {
    let (app, agent, _, item) = world().await;
    let outcome = agent.confirmed(&item);
    let report = || agent.report(&app, &item, &outcome);
    let (a, b) = tokio::join!(report(), report());
    assert_eq!(a.expect(200), b.expect(200));
    let told = app.actions().await;
    assert_eq!(
        told.iter().filter(|a| *a == "deployment_confirmed").count(),
        1
    );
}

#[tokio::test]
async fn only_what_was_seen_confirms_a_deployment() {
    let (app, agent, _, item) = world().await;
    let good = agent.confirmed(&item);
    let Outcome::Confirmed { served, .. } = &good else {
        panic!("{good:?}");
    };
    let right = served[0].clone();
    let other = |change: fn(&mut Served)| {
        let mut seen = right.clone();
        change(&mut seen);
        seen
    };
    let before = app.seq();
    for served in [
        Vec::new(),
        vec![other(|s| s.serial = Some("1".into()))],
        vec![other(|s| s.serial = None)],
        vec![other(|s| s.fingerprint_sha256 = Some("0".repeat(64)))],
        vec![other(|s| s.fingerprint_sha256 = None)],
        vec![right.clone(), other(|s| s.serial = Some("1".into()))],
    ] {
        let changed = true;
        let outcome = Outcome::Confirmed { changed, served };
        let message = agent.report(&app, &item, &outcome).await.refused(400);
        assert!(message.starts_with("served:"), "{message}");
    }
    assert_eq!(app.seq(), before);
    assert_eq!(deployment(&app).await["state"], "pending");
    agent.report(&app, &item, &good).await.expect(200);
}

#[tokio::test]
async fn a_reason_is_kept_without_control_characters() {
    let (app, agent, _, item) = world().await;
    let forged = Outcome::Failed {
        class: FailureClass::Permanent,
        reason: "no room\r\n\u{1b}]52;c;eA==\u{7}\0\u{9b}2J".into(),
    };
    agent.report(&app, &item, &forged).await.expect(200);
    let kept = "no room   ]52;c;eA==   2J";
    assert_eq!(deployment(&app).await["error"], kept);
    let told = &app.list("/api/v1/audit").await[0];
    assert_eq!(told["details"]["reason"], kept);
}

#[tokio::test]
async fn a_long_reason_is_cut_and_the_report_taken() {
    let (app, agent, _, item) = world().await;
    let long = Outcome::Failed {
        class: FailureClass::Permanent,
        reason: "\u{e4}".repeat(400_000),
    };
    agent.report(&app, &item, &long).await.expect(200);
    let shown = deployment(&app).await["error"].as_str().unwrap().to_owned();
    assert_eq!(shown.chars().count(), 4_096 + " ...".len());
}
