//! The work that use cases may ask of the store, counted: commits, documents, index keys, reads
//! and rows read. What costs more needs a reason, and a new number here.

use crate::support::{TestApp, time};
use certctl::{
    crypt::{Crypto, RingCrypto},
    domain::Certificate,
    pki::{KeyAlgorithm, csr},
    store::{Loaded, Work},
};
use serde_json::{Value, json};

/// A request with a key of its own.
fn request() -> Value {
    let key = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256).unwrap();
    let pem = csr::build(key.pkcs8_der(), Some("web.example.org"), &[]).unwrap();
    json!({"csr_pem": pem})
}

#[track_caller]
fn within(work: Work, budget: Work) {
    let pairs = [
        ("commits", work.commits, budget.commits),
        ("documents", work.documents, budget.documents),
        ("index keys", work.index_keys, budget.index_keys),
        ("reads", work.reads, budget.reads),
        ("rows read", work.rows, budget.rows),
    ];
    for (what, spent, most) in pairs {
        assert!(spent <= most, "{what}: {spent} of {most}; {work:?}");
    }
}

#[tokio::test]
async fn an_issuance_for_a_csr() {
    let app = TestApp::start().await;
    app.certificate("web", &[]).await;
    let path = "/api/v1/certificates/web/versions";
    // The first one stores the chain, once for all certificates of the issuer.
    app.post(path, request()).await.expect(201);
    let before = app.work();
    app.post(path, request()).await.expect(201);
    let work = app.work() - before;
    assert_eq!(work.commits, 1);
    within(
        work,
        Work {
            groups: 1,
            commits: 1,
            // Certificate, order, version and audit entry.
            documents: 4,
            // Three of the version, the order's end, and the certificate's end out and in.
            index_keys: 6,
            reads: 7,
            rows: 6,
        },
    );
}

#[test]
fn an_issuance_allocates_within_bounds() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let path = "/api/v1/certificates/web/versions";
    let app = runtime.block_on(async {
        let app = TestApp::start().await;
        app.certificate("web", &[]).await;
        app.post(path, request()).await.expect(201);
        app
    });
    let body = request();
    let spent = allocation_counter::measure(|| {
        runtime.block_on(async { app.post(path, body).await.expect(201) });
    });
    assert!(spent.count_total <= 1_135, "{spent:?}");
    assert!(spent.bytes_total <= 165_000, "{spent:?}");
}

#[tokio::test]
async fn a_renewal_by_an_agent() {
    let app = TestApp::start().await;
    let agent = app.agent("host").await;
    let target = app.target(&agent, "web").await;
    app.certificate("web", &[&target]).await;
    agent.run(&app).await;
    let due = time(&app.shown("web").await["holders"][0]["next_at"]);
    app.advance_to(due);
    // The hourly lists of revocations are no part of a renewal.
    for ca in ["ca-local-root", "ca-local-issuing"] {
        app.app.crl(&ca.parse().unwrap()).await.unwrap();
    }
    let before = app.work();
    app.tick().await;
    within(
        app.work() - before,
        Work {
            groups: 4,
            // The order with its job; when the agent was last heard, and the key last used, which
            // is written once a minute; what the feed forgets.
            commits: 4,
            documents: 6,
            // Of the job: its place in lists, by status, type, agent and certificate, its queue
            // and its cause. Of the order one, of the certificate two, of the presence one. One
            // read looks for retired agents on which something hangs, one for certificates that wait
            // for an issuer, one for what is to be planned anew, four for what is to be forgotten of
            // requests, sessions, tokens and orders, four for revocations, one for the key whose first use is written.
            index_keys: 11,
            reads: 22,
            rows: 24,
        },
    );
    let before = app.work();
    assert_eq!(agent.run(&app).await, 2);
    within(
        app.work() - before,
        Work {
            groups: 4,
            // The lease of the order's job; the CSR's version; the lease of the deployment; what
            // came of it.
            commits: 4,
            documents: 12,
            // Of these, 16 by which jobs are listed.
            index_keys: 43,
            reads: 30,
            rows: 26,
        },
    );
}

/// Certificates like `web`, up to so many.
async fn fill(app: &TestApp, from: usize, upto: usize) {
    let web = "web".parse().unwrap();
    let web: Loaded<Certificate> = app.app.store.get(&web).await.unwrap().unwrap();
    let web = web.into_value();
    for first in (from..upto).step_by(1_000) {
        let mut unit = app.app.store.unit(first as u128 + 1, app.now());
        for n in first..upto.min(first + 1_000) {
            unit.insert(Certificate {
                id: format!("cert-{n}").parse().unwrap(),
                name: format!("name-{n}"),
                owner_id: format!("owner-{}", n % 100),
                ..web.clone()
            });
        }
        unit.commit().await.unwrap();
    }
}

/// Rows read for a page of 50.
async fn rows_for(app: &TestApp, query: &str) -> u64 {
    let before = app.work();
    let page = app.get(&format!("/api/v1/certificates?{query}")).await;
    assert!(!page["data"].as_array().unwrap().is_empty(), "{query}");
    (app.work() - before).rows
}

#[tokio::test]
async fn a_page_of_a_list_costs_the_same_on_any_store() {
    let app = TestApp::start().await;
    app.certificate("web", &[]).await;
    let mut filled = 0;
    for size in [1_000, 12_000] {
        fill(&app, filled, size).await;
        filled = size;
        for query in [
            "sort=-createdAt",
            "sort=name",
            "sort=-notAfter",
            "sort=name&page=20",
        ] {
            let rows = rows_for(&app, query).await;
            // The key of the caller, the page and what comes after it, and its total.
            assert!(rows <= 51 + 2, "{query} of {size}: {rows} rows");
        }
        // Few are sorted by their keys, and the page is read.
        let rows = rows_for(&app, "owner_id=owner-7&sort=name").await;
        assert!(rows as usize <= size / 100 + 50 + 2, "{size}: {rows} rows");
        // Many are found along the order.
        let rows = rows_for(&app, "status=pending&sort=name").await;
        assert!(rows <= 1_000 + 50 + 3, "{size}: {rows} rows");
    }
}
