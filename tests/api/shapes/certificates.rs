//! Certificates, their lists and versions.

use super::*;

#[tokio::test]
async fn a_certificate() {
    let (app, agent, target) = world().await;
    let shown = app.shown("web").await;
    fields(&shown, &certificate_and(&["next"]));
    let expected = json!({
        "id": "web", "name": "Web", "common_name": "www.example.org",
        "sans": ["example.org", "www.example.org", "192.0.2.1"], "environment": "production",
        "owner_id": "o-ops", "team_id": "t-ops", "issuer_id": "iss-local",
        "target_ids": [target], "renewal_policy_id": "rp-default",
        "certificate_profile_id": "prof-default", "status": "Pending",
        "expires_at": "0001-01-01T00:00:00Z", "tags": {"tier": "1"},
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
        "next": "agent host is making a key and CSR",
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(shown[field], *value, "{field}");
    }
    let holder = &shown["holders"][0];
    fields(holder, &["holder", "plan", "order_id"]);
    assert_eq!(holder["holder"], format!("agent:{}", agent.id));
    assert_eq!(holder["plan"], "in_flight");

    agent.run(&app).await;
    let shown = app.shown("web").await;
    fields(&shown, &certificate_and(&["next"]));
    assert_eq!(shown["status"], "Active");
    let holder = &shown["holders"][0];
    let scheduled = [
        "holder",
        "version_id",
        "serial_number",
        "expires_at",
        "plan",
        "next_at",
    ];
    fields(holder, &scheduled);
    assert_eq!(holder["plan"], "scheduled");
    assert_eq!(holder["expires_at"], shown["expires_at"]);
    assert_eq!(time(&shown["expires_at"]), app.now().plus(90 * DAY));
    assert_eq!(
        text(&shown["next"]),
        format!("renewal at {}", time(&holder["next_at"]).whole_seconds())
    );
}

#[tokio::test]
async fn a_list() {
    let app = TestApp::start().await;
    for list in ["certificates", "targets"] {
        let list = app.get(&format!("/api/v1/{list}")).await;
        assert_eq!(
            list,
            json!({"data": [], "total": 0, "page": 1, "per_page": 50})
        );
    }
    for n in 0..7 {
        app.certificate(&format!("c{n}"), &[]).await;
        app.advance(MINUTE);
    }
    let page = app.get("/api/v1/certificates?page=2&per_page=3").await;
    fields(&page, &["data", "next_cursor", "total", "page", "per_page"]);
    assert_eq!(
        (&page["total"], &page["page"], &page["per_page"]),
        (&json!(7), &json!(2), &json!(3))
    );
    let ids: Vec<String> = page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| text(&c["id"]))
        .collect();
    assert_eq!(ids, ["c3", "c4", "c5"]);
    fields(&page["data"][0], &CERTIFICATE);
    let last = app.get("/api/v1/certificates?page=3&per_page=3").await;
    assert_eq!(last["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_version_is_what_the_certificate_says() {
    let (app, agent, _) = world().await;
    agent.run(&app).await;
    let versions = app.list("/api/v1/certificates/web/versions").await;
    assert_eq!(versions.len(), 1);
    let version = &versions[0];
    fields(
        version,
        &[
            "id",
            "certificate_id",
            "holder",
            "serial_number",
            "not_before",
            "not_after",
            "fingerprint_sha256",
            "pem_chain",
            "key_algorithm",
            "created_at",
        ],
    );
    let chain = Chain::from_pem(&text(&version["pem_chain"])).unwrap();
    let leaf = chain.leaf();
    assert_eq!(version["certificate_id"], "web");
    assert_eq!(version["serial_number"], leaf.serial().to_string());
    assert_eq!(version["fingerprint_sha256"], leaf.fingerprint_sha256());
    assert_eq!(version["not_before"], leaf.not_before().to_string());
    assert_eq!(version["not_after"], leaf.not_after().to_string());
    assert_eq!(version["key_algorithm"], "ECDSA-P256");
    let names: Vec<San> = ["example.org", "www.example.org", "192.0.2.1"]
        .map(|n| n.parse().unwrap())
        .into();
    assert_eq!(leaf.sans(), names);
    assert!(leaf.subject().contains("www.example.org"));
    let issuer: Vec<&Certificate> = chain.issuers().collect();
    assert_eq!(
        issuer.len(),
        1,
        "the chain has the issuing CA and not the root"
    );
    assert!(leaf.is_issued_by(issuer[0]));
}

#[tokio::test]
async fn versions_are_listed_newest_first_each_with_its_own_chain() {
    let (app, agent, _) = world().await;
    agent.run(&app).await;
    for _ in 0..3 {
        app.advance(HOUR);
        app.post("/api/v1/certificates/web/renew", Value::Null)
            .await
            .expect(202);
        agent.run(&app).await;
    }
    let page = app
        .list("/api/v1/certificates/web/versions?page=2&per_page=1")
        .await;
    let all = app.list("/api/v1/certificates/web/versions").await;
    assert_eq!(all.len(), 4);
    assert_eq!(page, all[1..2]);
    assert!(all.is_sorted_by_key(|v| std::cmp::Reverse(time(&v["created_at"]))));
    for version in all {
        let chain = Chain::from_pem(&text(&version["pem_chain"])).unwrap();
        assert_eq!(version["serial_number"], chain.leaf().serial().to_string());
    }
}

#[tokio::test]
async fn the_newest_of_very_many_versions_come_first() {
    let (app, agent, _) = world().await;
    agent.run(&app).await;
    let path = "/api/v1/certificates/web/versions";
    let newest = app.list(path).await.remove(0);
    let id = text(&newest["id"]).parse().unwrap();
    let newest_row = app.app.store.get::<Version>(&id).await.unwrap().unwrap();
    let mut unit = app.app.store.unit(app.unit_id(), app.now());
    for n in 1..=1_500 {
        unit.insert(Version {
            id: format!("ver-{n}").parse().unwrap(),
            issuer: format!("iss-{n}").parse().unwrap(),
            fingerprint_sha256: n.to_string(),
            created_at: app.now().minus(MINUTE * n),
            ..(*newest_row).clone()
        });
    }
    unit.commit().await.unwrap();
    let page = app.get(&format!("{path}?per_page=2")).await;
    assert_eq!(page["total"], 1_501);
    let ids = |page: &Value| {
        let rows = page["data"].as_array().unwrap();
        rows.iter().map(|v| text(&v["id"])).collect::<Vec<_>>()
    };
    assert_eq!(ids(&page), [&text(&newest["id"]), "ver-1"]);
    let last = app.get(&format!("{path}?per_page=500&page=4")).await;
    assert_eq!(ids(&last), ["ver-1500"]);
    assert_eq!(ids(&app.get(&format!("{path}?page=40")).await), [""; 0]);
}

#[tokio::test]
async fn a_long_common_name_stands_among_the_sans_alone() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    let name = format!("{}.{}.example.org", "a".repeat(40), "b".repeat(40));
    let body = json!({"id": "long", "name": "n", "common_name": name, "target_ids": [target]});
    app.post("/api/v1/certificates", body).await.expect(201);
    agent.run(&app).await;
    let version = &app.list("/api/v1/certificates/long/versions").await[0];
    let chain = Chain::from_pem(&text(&version["pem_chain"])).unwrap();
    assert_eq!(chain.leaf().sans(), [San::Dns(name)]);
    assert_eq!(chain.leaf().subject(), "");
}

#[tokio::test]
async fn a_target_named_twice_is_one_target() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target, &target]).await;
    agent.run(&app).await;
    assert_eq!(app.shown("web").await["target_ids"], json!([target]));
    assert_eq!(
        app.list("/api/v1/certificates/web/deployments").await.len(),
        1
    );
    app.check().await;
}
