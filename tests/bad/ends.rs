//! What is done to certificates, targets and jobs that are there, and lists with a filter.

use super::*;

#[tokio::test]
async fn what_is_asked_of_what_is_there() {
    let world = World::new().await;
    let web = |call: &str| format!("{CERTIFICATES}/web/{call}");
    let next = |call: &str| format!("{CERTIFICATES}/next/{call}");
    let none = |call: &str| format!("{CERTIFICATES}/none/{call}");
    let delete = |name, at: &str, status, says| Case {
        method: "DELETE",
        ..path(name, at, status, says)
    };
    let target = crate::support::text(&world.app.list(TARGETS).await[0]["id"]);
    let other = world.app.target(&world.agent, "other").await;
    let deploy = |name, wish: Value, says| body(name, &web("deploy"), wish.to_string(), says);
    let revoke = |name, wish: Value, says| body(name, &web("revoke"), wish.to_string(), says);
    world
        .refuse(vec![
            revoke(
                "an unknown reason",
                json!({"reason": "boredom"}),
                &["reason", "boredom", "keyCompromise"],
            ),
            revoke(
                "a reason in another case",
                json!({"reason": "KEYCOMPROMISE"}),
                &["reason"],
            ),
            revoke(
                "a reason that is taken back",
                json!({"reason": "removeFromCRL"}),
                &["reason"],
            ),
            revoke(
                "a reason by number",
                json!({"reason": 1}),
                &["reason", "string"],
            ),
            revoke(
                "a list of reasons",
                json!({"reason": ["superseded"]}),
                &["reason"],
            ),
            revoke(
                "a long reason",
                json!({"reason": "x".repeat(100_000)}),
                &["reason"],
            ),
            body(
                "a revocation of nothing",
                &none("revoke"),
                "{}",
                &["certificate", "none"],
            )
            .status(404),
            body(
                "a revocation before the first version",
                &next("revoke"),
                "{}",
                &["version", "next"],
            )
            .status(404),
            body(
                "a revocation that is no JSON",
                &web("revoke"),
                "reason=x",
                &["JSON"],
            ),
            delete(
                "nothing put away",
                &format!("{CERTIFICATES}/none"),
                404,
                &["certificate", "none"],
            ),
            path(
                "nothing exported",
                &none("export/pem"),
                404,
                &["certificate", "none"],
            ),
            path("no version to export", &next("export/pem"), 404, &["next"]),
            path("an unknown export", &web("export/jks"), 404, &["path"]),
            deploy(
                "another target",
                json!({"target_id": other}),
                &["target_id", "is no target of certificate web"],
            ),
            deploy(
                "an unknown target",
                json!({"target_id": "tgt-none"}),
                &["target_id", "tgt-none"],
            ),
            deploy(
                "a target that is no id",
                json!({"target_id": "a b"}),
                &["target_id"],
            ),
            deploy(
                "a target of another type",
                json!({"target_id": 1}),
                &["target_id", "string"],
            ),
            deploy(
                "a dry run that is a text",
                json!({"dry_run": "yes"}),
                &["dry_run", "boolean"],
            ),
            body("no version to deploy", &next("deploy"), "", &["no version"]).status(409),
            body(
                "nothing to deploy",
                &none("deploy"),
                "",
                &["certificate", "none"],
            )
            .status(404),
            body(
                "nothing to look at",
                &none("check"),
                "",
                &["certificate", "none"],
            )
            .status(404),
            body(
                "no target to test",
                &format!("{TARGETS}/none/test"),
                "",
                &["target", "none"],
            )
            .status(404),
            delete(
                "a target in use",
                &format!("{TARGETS}/{target}"),
                409,
                &["used by", "web"],
            ),
            delete(
                "no target to delete",
                &format!("{TARGETS}/none"),
                404,
                &["target", "none"],
            ),
            delete(
                "no token to end",
                &format!("{TOKENS}/none"),
                404,
                &["token", "none"],
            ),
            body(
                "no job to cancel",
                "/api/v1/jobs/none/cancel",
                "",
                &["job", "none"],
            )
            .status(404),
            body(
                "no agent to retire",
                "/api/v1/agents/none/retire",
                "{}",
                &["agent", "none"],
            )
            .status(404),
        ])
        .await;
    let csr = json!({"csr_pem": world.csr}).to_string();
    let at = format!("{CERTIFICATES}/web");
    world
        .app
        .admin("POST", &web("revoke"))
        .send()
        .await
        .expect(200);
    let ended = &world.app.list("/api/v1/jobs?status=completed").await[0]["id"];
    let cancel = format!("/api/v1/jobs/{}/cancel", ended.as_str().unwrap());
    world
        .refuse(vec![
            body("a job that has ended", &cancel, "", &["ended"]).status(409),
            body(
                "revoked twice",
                &web("revoke"),
                "{}",
                &["status", "revoked already"],
            ),
            body(
                "a renewal of what is revoked",
                &web("renew"),
                "",
                &["is revoked"],
            )
            .status(409),
            body(
                "a deployment of what is revoked",
                &web("deploy"),
                "",
                &["is revoked"],
            )
            .status(409),
            body(
                "a request for what is revoked",
                &web("versions"),
                csr,
                &["is revoked"],
            )
            .status(409),
        ])
        .await;
    world.app.admin("DELETE", &at).send().await.expect(204);
    world
        .refuse(vec![
            body("revoked when put away", &web("revoke"), "{}", &["status"]),
            body("a renewal of what is put away", &web("renew"), "", &["web"]).status(409),
        ])
        .await;
}

