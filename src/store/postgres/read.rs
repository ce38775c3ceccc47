//! Answers, each by one statement and so from one moment.

use super::{
    places,
    session::{Session, engine_error},
    sql::ABOVE_ALL,
};
use crate::{
    clock::Time,
    id::Id,
    store::{
        batch::IndexKey,
        engine::{Answer, Change, Coll, EngineError, Entry, Feed, Hit, Index, Query, Row, Scan},
    },
};
use bytes::Bytes;
use futures_util::future::{MaybeDone, maybe_done};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    pin::Pin,
    task::Poll,
};
use tokio_postgres::{
    Statement,
    types::{FromSql, ToSql},
};

/// Answers several from one moment: all are on their way before the first is waited for, so a
/// reader that goes away leaves no transaction open.
pub async fn answers(session: &Session, questions: &[Query]) -> Result<Vec<Answer>, EngineError> {
    if let [question] = questions {
        return Ok(vec![answer(session, question).await?]);
    }
    let client = &session.client;
    let begin = client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    let each = questions.iter().map(|q| answer(session, q)).collect();
    let (begun, answers, ended) = tokio::join!(
        biased;
        begin,
        in_turn(each),
        client.batch_execute("COMMIT")
    );
    begun.map_err(engine_error)?;
    let answers = answers.into_iter().collect::<Result<_, _>>()?;
    ended.map_err(engine_error)?;
    Ok(answers)
}

/// Awaits all at once, begun in their order.
pub async fn in_turn<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let begin = |future| Box::pin(maybe_done(future));
    let mut all: Vec<Pin<Box<MaybeDone<F>>>> = futures.into_iter().map(begin).collect();
    poll_fn(|cx| {
        let mut done = true;
        for future in &mut all {
            done &= future.as_mut().poll(cx).is_ready();
        }
        if done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    all.iter_mut()
        .filter_map(|future| future.as_mut().take_output())
        .collect()
}

/// Answers one.
pub async fn answer(session: &Session, question: &Query) -> Result<Answer, EngineError> {
    let sql = &session.sql;
    match question {
        Query::Get { coll, ids } => {
            let wanted = Wanted { coll: *coll, ids };
            let mut rows = rows(session, &[wanted]).await?;
            Ok(Answer::Rows(rows.pop().unwrap_or_default()))
        }
        Query::All { coll, after, limit } => {
            let after = after.as_ref().map_or("", Id::as_str);
            let rows = ask(session, &sql.all, &[&coll.0, &after, &number(*limit)]).await?;
            let rows = rows.iter().map(|found| row(found, 0));
            Ok(Answer::All(rows.collect::<Result<_, _>>()?))
        }
        Query::Scan(scan) => Ok(Answer::Hits(hits(session, scan).await?)),
        Query::Keys { scan, of } => Ok(Answer::Keys(keys(session, scan, of).await?)),
        Query::Held { index, from, below } => {
            let below = below.as_deref().unwrap_or(&ABOVE_ALL);
            let n = ask(session, &sql.held, &[&index.name, from, &below]).await?;
            let n = n.first().map(|found| column(found, 0)).transpose()?;
            Ok(Answer::Held(unsigned(n.unwrap_or(0))))
        }
        Query::Counts {
            index,
            from,
            below,
            limit,
        } => {
            let below = below.as_deref().unwrap_or(&ABOVE_ALL);
            let limit = number(*limit);
            let counts = ask(session, &sql.counts, &[&index.name, from, &below, &limit]).await?;
            let counts = counts
                .iter()
                .map(|found| Ok((column(found, 0)?, unsigned(column(found, 1)?))));
            Ok(Answer::Counts(counts.collect::<Result<_, EngineError>>()?))
        }
        Query::Counter(key) => {
            let found = ask(session, &sql.counter, &[key]).await?;
            let value = found.first().map(|found| column(found, 0)).transpose()?;
            Ok(Answer::Counter(value.unwrap_or(0)))
        }
        Query::Tail {
            stream,
            before,
            limit,
        } => {
            let below = signed(*before);
            let entries = ask(session, &sql.tail, &[stream, &below, &number(*limit)]).await?;
            let entries = entries.iter().map(|found| entry(found, 0));
            Ok(Answer::Entries(entries.collect::<Result<_, _>>()?))
        }
        Query::EveryRow { after, limit } => {
            let after = after
                .as_ref()
                .map(|(coll, id)| (coll.as_str(), id.as_str()));
            let (coll, id) = after.unwrap_or_default();
            let rows = ask(session, &sql.every_row, &[&coll, &id, &number(*limit)]).await?;
            let rows = rows
                .iter()
                .map(|found| Ok((column(found, 0)?, row(found, 1)?)));
            Ok(Answer::EveryRow(rows.collect::<Result<_, EngineError>>()?))
        }
        Query::EveryCounter { after, limit } => {
            // Nothing lies between a name and the same with a zero behind it.
            let first = after.as_ref().map(|name| [name.as_slice(), &[0]].concat());
            let first = first.unwrap_or_default();
            let counters = ask(session, &sql.every_counter, &[&first, &number(*limit)]).await?;
            let counters = counters
                .iter()
                .map(|found| Ok((column(found, 0)?, column(found, 1)?)));
            Ok(Answer::EveryCounter(
                counters.collect::<Result<_, EngineError>>()?,
            ))
        }
        Query::EveryEntry { after, limit } => {
            let after = after
                .as_ref()
                .map(|(stream, number)| (stream.as_str(), *number));
            let (stream, after) = after.unwrap_or_default();
            let (after, limit) = (signed(after), number(*limit));
            let entries = ask(session, &sql.every_entry, &[&stream, &after, &limit]).await?;
            let entries = entries
                .iter()
                .map(|found| Ok((column(found, 0)?, entry(found, 1)?)));
            Ok(Answer::EveryEntry(
                entries.collect::<Result<_, EngineError>>()?,
            ))
        }
        Query::Sequence => {
            let found = ask(session, &sql.seq, &[]).await?;
            let seq = found.first().map(|found| column(found, 0)).transpose()?;
            let missing = || EngineError::Corrupt("it has no sequence number".to_owned());
            Ok(Answer::Sequence(unsigned(seq.ok_or_else(missing)?)))
        }
        Query::Feed { after, limit } => Ok(Answer::Feed(feed(session, *after, *limit).await?)),
    }
}

/// Rows of a collection that somebody wants.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub coll: Coll,
    pub ids: &'a [Id],
}

