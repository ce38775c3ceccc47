//! What a restored server says it would do.

use super::{
    renewal::{active, next_at},
    room::metric,
};
use crate::support::{HOUR, MINUTE, TestApp, text};
use certctl::{
    agent::protocol::Outcome,
    domain::{Agent, Certificate, Restoration, certificate::Revoked},
};
use serde_json::{Value, json};

/// The row of a restore that is still fenced.
pub fn restoration(app: &TestApp, reconcile: bool) -> Restoration {
    Restoration {
        id: Restoration::ID.parse().unwrap(),
        backup: "a".into(),
        taken_at: app.now(),
        restored_at: app.now(),
        fenced: true,
        unfenced_at: None,
        reconcile,
        audit_head: String::new(),
        replaced_head: String::new(),
    }
}

/// It says that it does nothing, and what to do, wherever somebody looks; and has agents say what
/// they see, for it does not know what they said since the backup.
#[tokio::test]
async fn a_fenced_server_says_so_and_has_agents_look() {
    let mut app = TestApp::start().await;
    let agent = app.agent("host").await;
    let store = &app.app.store;
    let mut unit = store.unit(app.unit_id(), app.now());
    unit.insert(restoration(&app, false));
    unit.commit().await.unwrap();
    app.restart().await;
    let warnings = async || {
        let ready = app.call("GET", "/ready").send().await.expect(200);
        let summary = app.get("/api/v1/stats/summary").await;
        [ready, summary].map(|told| told["warning"].clone())
    };
    let remedies = ["`certctl restore plan`", "`certctl restore unfence`"];
    for told in warnings().await.map(|told| text(&told)) {
        assert!(remedies.iter().all(|r| told.contains(r)), "{told}");
    }
    for page in ["/certificates", "/targets", "/agents", "/storage"] {
        let shown = app.admin("GET", page).send().await.text;
        assert!(shown.contains("certctl restore unfence"), "{page}");
    }
    assert_eq!(metric(&app, "certctl_fenced").await, 1.0);

    let looks = async |how: &str| {
        let asked = agent.call(&app, "GET", &format!("work{how}"));
        asked.send().await.expect(200)["look_at_all"] == true
    };
    assert!(looks("").await);
    assert!(!looks("").await, "it was told");
    assert!(looks("?holds=").await, "that answer may have been lost");
    let nothing = json!({"observations": []});
    let said = agent.call(&app, "POST", "observations").json(&nothing);
    said.send().await.expect(200);
    assert!(!looks("?holds=").await, "it has answered");

    app.post("/api/v1/restore/unfence", json!({}))
        .await
        .expect(200);
    assert_eq!(warnings().await, [Value::Null, Value::Null]);
    assert_eq!(metric(&app, "certctl_fenced").await, 0.0);
}

/// What can least be undone comes first, and each step names what it is about.
#[tokio::test]
async fn the_plan_names_what_would_be_done_in_the_order_of_its_weight() {
    let mut app = TestApp::start().await;
    let agent = active(&mut app).await;
    let due = next_at(&app).await;
    let ends = app.shown("web").await["expires_at"].clone();
    // Nobody looks any more: all that is due stays due.
    app.advance_to(due.plus(HOUR));
    let target = app.target(&agent, "other").await;
    app.certificate("fresh", &[&target]).await;
    app.post(&format!("/api/v1/targets/{target}/test"), json!({}))
        .await
        .expect(202);
    app.post("/api/v1/certificates/web/deploy", json!({}))
        .await
        .expect(202);
    let store = &app.app.store;
    let web = store.get::<Certificate>(&"web".parse().unwrap()).await;
    let mut gone = web.unwrap().unwrap().into_value();
    gone.id = "gone".parse().unwrap();
    gone.name = "Gone".into();
    gone.revoked = Some(Revoked {
        at: app.now(),
        reason: "superseded".parse().unwrap(),
        unfinished: true,
    });
    let mut unit = store.unit(app.unit_id(), app.now());
    unit.insert(gone);
    unit.insert(restoration(&app, false));
    unit.commit().await.unwrap();

    let plan = app.get("/api/v1/restore").await;
    let steps = plan["steps"].as_array().unwrap();
    let shown: Vec<[&Value; 4]> = steps
        .iter()
        .map(|step| {
            [
                &step["does"],
                &step["certificate_name"],
                &step["target_name"],
                &step["agent_name"],
            ]
        })
        .collect();
    let null = Value::Null;
    let words = ["revoke", "deploy", "issue", "renew", "test"].map(Value::from);
    let [revoke, deploy, issue, renew, test] = &words;
    let names = ["Gone", "web", "fresh", "other", "host"].map(Value::from);
    let [gone, web, fresh, other, host] = &names;
    assert_eq!(
        shown,
        [
            [revoke, gone, &null, &null],
            [deploy, web, web, host],
            [issue, fresh, &null, host],
            [renew, web, &null, host],
            [test, &null, other, host],
        ],
        "{plan}"
    );
    assert_eq!(steps[3]["due_at"], due.to_string());
    assert_eq!(steps[3]["expires_at"], ends);
    assert!(steps[1]["job_id"].is_string());
    assert_eq!(plan["more"], false);
}

/// What was being run, had failed or was lost when the backup was taken leads to something too, and
/// what is not due yet comes last.
#[tokio::test]
async fn the_plan_names_what_was_going_on_at_the_backup() {
    let mut app = TestApp::start().await;
    let agent = active(&mut app).await;
    app.post("/api/v1/certificates/web/deploy", json!({}))
        .await
        .expect(202);
    let job = agent.job(&app).await;
    let failed = Outcome::RolledBack {
        reason: "no".into(),
        served: Vec::new(),
    };
    agent.report(&app, &job, &failed).await.expect(200);
    app.advance(MINUTE);
    let target = app.target(&agent, "other").await;
    app.certificate("fresh", &[&target]).await;
    let leased = agent.job(&app).await;
    let gone = app.agent("gone").await;
    let target = app.target(&gone, "left").await;
    app.certificate("left", &[&target]).await;
    let lost_at = app.now();
    let mut unit = app.app.store.unit(app.unit_id(), app.now());
    for (id, is_gone) in [(&agent.id, false), (&gone.id, true)] {
        let row = unit.load::<Agent>(&id.parse().unwrap()).await;
        let mut row = row.unwrap();
        let lost = if is_gone {
            &mut row.leaving_since
        } else {
            &mut row.keys_lost_at
        };
        *lost = Some(lost_at);
        unit.put(row);
    }
    unit.insert(restoration(&app, false));
    unit.commit().await.unwrap();

    let steps = async || {
        let plan = app.get("/api/v1/restore").await;
        let steps = plan["steps"].as_array().unwrap().iter();
        let fields = ["does", "certificate_name", "target_name", "job_id", "later"];
        let shown = steps.map(|step| fields.map(|field| step[field].clone()));
        shown.collect::<Vec<_>>()
    };
    let renew = |later: bool| json!(["renew", "web", null, null, later]);
    let deploy = |later: bool| json!(["deploy", "web", "web", null, later]);
    let issue = |later: bool| json!(["issue", "fresh", null, leased.id, later]);
    let now = [renew(false), deploy(true), issue(true)];
    assert_eq!(json!(steps().await), json!(now));
    app.advance(2 * HOUR);
    let then = [deploy(false), issue(false), renew(false)];
    assert_eq!(json!(steps().await), json!(then));
}
