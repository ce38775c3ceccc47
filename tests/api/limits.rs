//! Rate limits: by address before anybody is known, by key after it, and for wrong credentials.

use crate::support::{Answer, Call, TestApp};
use certctl::{
    access::{Role, limit::Rate},
    app::Browser,
    config::{KeyList, KeySource, Rates, ServerConfig},
};
use std::time::Duration;

const WHO: &str = "/api/v1/auth/me";

/// Two calls a second and four at once from an address; one a second and three at once with a key.
/// A proxy stands in 10.0.0.0/8.
fn limited(config: &mut ServerConfig) {
    config.rates = Some(Rates {
        address: Rate {
            per_second: 2.0,
            burst: 4,
        },
        key: Rate {
            per_second: 1.0,
            burst: 3,
        },
        shared: false,
    });
    config.trusted_proxies = "10.0.0.0/8".parse().unwrap();
    config.keys = vec![KeySource {
        setting: "CERTCTL_API_KEYS_NAMED",
        keys: KeyList::Text(format!("ops:{GUESSABLE}:r-viewer,x:{OURS_BY_LOOKS}:r-viewer").into()),
        read: certctl::access::configured::named_keys,
    }];
}

/// A key that somebody chose.
const GUESSABLE: &str = "correct-horse";

/// Another, which begins as those do that are made here.
const OURS_BY_LOOKS: &str = "ctl_horse";

/// How many of these calls are let past.
async fn passed<'a>(calls: impl Iterator<Item = Call<'a>>) -> (usize, Vec<Answer>) {
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.send().await);
    }
    let (limited, passed): (Vec<_>, Vec<_>) = answers.into_iter().partition(|a| a.status == 429);
    (passed.len(), limited)
}

#[tokio::test(start_paused = true)]
async fn an_address_has_a_rate_whoever_calls_from_it() {
    let app = TestApp::start_with(limited).await;
    let from = |address: &'static str| (0..6).map(move |_| address);
    let strangers = |address| from(address).map(|a| app.call("GET", WHO).from(a));
    let (n, refused) = passed(strangers("198.51.100.1")).await;
    assert_eq!(n, 4);
    for answer in refused {
        assert_eq!(answer.headers["retry-after"], "1");
        let message = answer.refused(429);
        assert!(message.starts_with("Rate limit exceeded"), "{message}");
    }
    // Another address has its own; so has another network of IPv6, but not another host of it.
    assert_eq!(passed(strangers("198.51.100.2")).await.0, 4);
    assert_eq!(passed(strangers("2001:db8:0:1::1")).await.0, 4);
    assert_eq!(passed(strangers("2001:db8:0:1::2")).await.0, 0);
    assert_eq!(passed(strangers("2001:db8:0:2::1")).await.0, 4);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(passed(strangers("198.51.100.1")).await.0, 2);
    // Pages, and what is public, count as well; probes of the process do not.
    let page = app.call("GET", "/login").from("198.51.100.1");
    assert_eq!(page.send().await.status, 429);
    let crl = app
        .call("GET", "/.well-known/pki/crl/iss-local")
        .from("198.51.100.1");
    assert_eq!(crl.send().await.status, 429);
    let probes = (0..20).map(|_| app.call("GET", "/health").from("198.51.100.1"));
    assert_eq!(passed(probes).await.0, 20);
}

