//! `bench issue`: a CSR goes in over REST and TLS, a certificate comes out, stored and audited.

use super::{
    Figures, Place, Report,
    fill::Model,
    load, progress,
    server::{Server, cpu},
};
use crate::{
    api,
    app::{App, Parts, Started},
    clock::SystemClock,
    config::ServerConfig,
    crypt::{Crypto, OsRng, RingCrypto},
    id::Id,
    net::Peer,
    pki::{KeyAlgorithm, csr},
    store::{CERT_CREATED, Committer, Counting, Engine, Memory, Redb, Scan, Store, Work},
    sys::{Disk, Tasks},
};
use anyhow::{Context, Result, ensure};
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tower::ServiceExt;

/// Keys that clients send in turn.
const KEYS: usize = 256;
/// Issuances whose work is counted.
const COUNTED: u64 = 20;

pub async fn run(place: &Place, clients: usize, rows: u64, time: Duration) -> Result<Report> {
    let method = format!(
        "POST /api/v1/certificates/{{id}}/versions to a server process over TLS 1.3, one connection \
         a client, CSRs of {KEYS} P-256 keys made before, spread over {rows} certificates; \
         disk: growth of the live data in the store's file over all issued"
    );
    let mut report = Report::new("issue", place, method)?;
    let (app, key) = place.first_start().await?;
    Model::new().await?.fill(&app.store, rows, false).await?;
    let targets = Arc::new(paths(&app.store, rows).await?);
    app.close().await;
    drop(app);
    let before = used_bytes(place)?;

    let requests = Arc::new(requests()?);
    let server = Server::start(place).await?;
    let next = Arc::new(AtomicUsize::new(0));
    let begin = (server.cpu()?, cpu("self")?);
    let measured = load::drive("issue", clients, time, |_| {
        let client = server.client(&key)?;
        let (targets, requests, next) = (targets.clone(), requests.clone(), next.clone());
        Ok(move || {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let path = targets[n % targets.len()].clone();
            let (client, csr) = (client.clone(), requests[n % requests.len()].clone());
            async move {
                let issued = client.call(Method::POST, &path, csr, StatusCode::CREATED);
                issued.await.map(drop)
            }
        })
    })
    .await?;
    let used = [server.cpu()? - begin.0, cpu("self")? - begin.1];
    let [server_cpu, client_cpu] = used.map(|t| t.as_secs_f64() * 1e6 / measured.done as f64);
    let memory = server.memory()?;
    server.stop(&Tasks::new()).await?;
    let after = used_bytes(place)?;

    let figures = Figures::default()
        .and("clients", clients)
        .with("certificates_per_s", measured.rate());
    let mut figures = measured.add_to(figures).and("errors", 0);
    if let (Some(before), Some(after)) = (before, after) {
        let each = (after as f64 - before as f64) / measured.done as f64;
        figures = figures.with("disk_bytes_each", each);
    }
    let figures = figures
        .with("server_cpu_us_each", server_cpu)
        .with("client_cpu_us_each", client_cpu)
        .with("server_mib", memory);
    let work = counted(&requests).await?;
    let each = |n: u64| n as f64 / COUNTED as f64;
    report.results.push(
        figures
            .with("commits_each", each(work.commits))
            .with("documents_each", each(work.documents))
            .with("index_keys_each", each(work.index_keys))
            .with("reads_each", each(work.reads))
            .with("rows_read_each", each(work.rows)),
    );
    Ok(report)
}

/// The live data in the store's file, where it is one.
fn used_bytes(place: &Place) -> Result<Option<u64>> {
    Ok(match place.database {
        Some(_) => None,
        None => Some(Redb::open(&place.store())?.used_bytes()?),
    })
}

/// Where CSRs for the certificates of a store are sent.
async fn paths(store: &Store, rows: u64) -> Result<Vec<String>> {
    let all = Scan::all(CERT_CREATED, usize::try_from(rows)?);
    let all = store.scan::<crate::domain::Certificate>(all).await?;
    ensure!(!all.is_empty(), "--rows: at least one certificate");
    let path = |id: &Id| format!("/api/v1/certificates/{id}/versions");
    Ok(all.iter().map(|c| path(&c.id)).collect())
}

/// The bodies of requests, each with a key of its own.
fn requests() -> Result<Vec<Bytes>> {
    let bar = progress("keys", KEYS as u64);
    let bodies = (0..KEYS).map(|_| {
        bar.inc(1);
        let key = RingCrypto.generate_key(KeyAlgorithm::EcdsaP256)?;
        let csr = csr::build(key.pkcs8_der(), Some("bench.example.org"), &[])?;
        Ok(serde_json::to_vec(&serde_json::json!({"csr_pem": csr}))?.into())
    });
    let bodies = bodies.collect();
    bar.finish_and_clear();
    bodies
}

/// The work of [`COUNTED`] issuances, counted in memory: it is the same on every engine.
async fn counted(requests: &[Bytes]) -> Result<Work> {
    let dir = tempfile::tempdir()?;
    let engine = Arc::new(Counting::new(Memory::new()));
    let (app, key) = in_memory(dir.path(), engine.clone()).await?;
    Model::new().await?.fill(&app.store, COUNTED, false).await?;
    let targets = paths(&app.store, COUNTED).await?;
    let router = api::router(app);
    let mut before = engine.work();
    // The first issuance stores the chain, once for all.
    for (n, csr) in requests
        .iter()
        .cycle()
        .take(usize::try_from(COUNTED)? + 1)
        .enumerate()
    {
        let request = Request::post(&targets[n % targets.len()])
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .extension(Peer::Tcp(([127, 0, 0, 1], 1).into()))
            .body(Body::from(csr.clone()))?;
        let status = router.clone().oneshot(request).await?.status();
        ensure!(status == StatusCode::CREATED, "counted issuance: {status}");
        if n == 0 {
            before = engine.work();
        }
    }
    Ok(engine.work() - before)
}

async fn in_memory(dir: &Path, engine: Arc<dyn Engine>) -> Result<(Arc<App>, String)> {
    let fatal = Box::new(|e: &_| tracing::error!(error = %e, "the store failed"));
    let parts = Parts {
        store: Store::start(engine, Committer::Inline, fatal)?,
        clock: Arc::new(SystemClock),
        rng: Arc::new(OsRng),
        crypto: Arc::new(RingCrypto),
        files: Arc::new(Disk),
        rooms: Arc::new(Disk),
        tasks: Tasks::new(),
        config: ServerConfig::new(dir, ([127, 0, 0, 1], 0).into()),
        names: Vec::new(),
        alone: None,
    };
    let Started { app, admin_key } = App::start(parts).await?;
    Ok((app, admin_key.context("this was no first start")?))
}
