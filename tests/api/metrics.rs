//! What a scrape says, against what the lists of the API say.

use crate::support::{DAY, HOUR, MINUTE, TestApp};
use certctl::{
    access::Role,
    domain::{Job, Order},
    store::{JOB_STATUS, Scan},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

/// The series of a scrape with their values.
async fn scrape(app: &TestApp) -> BTreeMap<String, f64> {
    series(&text(app).await)
}

async fn text(app: &TestApp) -> String {
    let answer = app.admin("GET", "/api/v1/metrics/prometheus").send().await;
    assert_eq!(answer.status, 200);
    let kind = &answer.headers["content-type"];
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    answer.text
}

fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(pair).collect()
}

/// No counter of `before` has fallen or gone.
fn none_fell(before: &str, after: &BTreeMap<String, f64>) {
    let kinds: BTreeMap<&str, &str> = before
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split_once(' '))
        .collect();
    let mut counters = 0;
    for (name, value) in series(before) {
        let family = name.split('{').next().unwrap();
        let histogram = ["_bucket", "_sum", "_count"].iter().any(|end| {
            let family = family.strip_suffix(end);
            family.is_some_and(|f| kinds.get(f) == Some(&"histogram"))
        });
        if histogram || kinds[family] == "counter" {
            counters += 1;
            assert!(after[&name] >= value, "{name} fell from {value}");
        }
    }
    assert!(counters > 50);
}

const FAILURES: &str = "certctl_issuance_failures_total{issuer_type=\"GenericCA\",error_class=";

#[tokio::test]
async fn a_fresh_server_has_every_series_of_the_alert_rules_at_0() {
    let app = TestApp::start().await;
    let found = scrape(&app).await;
    for name in [
        "certctl_certificate_total",
        "certctl_certificate_active",
        "certctl_certificate_expiring_soon",
        "certctl_certificate_expired",
        "certctl_certificate_revoked",
        "certctl_agent_total",
        "certctl_agent_online",
        "certctl_job_pending",
        "certctl_job_completed_total",
        "certctl_job_failed_total",
        "certctl_issuance_total{issuer_type=\"GenericCA\",outcome=\"success\"}",
        "certctl_issuance_total{issuer_type=\"GenericCA\",outcome=\"failure\"}",
        "certctl_issuance_duration_seconds_count{issuer_type=\"GenericCA\"}",
    ] {
        assert_eq!(found.get(name), Some(&0.0), "{name}");
    }
    for class in [
        "timeout",
        "auth",
        "rate_limited",
        "validation",
        "upstream_5xx",
        "upstream_4xx",
        "network",
        "other",
    ] {
        for class in [class.to_owned(), format!("renewal_{class}")] {
            let name = format!("{FAILURES}\"{class}\"}}");
            assert_eq!(found.get(&name), Some(&0.0), "{name}");
        }
    }
    for name in [
        "certctl_uptime_seconds",
        "process_cpu_seconds_total",
        "process_start_time_seconds",
    ] {
        assert!(found.contains_key(name), "{name}");
    }
    let memory = found["process_resident_memory_bytes"];
    assert!((1e6..1e11).contains(&memory), "{memory}");
}

