//! From the first order through renewals, on time and once each.

use super::story;
use crate::support::{DAY, HOUR, MINUTE, TestAgent, TestApp, text, time};
use certctl::{
    agent::protocol::WorkKind,
    clock::Time,
    domain::{Current, RenewalPolicy, renewal},
};
use serde_json::{Value, json};
use std::time::Duration;

/// An active certificate `web` on one target of one agent.
pub async fn active(app: &mut TestApp) -> TestAgent {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    agent.run(app).await;
    app.step().await;
    assert_eq!(app.status("web").await, "Active");
    agent
}

/// When the order after the present version is due.
pub async fn next_at(app: &TestApp) -> Time {
    time(&app.shown("web").await["holders"][0]["next_at"])
}

async fn versions(app: &TestApp) -> Vec<Value> {
    app.list("/api/v1/certificates/web/versions").await
}

story!(first_version);
async fn first_version(mut app: TestApp) {
    let agent = app.agent("host").await;
    app.step().await;
    let target = app.target(&agent, "web").await;
    app.step().await;
    app.certificate("web", &[&target]).await;
    app.step().await;
    assert_eq!(app.status("web").await, "Pending");

    let issuance = agent.job(&app).await;
    assert_eq!(issuance.kind, WorkKind::Issuance);
    app.step().await;
    agent.submit_csr(&app, &issuance).await.expect(202);
    app.step().await;
    assert_eq!(app.status("web").await, "Active");

    let deployment = agent.job(&app).await;
    assert_eq!(deployment.kind, WorkKind::Deployment);
    app.step().await;
    let outcome = agent.confirmed(&deployment);
    agent.report(&app, &deployment, &outcome).await.expect(200);
    app.step().await;
    assert_eq!(app.status("web").await, "Active");
    let shown = app.list("/api/v1/certificates/web/deployments").await;
    assert_eq!(shown[0]["deployment"]["state"], "confirmed");
    let told: Vec<String> = app.actions().await;
    assert_eq!(
        told[told.len() - 4..],
        [
            "certificate_created",
            "order_opened",
            "certificate_issued",
            "deployment_confirmed"
        ]
    );
}

story!(renewed_before_it_is_called_expiring);
async fn renewed_before_it_is_called_expiring(mut app: TestApp) {
    let agent = active(&mut app).await;
    let first = versions(&app).await.remove(0);
    let end = time(&first["not_after"]);
    let due = next_at(&app).await;
    // A day before the last 30 days begin, or up to a tenth of what is then left earlier.
    assert!(end.since(due) <= 31 * DAY * 11 / 10, "{due} is too early");
    assert!(end.since(due) >= 31 * DAY, "{due} is too late");

    app.advance_to(due.minus(Duration::from_micros(1)));
    app.tick().await;
    app.step().await;
    assert!(agent.work(&app).await.is_empty());

    app.advance_to(due);
    app.tick().await;
    app.step().await;
    assert_eq!(app.status("web").await, "RenewalInProgress");
    let renewal = agent.job(&app).await;
    assert_eq!(renewal.kind, WorkKind::Renewal);
    app.step().await;
    agent.submit_csr(&app, &renewal).await.expect(202);
    app.step().await;
    agent.run(&app).await;
    app.step().await;

    assert_eq!(app.status("web").await, "Active");
    let all = versions(&app).await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[1], first, "a version never changes");
    assert_ne!(all[0]["serial_number"], first["serial_number"]);
    assert_eq!(
        time(&all[0]["not_after"]),
        app.now().plus(90 * DAY).whole_seconds()
    );
    let deployments = app.list("/api/v1/certificates/web/deployments").await;
    let deployed = &deployments[0]["deployment"];
    assert_eq!(deployed["serial_number"], all[0]["serial_number"]);
    assert_eq!(deployed["state"], "confirmed");
}

story!(two_years_of_renewals);
async fn two_years_of_renewals(mut app: TestApp) {
    let agent = active(&mut app).await;
    for _ in 0..2 * 365 {
        app.pass(DAY, 6 * HOUR).await;
        agent.run(&app).await;
        assert_eq!(app.status("web").await, "Active");
    }
    app.step().await;
    let all = versions(&app).await;
    // 90 days, renewed with 31 to 34 left: each lives 55 to 59 days.
    assert!((13..=14).contains(&all.len()), "{} versions", all.len());
    for pair in all.windows(2) {
        let (newer, older) = (time(&pair[0]["not_before"]), time(&pair[1]["not_after"]));
        assert!(older.since(newer) > 30 * DAY, "a gap, or nearly one");
    }
}

