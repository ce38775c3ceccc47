//! Certificates and signing requests.

use super::*;

#[tokio::test]
async fn certificates() {
    let world = World::new().await;
    let good = json!({"name": "n", "common_name": "n.example.org"});
    let set = |field: &str, value: Value| with(&good, field, value);
    let at = CERTIFICATES;
    let long = |n: usize| json!("x".repeat(n));
    let names = |n: usize| json!((0..n).map(|i| format!("n{i}.test")).collect::<Vec<_>>());
    let label64 = format!("{}.test", "a".repeat(64));
    let mut tags = json!({});
    for n in 0..65 {
        tags[n.to_string()] = json!("x");
    }
    world
        .refuse(vec![
            body("no name", at, without(&good, "name"), &["name: 1 to 255"]),
            body(
                "a long name",
                at,
                set("name", long(256)),
                &["name: 1 to 255"],
            ),
            body(
                "a name of another type",
                at,
                set("name", json!(7)),
                &["name", "string"],
            ),
            body(
                "a NUL in the name",
                at,
                set("name", json!("a\0b")),
                &["name", "printable"],
            ),
            body(
                "an escape in the name",
                at,
                set("name", json!("a\u{1b}[2J")),
                &["name", "printable"],
            ),
            body(
                "a line end in the environment",
                at,
                set("environment", json!("a\nb")),
                &["environment", "printable"],
            ),
            body(
                "no common name",
                at,
                without(&good, "common_name"),
                &["common_name"],
            ),
            body(
                "a space in the common name",
                at,
                set("common_name", json!("a b")),
                &["common_name", "space"],
            ),
            body(
                "an odd common name",
                at,
                set("common_name", json!("a..b")),
                &["common_name", "labels"],
            ),
            body(
                "a wildcard inside",
                at,
                set("common_name", json!("a.*.test")),
                &["common_name", "wildcard"],
            ),
            body(
                "a label of 64",
                at,
                set("common_name", json!(label64)),
                &["common_name"],
            ),
            body(
                "no real address",
                at,
                set("common_name", json!("1.2.3.400")),
                &["common_name", "IP"],
            ),
            body(
                "a hidden character",
                at,
                set("common_name", json!("a\u{202e}b.test")),
                &["common_name", "direction"],
            ),
            body(
                "a NUL in the common name",
                at,
                set("common_name", json!("a\0.test")),
                &["common_name", "control"],
            ),
            body(
                "sans are no list",
                at,
                set("sans", json!("a.test")),
                &["sans"],
            ),
            body(
                "a san of another type",
                at,
                set("sans", json!([1])),
                &["sans[0]"],
            ),
            body(
                "an empty san",
                at,
                set("sans", json!([""])),
                &["sans", "empty"],
            ),
            body(
                "a san with a line end",
                at,
                set("sans", json!(["a.test\n"])),
                &["sans", "control"],
            ),
            body("101 names", at, set("sans", names(100)), &["sans", "100"]),
            body(
                "a san that is no URI",
                at,
                set("sans", json!(["http://a b"])),
                &["sans"],
            ),
            body(
                "an id with a slash",
                at,
                set("id", json!("../etc/passwd")),
                &["id: ", "A-Z"],
            ),
            body("an id of 129", at, set("id", long(129)), &["id: ", "128"]),
            body("an id with a NUL", at, set("id", json!("a\0")), &["id: "]),
            body("an id that is taken", at, set("id", json!("web")), &["web"]).status(409),
            body(
                "an unknown issuer",
                at,
                set("issuer_id", json!("iss-none")),
                &["issuer_id", "iss-none"],
            ),
            body(
                "an issuer that is no id",
                at,
                set("issuer_id", json!("?")),
                &["issuer_id"],
            ),
            body(
                "an unknown profile",
                at,
                set("certificate_profile_id", json!("p")),
                &["certificate_profile_id"],
            ),
            body(
                "an unknown policy",
                at,
                set("renewal_policy_id", json!("p")),
                &["renewal_policy_id"],
            ),
            body(
                "an unknown target",
                at,
                set("target_ids", json!(["tgt-none"])),
                &["target_ids", "tgt-none"],
            ),
            body(
                "a target that is no id",
                at,
                set("target_ids", json!(["a b"])),
                &["target_ids"],
            ),
            body(
                "101 targets",
                at,
                set("target_ids", names(101)),
                &["target_ids", "100"],
            ),
            body(
                "targets of another type",
                at,
                set("target_ids", json!({"a": 1})),
                &["target_ids"],
            ),
            body(
                "a long environment",
                at,
                set("environment", long(129)),
                &["environment", "128"],
            ),
            body(
                "a long owner",
                at,
                set("owner_id", long(129)),
                &["owner_id", "128"],
            ),
            body(
                "a long team",
                at,
                set("team_id", long(129)),
                &["team_id", "128"],
            ),
            body("65 labels", at, set("tags", tags), &["tags", "64"]),
            body(
                "a long label",
                at,
                set("tags", json!({"k": "x".repeat(513)})),
                &["tags", "512"],
            ),
            body(
                "a label of another type",
                at,
                set("tags", json!({"k": [1]})),
                &["tags"],
            ),
            body(
                "a NUL in a label",
                at,
                set("tags", json!({"k\0": "v"})),
                &["tags", "printable"],
            ),
            body(
                "a CSR that is none",
                at,
                set("csr_pem", json!("hello")),
                &["csr_pem", "CERTIFICATE REQUEST"],
            ),
        ])
        .await;
}

