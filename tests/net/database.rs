//! The way to a database: what is known of its server before anything is said to it.

use super::pki::Ca;
use crate::{
    store::run,
    support::postgres::{Cluster, Database, PATIENCE},
};
use certctl::{
    net::{DatabasePlace, Secrecy, Trust},
    store::{EngineError, Login, LoginBinding, Postgres},
};
use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    thread,
    time::Duration,
};

/// Puts a file in the cluster's directory that its user alone may read.
fn give(cluster: &Cluster, name: &str, bytes: &str) {
    let owner = fs::metadata(cluster.data()).unwrap();
    let path = cluster.data().join(name);
    put(&path, bytes);
    chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

fn put(path: &Path, bytes: &str) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The cluster serves a certificate for this name.
fn serve(cluster: &Cluster, ca: &Ca, name: &str) {
    let pair = ca.sign(&[name]);
    let pem = |label: &str, der: &[u8]| {
        let text = data_encoding::BASE64.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    give(cluster, "server.crt", &pem("CERTIFICATE", &pair.chain[0]));
    give(cluster, "server.key", &pem("PRIVATE KEY", &pair.key));
}

async fn open(database: &Database<'_>, host: &str, secrecy: Secrecy) -> Result<(), EngineError> {
    let place = DatabasePlace::Tcp(host.to_owned(), 5432);
    let login = database.login_at(place, &secrecy);
    Postgres::open(login, PATIENCE).await.map(drop)
}

#[track_caller]
fn says(refused: Result<(), EngineError>, parts: &[&str]) {
    let said = refused.expect_err("it is refused").to_string();
    for part in parts {
        assert!(said.contains(part), "{part:?} in {said}");
    }
}

#[test]
fn a_database_is_known_by_its_certificate() {
    run(async {
        let cluster = Cluster::start("");
        let (ca, other) = (Ca::new("database"), Ca::new("another"));
        serve(&cluster, &ca, &cluster.address);
        give(
            &cluster,
            "pg_hba.conf",
            "local all all trust\nhostssl all all 0.0.0.0/0 trust\n",
        );
        cluster.sql("postgres", "ALTER SYSTEM SET ssl = on");
        cluster.reload();
        let database = cluster.database();
        let host = cluster.address.as_str();
        let named = |trust: Trust| open(&database, host, Secrecy::Named(trust));

        // A reload takes a moment to be seen.
        while open(&database, host, Secrecy::Encrypted).await.is_err() {
            tokio::task::yield_now().await;
        }
        named(ca.trust()).await.unwrap();
        open(&database, host, Secrecy::Vouched(ca.trust()))
            .await
            .unwrap();
        says(
            named(other.trust()).await,
            &[host, "not signed by a CA trusted here"],
        );
        says(
            open(&database, host, Secrecy::Vouched(other.trust())).await,
            &["not signed by a CA trusted here"],
        );
        says(
            open(&database, host, Secrecy::Plain).await,
            &["no encryption", "sslmode=verify-full"],
        );

        serve(&cluster, &ca, "db.example");
        cluster.reload();
        while named(ca.trust()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        says(named(ca.trust()).await, &["is for another name"]);
        open(&database, host, Secrecy::Vouched(ca.trust()))
            .await
            .unwrap();
        open(&database, host, Secrecy::Encrypted).await.unwrap();
    });
}

/// A login by SCRAM is bound to the connection's TLS, where that is asked for.
#[test]
fn a_login_is_bound_to_its_connection() {
    run(async {
        let cluster = Cluster::start("");
        let ca = Ca::new("database");
        serve(&cluster, &ca, &cluster.address);
        give(
            &cluster,
            "pg_hba.conf",
            "local all all trust\nhostssl all bound 0.0.0.0/0 scram-sha-256\n\
             hostnossl all bound 0.0.0.0/0 scram-sha-256\nhost all certctl 0.0.0.0/0 trust\n",
        );
        cluster.sql("postgres", "ALTER SYSTEM SET ssl = on");
        cluster.reload();
        let database = cluster.database();
        database.sql("CREATE ROLE bound LOGIN SUPERUSER PASSWORD 'secret'");
        let open = async |user: &str, secrecy: Secrecy, binding| {
            let place = DatabasePlace::Tcp(cluster.address.clone(), 5432);
            let login = Login {
                user: user.to_owned(),
                passwords: std::sync::Arc::new(|| vec!["secret".to_owned().into()]),
                binding,
                ..database.login_at(place, &secrecy)
            };
            Postgres::open(login, PATIENCE).await.map(drop)
        };
        let tls = || Secrecy::Named(ca.trust());
        while open("bound", tls(), LoginBinding::Disable).await.is_err() {
            tokio::task::yield_now().await;
        }
        for binding in [LoginBinding::Prefer, LoginBinding::Require] {
            open("bound", tls(), binding).await.unwrap();
        }
        open("bound", Secrecy::Plain, LoginBinding::Prefer)
            .await
            .unwrap();
        // Without TLS there is nothing to bind to; and who asks for no password binds nothing.
        for (user, secrecy) in [("bound", Secrecy::Plain), ("certctl", tls())] {
            says(
                open(user, secrecy, LoginBinding::Require).await,
                &["did not use channel binding", "channel_binding"],
            );
        }
    });
}

/// Listens, answers the first request of each connection so, and ends it.
#[expect(clippy::disallowed_methods, reason = "a peer of the test")]
fn ending(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 8]);
            let _ = client.write_all(answer);
            // Only then is the end no reset.
            let _ = client.read(&mut [0; 4096]);
        }
    });
    port
}

#[test]
fn a_connection_that_ends_before_tls_is_waited_for() {
    run(async {
        let database = Cluster::shared().database();
        for (answer, waits) in [(&b""[..], true), (b"S", true), (b"N", false)] {
            let place = DatabasePlace::Tcp("127.0.0.1".to_owned(), ending(answer));
            let login = database.login_at(place, &Secrecy::Encrypted);
            let refused = Postgres::open(login, Duration::ZERO).await.err().unwrap();
            assert_eq!(
                matches!(refused, EngineError::Away(_)),
                waits,
                "{answer:?}: {refused}"
            );
        }
    });
}

#[test]
fn a_database_without_tls_is_not_spoken_to_under_it() {
    run(async {
        let cluster = Cluster::shared();
        let database = cluster.database();
        let trust = Ca::new("database").trust();
        let refused = open(&database, &cluster.address, Secrecy::Named(trust)).await;
        says(refused, &["sslmode", "TLS"]);
        open(&database, &cluster.address, Secrecy::Plain)
            .await
            .unwrap();
    });
}
