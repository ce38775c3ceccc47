//! The backup format: what comes out is what went in, or nothing.

use super::{Ask, conformance::conformance, run, whole::read, write, writes};
use bytes::Bytes;
use certctl::{
    clock::Time,
    store::{
        AUDIT, Append, Batch, Coll, Committer, Engine, Expect, Load, Memory, Redb, Store,
        backup::{
            BACKUP_FORMAT, BackupError, Ending, Header, Keys, Loaded, Lock, Reader, Since, Writer,
            capture, compare, load,
        },
    },
};
use redb::backends::InMemoryBackend;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use zeroize::Zeroizing;

const NOW: Time = Time::from_seconds(1_800_000_000);
const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";

fn keys() -> Keys {
    Keys::default().identities(IDENTITY).unwrap()
}

fn locks() -> [Lock; 2] {
    [Lock::Open, Lock::Recipients(keys().recipients())]
}

async fn bundle(engine: &dyn Engine, lock: &Lock, since: Option<Since>) -> (Vec<u8>, Header) {
    let state = engine
        .snapshot(Instant::now() + Duration::from_secs(60))
        .await
        .unwrap();
    let mut header = Header::of(&*state, NOW, "0.1.0").await.unwrap();
    header.since = since.map(|since| since.seq);
    let mut out = Writer::new(Vec::new(), lock, header.clone()).unwrap();
    capture(&*state, since, &mut out, &mut |_| {})
        .await
        .unwrap();
    (out.finish().unwrap().0, header)
}

async fn restore(bundles: &[&[u8]], engine: &dyn Engine) -> Result<Loaded, BackupError> {
    let keys = keys();
    let bundles = bundles.iter().map(|bytes| Reader::new(*bytes, &keys));
    let loaded = load(
        futures_util::stream::iter(bundles),
        engine,
        |header| header.seq,
        &mut |_| {},
    )
    .await?;
    let state = engine
        .snapshot(Instant::now() + Duration::from_secs(60))
        .await?;
    compare(&*state, &loaded).await?;
    Ok(loaded)
}

fn verify(bytes: &[u8], keys: &Keys) -> Result<(Header, Ending), BackupError> {
    Reader::new(bytes, keys)?.verify(|_| {})
}

fn entry() -> Append {
    Append {
        stream: AUDIT,
        doc: Bytes::from_static(b"{}"),
    }
}

/// A few things of each kind.
async fn little() -> Memory {
    let engine = Memory::new();
    let mut batch = writes(vec![
        write(
            Coll("owner"),
            "a",
            Expect::Absent,
            r#"{"a":"x\ny é"}"#,
            vec![],
        ),
        write(Coll("owner"), "b", Expect::Absent, "{}", vec![]),
        write(Coll("layout"), "owner", Expect::Absent, "{}", vec![]),
    ]);
    batch.append = vec![entry(), entry()];
    Ask(&engine).accepted(batch).await;
    engine
}

#[test]
fn a_store_is_backed_up_and_restored_on_every_engine() {
    run(async {
        let redb = || Redb::open_on(InMemoryBackend::new()).unwrap();
        let pairs: [(Box<dyn Engine>, Box<dyn Engine>); 2] = [
            (Box::new(Memory::new()), Box::new(redb())),
            (Box::new(redb()), Box::new(Memory::new())),
        ];
        for ((from, to), lock) in pairs.into_iter().zip(locks()) {
            conformance(&*from).await;
            let (bytes, header) = bundle(&*from, &lock, None).await;
            let loaded = restore(&[&bytes], &*to).await.unwrap();
            assert_eq!(loaded.header, header);
            assert_eq!(read(&*to, 500).await, read(&*from, 500).await);
        }
    });
}

