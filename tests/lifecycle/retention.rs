//! What is kept how long.

use super::renewal::{active, next_at};
use crate::support::{DAY, HOUR, TestApp};
use certctl::{
    app::RETENTION,
    domain::{Cause, Certificate, Deployment, Job, Order, OrderState, Plan, once::Outcome},
    id::Id,
    reconcile,
    store::COLLECTIONS,
};
use serde_json::json;
use std::{collections::BTreeSet, fs};

/// A collection without an answer would grow for ever, and nobody would know.
#[test]
fn every_collection_has_an_answer() {
    let answered: BTreeSet<&str> = RETENTION.iter().map(|(what, ..)| *what).collect();
    let stored: BTreeSet<&str> = COLLECTIONS.iter().map(|c| c.name()).collect();
    let none: Vec<_> = stored.difference(&answered).collect();
    assert!(
        none.is_empty(),
        "say in RETENTION how long these are kept: {none:?}"
    );
    let others: Vec<_> = answered.difference(&stored).copied().collect();
    assert_eq!(others, ["audit log", "change feed", "counters", "layout"]);
}

#[test]
fn the_page_shows_the_answers() {
    let rows = RETENTION.iter();
    let rows = rows.map(|(what, kept, about)| format!("| {what} | {kept} | {about} |\n"));
    let table = format!(
        "| what | kept | |\n|---|---|---|\n{}",
        rows.collect::<String>()
    );
    let page = fs::read_to_string("docs/retention.md").unwrap();
    assert!(
        page.contains(&table),
        "docs/retention.md should have:\n{table}"
    );
}

