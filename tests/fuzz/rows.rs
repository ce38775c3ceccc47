//! Rows of the store, as another version or a damaged disk may have left them: each is read, or
//! refused; the keys of what is read are derived without a fault.

use super::{cases, changes, run};
use crate::support::TestApp;
use certctl::{
    domain::{
        Agent, ApiKey, CaNode, Certificate, Chain, Deployment, Issuer, Job, JoinToken, Observation,
        Order, Profile, RenewalPolicy, Revocation, Session, Target, Version,
    },
    store::{Answer, Coll, Document, Keys, Query},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

fn read<T: Document>(bytes: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<T>(bytes) {
        let _ = Keys::of(&document);
        let written = serde_json::to_vec(&document).unwrap();
        let again: T = serde_json::from_slice(&written).unwrap();
        assert_eq!(serde_json::to_vec(&again).unwrap(), written);
    }
}

type Kind = (Coll, fn(&[u8]));

/// Every kind of row, and how it is read.
const KINDS: &[Kind] = &[
    (Agent::COLL, read::<Agent>),
    (ApiKey::COLL, read::<ApiKey>),
    (CaNode::COLL, read::<CaNode>),
    (Certificate::COLL, read::<Certificate>),
    (Chain::COLL, read::<Chain>),
    (Deployment::COLL, read::<Deployment>),
    (Issuer::COLL, read::<Issuer>),
    (Job::COLL, read::<Job>),
    (JoinToken::COLL, read::<JoinToken>),
    (Observation::COLL, read::<Observation>),
    (Order::COLL, read::<Order>),
    (Profile::COLL, read::<Profile>),
    (RenewalPolicy::COLL, read::<RenewalPolicy>),
    (Revocation::COLL, read::<Revocation>),
    (Session::COLL, read::<Session>),
    (Target::COLL, read::<Target>),
    (Version::COLL, read::<Version>),
];

/// A server that has done a bit of everything.
async fn used() -> TestApp {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    app.certificate("ended", &[&target]).await;
    agent.run(&app).await;
    let seen = json!({"observations": [{
        "target_id": target, "certificate_id": "web", "serial": "a1", "drift": ["x"], "served": [],
    }]});
    agent
        .call(&app, "POST", "observations")
        .json(&seen)
        .send()
        .await
        .expect(200);
    let revoke = format!("/api/v1/certificates/{}/revoke", "ended");
    app.post(&revoke, json!({})).await.expect(200);
    let sign_in = format!("key={}", app.admin_key());
    app.call("POST", "/login").body(sign_in).send().await;
    app
}

#[tokio::test]
async fn rows() {
    let app = used().await;
    let deadline = Instant::now() + Duration::from_secs(600);
    let snapshot = app.app.store.snapshot(deadline).await.unwrap();
    for (coll, read) in KINDS {
        let all = Query::All {
            coll: *coll,
            after: None,
            limit: 50,
        };
        let answers = snapshot.read(vec![all]).await.unwrap();
        let [Answer::All(rows)] = answers.as_slice() else {
            panic!("{answers:?}");
        };
        let docs: Vec<Vec<u8>> = rows.iter().map(|row| row.doc.to_vec()).collect();
        if docs.is_empty() {
            // Nobody signs in by this way of calling; its rows are as plain as the others.
            assert_eq!(coll.0, "session", "no row of {}", coll.0);
            continue;
        }
        docs.iter().for_each(|doc| read(doc));
        let values: Vec<Value> = docs
            .iter()
            .map(|d| serde_json::from_slice(d).unwrap())
            .collect();
        run(cases() / 3, changes::values(values), |value| {
            read(value.to_string().as_bytes())
        });
        run(cases() / 3, changes::bytes(docs), |bytes| read(&bytes));
    }
}
