//! Hearing what other processes commit: by looking, at a NOTIFY and now and then where it was lost.

use super::session::{Connector, engine_error};
use crate::net::Wire;
use std::{future::poll_fn, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch::Sender},
    time::{sleep, timeout},
};
use tokio_postgres::{AsyncMessage, Connection, tls::NoTlsStream};

/// How often somebody looks.
const LOOK: Duration = Duration::from_secs(5);
/// Between two looks at least, however many notices there are.
const REST: Duration = Duration::from_millis(20);
/// For an answer to a look.
const ANSWER: Duration = Duration::from_secs(10);

/// Moves a session's messages until it ends. A notice, which any role of the database can write,
/// says to look and nothing else.
pub async fn hear(mut connection: Connection<Wire, NoTlsStream>, look: Arc<Notify>) {
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(_) = message {
            look.notify_one();
        }
    }
}

/// Listens and looks for as long as somebody wants to hear.
pub async fn watch(connector: Arc<Connector>, heard: Sender<u64>) {
    let mut client = None;
    let noticed = Arc::new(Notify::new());
    loop {
        let listener = match client.take() {
            Some(client) => Ok(client),
            None => connector.listener(Arc::clone(&noticed)).await,
        };
        if let Ok(listener) = listener {
            let look = listener.query_one("SELECT seq FROM certctl_store.meta", &[]);
            let seen = match timeout(ANSWER, look).await {
                Ok(row) => row.and_then(|row| row.try_get::<_, i64>(0)),
                Err(_) => continue,
            };
            match seen.map_err(engine_error) {
                Ok(seq) => {
                    tell(&heard, u64::try_from(seq).unwrap_or(0));
                    client = Some(listener);
                }
                Err(error) => tracing::debug!(%error, "the session that listens has ended"),
            }
        }
        tokio::select! {
            biased;
            () = heard.closed() => return,
            () = sleep(REST) => {}
        }
        tokio::select! {
            biased;
            () = heard.closed() => return,
            () = noticed.notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}

fn tell(heard: &Sender<u64>, seq: u64) {
    heard.send_if_modified(|last| {
        let newer = seq > *last;
        *last = seq.max(*last);
        newer
    });
}
