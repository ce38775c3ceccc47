//! `bench list`: pages of certificates, as the API and the dashboard show them.

use super::{
    Figures, Place, Report,
    fill::{Model, OWNERS},
    load::Measured,
    progress,
    server::{Client, Server},
};
use crate::{
    domain::Certificate,
    store::{CERT_DUE, Key, Scan, Store},
    sys::Tasks,
};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde::Deserialize;
use std::time::{Duration, Instant};

/// Due certificates that a reconciler takes at once.
const DUE: usize = 1_000;
/// Calls that are not measured: the pages of the store's file come into memory.
const WARM_UP: usize = 20;

/// The lists of the API, by what they are.
const LISTS: [(&str, &str); 9] = [
    ("newest first", "?sort=-createdAt"),
    ("by name", "?sort=name"),
    ("by expiry", "?sort=notAfter"),
    ("expiring", "?status=expiring&sort=notAfter"),
    ("expiring, newest first", "?status=expiring&sort=-createdAt"),
    ("of an environment", "?environment=test&sort=name"),
    ("of an owner", "?owner_id=owner-{}&sort=-createdAt"),
    (
        "of an owner, expiring",
        "?owner_id=owner-{}&status=expiring&sort=name",
    ),
    ("page 20", "?sort=name&page=20"),
];

pub async fn run(place: &Place, rows: u64, time: Duration) -> Result<Report> {
    let method = format!(
        "{rows} certificates, one version each; GET over TLS 1.3 from a server process, one call \
         after the other, pages of 50 with their total where the store knows it; `due` is read \
         from the store alone"
    );
    let mut report = Report::new("list", place, method)?;
    let (app, key) = place.first_start().await?;
    let model = Model::new().await?;
    model.fill(&app.store, rows, true).await?;
    let due = due(&app.store, &model, time, rows).await?;
    app.close().await;
    drop(app);

    let server = Server::start(place).await?;
    let client = server.client(&key)?;
    for (name, query) in LISTS {
        let calls = |n: u64| {
            format!(
                "/api/v1/certificates{}",
                query.replace("{}", &(n % OWNERS).to_string())
            )
        };
        let measured = pages(name, time, &client, calls).await?;
        report.results.push(line(name, &measured));
    }
    report
        .results
        .push(line("following a cursor", &followed(time, &client).await?));
    let dashboard = pages("dashboard", time, &client, |_| "/certificates".into()).await?;
    report.results.push(line("dashboard page", &dashboard));
    report.results.push(line("due: first 1,000", &due));
    report.results.push(
        Figures::default()
            .and("list", "server")
            .with("server_mib", server.memory()?),
    );
    server.stop(&Tasks::new()).await?;
    Ok(report)
}

fn line(name: &'static str, measured: &Measured) -> Figures {
    measured.add_to(Figures::default().and("list", name))
}

/// Reads pages one after the other; `path` names the n-th.
async fn pages(
    name: &'static str,
    time: Duration,
    client: &Client,
    path: impl Fn(u64) -> String,
) -> Result<Measured> {
    let mut n = 0;
    again(name, time, async || {
        n += 1;
        let body = client.get(&path(n)).await?;
        ensure!(!body.is_empty(), "an empty page");
        Ok(())
    })
    .await
}

/// Reads page after page by the cursor of the one before.
async fn followed(time: Duration, client: &Client) -> Result<Measured> {
    #[derive(Deserialize)]
    struct Page {
        next_cursor: Option<String>,
    }
    let mut cursor = None;
    again("following a cursor", time, async || {
        let first = "/api/v1/certificates?sort=name".to_owned();
        let path = match &cursor {
            Some(cursor) => format!("{first}&cursor={cursor}"),
            None => first,
        };
        let body: Bytes = client.get(&path).await?;
        cursor = serde_json::from_slice::<Page>(&body)?.next_cursor;
        Ok(())
    })
    .await
}

/// The certificates whose renewal is due, out of a time at which most are.
async fn due(store: &Store, model: &Model, time: Duration, rows: u64) -> Result<Measured> {
    let below = Key::new().time(model.when_most_are_due()).bytes();
    let expected = DUE.min(usize::try_from(rows / 2)?);
    again("due", time, async || {
        let due = Scan {
            below: Some(below.clone()),
            ..Scan::all(CERT_DUE, DUE)
        };
        let due = store.page::<Certificate>(due).await?;
        ensure!(
            due.rows.len() >= expected,
            "only {} are due",
            due.rows.len()
        );
        Ok(())
    })
    .await
}

/// Does `call` again and again for `time`.
async fn again(
    name: &'static str,
    time: Duration,
    mut call: impl AsyncFnMut() -> Result<()>,
) -> Result<Measured> {
    let bar = progress(name, time.as_secs());
    for _ in 0..WARM_UP {
        call().await.context(name)?;
    }
    let begin = Instant::now();
    let mut latencies = Vec::new();
    while latencies.is_empty() || begin.elapsed() < time {
        let start = Instant::now();
        call().await.context(name)?;
        latencies.push(start.elapsed());
        bar.set_position(begin.elapsed().as_secs());
    }
    bar.finish_and_clear();
    Ok(Measured::of(latencies))
}