#[tokio::test]
async fn lists() {
    let world = World::new().await;
    let list = |name, query: &str, says| path(name, &format!("/api/v1/{query}"), 400, says);
    let first = world.app.get("/api/v1/certificates?page_size=1").await;
    let cursor = crate::support::text(&first["next_cursor"]);
    let at = |query: &str| format!("certificates?cursor={cursor}&{query}");
    let bent = format!("certificates?cursor={}", &cursor[..cursor.len() / 2]);
    let newer = format!("certificates?cursor=_{}", &cursor[1..]);
    let long = format!("certificates?cursor={}", "A".repeat(50_000));
    world
        .refuse(vec![
            list(
                "an unknown status",
                "certificates?status=fine",
                &["status", "fine", "Expiring"],
            ),
            list(
                "two statuses",
                "certificates?status=active&status=failed",
                &["status"],
            ),
            list(
                "a cursor that is none",
                "certificates?cursor=%00",
                &["cursor", "leave it out"],
            ),
            list("a cut cursor", &bent, &["cursor", "leave it out"]),
            list(
                "a cursor of another version",
                &newer,
                &["cursor", "leave it out"],
            ),
            list("a long cursor", &long, &["cursor", "leave it out"]),
            list(
                "another filter",
                &at("environment=x"),
                &["cursor", "another filter"],
            ),
            list(
                "another status",
                &at("status=active"),
                &["cursor", "another filter"],
            ),
            list(
                "another order",
                &at("sort=name"),
                &["cursor", "another filter or order"],
            ),
            list(
                "the other way",
                &at("sort=-createdAt"),
                &["cursor", "another filter or order"],
            ),
            list(
                "a cursor of another list",
                &format!("jobs?cursor={cursor}"),
                &["cursor", "another filter"],
            ),
            list(
                "an unknown status of jobs",
                "jobs?status=fine",
                &["status", "fine", "Pending"],
            ),
            list(
                "an unknown type of jobs",
                "jobs?type=fine",
                &["type", "fine", "Deployment"],
            ),
            list(
                "a certificate that is no id",
                "jobs?certificate_id=a%20b",
                &["certificate_id"],
            ),
            list("an agent that is no id", "jobs?agent_id=%00", &["agent_id"]),
            list(
                "a target that is no id",
                "jobs?target_id=..%2f",
                &["target_id"],
            ),
            list(
                "a cursor of jobs that is none",
                "jobs?cursor=x",
                &["cursor"],
            ),
        ])
        .await;
}

#[tokio::test]
async fn weak_requests() {
    let world = World::new().await;
    let versions = format!("{CERTIFICATES}/web/versions");
    let make = |key: &str| {
        openssl(&format!(
            "req -new -nodes -keyout /dev/null -subj /CN=web.example.org {key}"
        ))
    };
    let kinds = [
        ("RSA of 1024 bits", make("-newkey rsa:1024"), "1024"),
        ("RSA of 2056 bits", make("-newkey rsa:2056"), "2056"),
        (
            "P-521",
            make("-newkey ec -pkeyopt ec_paramgen_curve:P-521"),
            "curve",
        ),
        (
            "P-224",
            make("-newkey ec -pkeyopt ec_paramgen_curve:secp224r1"),
            "curve",
        ),
        (
            "secp256k1",
            make("-newkey ec -pkeyopt ec_paramgen_curve:secp256k1"),
            "curve",
        ),
        ("Ed448", make("-newkey ed448"), "1.3.101.113"),
        (
            "a signature by SHA-1",
            make("-newkey rsa:2048 -sha1"),
            "SHA-1",
        ),
        (
            "a certificate",
            openssl("req -x509 -newkey ed25519 -nodes -keyout /dev/null -subj /CN=x"),
            "CERTIFICATE REQUEST",
        ),
    ];
    let mut cases = Vec::new();
    for (name, csr, word) in &kinds {
        let by_requester = json!({"csr_pem": csr}).to_string();
        cases.push(body(name, &versions, by_requester, &["csr_pem", word]));
        let token = &world.issuance.lease.token;
        let by_agent = json!({"csr_pem": csr, "token": token}).to_string();
        let at = world.job(&world.issuance, "csr");
        cases.push(body(name, &at, by_agent, &["csr_pem", word]).by(By::Agent));
        let new = json!({"name": "n", "common_name": "n.example.org", "csr_pem": csr}).to_string();
        cases.push(body(name, CERTIFICATES, new, &["csr_pem", word]));
    }
    world.refuse(cases).await;
}
