use super::support::*;
use async_trait::async_trait;
use certctl::{
    agent::{
        AgentExit,
        protocol::{FailureClass, Outcome},
    },
    net::{Endpoint, Probe, ProbeError, Served},
    pki::Chain,
};
use serde_json::{Value, json};
use std::{fs, sync::Arc, time::Duration};

fn file() -> (&'static str, &'static str, Value) {
    ("tgt-file", "File", json!({}))
}

/// Always sees one chain, at once.
struct Shows(Vec<Vec<u8>>);

#[async_trait]
impl Probe for Shows {
    async fn tls(&self, _: &Endpoint, _: &str, _: Duration) -> Result<Served, ProbeError> {
        Ok(Served {
            chain: self.0.clone(),
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_leased_again_uses_the_same_key() {
    let host = Host::new();
    let agent = host.start().await;
    host.server.answer("csr", 409, json!({}));
    host.server.lease(issuance("job-1", "cert-1"));
    host.server.called("csr", 1).await;
    let keys = host.names("keys/cert-1");
    assert_eq!((keys.len(), host.names("pending").len()), (1, 1));

    let mut again = issuance("job-1", "cert-1");
    again["lease"]["token"] = "t-again".into();
    host.server.lease(again);
    host.server.csr(1).await;
    assert_eq!(host.names("keys/cert-1"), keys);
    let calls = host.server.calls("csr");
    assert_eq!(calls[1]["token"], "t-again");
    assert!(
        host.server.calls("report").is_empty(),
        "a lost lease is not reported"
    );

    agent.stop().await;
    let agent = host.start().await;
    let mut again = issuance("job-1", "cert-1");
    again["lease"]["token"] = "t-third".into();
    host.server.lease(again);
    host.server.csr(2).await;
    assert_eq!(host.names("keys/cert-1"), keys, "also after a restart");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_reported_and_its_key_forgotten() {
    let host = Host::new();
    let agent = host.start().await;
    host.server.answer("csr", 503, json!({}));
    host.server.answer("csr", 418, json!({}));
    host.server
        .answer("csr", 400, json!({ "detail": "weak key" }));
    host.server.lease(issuance("job-1", "cert-1"));
    let outcome = host.server.report("job-1", 1).await;
    let Outcome::Failed {
        class: FailureClass::Permanent,
        reason,
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert!(reason.contains("weak key"), "{reason}");
    assert_eq!(
        host.server.calls("csr").len(),
        3,
        "failures that may pass are tried again"
    );
    assert!(host.names("keys/cert-1").is_empty() && host.names("pending").is_empty());
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_kept_each_third_and_a_lost_one_drops_the_job() {
    let host = Host::new();
    let agent = host.start().await;
    host.server.always("csr", 503, json!({}));
    host.server.answer("lease", 503, json!({}));
    host.server
        .answer("lease", 200, json!({ "until": "", "cancel": false }));
    host.server.answer("lease", 409, json!({}));
    let began = tokio::time::Instant::now();
    host.server.lease(issuance("job-1", "cert-1"));
    host.server.called("lease", 3).await;
    let waited = began.elapsed();
    assert!(
        (60..62).contains(&waited.as_secs()),
        "3 renewals of 60 s leases took {waited:?}"
    );
    let sent = host.server.calls("csr").len();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(
        host.server.calls("csr").len(),
        sent,
        "a dropped job is not worked on"
    );
    assert!(host.server.calls("report").is_empty());

    host.server
        .answer("lease", 200, json!({ "until": "", "cancel": true }));
    host.server.lease(issuance("job-2", "cert-1"));
    let outcome = host.server.report("job-2", 1).await;
    assert!(
        matches!(
            outcome,
            Outcome::Failed {
                class: FailureClass::Transient,
                ..
            }
        ),
        "{outcome:?}"
    );
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deployment_whose_lease_is_lost_is_undone() {
    let mut host = Host::new();
    let (v1, v2) = (host.version("cert-1", 1), host.version("cert-1", 2));
    let old = Chain::from_pem(&v1)
        .unwrap()
        .certificates()
        .map(|c| c.der().to_vec())
        .collect();
    host.probe = Arc::new(Shows(old));
    let config = json!({ "endpoints": ["web.test:443"], "verify_timeout": "5m" });
    let target = ("tgt-file", "File", config);
    let agent = host.start().await;
    host.server
        .lease(deployment("job-1", "cert-1", &v1, target.clone()));
    host.server.report("job-1", 1).await;

    host.server.answer("lease", 409, json!({}));
    host.server
        .lease(deployment("job-2", "cert-1", &v2, target.clone()));
    host.server.called("lease", 1).await;
    host.server
        .lease(deployment("job-3", "cert-1", &v1, target.clone()));
    let outcome = host.server.report("job-3", 1).await;
    assert!(
        matches!(outcome, Outcome::Confirmed { changed: false, .. }),
        "{outcome:?}"
    );
    assert_eq!(
        host.server.calls("report").len(),
        2,
        "job-2 is not reported"
    );
    assert_eq!(host.link("cert-1").unwrap(), "../agent/versions/cert-1/1");

    host.server
        .answer("lease", 200, json!({ "until": "", "cancel": true }));
    host.server
        .lease(deployment("job-4", "cert-1", &v2, target));
    let outcome = host.server.report("job-4", 1).await;
    let Outcome::RolledBack { reason, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(reason.contains("withdrawn"), "{reason}");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_understood_is_refused_and_the_rest_goes_on() {
    let host = Host::new();
    let v1 = host.version("cert-1", 1);
    let agent = host.start().await;
    let good = |job| deployment(job, "cert-1", &v1, file());
    let with = |job, pointer: &str, value: Value| {
        let mut item = good(job);
        *item.pointer_mut(pointer).unwrap() = value;
        item
    };
    let mut no_config = good("g-none");
    no_config.as_object_mut().unwrap().remove("version");
    let mut bad_name = issuance("g-name", "cert-1");
    bad_name["sans"] = json!(["not a name"]);
    let mut bad_key = issuance("g-key", "cert-1");
    bad_key["key_algorithm"] = "ROT-13".into();
    let cases = [
        (with("g-type", "/type", "Teleport".into()), "Teleport"),
        (with("g-target", "/target_type", "Nginx".into()), "Nginx"),
        (
            with("g-config", "/target_config", json!({ "endpoint": 1 })),
            "config.endpoint",
        ),
        (
            with(
                "g-pem",
                "/version/fullchain_pem",
                "-----BEGIN nonsense".into(),
            ),
            "fullchain_pem",
        ),
        (
            with(
                "g-huge",
                "/version/fullchain_pem",
                "A".repeat(4 << 20).into(),
            ),
            "fullchain_pem",
        ),
        (with("g-serial", "/version/serial", "ff".into()), "serial"),
        (
            with("g-spki", "/version/spki_sha256", "../../etc/passwd".into()),
            "public key",
        ),
        (no_config, "version"),
        (bad_name, "name"),
        (bad_key, "ROT-13"),
    ];
    for item in [
        Value::Null,
        json!([]),
        json!({ "id": "../x" }),
        json!({ "id": "x", "lease": 5 }),
    ] {
        host.server.lease(item);
    }
    for (item, names) in cases {
        let job = item["id"].as_str().unwrap().to_owned();
        host.server.lease(item);
        match host.server.report(&job, 1).await {
            Outcome::Failed { reason, .. } => {
                assert!(
                    reason.contains(names) && reason.len() < 1000,
                    "{job}: {reason}"
                );
            }
            other => panic!("{job}: {other:?}"),
        }
    }
    for garbage in [json!("no work"), json!({ "jobs": 5 }), Value::Null] {
        host.server.answer("work", 200, garbage);
    }
    host.server.lease(good("good"));
    let outcome = host.server.report("good", 1).await;
    assert!(matches!(outcome, Outcome::Confirmed { .. }), "{outcome:?}");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_same_lease_twice_is_worked_on_once() {
    let host = Host::new();
    let agent = host.start().await;
    host.server.answer("csr", 503, json!({}));
    host.server.lease(issuance("job-1", "cert-1"));
    host.server.lease(issuance("job-1", "cert-1"));
    host.server.csr(1).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(host.server.calls("csr").len(), 2);
    assert!(
        host.server.calls("report").is_empty(),
        "neither is told to stop"
    );
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn reports_are_repeated_until_acknowledged_also_after_a_restart() {
    let host = Host::new();
    let v1 = host.version("cert-1", 1);
    let agent = host.start().await;
    for status in [503, 418, 401, 429] {
        host.server.answer("report", status, json!({}));
    }
    host.server
        .lease(deployment("job-1", "cert-1", &v1, file()));
    let outcome = host.server.report("job-1", 1).await;
    assert!(matches!(outcome, Outcome::Confirmed { .. }), "{outcome:?}");
    assert_eq!(host.server.calls("report").len(), 5);

    host.server.always("report", 503, json!({}));
    host.server
        .lease(deployment("job-2", "cert-1", &v1, file()));
    host.server.called("report", 6).await;
    agent.stop().await;
    assert_eq!(host.names("outbox"), ["job-2.json"]);
    assert_eq!(mode(host.state("outbox/job-2.json")), 0o600);
    fs::write(host.state("outbox/job-0.json"), "torn").unwrap();

    host.server.relent("report");
    let agent = host.start().await;
    host.server.report("job-2", 1).await;
    host.server.answer("report", 409, json!({}));
    host.server
        .lease(deployment("job-3", "cert-1", &v1, file()));
    let before = host.server.calls("report").len();
    host.server.called("report", before + 1).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(
        host.server.calls("report").len(),
        before + 1,
        "409 ends a report"
    );
    assert_eq!(host.names("outbox"), ["job-0.json"]);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn retired_by_a_poll_or_a_report() {
    let host = Host::new();
    host.server.answer("work", 500, json!({}));
    host.server.answer("work", 401, json!({}));
    host.server.answer("work", 410, json!({}));
    let agent = host.start().await;
    assert_eq!(agent.exit.await.unwrap(), AgentExit::Retired);
    assert_eq!(host.server.calls("work").len(), 3);

    let v1 = host.version("cert-1", 1);
    host.server.answer("report", 410, json!({}));
    let agent = host.start().await;
    host.server
        .lease(deployment("job-1", "cert-1", &v1, file()));
    assert_eq!(agent.exit.await.unwrap(), AgentExit::Retired);

    let agent = host.start().await;
    assert_eq!(agent.stop().await, AgentExit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn failing_polls_back_off_to_a_minute() {
    let host = Host::new();
    host.server.always("work", 500, json!({}));
    let agent = host.start().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let calls = host.server.calls("work").len();
    assert!(
        (60..140).contains(&calls),
        "{calls} polls in an hour of failures"
    );
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_amid_a_deployment_is_decided_at_the_next_start() {
    let mut host = Host::new();
    let (v1, v2) = (host.version("cert-1", 1), host.version("cert-1", 2));
    let old = Chain::from_pem(&v1)
        .unwrap()
        .certificates()
        .map(|c| c.der().to_vec())
        .collect();
    host.probe = Arc::new(Shows(old));
    let config = json!({ "endpoints": ["web.test:443"], "verify_timeout": "5m" });
    let target = ("tgt-file", "File", config);
    let agent = host.start().await;
    host.server
        .lease(deployment("job-1", "cert-1", &v1, target.clone()));
    host.server.report("job-1", 1).await;
    host.server
        .lease(deployment("job-2", "cert-1", &v2, target));
    host.server.called("lease", 1).await;
    assert_eq!(host.link("cert-1").unwrap(), "../agent/versions/cert-1/2");
    let began = tokio::time::Instant::now();
    agent.stop().await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "the stop does not wait for the deployment"
    );

    let agent = host.start().await;
    assert_eq!(host.link("cert-1").unwrap(), "../agent/versions/cert-1/1");
    assert_eq!(host.journal("tgt-file")["phase"], "rolled_back");
    assert_eq!(
        host.server.calls("report").len(),
        1,
        "what was dropped is not reported"
    );
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_lease_of_a_job_in_hand_takes_its_place() {
    let mut host = Host::new();
    let (v1, v2) = (host.version("cert-1", 1), host.version("cert-1", 2));
    let old = Chain::from_pem(&v1)
        .unwrap()
        .certificates()
        .map(|c| c.der().to_vec())
        .collect();
    host.probe = Arc::new(Shows(old));
    let config = json!({ "endpoints": ["web.test:443"], "verify_timeout": "1m" });
    let mut item = deployment("job-1", "cert-1", &v2, ("tgt-file", "File", config));
    let agent = host.start().await;
    host.server.lease(item.clone());
    host.server.called("lease", 1).await;
    item["lease"]["token"] = "t-newer".into();
    host.server.lease(item);
    let outcome = host.server.report("job-1", 1).await;
    assert!(matches!(outcome, Outcome::RolledBack { .. }), "{outcome:?}");
    let reports = host.server.calls("report");
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0]["token"], "t-newer");
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_an_answer_that_was_lost_the_server_is_told_which_jobs_are_in_hand() {
    let host = Host::new();
    // The report of a job that has ended counts as in hand until the server has taken it.
    host.server.always("report", 503, json!({}));
    let v1 = host.version("cert-1", 1);
    host.server
        .lease(deployment("job-1", "cert-1", &v1, file()));
    let agent = host.start().await;
    host.server.called("report", 1).await;
    host.server.called("work", 2).await;
    // The poll after the next is cut.
    host.server.answer("work", 418, Value::Null);
    host.server
        .lease(deployment("job-1", "cert-1", &v1, file()));
    host.server.called("work", 4).await;
    let polls = host.server.calls("work");
    let holds = |n: usize| {
        let query = polls[n].as_str().unwrap();
        query
            .split('&')
            .find_map(|part| part.strip_prefix("holds=").map(str::to_owned))
    };
    assert_eq!((holds(0), holds(1), holds(2)), (None, None, None));
    assert_eq!(holds(3).as_deref(), Some("job-1"));
    agent.stop().await;
}
