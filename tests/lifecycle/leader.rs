//! Servers that share a store: one leads, another takes over, and what a leader decided before that
//! is not committed after it.

use crate::support::{DAY, TestAgent, TestApp};
use certctl::{
    app::{AppError, Browser},
    reconcile,
};
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::advance};

const SECOND: Duration = Duration::from_secs(1);

/// Each of these servers looks once a second, by both clocks.
async fn run(seconds: u64, servers: &[&TestApp]) {
    for _ in 0..seconds {
        advance(SECOND).await;
        servers[0].advance(SECOND);
        for server in servers {
            server.tick().await;
        }
    }
}

/// Runs until a server leads; says how many seconds that took.
async fn until_leads(server: &TestApp, others: &[&TestApp]) -> u64 {
    for second in 0..60 {
        if leads(server) {
            return second;
        }
        run(1, &[&[server], others].concat()).await;
    }
    panic!("it never leads");
}

fn leads(server: &TestApp) -> bool {
    server.app.leads() == Some(true)
}

/// Two servers, of which the first leads.
async fn two() -> (TestApp, TestApp) {
    let a = TestApp::start_shared().await;
    a.tick().await;
    let b = a.beside().await;
    b.tick().await;
    assert!(leads(&a) && !leads(&b));
    (a, b)
}

/// A certificate on an agent, so far from its end that it is due.
async fn due(a: &TestApp) -> TestAgent {
    let agent = a.agent("web").await;
    let target = a.target(&agent, "www").await;
    a.certificate("www", &[&target]).await;
    agent.run(a).await;
    a.advance(DAY * 80);
    agent
}

async fn orders(a: &TestApp) -> usize {
    let actions = a.actions().await;
    actions.iter().filter(|a| *a == "order_opened").count()
}

#[tokio::test(start_paused = true)]
async fn the_first_server_leads_and_keeps_the_lead_as_long_as_it_shows_itself() {
    let (a, b) = two().await;
    let c = a.beside().await;
    run(120, &[&a, &b, &c]).await;
    assert!(leads(&a) && !leads(&b) && !leads(&c));
    // Others do none of its work.
    due(&a).await;
    let before = orders(&a).await;
    b.tick().await;
    assert_eq!(orders(&a).await, before);
    a.tick().await;
    assert_eq!(orders(&a).await, before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_gone_is_followed_within_fifteen_seconds_and_by_one() {
    let (a, b) = two().await;
    let c = a.beside().await;
    run(60, &[&a, &b, &c]).await;
    let took = until_leads(&b, &[&c]).await;
    assert!((12..=15).contains(&took), "it took {took} s");
    assert!(!leads(&a) && !leads(&c));
    run(60, &[&b, &c]).await;
    assert!(leads(&b) && !leads(&c));
}

#[tokio::test(start_paused = true)]
async fn a_late_beat_keeps_the_lead() {
    let (a, b) = two().await;
    for _ in 0..5 {
        run(10, &[&b]).await;
        assert!(!leads(&b));
        run(1, &[&a, &b]).await;
        assert!(leads(&a) && !leads(&b));
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_hands_on_at_once_and_does_not_come_back() {
    let (a, b) = two().await;
    run(5, &[&a, &b]).await;
    a.app.close().await;
    assert!(!leads(&a));
    b.tick().await;
    assert!(leads(&b));
    assert!(a.app.leading().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_alone_does_not_wait_for_one_that_is_gone() {
    let mut a = TestApp::start_shared().await;
    a.tick().await;
    assert!(leads(&a));
    a.restart().await;
    assert!(!leads(&a));
    a.tick().await;
    assert!(leads(&a));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_paused_commits_nothing_and_steps_down() {
    let (a, b) = two().await;
    due(&a).await;
    let before = orders(&a).await;
    // It has decided, and is paused at the last moment.
    let mut held = a.hold_next_commit();
    let mut paused = JoinSet::new();
    paused.spawn({
        let app = Arc::clone(&a.app);
        async move { reconcile::look(&app).await }
    });
    held.there().await;
    until_leads(&b, &[]).await;
    assert_eq!(orders(&b).await, before + 1);
    held.release();
    paused.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(orders(&b).await, before + 1, "it was opened twice");
    assert!(!leads(&a) && leads(&b));
    run(30, &[&a, &b]).await;
    assert!(!leads(&a) && leads(&b));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_done_in_a_term_that_is_over_is_refused() {
    let (a, b) = two().await;
    let acting = a.app.leading().expect("it leads");
    let browser = Browser::default();
    acting.sign_in(a.admin_key(), &browser).await.unwrap();
    until_leads(&b, &[]).await;
    let seq = b.seq();
    let late = acting.sign_in(a.admin_key(), &browser).await;
    assert!(matches!(late, Err(AppError::NotLeading)), "{late:?}");
    assert_eq!(b.seq(), seq);
    // What is no leader's work goes on there.
    a.app.sign_in(a.admin_key(), &browser).await.unwrap();
}

#[tokio::test]
async fn a_store_of_one_server_knows_no_lead() {
    let a = TestApp::start().await;
    a.tick().await;
    let before = a.work();
    a.app.leading().expect("there is no other");
    assert_eq!(a.app.leads(), None);
    a.tick().await;
    assert_eq!(a.work().commits, before.commits, "a lead costs something");
    let ready = a.call("GET", "/ready").send().await.expect(200);
    assert_eq!(ready.get("role"), None);
}

#[tokio::test(start_paused = true)]
async fn who_leads_is_shown() {
    let (a, b) = two().await;
    for (server, role, gauge) in [(&a, "leader", "1"), (&b, "follower", "0")] {
        let ready = server.call("GET", "/ready").send().await.expect(200);
        assert_eq!(ready["role"], role);
        let text = server
            .admin("GET", "/api/v1/metrics/prometheus")
            .send()
            .await;
        let text = text.text;
        let line = format!("certctl_leader {gauge}\n");
        assert!(text.contains(&line), "{text}");
    }
}