#[test]
fn the_policy_says_how_much_is_left_and_the_spread_makes_it_more() {
    let begin: Time = "2026-01-01T00:00:00Z".parse().unwrap();
    for (lifetime, permille, days, left) in [
        (90 * DAY, 333, 0, 31 * DAY),
        (90 * DAY, 400, 0, 36 * DAY),
        (366 * DAY, 250, 0, 366 * DAY / 4),
        (62 * DAY, 333, 0, 31 * DAY),
        // Half the lifetime is less than the last 30 days and one.
        (60 * DAY, 300, 0, 18 * DAY),
        (6 * DAY, 500, 0, 3 * DAY),
        (HOUR, 200, 0, 12 * MINUTE),
        (HOUR, 1000, 0, HOUR / 2),
        (90 * DAY, 333, 14, 14 * DAY),
        (10 * DAY, 333, 14, 5 * DAY),
    ] {
        let current = Current {
            version: "ver-1".parse().unwrap(),
            serial: "1".parse().unwrap(),
            not_before: begin,
            not_after: begin.plus(lifetime),
        };
        let policy = RenewalPolicy {
            renew_left_permille: permille,
            renewal_window_days: days,
            ..RenewalPolicy::new("rp-1".parse().unwrap(), begin)
        };
        let mut most = Duration::ZERO;
        for n in 0..100 {
            let id = format!("cert-{n}").parse().unwrap();
            let at = renewal::renew_at(&id, &current, &policy);
            let found = current.not_after.since(at);
            assert!(found >= left, "{lifetime:?}: {found:?} left");
            assert!(found <= left * 11 / 10, "{lifetime:?}: {found:?} left");
            most = most.max(found);
        }
        assert!(most > left, "{lifetime:?}: not spread");
    }
}

story!(one_order_for_one_cause);
async fn one_order_for_one_cause(mut app: TestApp) {
    let agent = active(&mut app).await;
    app.advance_to(next_at(&app).await);
    // Everybody wants it at once, again and again.
    let renew = || app.post("/api/v1/certificates/web/renew", Value::Null);
    let (a, b, (), c, ()) = tokio::join!(renew(), renew(), app.tick(), renew(), app.tick());
    let orders = [a, b, c].map(|answer| answer.expect(202)["order_ids"].clone());
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[0], orders[2]);
    app.step().await;
    let opened = |told: Vec<String>| told.iter().filter(|a| *a == "order_opened").count();
    assert_eq!(
        opened(app.actions().await),
        2,
        "the first one and the renewal"
    );

    let renewal = agent.job(&app).await;
    agent.submit_csr(&app, &renewal).await.expect(202);
    app.step().await;
    app.pass(DAY, HOUR).await;
    assert_eq!(opened(app.actions().await), 2);
    assert_eq!(versions(&app).await.len(), 2);
}

story!(each_agent_holds_its_own_version);
async fn each_agent_holds_its_own_version(mut app: TestApp) {
    let (a, b) = (app.agent("a").await, app.agent("b").await);
    let targets = [
        app.target(&a, "a1").await,
        app.target(&a, "a2").await,
        app.target(&b, "b1").await,
    ];
    app.certificate("web", &[&targets[0], &targets[1], &targets[2]])
        .await;
    app.step().await;
    a.run(&app).await;
    app.step().await;
    // The status is that of the worst holder.
    assert_eq!(app.status("web").await, "Pending");
    b.run(&app).await;
    app.step().await;
    assert_eq!(app.status("web").await, "Active");
    let versions = versions(&app).await;
    assert_eq!(versions.len(), 2);
    let serial_of = |agent: &TestAgent| {
        let holder = format!("agent:{}", agent.id);
        text(&versions.iter().find(|v| v["holder"] == holder).unwrap()["serial_number"])
    };
    let deployed = app.list("/api/v1/certificates/web/deployments").await;
    let serials: Vec<String> = deployed
        .iter()
        .map(|t| text(&t["deployment"]["serial_number"]))
        .collect();
    assert_eq!(serials, [serial_of(&a), serial_of(&a), serial_of(&b)]);
    let renewed = app
        .post("/api/v1/certificates/web/renew", Value::Null)
        .await;
    assert_eq!(
        renewed.expect(202)["order_ids"].as_array().unwrap().len(),
        2
    );
    app.step().await;
    assert_eq!((a.run(&app).await, b.run(&app).await), (3, 2));
    app.step().await;
    assert_eq!(app.status("web").await, "Active");
}

story!(an_early_renewal_plans_from_the_new_version);
async fn an_early_renewal_plans_from_the_new_version(mut app: TestApp) {
    let agent = active(&mut app).await;
    let planned = next_at(&app).await;
    app.advance(10 * DAY);
    app.post("/api/v1/certificates/web/renew", json!({}))
        .await
        .expect(202);
    app.step().await;
    agent.run(&app).await;
    app.step().await;
    let now_planned = next_at(&app).await;
    assert_eq!(now_planned.since(planned), 10 * DAY);
    app.advance_to(planned);
    app.pass(HOUR, MINUTE).await;
    app.step().await;
    assert_eq!(app.status("web").await, "Active", "the old plan is gone");
}

story!(many_certificates_are_not_renewed_together);
async fn many_certificates_are_not_renewed_together(mut app: TestApp) {
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    for n in 0..20 {
        app.certificate(&format!("c{n}"), &[&target]).await;
    }
    agent.run(&app).await;
    app.step().await;
    let list = app.list("/api/v1/certificates").await;
    let mut due: Vec<Time> = list
        .iter()
        .map(|c| time(&c["holders"][0]["next_at"]))
        .collect();
    due.sort();
    due.dedup();
    assert_eq!(due.len(), 20);
    assert!(due[19].since(due[0]) > DAY, "spread over less than a day");
}