#[tokio::test]
async fn signing_requests() {
    let world = World::new().await;
    let versions = format!("{CERTIFICATES}/web/versions");
    let csr = world.csr.as_str();
    // Another bit in the middle: the signature does not fit any more, or the DER is broken.
    let mut bent: Vec<String> = csr.lines().map(str::to_owned).collect();
    let middle = bent.len() / 2;
    let half = bent[middle].len() / 2;
    let other = if bent[middle].as_bytes()[half] == b'A' {
        "B"
    } else {
        "A"
    };
    bent[middle].replace_range(half..=half, other);
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let bad = [
        ("no text", String::new(), "csr_pem"),
        ("no PEM", "MIIB".into(), "CERTIFICATE REQUEST"),
        ("another block", key.into(), "CERTIFICATE REQUEST"),
        ("two requests", format!("{csr}{csr}"), "several"),
        ("a bent request", bent.join("\n"), "csr_pem"),
        (
            "an empty block",
            "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n".into(),
            "csr_pem",
        ),
        (
            "base64 of nothing",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".into(),
            "PKCS#10",
        ),
        ("a cut request", csr[..csr.len() / 2].into(), "csr_pem"),
        ("a long request", "x".repeat(70_000), "65536"),
    ];
    let mut cases = Vec::new();
    for (name, pem, word) in bad {
        let by_requester = json!({"csr_pem": pem}).to_string();
        cases.push(body(name, &versions, by_requester, &["csr_pem", word]));
        let token = &world.issuance.lease.token;
        let by_agent = json!({"csr_pem": pem, "token": token}).to_string();
        let at = world.job(&world.issuance, "csr");
        cases.push(body(name, &at, by_agent, &["csr_pem", word]).by(By::Agent));
    }
    let good = json!({"csr_pem": csr}).to_string();
    cases.push(body("no field", &versions, "{}", &["csr_pem"]));
    cases.push(
        body(
            "an empty key",
            &versions,
            good.clone(),
            &["Idempotency-Key", "128"],
        )
        .header("idempotency-key", ""),
    );
    cases.push(
        body(
            "a long key",
            &versions,
            good.clone(),
            &["Idempotency-Key", "128"],
        )
        .header("idempotency-key", "k".repeat(129)),
    );
    cases.push(
        body(
            "a key that is no text",
            &versions,
            good.clone(),
            &["Idempotency-Key", "ASCII"],
        )
        .header("idempotency-key", b"\xff"),
    );
    let nowhere = format!("{CERTIFICATES}/none/versions");
    cases.push(body("no such certificate", &nowhere, good, &["none"]).status(404));
    world.refuse(cases).await;
}