#[test]
fn every_flipped_bit_and_every_missing_byte_is_refused() {
    run(async {
        let engine = little().await;
        for lock in locks() {
            let (bytes, header) = bundle(&engine, &lock, None).await;
            let (found, ending) = verify(&bytes, &keys()).unwrap();
            assert_eq!(found, header);
            assert_eq!(
                (ending.all_rows(), ending.entries[AUDIT]),
                (2, 2),
                "no layout"
            );
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    // All bits of what nothing but our own sum protects.
                    if matches!(lock, Lock::Recipients(_)) && bit != at % 8 {
                        continue;
                    }
                    let mut other = bytes.clone();
                    other[at] ^= 1 << bit;
                    assert!(verify(&other, &keys()).is_err(), "bit {bit} of byte {at}");
                }
                assert!(verify(&bytes[..at], &keys()).is_err(), "{at} bytes");
            }
            let mut more = bytes.clone();
            more.push(0);
            assert!(verify(&more, &keys()).is_err(), "a byte more");
        }
    });
}

#[test]
fn only_its_keys_open_a_backup() {
    run(async {
        let engine = little().await;
        let (bytes, _) = bundle(&engine, &locks()[1], None).await;
        assert!(
            !bytes.windows(5).any(|w| w == b"owner"),
            "what it holds cannot be seen"
        );
        let other = Keys::default().machine(&[7; 32]);
        assert_eq!(other.recipients().len(), 1);
        for keys in [Keys::default(), other] {
            let refused = verify(&bytes, &keys);
            assert!(
                matches!(refused, Err(BackupError::Locked(_))),
                "{refused:?}"
            );
        }

        let word = |word: &str| Zeroizing::new(word.to_owned());
        let lock = Lock::Passphrase(word("correct horse"));
        let (bytes, _) = bundle(&engine, &lock, None).await;
        let with = |w| Keys::default().passphrase(word(w));
        verify(&bytes, &with("correct horse")).unwrap();
        for keys in [with("battery staple"), keys()] {
            let refused = verify(&bytes, &keys);
            assert!(
                matches!(refused, Err(BackupError::Locked(_))),
                "{refused:?}"
            );
        }
        assert!(matches!(
            verify(b"SQLite format 3", &keys()),
            Err(BackupError::NoBackup)
        ));
        assert!(matches!(verify(b"", &keys()), Err(BackupError::NoBackup)));
        assert!(Keys::default().identities("# nothing").is_err());
        use certctl::crypt::Recipient;
        let secret = age::x25519::Identity::generate().to_string();
        let secret = age::secrecy::ExposeSecret::expose_secret(&secret);
        for (text, said) in [
            (secret, "an identity"),
            (&secret[1..], "no recipient"),
            ("age1nothing", "no recipient"),
        ] {
            let refused = text.parse::<Recipient>().err().unwrap().to_string();
            assert!(refused.contains(said), "{refused}");
            assert!(!refused.contains(&text[5..]), "{refused}");
        }
    });
}

#[test]
fn what_a_later_version_wrote_is_refused() {
    run(async {
        let engine = little().await;
        let state = engine
            .snapshot(Instant::now() + Duration::from_secs(60))
            .await
            .unwrap();
        let header = Header::of(&*state, NOW, "9.0.0").await.unwrap();
        let mut format = header.clone();
        format.format = BACKUP_FORMAT + 1;
        let mut document = header.clone();
        *document.formats.get_mut("owner").unwrap() += 1;
        let mut collection = header.clone();
        collection.formats.insert("flying_carpet".into(), 1);
        for header in [format, document, collection] {
            let out = Writer::new(Vec::new(), &Lock::Open, header).unwrap();
            let refused = verify(&out.finish().unwrap().0, &Keys::default());
            let Err(BackupError::Newer { product, .. }) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(product, "9.0.0");
        }
    });
}