#[tokio::test(start_paused = true)]
async fn behind_a_trusted_proxy_each_client_has_its_own_rate() {
    let app = TestApp::start_with(limited).await;
    let by = |proxy: &'static str, forwarded: &'static str| (0..6).map(move |_| (proxy, forwarded));
    let calls = |proxy, forwarded| {
        let calls = by(proxy, forwarded);
        calls.map(|(proxy, said)| {
            app.call("GET", WHO)
                .from(proxy)
                .header("x-forwarded-for", said)
        })
    };
    assert_eq!(passed(calls("10.0.0.1", "203.0.113.1")).await.0, 4);
    assert_eq!(passed(calls("10.0.0.2", "203.0.113.2")).await.0, 4);
    // What a client says of itself does not make it another.
    assert_eq!(passed(calls("10.0.0.1", "1.2.3.4, 203.0.113.1")).await.0, 0);
    // Nor does what is said by one that is no proxy of ours.
    assert_eq!(passed(calls("198.51.100.9", "203.0.113.3")).await.0, 4);
    assert_eq!(passed(calls("198.51.100.9", "203.0.113.4")).await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_has_a_rate_from_wherever_it_is_used() {
    let app = TestApp::start_with(limited).await;
    let key = app.key(Role::Viewer).await;
    let session = app.app.sign_in(&key, &Browser::default()).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    let addresses = [
        "192.0.2.21",
        "192.0.2.22",
        "192.0.2.23",
        "192.0.2.24",
        "192.0.2.25",
    ];
    let calls = addresses
        .iter()
        .map(|a| app.call("GET", WHO).from(a).bearer(&key));
    let (n, refused) = passed(calls).await;
    assert_eq!(n, 3);
    for answer in refused {
        assert_eq!(answer.headers["retry-after"], "1");
        assert!(answer.refused(429).contains("with this key"));
    }
    // Its sessions are its own.
    let call = app.call("GET", WHO).from("192.0.2.30").session(&session);
    assert_eq!(call.send().await.status, 429);
    let other = app.key(Role::Viewer).await;
    let call = app.call("GET", WHO).from("192.0.2.31").bearer(&other);
    call.send().await.expect(200);
    tokio::time::advance(Duration::from_secs(1)).await;
    let call = app.call("GET", WHO).from("192.0.2.30").session(&session);
    call.send().await.expect(200);
}

#[tokio::test(start_paused = true)]
async fn agents_and_the_local_socket_have_no_rate() {
    let app = TestApp::start_with(limited).await;
    let local = (0..50).map(|_| app.call("GET", WHO).local(0));
    assert_eq!(passed(local).await.0, 50);
    // Its admission goes by the socket: the administrator's key has a rate.
    let token = app.call("POST", "/api/v1/agents/tokens").local(0);
    let token = token.json(&serde_json::json!({})).send().await.expect(201);
    let token = token["token"].as_str().unwrap().to_owned();
    let agent = crate::support::TestAgent::enrol(&app, "host", &token).await;
    let polls = (0..50).map(|_| agent.call(&app, "GET", "work"));
    assert_eq!(passed(polls).await.0, 50);
}

#[tokio::test(start_paused = true)]
async fn what_looks_like_an_agent_has_no_rate_on_the_routes_of_agents_alone() {
    let app = TestApp::start_with(limited).await;
    let token = app.call("POST", "/api/v1/agents/tokens").local(0);
    let token = token.json(&serde_json::json!({})).send().await.expect(201);
    let token = token["token"].as_str().unwrap().to_owned();
    let agent = crate::support::TestAgent::enrol(&app, "host", &token).await;
    let good = agent.credential();
    let bad = format!("cta_{}.wrong", agent.id);
    for (credential, address) in [(&good, "198.51.100.1"), (&bad, "198.51.100.2")] {
        let mut calls = Vec::new();
        for (method, path) in [
            ("POST", "/login"),
            ("POST", "/api/v1/agents/enrol"),
            ("GET", "/.well-known/pki/crl/iss-local"),
            ("GET", "/api/v1/openapi.json"),
            ("GET", "/api/v1/certificates"),
            ("GET", "/nowhere"),
        ] {
            let call = app.call(method, path).from(address);
            calls.push(call.bearer(credential));
        }
        assert_eq!(passed(calls.into_iter()).await.0, 4, "{address}");
    }
    // No agent at work suffers by what else comes from its address; who is none has the rate there.
    let path = format!("/api/v1/agents/{}/work", agent.id);
    let work = |credential: &str| {
        let call = app.call("GET", &path).from("198.51.100.1");
        call.bearer(credential)
    };
    assert_eq!(passed((0..50).map(|_| work(&good))).await.0, 50);
    assert_eq!(passed((0..5).map(|_| work("ctl_wrong"))).await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_of_agents_are_soon_not_looked_at() {
    let app = TestApp::start_with(limited).await;
    let token = app.call("POST", "/api/v1/agents/tokens").local(0);
    let token = token.json(&serde_json::json!({})).send().await.expect(201);
    let token = token["token"].as_str().unwrap().to_owned();
    let agent = crate::support::TestAgent::enrol(&app, "host", &token).await;
    let path = format!("/api/v1/agents/{}/work", agent.id);
    let call = |credential: &str| {
        let call = app.call("GET", &path).from("198.51.100.1");
        call.bearer(credential).send()
    };
    let bad = format!("cta_{}.wrong", agent.id);
    for _ in 0..20 {
        call(&bad).await.refused(401);
    }
    let mut looked_at = 0;
    for _ in 0..20 {
        let before = app.work().reads;
        call(&bad).await.refused(429);
        looked_at += usize::from(app.work().reads > before);
    }
    assert_eq!(looked_at, 4);
    // An agent of that address has the rate of the address now, until the guesses are made up for.
    let agents = async || call(&agent.credential()).await.status.as_u16();
    assert_eq!(agents().await, 429);
    tokio::time::advance(Duration::from_secs(1)).await;
    let rate = [agents().await, agents().await, agents().await];
    assert_eq!(rate, [200, 200, 429]);
    tokio::time::advance(Duration::from_secs(120)).await;
    for _ in 0..50 {
        assert_eq!(agents().await, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_opens_sessions_at_its_rate_from_wherever_it_is_used() {
    let app = TestApp::start_with(limited).await;
    let key = app.key(Role::Viewer).await;
    let addresses = ["192.0.2.21", "192.0.2.22", "192.0.2.23", "192.0.2.24"];
    let calls = addresses.map(|address| {
        let call = app.call("POST", "/login").from(address);
        let call = call.header("content-type", "application/x-www-form-urlencoded");
        call.body(format!("key={key}"))
    });
    let (n, refused) = passed(calls.into_iter()).await;
    assert_eq!(n, 3);
    assert!(refused[0].text.contains("with this key"), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_from_an_address_are_soon_not_looked_at() {
    let app = TestApp::start_with(limited).await;
    // Slowly enough for the rate of the address.
    let attempt = async |credential: &str, from: &str| {
        tokio::time::advance(Duration::from_millis(500)).await;
        let call = app.call("GET", WHO).from(from).bearer(credential);
        call.send().await.status.as_u16()
    };
    let mut told = Vec::new();
    for n in 0..30 {
        told.push(attempt(&format!("guess-{n}"), "198.51.100.7").await);
    }
    assert_eq!(told[..20], [401; 20]);
    assert!(told[22..].contains(&429), "{told:?}");
    // The next guess that is looked at is followed by a whole pause.
    while attempt("guess", "198.51.100.7").await != 401 {}
    // The right one is not even looked at, so that nobody learns of it by guessing; one that nobody
    // can guess is.
    assert_eq!(attempt(GUESSABLE, "198.51.100.7").await, 429);
    assert_eq!(attempt(GUESSABLE, "198.51.100.8").await, 200);
    assert_eq!(attempt(OURS_BY_LOOKS, "198.51.100.7").await, 429);
    assert_eq!(attempt(OURS_BY_LOOKS, "198.51.100.8").await, 200);
    let key = app.key(Role::Viewer).await;
    assert_eq!(attempt(&key, "198.51.100.7").await, 200);
    // The sign-in page counts the same, right after one more guess was made.
    while attempt("guess", "198.51.100.7").await != 401 {}
    while attempt("guess", "198.51.100.7").await != 429 {}
    tokio::time::advance(Duration::from_secs(1)).await;
    let form = format!("key={GUESSABLE}");
    let call = app.call("POST", "/login").from("198.51.100.7");
    let call = call.header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(call.body(form).send().await.status, 429);
    tokio::time::advance(Duration::from_secs(120)).await;
    assert_eq!(attempt(GUESSABLE, "198.51.100.7").await, 200);
}