#[tokio::test]
async fn promtool_finds_nothing_to_complain_about() {
    let app = TestApp::start().await;
    let agent = app.agent("web").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    agent.run(&app).await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by tests/run");
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(text(&app).await.as_bytes()).unwrap();
    drop(stdin);
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success(), "{said:?}");
    assert_eq!((said.stdout, said.stderr), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_scrape_says_what_the_lists_say() {
    let mut app = TestApp::start().await;
    let agent = app.agent("web").await;
    let target = app.target(&agent, "web").await;
    for name in ["one", "two", "three"] {
        app.certificate(name, &[&target]).await;
    }
    // Each moment has certificates in other states: pending, active, expiring, expired.
    agent.run(&app).await;
    app.certificate("four", &[&target]).await;
    for time in [MINUTE, 59 * DAY, DAY, DAY, 28 * DAY, 2 * DAY] {
        app.advance(time);
        let found = scrape(&app).await;
        let json = app.get("/api/v1/metrics").await;
        for (metric, short, query) in [
            ("certctl_certificate_total", "certificate_total", ""),
            (
                "certctl_certificate_active",
                "certificate_active",
                "status=Active",
            ),
            (
                "certctl_certificate_expiring_soon",
                "certificate_expiring_soon",
                "status=expiring",
            ),
            (
                "certctl_certificate_expired",
                "certificate_expired",
                "status=Expired",
            ),
        ] {
            let list = app.get(&format!("/api/v1/certificates?{query}")).await;
            let total = list["total"].as_f64().unwrap();
            assert_eq!(found[metric], total, "{metric} after {time:?}");
            assert_eq!(json["gauge"][short], list["total"], "{short}");
        }
    }
    app.step().await;
}

#[tokio::test]
async fn expiring_soon_ends_are_those_of_the_filter() {
    let app = TestApp::start().await;
    let agent = app.agent("web").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    agent.run(&app).await;
    let end = crate::support::time(&app.shown("web").await["expires_at"]);
    let second = std::time::Duration::from_secs(1);
    let of = async |at, expected: [f64; 3]| {
        app.advance_to(at);
        let found = scrape(&app).await;
        let names = ["active", "expiring_soon", "expired"];
        let values = names.map(|name| found[&format!("certctl_certificate_{name}")]);
        assert_eq!(values, expected, "{at}");
    };
    of(end.minus(30 * DAY).minus(second), [1.0, 0.0, 0.0]).await;
    of(end.minus(30 * DAY), [0.0, 1.0, 0.0]).await;
    of(end.minus(second), [0.0, 1.0, 0.0]).await;
    of(end, [0.0, 0.0, 1.0]).await;
}

#[tokio::test]
async fn an_agent_is_online_for_5_minutes_also_across_a_restart() {
    let mut app = TestApp::start().await;
    let agent = app.agent("web").await;
    let online = async |app: &TestApp| {
        let found = scrape(app).await;
        (found["certctl_agent_total"], found["certctl_agent_online"])
    };
    agent.work(&app).await;
    assert_eq!(online(&app).await, (1.0, 1.0));
    app.tick().await;
    app.restart().await;
    assert_eq!(online(&app).await, (1.0, 1.0));
    app.advance(4 * MINUTE);
    app.restart().await;
    assert_eq!(online(&app).await, (1.0, 1.0));
    app.advance(MINUTE);
    assert_eq!(online(&app).await, (1.0, 0.0));
    app.restart().await;
    assert_eq!(online(&app).await, (1.0, 0.0));
    agent.work(&app).await;
    assert_eq!(online(&app).await, (1.0, 1.0));
}

#[tokio::test]
async fn failures_are_counted_and_no_counter_falls_when_rows_go() {
    let mut app = TestApp::start().await;
    let agent = app.agent("web").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    let fresh = text(&app).await;
    // The first order fails, for good as far as its job goes.
    let job = agent.job(&app).await;
    let failed = json!({"outcome": "failed", "class": "permanent", "reason": "no"});
    agent
        .about(&app, &job, "report", failed.clone())
        .await
        .expect(200);
    let found = scrape(&app).await;
    none_fell(&fresh, &found);
    assert_eq!(found["certctl_job_failed_total"], 1.0);
    assert_eq!(found[&format!("{FAILURES}\"validation\"}}")], 1.0);
    assert_eq!(
        found["certctl_issuance_total{issuer_type=\"GenericCA\",outcome=\"failure\"}"],
        1.0
    );
    // A report that comes again counts nothing.
    agent
        .about(&app, &job, "report", failed.clone())
        .await
        .expect(200);
    assert_eq!(scrape(&app).await["certctl_job_failed_total"], 1.0);

    // The next one succeeds, is deployed, and its renewal fails.
    app.pass(2 * HOUR, MINUTE).await;
    agent.run(&app).await;
    app.post("/api/v1/certificates/web/renew", json!({}))
        .await
        .expect(202);
    let job = agent.job(&app).await;
    agent.about(&app, &job, "report", failed).await.expect(200);
    let (before, found) = (text(&app).await, scrape(&app).await);
    assert_eq!(found[&format!("{FAILURES}\"renewal_validation\"}}")], 1.0);
    assert_eq!(
        found["certctl_issuance_total{issuer_type=\"GenericCA\",outcome=\"success\"}"],
        1.0
    );
    assert_eq!(found["certctl_job_failed_total"], 2.0);
    assert_eq!(found["certctl_job_completed_total"], 2.0);
    assert_eq!(found["certctl_job_pending"], 0.0);
    let attempts = |result: &str| {
        let name = format!("certctl_deploy_attempts_total{{result=\"{result}\"}}");
        found[&name]
    };
    assert_eq!((attempts("changed"), attempts("failed")), (1.0, 0.0));

    // All that has ended is pruned.
    let mut unit = app.app.store.unit(app.unit_id(), app.now());
    let jobs = app
        .app
        .store
        .scan::<Job>(Scan::all(JOB_STATUS, 100))
        .await
        .unwrap();
    assert_eq!(jobs.len(), 4);
    for job in jobs {
        if let certctl::domain::JobKind::Issue { order, .. } = &job.kind {
            let order = unit.load::<Order>(order).await.unwrap();
            if !matches!(order.state, certctl::domain::OrderState::Failed { .. }) {
                unit.delete(order);
            }
        }
        unit.delete(job);
    }
    unit.commit().await.unwrap();
    none_fell(&before, &scrape(&app).await);
    // What is stored is there after a restart; what the process measured begins anew.
    app.restart().await;
    let found = scrape(&app).await;
    for line in before.lines().filter(|line| {
        line.starts_with("certctl_job_")
            || line.starts_with("certctl_deploy_")
            || line.starts_with("certctl_issuance_total")
    }) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert_eq!(found[name], value.parse::<f64>().unwrap(), "{name}");
    }
}

