use super::support::*;
use certctl::agent::{Agent, EnrolError, Identity, IdentityError, enrol};
use serde_json::{Value, json};

#[tokio::test]
async fn a_repeat_after_a_lost_answer_is_the_same_agent() {
    let host = Host::new();
    let (env, _) = host.env();
    host.server.answer("enrol", 418, Value::Null);
    let lost = enrol(&env, &host.paths, &*host.server, URL, wish()).await;
    assert!(matches!(lost, Err(EnrolError::Call(_))), "{lost:?}");

    let identity = enrol(&env, &host.paths, &*host.server, URL, wish())
        .await
        .unwrap();
    assert_eq!(identity.agent_id().as_str(), "agent-1");
    let calls = host.server.calls("enrol");
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0]["secret_sha256"], calls[1]["secret_sha256"]);
    assert_eq!(calls[0]["secret_sha256"].as_str().unwrap().len(), 64);

    let again = enrol(&env, &host.paths, &*host.server, &format!("{URL}/"), wish())
        .await
        .unwrap();
    assert_eq!(again.agent_id(), identity.agent_id());
    assert_eq!(
        host.server.calls("enrol").len(),
        2,
        "an enrolled host does not ask again"
    );
    assert_eq!(mode(host.state("identity")), 0o700);
    assert_eq!(mode(host.state("identity/agent.json")), 0o600);
    assert_eq!(host.names("identity"), ["agent.json"]);

    let stored: Value =
        serde_json::from_slice(&std::fs::read(host.state("identity/agent.json")).unwrap()).unwrap();
    let secret = stored["secret"].as_str().unwrap();
    assert!(
        !format!("{identity:?}").contains(secret),
        "the secret is not printed"
    );
    assert_eq!(
        certctl::crypt::secret::hash(secret),
        calls[0]["secret_sha256"].as_str().unwrap()
    );
}

#[tokio::test]
async fn refusals_say_what_to_do_and_leave_no_identity() {
    let host = Host::new();
    let (env, _) = host.env();
    for (status, expect) in [(401, "make a new one"), (409, "--name"), (500, "500")] {
        host.server
            .answer("enrol", status, json!({ "detail": "because" }));
        let error = enrol(&env, &host.paths, &*host.server, URL, wish())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expect) && text.contains("because"), "{text}");
    }
    let error = enrol(&env, &host.paths, &*host.server, "certctl.test", wish())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("https://"), "{error}");
    assert!(Identity::load(&*host.files, &host.paths).unwrap().is_none());
    let opened = Agent::open(env, host.paths.clone(), host.server.clone()).await;
    assert!(matches!(opened.err(), Some(IdentityError::None)));
}

#[tokio::test]
async fn a_retired_host_is_told_so_and_keeps_what_it_has() {
    let host = Host::new();
    let (env, _) = host.env();
    let enrol = || enrol(&env, &host.paths, &*host.server, URL, wish());
    enrol().await.unwrap();
    host.server
        .answer("ping", 410, json!({"message": "this agent was retired"}));
    let text = enrol().await.unwrap_err().to_string();
    assert!(
        text.contains("this agent was retired") && text.contains("identity directory"),
        "{text}"
    );
    // Any other answer is no reason to lose an identity.
    for status in [401, 500, 418] {
        host.server.answer("ping", status, json!({}));
        enrol().await.unwrap();
    }
    assert_eq!(host.server.calls("enrol").len(), 1);
}

#[tokio::test]
async fn an_identity_of_another_server_is_not_replaced() {
    let host = Host::new();
    let (env, _) = host.env();
    enrol(&env, &host.paths, &*host.server, URL, wish())
        .await
        .unwrap();
    let other = enrol(
        &env,
        &host.paths,
        &*host.server,
        "https://other.test",
        wish(),
    )
    .await;
    assert!(matches!(other, Err(EnrolError::OtherServer(url)) if url == URL));
}