#[tokio::test]
async fn what_ended_long_ago_is_forgotten_and_what_is_in_force_stays() {
    let mut app = TestApp::start().await;
    let agent = active(&mut app).await;
    let began = app.now();
    for _ in 0..10 {
        app.advance_to(next_at(&app).await);
        app.tick().await;
        agent.run(&app).await;
    }
    let store = &app.app.store;
    assert!(app.now().since(began) > 500 * DAY);
    let orders = store.every::<Order>().await.unwrap();
    let oldest = orders.iter().map(|o| o.opened_at).min().unwrap();
    let old = app.now().since(oldest);
    assert!(old < 401 * DAY && old > 300 * DAY, "{old:?}");
    let deployments = store.every::<Deployment>().await.unwrap();
    assert_eq!(deployments.len(), orders.len(), "they go together");
    let versions = app.list("/api/v1/certificates/web/versions").await;
    assert_eq!(versions.len(), 11, "what was issued is never forgotten");
    let jobs = store.every::<Job>().await.unwrap();
    assert!(
        jobs.iter()
            .all(|job| app.now().since(job.created_at) < 100 * DAY)
    );

    // Nothing is issued any more: what is in force keeps its order, however old.
    app.advance(3_000 * DAY);
    reconcile::look(&app.app).await.unwrap();
    app.pass(2 * DAY, HOUR).await;
    let current = app.shown("web").await["holders"][0]["current"]["version_id"].clone();
    let left = store.every::<Order>().await.unwrap();
    let issued: Vec<_> = left
        .iter()
        .filter_map(|order| match &order.state {
            OrderState::Issued { version, .. } => Some(version.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(issued.len(), 1, "{left:?}");
    if let Some(current) = current.as_str() {
        assert_eq!(issued[0], current);
    }
    assert_eq!(store.every::<Deployment>().await.unwrap().len(), 1);
}

/// As many orders as there are certificates stay, and none is read again and again for that.
#[tokio::test]
async fn orders_kept_shorter_than_certificates_live_cost_what_is_due() {
    const MANY: usize = 200;
    let mut app = TestApp::start_with(|config| config.keep.orders = 2 * DAY).await;
    let agent = active(&mut app).await;
    let store = &app.app.store;
    let order = store.every::<Order>().await.unwrap().remove(0).into_value();
    let web = store.every::<Certificate>().await.unwrap().remove(0);
    let line = web.holders.values().next().unwrap().clone();
    let mut unit = store.unit(app.unit_id(), app.now());
    for n in 0..MANY {
        let version: Id = format!("ver-{n}").parse().unwrap();
        let mut other = Certificate::clone(&web);
        other.id = format!("web-{n}").parse().unwrap();
        let line = other.holders.values_mut().next().unwrap();
        line.current.as_mut().unwrap().version = version.clone();
        let at = app.now();
        unit.insert(Order {
            id: format!("ord-{n}").parse().unwrap(),
            certificate: other.id.clone(),
            state: OrderState::Issued { version, at },
            ..order.clone()
        });
        unit.insert(other);
    }
    unit.commit().await.unwrap();
    let read = async |app: &TestApp| {
        let before = app.work();
        app.tick().await;
        (app.work() - before).rows as usize
    };
    app.advance(3 * DAY);
    let first = read(&app).await;
    assert!(first > 2 * MANY, "each is looked at once: {first}");
    for _ in 0..3 {
        app.advance(DAY);
        let rows = read(&app).await;
        assert!(rows < MANY / 2, "{rows} rows are read for nothing");
    }
    assert_eq!(store.every::<Order>().await.unwrap().len(), MANY + 1);

    // One is renewed, and what was in force goes soon after.
    let Plan::Scheduled { at } = line.plan else {
        panic!("{line:?}");
    };
    app.advance_to(at);
    app.tick().await;
    agent.run(&app).await;
    app.pass(3 * DAY, HOUR).await;
    let orders = store.every::<Order>().await.unwrap();
    let of_web = orders.iter().filter(|o| o.certificate == web.id);
    let of_web: Vec<_> = of_web.map(|o| (o.attempt, &o.cause)).collect();
    let renewed = line.current.unwrap().serial;
    assert_eq!(of_web, [(1, &Cause::Replaces(renewed))]);
}

#[tokio::test]
async fn tokens_and_sessions_go_some_time_after_their_end() {
    let app = TestApp::start().await;
    app.join_token(json!({"expires_in_seconds": 60})).await;
    let total = async || app.get("/api/v1/agents/tokens").await["total"].clone();
    app.pass(89 * DAY, DAY).await;
    assert_eq!(total().await, 1);
    app.pass(2 * DAY, DAY).await;
    assert_eq!(total().await, 0);
}

/// An order with more deployments than a commit holds, and many with as many as they may have.
#[tokio::test]
async fn orders_of_very_many_deployments_are_forgotten() {
    let mut app = TestApp::start().await;
    active(&mut app).await;
    let store = &app.app.store;
    let order = store.every::<Order>().await.unwrap().remove(0).into_value();
    let deployment = store.every::<Deployment>().await.unwrap().remove(0);
    let deployments = [100; 40].into_iter().chain([2_600]).enumerate();
    for (n, deployments) in deployments {
        let old = Order {
            id: format!("ord-old-{n}").parse().unwrap(),
            state: OrderState::Issued {
                version: format!("ver-{n}").parse().unwrap(),
                at: app.now(),
            },
            ..order.clone()
        };
        for part in 0..deployments / 100 {
            let mut unit = store.unit(app.unit_id(), app.now());
            for m in 0..100 {
                let mut copy = Deployment::clone(&deployment);
                copy.id = format!("dep-{n}-{part}-{m}").parse().unwrap();
                copy.order = old.id.clone();
                unit.insert(copy);
            }
            unit.commit().await.unwrap();
        }
        let mut unit = store.unit(app.unit_id(), app.now());
        unit.insert(old);
        unit.commit().await.unwrap();
    }
    let left = async || {
        let orders = store.every::<Order>().await.unwrap();
        let deployments = store.every::<Deployment>().await.unwrap();
        let old = |id: &Id| id.as_str().starts_with("ord-old");
        (
            orders.iter().filter(|o| old(&o.id)).count(),
            deployments.iter().filter(|d| old(&d.order)).count(),
        )
    };
    assert_eq!(left().await, (41, 6_600));
    app.advance(401 * DAY);
    app.tick().await;
    assert_eq!(left().await, (0, 0));
}

#[tokio::test]
async fn much_is_forgotten_in_slices() {
    let app = TestApp::start().await;
    let now = app.now();
    let mut unit = app.app.store.unit(app.unit_id(), now);
    for n in 0..600 {
        unit.insert(Outcome {
            id: format!("once-{n}").parse().unwrap(),
            request_sha256: String::new(),
            made: "x".parse().unwrap(),
            until: now.plus(HOUR),
        });
    }
    unit.commit().await.unwrap();
    app.tick().await;
    assert_eq!(app.app.store.every::<Outcome>().await.unwrap().len(), 600);
    app.advance(2 * HOUR);
    let before = app.work();
    app.tick().await;
    let work = app.work() - before;
    assert_eq!(app.app.store.every::<Outcome>().await.unwrap().len(), 0);
    assert!(work.commits >= 3, "{work:?}");
    assert!(
        work.rows < 3 * 600 + 300,
        "each is read a few times: {work:?}"
    );
}
