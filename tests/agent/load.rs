//! An agent with more work than it can do at once.

use super::support::*;
use async_trait::async_trait;
use certctl::{
    agent::protocol::{JOBS_A_POLL, Outcome},
    net::{Endpoint, Probe, ProbeError, Served},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

#[tokio::test(start_paused = true)]
async fn every_job_of_a_poll_is_taken_however_busy_the_agent_is() {
    let host = Host::new();
    // The server is slow to take requests, so that the agent's hands are full.
    host.server.always("csr", 503, json!({}));
    let polls = 10;
    for poll in 0..polls {
        let jobs: Vec<Value> = (0..JOBS_A_POLL)
            .map(|n| issuance(&format!("job-{poll}-{n}"), &format!("cert-{poll}-{n}")))
            .collect();
        let work = json!({ "count": jobs.len(), "jobs": jobs });
        host.server.answer("work", 200, work);
    }
    let agent = host.start().await;
    host.server.called("lease", 40).await;
    let full = host.server.calls("work").len();
    assert!(full < polls, "the agent took more than it may have in hand");

    host.server.relent("csr");
    // Each is sent, though the server gives none of them a second time.
    host.server.csr(polls * JOBS_A_POLL as usize).await;
    agent.stop().await;
}

/// Nothing answers for as long as one waits.
struct Silence;

#[async_trait]
impl Probe for Silence {
    async fn tls(&self, _: &Endpoint, _: &str, _: Duration) -> Result<Served, ProbeError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn deployments_that_wait_for_one_target_keep_no_other_waiting() {
    let mut host = Host::new();
    host.probe = Arc::new(Silence);
    let silent = json!({ "endpoints": ["web.test:443"], "verify_timeout": "5m" });
    let agent = host.start().await;
    for n in 1..=6 {
        let certificate = format!("cert-{n}");
        let version = host.version(&certificate, n);
        let target = ("tgt-silent", "File", silent.clone());
        let item = deployment(&format!("job-{n}"), &certificate, &version, target);
        host.server.lease(item);
    }
    let version = host.version("cert-well", 9);
    let target = ("tgt-well", "File", json!({}));
    host.server
        .lease(deployment("job-well", "cert-well", &version, target));
    let outcome = host.server.report("job-well", 1).await;
    assert!(matches!(outcome, Outcome::Confirmed { .. }), "{outcome:?}");
    assert_eq!(host.server.calls("report").len(), 1);
    agent.stop().await;
}
