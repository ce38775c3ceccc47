//! The key ring, and the keys that it seals.

use super::{Found, Ground, RESTORE};
use crate::{
    app::{
        backup::{MACHINE_KEY, machine_key},
        birth::{SYSTEM_NODE, key_place},
        known,
    },
    clock::Time,
    crypt::{KeyRing, PrivateKey, RingError, Sealed},
    domain::{CaNode, Finding},
    pki::{Certificate, Signer},
    store::{RingRow, Store},
};
use std::{collections::BTreeMap, time::Duration};

const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Whether the machine key opens the ring, the ring what it seals, and CA keys fit and sign.
pub(super) async fn ring(ground: &Ground<'_>, store: &Store) -> Found {
    let path = ground.config.data_dir.join(MACHINE_KEY);
    let name = path.display().to_string();
    let Some(row) = store.get::<RingRow>(&known("ring")).await? else {
        let what = "there is none yet: the first start of the server makes it";
        return Ok(vec![Finding::notice("key ring", "", what, "")]);
    };
    let back = format!(
        "put back the {MACHINE_KEY} that was made with this store, or restore a backup that was \
         made with its keys: `certctl restore BACKUP --identity FILE`"
    );
    let machine = match machine_key(ground.files, &ground.config) {
        Ok(Some(machine)) => machine,
        Ok(None) => {
            let what = "it is missing, and the store was sealed with it";
            return Ok(vec![Finding::error("key ring", name, what, back)]);
        }
        Err(e) => {
            let what = format!("it cannot be used: {e}");
            return Ok(vec![Finding::error("key ring", name, what, back)]);
        }
    };
    let opened = match KeyRing::open_ring(&row.ring, &machine) {
        Ok(opened) => opened,
        Err(e @ RingError::WrongKey) => {
            return Ok(vec![Finding::error("key ring", name, e.to_string(), back)]);
        }
        Err(e) => {
            let what = e.to_string();
            return Ok(vec![Finding::error("key ring", "", what, RESTORE)]);
        }
    };
    let mut found = Vec::new();
    let mut sealed: BTreeMap<String, u64> = BTreeMap::new();
    for node in store.every::<CaNode>().await? {
        if let Ok(value) = node.sealed_key.parse::<Sealed>() {
            *sealed.entry(value.key).or_default() += 1;
        }
        found.extend(ca(ground, &node, &opened).await);
    }
    let counts = row.ring.keys.keys().map(|key| {
        let n = sealed.get(key).copied().unwrap_or(0);
        let writes = if *key == row.ring.writes {
            ", and the new ones"
        } else {
            ""
        };
        format!("{key} seals {n} values{writes}")
    });
    let what = format!("it opens: {}", counts.collect::<Vec<_>>().join("; "));
    found.insert(0, Finding::ok("key ring", what));
    Ok(found)
}

/// One CA whose key is kept here.
async fn ca(ground: &Ground<'_>, node: &CaNode, ring: &KeyRing) -> Vec<Finding> {
    let bad = |what: String| Finding::error("ca keys", &node.id, what, RESTORE);
    let certificate = match Certificate::from_pem(&node.certificate_pem) {
        Ok(certificate) => certificate,
        Err(e) => return vec![bad(format!("its certificate cannot be read: {e}"))],
    };
    let mut found = Vec::new();
    if !node.sealed_key.is_empty() {
        found.push(match signs(node, &certificate, ring).await {
            Ok(()) => Finding::ok(
                "ca keys",
                format!(
                    "{}: its key opens, fits its certificate and signs; it ends {}",
                    node.id,
                    certificate.not_after().whole_seconds()
                ),
            ),
            Err(why) => bad(why),
        });
    }
    found.extend(end(&node.id, certificate.not_after(), ground.now));
    found
}

async fn signs(node: &CaNode, certificate: &Certificate, ring: &KeyRing) -> Result<(), String> {
    const MESSAGE: &[u8] = b"certctl looks at its keys";
    let sealed: Sealed = node
        .sealed_key
        .parse()
        .map_err(|e: RingError| e.to_string())?;
    let key = ring
        .open(key_place(node.id.as_str()), &sealed)
        .map_err(|e| e.to_string())?;
    let key = PrivateKey::from_pkcs8_der(&key).map_err(|e| e.to_string())?;
    let signature = key.sign(MESSAGE).await.map_err(|e| e.to_string())?;
    if certificate.public_key().has_signed(MESSAGE, &signature) {
        Ok(())
    } else {
        Err("its key does not fit its certificate".to_owned())
    }
}

/// What a CA's end asks for.
fn end(id: &crate::id::Id, end: Time, now: Time) -> Option<Finding> {
    let remedy = if id.as_str() == SYSTEM_NODE {
        "it signs the server's own certificate, and agents pin it: they are enrolled anew once \
         another is made in a new store"
    } else {
        "make another CA (`certctl issuers create NAME`), have it trusted where the old one \
         is, and let certificates be issued by it"
    };
    let at = end.whole_seconds();
    if end <= now {
        let what = format!("it has ended, {at}: nothing that it issued is good");
        Some(Finding::error("ca keys", id, what, remedy))
    } else if end.since(now) < 30 * DAY {
        let what = format!("it ends {at}, within 30 days");
        Some(Finding::error("ca keys", id, what, remedy))
    } else if end.since(now) < YEAR {
        let what = format!("it ends {at}, within a year");
        Some(Finding::warning("ca keys", id, what, remedy))
    } else {
        None
    }
}
