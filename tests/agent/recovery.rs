//! What cannot be restored when the agent starts is restored later.

use super::support::*;
use async_trait::async_trait;
use certctl::{
    agent::Agent,
    deploy::{Fault, Pair, Site, Sites, TlsSites},
    id::Id,
};
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// Listeners whose address the machine does not have at first.
struct Late {
    sites: TlsSites,
    refusals: AtomicUsize,
    started: Notify,
}

#[async_trait]
impl Sites for Late {
    async fn start(&self, target: &Id, listen: SocketAddr, pair: &Pair) -> Result<(), Fault> {
        let left = |n: usize| n.checked_sub(1);
        if self.refusals.fetch_update(SeqCst, SeqCst, left).is_ok() {
            return Err(Fault::operator("the address is not there yet"));
        }
        self.sites.start(target, listen, pair).await?;
        self.started.notify_one();
        Ok(())
    }
    async fn swap(&self, target: &Id, pair: &Pair) -> Result<(), Fault> {
        self.sites.swap(target, pair).await
    }
    async fn stop(&self, target: &Id) {
        self.sites.stop(target).await;
    }
    fn site(&self, target: &Id) -> Option<Site> {
        self.sites.site(target)
    }
}

#[tokio::test(start_paused = true)]
async fn a_site_whose_address_comes_late_serves_again() {
    let host = Host::new();
    let version = host.version("cert-1", 7);
    let agent = host.start().await;
    let config = json!({ "listen": "127.0.0.1:0", "server_name": "localhost" });
    let target = ("tgt-site", "Site", config);
    host.server
        .lease(deployment("job-1", "cert-1", &version, target));
    host.server.report("job-1", 1).await;
    agent.stop().await;

    let (mut env, _) = host.env();
    let sites = Arc::new(Late {
        sites: TlsSites::new(env.tasks.clone()),
        refusals: AtomicUsize::new(5),
        started: Notify::new(),
    });
    env.sites = sites.clone();
    let began = Instant::now();
    let agent = Agent::open(env.clone(), host.paths.clone(), host.server.clone())
        .await
        .unwrap();
    let site = id("tgt-site");
    assert!(sites.site(&site).is_none());
    env.tasks.spawn("agent", async move {
        agent.run().await;
    });
    timeout(Duration::from_secs(3600), sites.started.notified())
        .await
        .expect("it was not tried again");
    let serial = sites.site(&site).unwrap().version.serial.to_string();
    assert_eq!(serial, "7");
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(host.server.calls("report").len(), 1, "no job was needed");
    env.tasks.shutdown(Duration::from_secs(10)).await;
}
