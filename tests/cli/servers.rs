//! Several servers on one database.

use super::{
    home::{Api, Home},
    postgres::url,
    process::{AMPLE, Process, run},
    standalone::agent_of,
};
use crate::support::postgres::{Cluster, Database};
use certctl::{
    clock::{Clock, SystemClock},
    domain::Certificate,
    store::{Committer, Loaded, Store},
};
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{interval, timeout},
};

/// What opens the store of a fleet.
const MACHINE_KEY: &str = "6d0f4c5e8b7a69584736251403f2e1d0c9b8a7968574635241302f1e0d0c0b0a";
/// The revocation list of the local CA.
const LIST: &str = "/.well-known/pki/crl/iss-local";
/// By then a leader that is gone is followed; what a loaded machine adds is not the servers' doing.
const FOLLOWED: Duration = Duration::from_secs(15 + 5);

/// Servers of one database, each with a directory and an address of its own.
struct Fleet {
    homes: Vec<Home>,
    servers: Vec<Option<Process>>,
}

impl Fleet {
    /// All of them start at once.
    fn start(n: usize, database: &Database<'_>, settings: &[(&str, &str)]) -> Self {
        let homes: Vec<Home> = (0..n).map(|_| Home::new()).collect();
        let starting: Vec<_> = homes
            .iter()
            .map(|home| Process::start(&mut command(home, database, settings)))
            .collect();
        for server in &starting {
            server.line(" ready ");
        }
        Self {
            homes,
            servers: starting.into_iter().map(Some).collect(),
        }
    }

    fn api(&self, n: usize) -> Api {
        self.homes[n].api()
    }

    fn server(&self, n: usize) -> &Process {
        self.servers[n].as_ref().expect("it runs")
    }

    /// The first admin key, which one of them has made.
    fn admin_key(&self) -> String {
        let mut keys = self.homes.iter().filter_map(|home| {
            let text = fs::read_to_string(home.path("first-start.txt")).ok()?;
            let (_, key) = text.split_once("admin key: ")?;
            key.split_whitespace().next().map(str::to_owned)
        });
        let key = keys.next().expect("one has made it");
        assert_eq!(keys.next(), None, "another has made one, too");
        key
    }

    /// Those that run and say that they lead.
    async fn leaders(&self) -> Vec<usize> {
        let mut leaders = Vec::new();
        for (n, server) in self.servers.iter().enumerate() {
            if server.is_some() && role(&self.api(n)).await.as_deref() == Some("leader") {
                leaders.push(n);
            }
        }
        leaders
    }

    /// Waits until this one leads, and no other says that it does.
    async fn led_by(&self, leader: usize) {
        let mut again = interval(Duration::from_millis(100));
        let led = timeout(AMPLE, async {
            while self.leaders().await != [leader] {
                again.tick().await;
            }
        });
        led.await.expect("one leads, and one alone");
    }

    /// Waits until one leads that is none of these.
    async fn leader_but(&self, others: &[usize]) -> usize {
        let mut again = interval(Duration::from_millis(100));
        let found = timeout(AMPLE, async {
            loop {
                again.tick().await;
                let leaders = self.leaders().await;
                let new = leaders.iter().find(|n| !others.contains(n));
                if let Some(new) = new {
                    return *new;
                }
            }
        });
        found.await.expect("one takes the lead")
    }
}

/// What a server says of itself; nothing while it does not answer.
async fn role(api: &Api) -> Option<String> {
    let asked = api.call(Method::GET, "/ready", &Value::Null);
    let answer = timeout(Duration::from_secs(1), asked).await.ok()?;
    let (_, ready) = answer.ok()?;
    ready["role"].as_str().map(str::to_owned)
}

fn command(
    home: &Home,
    database: &Database<'_>,
    settings: &[(&str, &str)],
) -> std::process::Command {
    let mut command = home.command(&format!("server --listen {}", home.control()));
    command.env("CERTCTL_DATABASE_URL", url(database));
    command.env("CERTCTL_MACHINE_KEY", MACHINE_KEY);
    command.envs(settings.iter().copied());
    command
}

fn count(database: &Database<'_>, sql: &str) -> u64 {
    database.sql(sql).parse().unwrap()
}

