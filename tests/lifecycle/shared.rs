//! What servers of one store know of each other's doings.

use crate::support::{HOUR, TestApp};
use certctl::{access::limit::Rate, config::Rates, store::Key};
use std::time::Duration;
use tokio::time::advance;

/// An agent that is heard by one server alone is online at the other, and stays so.
#[tokio::test]
async fn an_agent_that_one_server_hears_is_online_at_the_other() {
    let a = TestApp::start_shared().await;
    let b = a.beside().await;
    let agent = a.agent("host").await;
    let path = format!("/api/v1/agents/{}", agent.id);
    let online = async |server: &TestApp| {
        server.tick().await;
        server.get(&path).await["status"] == "Online"
    };
    assert!(online(&a).await && online(&b).await);
    let summary = b.get("/api/v1/stats/summary").await;
    assert_eq!(summary["active_agents"], 1);
    // Now one hears it and now the other; what the one wrote down last is not taken back.
    for minute in 0..20 {
        for server in [&a, &b] {
            server.advance(Duration::from_secs(30));
            if minute % 4 < 2 {
                agent.work(&a).await;
            } else {
                agent.work(&b).await;
            }
            a.tick().await;
            b.tick().await;
            assert!(online(server).await, "in minute {minute}");
        }
    }
    a.advance(HOUR);
    assert!(!online(&a).await && !online(&b).await);
}

/// A job that one server makes wakes the poll that waits at the other.
#[tokio::test(start_paused = true)]
async fn a_job_wakes_the_agent_that_waits_at_another_server() {
    let a = TestApp::start_shared().await;
    let b = a.beside().await;
    let agent = a.agent("host").await;
    let target = a.target(&agent, "files").await;
    b.tick().await;
    let waits = async {
        let poll = agent.call(&b, "GET", "work?wait=50");
        poll.send().await.expect(200)
    };
    let makes = async {
        advance(Duration::from_secs(1)).await;
        a.certificate("web", &[&target]).await;
        b.tick().await;
    };
    let began = tokio::time::Instant::now();
    let (work, ()) = tokio::join!(waits, makes);
    assert_eq!(work["count"], 1, "{work}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// 64 calls at once and two a second, counted together.
#[tokio::test(start_paused = true)]
async fn servers_share_a_rate_and_forget_who_has_gone() {
    const BURST: u32 = 64;
    let a = TestApp::start_shared_with(|config| {
        let rate = Rate {
            per_second: 2.0,
            burst: BURST,
        };
        config.rates = Some(Rates {
            address: rate,
            key: rate,
            shared: true,
        });
    })
    .await;
    let servers = [&a, &a.beside().await, &a.beside().await];
    let passed = async |calls: u32| {
        let mut passed = 0;
        for n in 0..calls {
            let server = servers[n as usize % servers.len()];
            let call = server.call("GET", "/api/v1/version").from("198.51.100.1");
            passed += u32::from(call.send().await.status == 200);
        }
        passed
    };
    let at_once = passed(3 * BURST).await;
    assert!((BURST * 9 / 10..=BURST).contains(&at_once), "{at_once}");
    // What comes back is shared as well.
    let mut later = 0;
    for _ in 0..30 {
        a.advance(Duration::from_secs(1));
        advance(Duration::from_secs(1)).await;
        later += passed(12).await;
    }
    assert!((54..=60 + BURST - at_once).contains(&later), "{later}");
    // Another address has its own.
    let other = servers[1]
        .call("GET", "/api/v1/version")
        .from("198.51.100.2");
    other.send().await.expect(200);
    let counters = async || {
        let under = Key::new().text("rate");
        let found = a.app.store.counters_under(under, None, 100).await;
        found.unwrap().len()
    };
    assert_eq!(counters().await, 2);
    a.advance(2 * HOUR);
    a.tick().await;
    assert_eq!(counters().await, 0);
}