impl<'a> Wanted<'a> {
    fn names(self) -> impl Iterator<Item = (&'static str, &'a str)> {
        self.ids.iter().map(move |id| (self.coll.0, id.as_str()))
    }
}

/// Rows by id, for many readers, all from one moment.
pub async fn rows(
    session: &Session,
    wanted: &[Wanted<'_>],
) -> Result<Vec<Vec<Option<Row>>>, EngineError> {
    let names = wanted.iter().copied().flat_map(Wanted::names);
    let distinct: BTreeSet<(&str, &str)> = names.collect();
    let (colls, ids): (Vec<&str>, Vec<&str>) = distinct.into_iter().unzip();
    let found = ask(session, &session.sql.rows, &[&colls, &ids]).await?;
    let mut rows = BTreeMap::new();
    for found in &found {
        let coll: &str = column(found, 0)?;
        let id: &str = column(found, 1)?;
        rows.insert((coll, id), row(found, 1)?);
    }
    let answer = |wanted: &Wanted| {
        wanted
            .names()
            .map(|name| rows.get(&name).cloned())
            .collect()
    };
    Ok(wanted.iter().map(answer).collect())
}

async fn hits(session: &Session, scan: &Scan) -> Result<Vec<Hit>, EngineError> {
    let statement = [&session.sql.scan, &session.sql.scan_back][usize::from(scan.backward)];
    let found = walk(session, statement, scan).await?;
    let hits = found.iter().map(|found| {
        present(found, scan.index)?;
        Ok(Hit {
            key: column(found, 0)?,
            row: row(found, 1)?,
        })
    });
    hits.collect()
}

async fn keys(
    session: &Session,
    scan: &Scan,
    of: &[Index],
) -> Result<Vec<(Id, Vec<IndexKey>)>, EngineError> {
    let statement = [&session.sql.keys, &session.sql.keys_back][usize::from(scan.backward)];
    let found = walk(session, statement, scan).await?;
    let rows = found.iter().map(|found| {
        present(found, scan.index)?;
        let places = places::decode(column(found, 2)?)?;
        let held = places.iter().filter_map(|place| place.among(of));
        Ok((id(column(found, 1)?)?, held.collect()))
    });
    rows.collect()
}

/// A walk along an index: after the one before its first, and before the one after its last.
async fn walk(
    session: &Session,
    statement: &Statement,
    scan: &Scan,
) -> Result<Vec<tokio_postgres::Row>, EngineError> {
    // No id is empty: all that a key holds comes after (key, "").
    let first = (scan.from.as_slice(), "");
    let last = (scan.below.as_deref().unwrap_or(&ABOVE_ALL), "");
    let after = scan.after.as_ref();
    let after = after.map(|(key, id)| (key.as_slice(), id.as_str()));
    let (above, below) = match after {
        Some(after) if scan.backward => (first, after.min(last)),
        Some(after) => (after.max(first), last),
        None => (first, last),
    };
    let (skip, limit) = (number(scan.skip), number(scan.limit));
    let (index, coll) = (scan.index.name, scan.index.coll.0);
    let within: [&(dyn ToSql + Sync); 8] = [
        &index, &above.0, &above.1, &below.0, &below.1, &skip, &limit, &coll,
    ];
    ask(session, statement, &within).await
}

async fn ask(
    session: &Session,
    statement: &Statement,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<tokio_postgres::Row>, EngineError> {
    let found = session.client.query(statement, parameters).await;
    found.map_err(engine_error)
}

/// Refuses an entry of an index whose row is missing.
fn present(found: &tokio_postgres::Row, index: Index) -> Result<(), EngineError> {
    match found.try_get::<_, Option<Present>>(2) {
        Ok(Some(Present)) => Ok(()),
        _ => Err(EngineError::Corrupt(format!(
            "{} names a missing row",
            index.name
        ))),
    }
}

/// Whatever a column holds.
struct Present;

impl FromSql<'_> for Present {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        _: &[u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self)
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}

async fn feed(session: &Session, after: u64, limit: usize) -> Result<Feed, EngineError> {
    let (since, limit) = (signed(after), number(limit));
    let found = ask(session, &session.sql.feed, &[&since, &limit]).await?;
    let mut changes = Vec::with_capacity(found.len());
    for found in &found {
        let upto = unsigned(column(found, 0)?);
        if after < upto {
            return Ok(Feed::Trimmed { upto });
        }
        // No commit after the one asked for.
        let Some(seq) = column(found, 1)? else {
            break;
        };
        let written: &str = column(found, 3)?;
        let written: Vec<(String, String)> = serde_json::from_str(written)
            .map_err(|e| EngineError::Corrupt(format!("the feed holds no list of rows: {e}")))?;
        let rows = written.into_iter().map(|(coll, row)| Ok((coll, id(&row)?)));
        changes.push(Change {
            seq: unsigned(seq),
            at: Time::from_micros(column(found, 2)?),
            rows: rows.collect::<Result<_, EngineError>>()?,
        });
    }
    Ok(Feed::Changes(changes))
}

/// Id, version and document, from a column on.
fn row(found: &tokio_postgres::Row, first: usize) -> Result<Row, EngineError> {
    let doc: &str = column(found, first + 2)?;
    Ok(Row {
        id: id(column(found, first)?)?,
        version: unsigned(column(found, first + 1)?),
        doc: Bytes::copy_from_slice(doc.as_bytes()),
    })
}

/// Number, link and document, from a column on.
fn entry(found: &tokio_postgres::Row, first: usize) -> Result<Entry, EngineError> {
    let doc: &[u8] = column(found, first + 2)?;
    Ok(Entry {
        number: unsigned(column(found, first)?),
        link: link(column(found, first + 1)?)?,
        doc: Bytes::copy_from_slice(doc),
    })
}

pub fn link(bytes: &[u8]) -> Result<[u8; 32], EngineError> {
    let damaged = |_| EngineError::Corrupt("a link is not 32 bytes long".to_owned());
    bytes.try_into().map_err(damaged)
}

pub fn id(text: &str) -> Result<Id, EngineError> {
    let damaged = |_| EngineError::Corrupt(format!("{text:?} is no id"));
    text.parse().map_err(damaged)
}

pub fn column<'a, T: FromSql<'a>>(
    found: &'a tokio_postgres::Row,
    n: usize,
) -> Result<T, EngineError> {
    found
        .try_get(n)
        .map_err(|e| EngineError::Corrupt(e.to_string()))
}

/// Numbers beyond what the database knows are as good as its largest.
pub fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Numbers of ours are not below 0.
pub fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn number(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