/// How often the audit log tells of this.
fn told(database: &Database<'_>, action: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM certctl.audit_events WHERE action = '{action}'");
    count(database, &sql)
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_together_make_one_of_everything() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let fleet = Fleet::start(3, &database, &[]);
    let key = fleet.admin_key();
    for (action, times) in [
        ("key_ring_created", 1),
        ("ca_created", 2),
        ("api_key_created", 1),
    ] {
        assert_eq!(told(&database, action), times, "{action}");
    }
    assert_eq!(count(&database, "SELECT count(*) FROM certctl.ca_nodes"), 3);
    let cas: BTreeSet<_> = fleet
        .homes
        .iter()
        .map(|home| fs::read(home.path("tls/system-ca.pem")).unwrap())
        .collect();
    assert_eq!(cas.len(), 1);
    for home in &fleet.homes {
        let me = home.api_by_tls(Some(&key)).get("/auth/me").await;
        assert_eq!(me["admin"], true);
        assert!(!home.path("machine.key").exists());
    }
    fleet.leader_but(&[]).await;
    assert_eq!(fleet.leaders().await.len(), 1);

    // Without the machine key, or with another, a server says what to copy, and leaves nothing
    // behind that would be in the way of it.
    let late = Home::new();
    let refused = |late: &Home, settings: &[(&str, &str)]| {
        let mut command = command(late, &database, settings);
        if settings.is_empty() {
            command.env_remove("CERTCTL_MACHINE_KEY");
        }
        run(command.env("CERTCTL_LOG_LEVEL", "error")).bad(74)
    };
    let told = refused(&late, &[]);
    assert!(
        told.contains("machine.key is missing") && told.contains("CERTCTL_MACHINE_KEY_FILE"),
        "{told}"
    );
    assert!(!late.path("machine.key").exists());
    let other = "0".repeat(64);
    let told = refused(&late, &[("CERTCTL_MACHINE_KEY", &other)]);
    assert!(
        told.contains("CERTCTL_MACHINE_KEY is not the machine key") && !told.contains(&other),
        "{told}"
    );
    fs::write(late.path("machine.key"), format!("{MACHINE_KEY}\n")).unwrap();
    let mut command = command(&late, &database, &[]);
    let server = Process::start(command.env_remove("CERTCTL_MACHINE_KEY"));
    server.line("the first admin key was made by another server");
    server.line(" ready ");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_at_one_server_holds_at_the_others() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let fleet = Fleet::start(2, &database, &[]);
    let (a, b) = (fleet.api(0), fleet.api(1));
    let at_b = |key: &str| fleet.homes[1].api_by_tls(Some(key));

    // Keys: made here they are good there, and revoked here they are not, at the next call.
    let made = a
        .post(
            "/auth/keys",
            json!({"name": "ci", "role_ids": ["r-viewer"]}),
        )
        .await;
    let (id, key) = (text(&made["id"]), text(&made["key_value"]));
    let me = async || {
        let asked = at_b(&key);
        let answer = asked.call(Method::GET, "/api/v1/auth/me", &Value::Null);
        answer.await.unwrap().0
    };
    assert_eq!(me().await, StatusCode::OK);
    let path = format!("/api/v1/auth/keys/{id}");
    let (status, said) = a
        .call(Method::DELETE, &path, &Value::Null)
        .await
        .unwrap_or_else(|e| {
            // An answer without a body.
            (StatusCode::NO_CONTENT, json!(e))
        });
    assert!(status.is_success(), "{said}");
    assert_eq!(me().await, StatusCode::UNAUTHORIZED);

    // Rules: what is remembered of them there is neither too strict nor too lax.
    let rule = json!({
        "id": "only-corp", "name": "Only corp", "type": "AllowedIssuers",
        "config": {"allowed_issuer_ids": ["corp"]}, "severity": "Critical",
    });
    let wish = |id: &str| json!({"id": id, "name": id, "common_name": format!("{id}.example.org")});
    let create = async |api: &Api, id: &str| {
        let wish = wish(id);
        let answer = api.call(Method::POST, "/api/v1/certificates", &wish);
        answer.await.unwrap().0
    };
    assert_eq!(create(&b, "before").await, StatusCode::CREATED);
    a.post("/policies", rule).await;
    assert_eq!(create(&b, "meanwhile").await, StatusCode::BAD_REQUEST);
    let path = "/api/v1/policies/only-corp";
    let _ = a.call(Method::DELETE, path, &Value::Null).await;
    assert_eq!(create(&b, "after").await, StatusCode::CREATED);

    // CAs: made here they sign there.
    let ca = json!({"id": "corp", "name": "Corp", "type": "local_ca", "config": {}});
    a.post("/issuers", ca).await;
    b.post("/issuers/corp/test", Value::Null).await;

    // Agents: one that a token of the one lets in at the other is heard and given work at once,
    // wherever it polls.
    let token = a.post("/agents/tokens", json!({"name": "t"})).await;
    let said = run(&mut fleet.homes[1].enrol(&token, &[])).good_with_log();
    let id = agent_of(&said);
    let _agent = fleet.homes[1].agent_process();
    let path = format!("/agents/{id}");
    a.until(&path, |agent| agent["status"] == "Online").await;
    let began = Instant::now();
    fleet.homes[0].certificate("www", &id).await;
    a.deployed("www").await;
    let took = began.elapsed();
    // Without being woken it would ask again after 40 s at the soonest.
    assert!(took < Duration::from_secs(30), "it took {took:?}");
    let served = a.post("/certificates/www/check", Value::Null).await;
    assert_eq!(served["fresh"], true, "{served}");

    // Revocations: what one acknowledged is in the list that the other serves.
    let reason = json!({"reason": "keyCompromise"});
    let before = b.bytes(LIST).await.len();
    a.post("/certificates/www/revoke", reason).await;
    let after = b.bytes(LIST).await.len();
    assert!(after > before, "{before} bytes, then {after}");
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_followed_and_nothing_is_issued_twice() {
    let cluster = Cluster::start("");
    let database = cluster.database();
    let mut fleet = Fleet::start(3, &database, &[("CERTCTL_RATE_LIMIT_ENABLED", "false")]);
    let leader = fleet.leader_but(&[]).await;
    let [next, last] = [1, 2].map(|n| (leader + n) % 3);
    // The agent polls a server that stays.
    let token = fleet
        .api(next)
        .post("/agents/tokens", json!({"name": "t"}))
        .await;
    let said = run(&mut fleet.homes[next].enrol(&token, &[])).good_with_log();
    let agent = agent_of(&said);
    let _agent = fleet.homes[next].agent_process();

    // Certificates are made at all three; who does not hear an answer asks another server for the
    // same.
    const CERTIFICATES: usize = 40;
    let mut makers = JoinSet::new();
    for n in 0..CERTIFICATES {
        let order = [leader, next, last];
        let apis = order.map(|n| fleet.api(n));
        let agent = agent.clone();
        makers.spawn(async move { make(n, &agent, &apis).await });
    }
    while told(&database, "certificate_created") < 10 {
        tokio::task::yield_now().await;
    }
    fleet.servers[leader].take().unwrap().kill();
    let killed = Instant::now();
    let new = fleet.leader_but(&[leader]).await;
    let took = killed.elapsed();
    assert!(took < FOLLOWED, "it took {took:?}");
    fleet.led_by(new).await;
    while let Some(made) = makers.join_next().await {
        made.unwrap();
    }
    for n in 0..CERTIFICATES {
        fleet.api(next).deployed(&format!("www-{n}")).await;
    }
    let all = CERTIFICATES as u64;
    for (what, n) in [
        ("certctl.certificates", all),
        ("certctl.orders", all),
        ("certctl.versions", all),
        (
            "(SELECT DISTINCT certificate_id FROM certctl.versions) v",
            all,
        ),
    ] {
        assert_eq!(
            count(&database, &format!("SELECT count(*) FROM {what}")),
            n,
            "{what}"
        );
    }
    assert_eq!(told(&database, "order_opened"), all);
    // The one that is gone comes again, and follows.
    let mut again = command(&fleet.homes[leader], &database, &[]);
    let again = Process::start(&mut again);
    again.line(" ready ");
    again.line("another server leads");
    fleet.servers[leader] = Some(again);
    fleet.led_by(new).await;
    // One that stops hands on at once: before anybody could have missed it.
    fleet.server(new).signal(Signal::SIGTERM);
    let ended = fleet.servers[new].take().unwrap().end();
    assert!(
        ended.stdout.contains("the lead is handed on")
            || ended.stderr.contains("the lead is handed on"),
        "{ended:?}"
    );
    let stopped = Instant::now();
    fleet.leader_but(&[new]).await;
    let took = stopped.elapsed();
    assert!(took < Duration::from_secs(8), "it took {took:?}");
}

/// Makes a certificate with a target of its own, at whichever server answers.
async fn make(n: usize, agent: &str, apis: &[Api]) {
    let (id, target) = (format!("www-{n}"), format!("tgt-{n}"));
    let new_target = json!({
        "id": target, "name": target, "type": "File", "agent_id": agent, "config": {},
    });
    let new = json!({
        "id": id, "name": id, "common_name": format!("{id}.example.org"), "target_ids": [target],
    });
    for (path, body) in [
        ("/api/v1/targets", new_target),
        ("/api/v1/certificates", new),
    ] {
        let mut turn = n;
        loop {
            let api = &apis[turn % apis.len()];
            turn += 1;
            match api.call(Method::POST, path, &body).await {
                // It is there since a call whose answer was lost.
                Ok((StatusCode::CREATED | StatusCode::CONFLICT, _)) => break,
                Ok((status, said)) if !status.is_server_error() => panic!("{status} {said}"),
                _ => tokio::task::yield_now().await,
            }
        }
    }
}

/// Certificates come due all at once, and the server that renews them is killed on the way.
#[tokio::test(flavor = "multi_thread")]
async fn due_renewals_are_done_once_when_the_leader_is_killed_on_the_way() {
    const CERTIFICATES: usize = 90;
    let all = CERTIFICATES as u64;
    let cluster = Cluster::start("");
    let database = cluster.database();
    let mut fleet = Fleet::start(3, &database, &[("CERTCTL_RATE_LIMIT_ENABLED", "false")]);
    let leader = fleet.leader_but(&[]).await;
    let next = (leader + 1) % 3;
    let token = fleet
        .api(next)
        .post("/agents/tokens", json!({"name": "t"}))
        .await;
    let said = run(&mut fleet.homes[next].enrol(&token, &[])).good_with_log();
    let agent = agent_of(&said);
    let _agent = fleet.homes[next].agent_process();
    let mut makers = JoinSet::new();
    for n in 0..CERTIFICATES {
        let apis = [fleet.api(leader), fleet.api(next)];
        let agent = agent.clone();
        makers.spawn(async move { make(n, &agent, &apis).await });
    }
    makers.join_all().await;
    for n in 0..CERTIFICATES {
        fleet.api(next).deployed(&format!("www-{n}")).await;
    }
    assert_eq!(told(&database, "order_opened"), all);

    // Their time comes: what would be two months is one commit.
    let committer = Committer::Inline;
    let store = Arc::new(database.open().await);
    let store = Store::start(store, committer, Box::new(|_| {})).unwrap();
    let come_due = async |some: Range<usize>| {
        let at = SystemClock.now();
        let mut unit = store.unit(some.start as u128 + 1, at);
        for n in some {
            let id = format!("www-{n}").parse().unwrap();
            let mut certificate: Loaded<Certificate> = unit.load(&id).await.unwrap();
            for line in certificate.holders.values_mut() {
                line.hasten(at);
            }
            unit.put(certificate);
        }
        unit.commit().await.unwrap();
    };
    come_due(0..CERTIFICATES / 2).await;
    while told(&database, "order_opened") < all + 5 {
        tokio::task::yield_now().await;
    }
    fleet.servers[leader].take().unwrap().kill();
    // Something is left for the next leader in any case.
    come_due(CERTIFICATES / 2..CERTIFICATES).await;
    fleet.leader_but(&[leader]).await;

    let api = fleet.api(next);
    let total = |page: &Value| page["total"].as_u64();
    for n in 0..CERTIFICATES {
        let path = format!("/certificates/www-{n}/versions");
        api.until(&path, |versions| total(versions) == Some(2))
            .await;
        let path = format!("/jobs?certificate_id=www-{n}&type=Renewal");
        api.until(&path, |jobs| jobs["data"][0]["status"] == "Completed")
            .await;
        api.deployed(&format!("www-{n}")).await;
    }
    // Whoever took over has looked again since.
    let look = "/certificates/www-0";
    api.until(look, |shown| shown["status"] == "Active").await;
    for (path, wanted) in [
        ("/jobs?type=Renewal", all),
        ("/jobs?type=Issuance", all),
        ("/audit?action=order_opened", 2 * all),
        ("/audit?action=certificate_issued", 2 * all),
    ] {
        assert_eq!(total(&api.get(path).await), Some(wanted), "{path}");
    }
    for n in 0..CERTIFICATES {
        let path = format!("/certificates/www-{n}/versions");
        assert_eq!(total(&api.get(&path).await), Some(2), "{path}");
    }
    let causes = "SELECT count(*) FROM \
                  (SELECT DISTINCT certificate_id, holder, cause FROM certctl.orders) o";
    assert_eq!(count(&database, causes), 2 * all);
    assert_eq!(
        count(&database, "SELECT count(*) FROM certctl.orders"),
        2 * all
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_finds_that_it_leads_no_more() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let fleet = Fleet::start(3, &database, &[]);
    let first = fleet.leader_but(&[]).await;
    fleet.server(first).signal(Signal::SIGSTOP);
    let paused = Instant::now();
    let second = fleet.leader_but(&[first]).await;
    let took = paused.elapsed();
    assert!(took < FOLLOWED, "it took {took:?}");
    let term = "SELECT row_version || ' ' || server FROM certctl.leader WHERE id = 'term'";
    let before = database.sql(term);
    fleet.server(first).signal(Signal::SIGCONT);
    fleet
        .server(first)
        .line("another server has taken over the lead");
    fleet.led_by(second).await;
    assert_eq!(database.sql(term), before);
    // It works on as one of the others.
    fleet
        .api(first)
        .post("/teams", json!({"id": "t", "name": "t"}))
        .await;
    fleet.api(second).get("/teams/t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_enforce_one_cap_where_they_count_in_the_database_and_three_where_they_do_not()
 {
    const BURST: usize = 150;
    // Nobody comes by another call in the time of this test.
    let rate = [
        ("CERTCTL_RATE_LIMIT_RPS", "0.001"),
        ("CERTCTL_RATE_LIMIT_BURST", "150"),
    ];
    let cluster = Cluster::shared();
    for (backend, least, most) in [
        ("postgres", BURST * 9 / 10, BURST),
        ("memory", 3 * BURST, 3 * BURST),
    ] {
        let database = cluster.database();
        let mut settings = rate.to_vec();
        settings.push(("CERTCTL_RATE_LIMIT_BACKEND", backend));
        let fleet = Fleet::start(3, &database, &settings);
        let mut calls = JoinSet::new();
        for home in &fleet.homes {
            // Four at a time at each.
            for _ in 0..4 {
                let api = home.api_by_tls(None);
                calls.spawn(async move {
                    let (mut passed, mut lost): (usize, usize) = (0, 0);
                    for _ in 0..BURST / 3 {
                        let call = api.call(Method::GET, "/api/v1/version", &Value::Null);
                        match call.await {
                            Ok((StatusCode::OK, _)) => passed += 1,
                            Ok((StatusCode::TOO_MANY_REQUESTS, _)) => {}
                            Ok((other, said)) => panic!("{other} {said}"),
                            // On a machine that is short of time; it may have been counted.
                            Err(_) => lost += 1,
                        }
                    }
                    (passed, lost)
                });
            }
        }
        let ended = calls.join_all().await;
        let passed: usize = ended.iter().map(|(passed, _)| passed).sum();
        let lost: usize = ended.iter().map(|(_, lost)| lost).sum();
        assert!(lost < BURST / 10, "{lost} calls had no answer");
        assert!(
            passed <= most && least <= passed + lost,
            "{backend}: {passed}, {lost} had no answer"
        );
    }
    let home = Home::new();
    let mut command = home.command("config check");
    command.env("CERTCTL_RATE_LIMIT_BACKEND", "postgres");
    let ended = run(&mut command);
    assert_eq!(ended.status.code(), Some(78), "{ended:?}");
    assert!(ended.stderr.contains("CERTCTL_DATABASE_URL"), "{ended:?}");
}