#[tokio::test]
async fn what_nobody_wants_any_more_is_no_failure_of_an_issuer() {
    let app = TestApp::start().await;
    let agent = app.agent("web").await;
    for id in ["revoked", "archived", "moved", "retired"] {
        let target = app.target(&agent, id).await;
        app.certificate(id, &[&target]).await;
    }
    agent.run(&app).await;
    for id in ["revoked", "archived", "moved", "retired"] {
        let path = format!("/api/v1/certificates/{id}/renew");
        app.post(&path, json!({})).await.expect(202);
    }
    let at = |rest: &str| format!("/api/v1/certificates/{rest}");
    app.post(&at("revoked/revoke"), json!({})).await.expect(200);
    app.admin("DELETE", &at("archived"))
        .send()
        .await
        .expect(204);
    app.admin("PUT", &at("moved"))
        .json(&json!({"target_ids": []}))
        .send()
        .await
        .expect(200);
    let path = format!("/api/v1/agents/{}?force=true&reason=old", agent.id);
    app.admin("DELETE", &path).send().await;
    let found = scrape(&app).await;
    let failed = found.iter().filter(|(name, n)| {
        **n > 0.0
            && (name.starts_with("certctl_issuance_failures_total")
                || (name.starts_with("certctl_issuance_total") && name.contains("failure")))
    });
    assert_eq!(failed.collect::<Vec<_>>(), []);
    let jobs = app.list("/api/v1/jobs?status=Cancelled").await;
    assert_eq!(jobs.len(), 4, "{jobs:?}");
}

#[tokio::test]
async fn requests_are_told_by_route_never_by_path() {
    let app = TestApp::start().await;
    for id in ["nosuch-1", "nosuch-2"] {
        let path = format!("/api/v1/certificates/{id}");
        app.admin("GET", &path).send().await.refused(404);
    }
    app.call("GET", "/a/path/of/a/stranger").send().await;
    app.call("BREW", "/health").send().await;
    let text = text(&app).await;
    assert!(!text.contains("nosuch") && !text.contains("stranger") && !text.contains("BREW"));
    let found = series(&text);
    let route = "route=\"/api/v1/certificates/{id}\"";
    let name = format!("certctl_http_requests_total{{method=\"GET\",{route},status=\"404\"}}");
    assert_eq!(found[&name], 2.0);
    let none = "certctl_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}";
    assert_eq!(found[none], 1.0);
}

#[tokio::test]
async fn a_scrape_costs_the_same_however_many_rows_there_are() {
    let app = TestApp::start().await;
    let agent = app.agent("web").await;
    let target = app.target(&agent, "web").await;
    let cost = async || {
        scrape(&app).await;
        let before = app.work();
        scrape(&app).await;
        app.work() - before
    };
    app.certificate("first", &[&target]).await;
    agent.run(&app).await;
    let few = cost().await;
    for n in 0..40 {
        app.certificate(&format!("cert-{n}"), &[&target]).await;
    }
    agent.run(&app).await;
    let many = cost().await;
    assert_eq!(few.reads, many.reads);
    assert!(many.rows <= few.rows + 4, "{few:?} {many:?}");
    assert_eq!((many.commits, many.documents), (0, 0));
}

#[tokio::test]
async fn a_key_that_may_not_read_metrics_is_refused() {
    let app = TestApp::start().await;
    let auditor = app.key(Role::Auditor).await;
    for path in ["/api/v1/metrics", "/api/v1/metrics/prometheus"] {
        let call = app.call("GET", path).bearer(&auditor);
        let message = call.send().await.refused(403);
        assert!(message.contains("metrics.read"), "{message}");
        app.call("GET", path).send().await.refused(401);
    }
}
