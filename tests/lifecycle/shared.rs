//! What servers of one store know of each other's doings.

use crate::support::{HOUR, MINUTE, TestApp, postgres::Cluster, text};
use certctl::{access::limit::Rate, config::Rates, store::Key};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, advance};

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
    for _ in 0..3 {
        let other = servers[1]
            .call("GET", "/api/v1/version")
            .from("198.51.100.2");
        other.send().await.expect(200);
    }
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

/// Clocks that differ by ten minutes neither fill nor empty a bucket that servers share.
#[tokio::test(flavor = "multi_thread")]
async fn servers_whose_clocks_differ_share_one_rate() {
    const BURST: u32 = 64;
    let database = Cluster::shared().database();
    let a = TestApp::start_over(database.open().await, |config| {
        let rate = Rate {
            per_second: 1.0,
            burst: BURST,
        };
        config.rates = Some(Rates {
            address: rate,
            key: rate,
            shared: true,
        });
    })
    .await;
    let mut servers = vec![a];
    for ahead in [300, -300] {
        let engine = Arc::new(database.open().await);
        servers.push(servers[0].beside_ahead(ahead, Some(engine)).await);
    }
    let began = Instant::now();
    let mut passed = 0;
    for n in 0..3 * BURST {
        let server = &servers[n as usize % servers.len()];
        let call = server.call("GET", "/api/v1/version").from("198.51.100.1");
        passed += u32::from(call.send().await.status == 200);
    }
    let back = u32::try_from(began.elapsed().as_secs()).unwrap() + 1;
    let allowed = BURST * 9 / 10..=BURST + back;
    assert!(allowed.contains(&passed), "{passed} of {allowed:?}");
}

/// A server whose clock is off takes no lease over that an agent holds, and ends one that nobody
/// renews.
#[tokio::test(start_paused = true)]
async fn a_lease_is_ended_by_no_other_servers_clock() {
    for off in [300, -300] {
        let leader = TestApp::start_shared().await;
        leader.tick().await;
        let other = leader.beside_ahead(off, None).await;
        let agent = leader.agent("host").await;
        let target = leader.target(&agent, "files").await;
        leader.certificate("web", &[&target]).await;
        // The job is from a clock that may be ahead of the other's.
        other.advance(10 * MINUTE);
        leader.advance(10 * MINUTE);
        let item = agent.job(&other).await;
        let status = async || {
            let path = format!("/api/v1/jobs/{}", item.id);
            text(&leader.get(&path).await["status"])
        };
        let second = async || {
            advance(Duration::from_secs(1)).await;
            leader.advance(Duration::from_secs(1));
            other.advance(Duration::from_secs(1));
            leader.tick().await;
            other.tick().await;
        };
        for n in 0..200 {
            second().await;
            if n % 20 == 0 {
                let renewed = agent.about(&other, &item, "lease", json!({})).await;
                renewed.expect(200);
            }
            assert_eq!(status().await, "Running", "after {n} s");
        }
        // It says no more.
        let mut seconds = 0;
        while status().await == "Running" {
            second().await;
            seconds += 1;
            assert!(seconds < 600, "the lease never ends");
        }
        assert!(seconds > 40, "it ended after {seconds} s");
    }
}

/// Whoever calls a few times costs no commit, and whoever calls often few.
#[tokio::test(start_paused = true)]
async fn strangers_make_few_commits() {
    let app = TestApp::start_shared_with(|config| {
        let rate = Rate {
            per_second: 50.0,
            burst: 100,
        };
        config.rates = Some(Rates {
            address: rate,
            key: rate,
            shared: true,
        });
    })
    .await;
    let before = app.work().commits;
    for n in 0..1_000 {
        let address = format!("2001:db8:{n:x}::1");
        let call = app.call("GET", "/api/v1/version").from(&address);
        call.send().await.expect(200);
    }
    assert_eq!(app.work().commits, before);
    for _ in 0..1_000 {
        let call = app.call("GET", "/api/v1/version").from("198.51.100.1");
        call.send().await;
    }
    let made = app.work().commits - before;
    assert!((20..40).contains(&made), "{made}");
    // Wrong credentials from many addresses.
    let before = app.work().commits;
    for n in 0..1_000 {
        let address = format!("2001:db9:{n:x}::1");
        let call = app.call("GET", "/api/v1/certificates").from(&address);
        call.bearer("wrong").send().await.refused(401);
    }
    let made = app.work().commits - before;
    assert!(made <= 200, "{made}");
}
