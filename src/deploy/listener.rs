//! The real listeners behind `Site` targets.

use super::{Fault, Pair, Site, Sites};
use crate::{
    id::Id,
    net::{BindError, Identity, Limits, Listener, ServerIdentity},
    sys::Tasks,
};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::{Router, response::Html};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// HTTPS listeners on the machine's network. Each serves one page that names its certificate, and
/// ends with the tasks it runs in.
pub struct TlsSites {
    tasks: Tasks,
    open: Mutex<BTreeMap<Id, Open>>,
}

struct Open {
    site: Site,
    identity: Arc<ServerIdentity>,
    page: Arc<ArcSwap<String>>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl TlsSites {
    /// No listener yet; those to come run in `tasks`.
    pub fn new(tasks: Tasks) -> Self {
        Self {
            tasks,
            open: Mutex::default(),
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<Id, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sites for TlsSites {
    async fn start(&self, target: &Id, listen: SocketAddr, pair: &Pair) -> Result<(), Fault> {
        let identity = ServerIdentity::new(identity(pair)?);
        let listener = Listener::tls(listen, &identity).await.map_err(bind_fault)?;
        let Some(address) = listener.address() else {
            return Err(Fault::transient("the listener was closed at once"));
        };
        // Only now: as long as the new address cannot be had, the old one keeps serving.
        self.stop(target).await;
        let page = Arc::new(ArcSwap::from_pointee(page(pair)));
        let (stop, ended) = (self.tasks.token(), CancellationToken::new());
        self.tasks.spawn("site", {
            let (tasks, stop, page) = (self.tasks.clone(), stop.clone(), page.clone());
            let ended = ended.clone().drop_guard();
            async move {
                let router = Router::new().fallback(async move || Html(page.load().to_string()));
                let limits = Limits {
                    connections: 1024,
                    drain: Duration::from_secs(1),
                    ..Limits::default()
                };
                listener.serve(router, limits, &tasks, &stop).await;
                drop(ended);
            }
        });
        let site = Site {
            listen,
            address,
            version: pair.version().clone(),
        };
        self.open().insert(
            target.clone(),
            Open {
                site,
                identity,
                page,
                stop,
                ended,
            },
        );
        Ok(())
    }

    async fn swap(&self, target: &Id, pair: &Pair) -> Result<(), Fault> {
        let identity = identity(pair)?;
        let mut open = self.open();
        let Some(site) = open.get_mut(target) else {
            return Err(Fault::transient(format!("target {target} has no listener")));
        };
        site.identity.set_system(identity);
        site.page.store(Arc::new(page(pair)));
        site.site.version = pair.version().clone();
        Ok(())
    }

    async fn stop(&self, target: &Id) {
        let open = self.open().remove(target);
        if let Some(open) = open {
            open.stop.cancel();
            open.ended.cancelled().await;
        }
    }

    fn site(&self, target: &Id) -> Option<Site> {
        self.open().get(target).map(|open| open.site.clone())
    }
}

fn identity(pair: &Pair) -> Result<Identity, Fault> {
    let chain = pair.chain().fullchain_pem();
    let key = pair.key().to_pkcs8_pem();
    Identity::from_pem(chain.as_bytes(), key.as_bytes()).map_err(Fault::permanent)
}

fn bind_fault(error: BindError) -> Fault {
    Fault::operator(format!("{error} (config.listen)"))
}

/// Ids and serial numbers need no escaping: their alphabets are harmless in HTML.
fn page(pair: &Pair) -> String {
    let version = pair.version();
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>certctl site</title>\n\
         <h1>{}</h1>\n<p>Served with serial <code>{}</code>.</p></html>\n",
        version.certificate, version.serial
    )
}