#[test]
fn increments_close_the_gap_after_a_base() {
    run(async {
        const OWNER: Coll = Coll("owner");
        let engine = Memory::new();
        let ask = Ask(&engine);
        let put = |row: &str, expect| Batch {
            append: vec![entry()],
            ..writes(vec![write(OWNER, row, expect, "{}", vec![])])
        };
        let gone = ask.accepted(put("gone", Expect::Absent)).await.version;
        let kept = ask.accepted(put("kept", Expect::Absent)).await.version;
        let (base, header) = bundle(&engine, &Lock::Open, None).await;
        let since = |header: &Header| Since {
            seq: header.seq,
            audit_entries: header.audit_entries,
        };
        for n in 0..200 {
            ask.accepted(put(&format!("n{n}"), Expect::Absent)).await;
        }
        let (first, middle) = bundle(&engine, &locks()[1], Some(since(&header))).await;
        ask.accepted(put("kept", Expect::Version(kept))).await;
        ask.accepted(writes(vec![super::delete(OWNER, "gone", gone)]))
            .await;
        let (second, _) = bundle(&engine, &Lock::Open, Some(since(&middle))).await;

        let restored = Memory::new();
        restore(&[&base, &first, &second], &restored).await.unwrap();
        assert_eq!(read(&restored, 50).await, read(&engine, 50).await);

        let other = Memory::new();
        Ask(&other).accepted(put("x", Expect::Absent)).await;
        let mut batch = put("y", Expect::Absent);
        batch.append.push(entry());
        Ask(&other).accepted(batch).await;
        let (stranger, _) = bundle(&other, &Lock::Open, None).await;
        for bundles in [vec![&base, &second], vec![&base, &second, &first]] {
            let bundles: Vec<&[u8]> = bundles.into_iter().map(|b| &b[..]).collect();
            let refused = restore(&bundles, &Memory::new()).await;
            let (end, since) = match refused {
                Err(BackupError::Missing { end, since, .. }) => (end, since),
                other => panic!("{other:?}"),
            };
            assert_eq!((end, since), (header.seq, middle.seq));
        }
        for (bundles, why) in [
            (vec![&first], "without a base"),
            (vec![&base, &base], "a second base"),
        ] {
            let bundles: Vec<&[u8]> = bundles.into_iter().map(|b| &b[..]).collect();
            let refused = restore(&bundles, &Memory::new()).await;
            assert!(
                matches!(refused, Err(BackupError::NoSequel(_))),
                "{why}: {refused:?}"
            );
        }
        drop(stranger);
    });
}

#[test]
fn an_increment_is_refused_when_the_store_forgot() {
    run(async {
        let engine: Arc<dyn Engine> = Arc::new(little().await);
        let (base, header) = bundle(&*engine, &Lock::Open, None).await;
        let since = Since {
            seq: header.seq - 1,
            audit_entries: 0,
        };
        let refused = |engine: Arc<dyn Engine>| async move {
            let state = engine
                .snapshot(Instant::now() + Duration::from_secs(60))
                .await
                .unwrap();
            let header = Header::of(&*state, NOW, "0.1.0").await.unwrap();
            let mut out = Writer::new(Vec::new(), &Lock::Open, header).unwrap();
            capture(&*state, Some(since), &mut out, &mut |_| {}).await
        };
        let store = Store::start(engine.clone(), Committer::Inline, Box::new(|_| {})).unwrap();
        let trim = Batch {
            trim: header.seq,
            ..Batch::default()
        };
        store.commit(trim).await.unwrap();
        assert!(matches!(
            refused(engine).await,
            Err(BackupError::NoSequel(_))
        ));

        let restored = Arc::new(Memory::new());
        restore(&[&base], &*restored).await.unwrap();
        assert!(
            matches!(refused(restored).await, Err(BackupError::NoSequel(_))),
            "nor does a store know what was before it was restored"
        );
        let _ = Load::default();
    });
}

/// The sweep of a migration rewrites rows of which the feed does not tell.
#[test]
fn an_increment_across_a_migration_is_refused() {
    run(async {
        for coll in ["schema", "migration"] {
            let engine = little().await;
            let (_, header) = bundle(&engine, &Lock::Open, None).await;
            let row = write(Coll(coll), "x", Expect::Absent, "{}", vec![]);
            Ask(&engine).accepted(writes(vec![row])).await;
            let state = engine
                .snapshot(Instant::now() + Duration::from_secs(60))
                .await
                .unwrap();
            let since = Since {
                seq: header.seq,
                audit_entries: header.audit_entries,
            };
            let mut out = Writer::new(Vec::new(), &Lock::Open, header).unwrap();
            let refused = capture(&*state, Some(since), &mut out, &mut |_| {}).await;
            assert!(
                matches!(refused, Err(BackupError::NoSequel(_))),
                "{coll}: {refused:?}"
            );
        }
    });
}
