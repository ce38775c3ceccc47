//! An agent's words on jobs, on itself, and on what is not its own.

use super::*;

#[tokio::test]
async fn what_is_not_an_agents_own() {
    let world = World::new().await;
    let other = world.app.agent("other").await;
    let of_other = |call: &str| format!("/api/v1/agents/{}/{call}", other.id);
    let own = |call: &str| format!("/api/v1/agents/{}/{call}", world.agent.id);
    let token = &world.deployment.lease.token;
    let with_token = json!({ "token": token }).to_string();
    let failed = json!({"token": token, "outcome": "failed", "class": "permanent", "reason": "r"});
    let csr = |token: &str| json!({"csr_pem": world.csr, "token": token}).to_string();
    let (issuance, deployment) = (&world.issuance, &world.deployment);
    let secret = json!({"secret_sha256": "ab".repeat(32)}).to_string();
    let get = |name, at: String, status, says| path(name, &at, status, says).by(By::Agent);
    let post = |name, at: String, text: &str, status, says| {
        body(name, &at, text, says).status(status).by(By::Agent)
    };
    let job = &deployment.id;
    world
        .refuse(vec![
            get("another's work", of_other("work"), 403, &["agent"]),
            get("another's ping", of_other("ping"), 403, &["agent"]),
            post(
                "another's secret",
                of_other("credential"),
                &secret,
                403,
                &["agent"],
            ),
            post(
                "another's observations",
                of_other("observations"),
                "{\"observations\": []}",
                403,
                &["agent"],
            ),
            post(
                "a lease as another",
                of_other(&format!("jobs/{job}/lease")),
                &with_token,
                403,
                &["agent"],
            ),
            post(
                "a report as another",
                of_other(&format!("jobs/{job}/report")),
                &failed.to_string(),
                403,
                &["agent"],
            ),
            post(
                "a request as another",
                of_other(&format!("jobs/{}/csr", issuance.id)),
                &csr("1"),
                403,
                &["agent"],
            ),
            get(
                "the list of certificates",
                CERTIFICATES.into(),
                403,
                &["cert.read"],
            ),
            get(
                "the list of agents",
                "/api/v1/agents".into(),
                403,
                &["agent.read"],
            ),
            get("its own row", own(""), 404, &["path"]),
            get(
                "the audit log",
                "/api/v1/audit".into(),
                403,
                &["audit.read"],
            ),
            get(
                "the metrics",
                "/api/v1/metrics".into(),
                403,
                &["metrics.read"],
            ),
            post(
                "its own retirement",
                own("retire"),
                "{}",
                403,
                &["agent.retire"],
            ),
            post(
                "a certificate",
                CERTIFICATES.into(),
                "{\"name\": \"n\", \"common_name\": \"n.test\"}",
                403,
                &["cert.issue"],
            ),
            post(
                "a version by itself",
                format!("{CERTIFICATES}/web/versions"),
                r#"{"csr_pem": "x"}"#,
                403,
                &["cert.issue"],
            ),
            post(
                "a revocation",
                format!("{CERTIFICATES}/web/revoke"),
                "{}",
                403,
                &["cert.revoke"],
            ),
            post(
                "a token for others",
                TOKENS.into(),
                "{}",
                403,
                &["agent.edit"],
            ),
        ])
        .await;
}

#[tokio::test]
async fn tokens_and_kinds_of_jobs() {
    let world = World::new().await;
    let (issuance, deployment) = (&world.issuance, &world.deployment);
    let post = |name, item: &WorkItem, call: &str, value: Value, status, says| {
        body(name, &world.job(item, call), value.to_string(), says)
            .status(status)
            .by(By::Agent)
    };
    let right = &deployment.lease.token;
    let failed = |token: &str| json!({"token": token, "outcome": "failed", "class": "permanent", "reason": "r"});
    let confirmed = json!({"token": right, "outcome": "confirmed", "changed": true, "served": []});
    let examined =
        json!({"token": right, "outcome": "examined", "faults": [], "findings": [], "served": []});
    let csr = |token: &str| json!({"csr_pem": world.csr, "token": token});
    let later = (right.parse::<u64>().unwrap() + 1).to_string();
    let huge = json!({"token": right, "outcome": "failed", "class": "permanent", "reason": "x".repeat(1 << 20)});
    let nothing = WorkItem {
        id: "job-none".parse().unwrap(),
        ..deployment.clone()
    };
    world
        .refuse(vec![
            post(
                "a lease under token 0",
                deployment,
                "lease",
                json!({"token": "0"}),
                409,
                &["lease is no longer held"],
            ),
            post(
                "a lease under a later token",
                deployment,
                "lease",
                json!({"token": later}),
                409,
                &["lease is no longer held"],
            ),
            post(
                "a lease under another job's token",
                deployment,
                "lease",
                json!({"token": issuance.lease.token}),
                409,
                &["lease is no longer held"],
            ),
            post(
                "a lease under an empty token",
                deployment,
                "lease",
                json!({"token": ""}),
                400,
                &["token"],
            ),
            post(
                "a lease below nothing",
                deployment,
                "lease",
                json!({"token": "-1"}),
                400,
                &["token"],
            ),
            post(
                "a lease beyond numbers",
                deployment,
                "lease",
                json!({"token": "9".repeat(40)}),
                400,
                &["token"],
            ),
            post(
                "a report under token 0",
                deployment,
                "report",
                failed("0"),
                409,
                &["lease is no longer held"],
            ),
            post(
                "a report under a later token",
                deployment,
                "report",
                failed(&later),
                409,
                &["lease is no longer held"],
            ),
            post(
                "a report of 1 MiB",
                deployment,
                "report",
                huge,
                413,
                &["body", "1 MiB"],
            ),
            post(
                "a report on nothing",
                &nothing,
                "report",
                failed("1"),
                404,
                &["job-none"],
            ),
            post(
                "a request under token 0",
                issuance,
                "csr",
                csr("0"),
                409,
                &["lease is no longer held"],
            ),
            post(
                "a request for a deployment",
                deployment,
                "csr",
                csr(right),
                400,
                &["job", "does not ask for a CSR"],
            ),
            post(
                "a request on nothing",
                &nothing,
                "csr",
                csr("1"),
                404,
                &["job-none"],
            ),
            post(
                "nothing served is no proof",
                deployment,
                "report",
                confirmed.clone(),
                400,
                &["served"],
            ),
            post(
                "an examination of a deployment",
                deployment,
                "report",
                examined,
                400,
                &["outcome"],
            ),
            post(
                "a deployment of a request",
                issuance,
                "report",
                with_token(&confirmed, &issuance.lease.token),
                400,
                &["outcome"],
            ),
        ])
        .await;
}

fn with_token(report: &Value, token: &str) -> Value {
    let mut report = report.clone();
    report["token"] = token.into();
    report
}
