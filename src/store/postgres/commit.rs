//! A commit: the facts in one round trip, under the lock on `meta`, and the changes with COMMIT in
//! another.

use super::{
    places,
    read::{column, id, in_turn, link, signed, unsigned},
    schema::FORMAT,
    session::{Session, engine_error, silent},
    sql::{ABOVE_ALL, Sql},
};
use crate::{
    clock::Time,
    id::Id,
    store::{
        batch::{Batch, Outcome},
        commit::{
            self, Changes, Extent, Facts, Head, LOADING, Needs, Place, Probe, RowFact, Stored,
            decide, needs,
        },
        engine::{Coll, EngineError, Load, above},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
    time::Duration,
};
use tokio::time::timeout;
use tokio_postgres::{Row, Statement, types::ToSql};

/// Old commits are forgotten each time so many numbers were given out, and more of them at once
/// than that.
const FORGET_EVERY: u64 = 1 << 10;

const REPLACED: &str = "another store has taken the place of the one that this server opened: a \
                        backup was restored, and the next start takes it up";

/// How a commit ended that has not simply been done.
pub enum Failure {
    /// Nothing was changed.
    Before(EngineError),
    /// COMMIT was sent, and no answer came: what was then true of the commit.
    Lost(Pending),
}

/// A commit whose outcome is to be looked up.
pub struct Pending {
    /// The number that the commit left in `meta`.
    pub seq: u64,
    /// The commit's name.
    pub name: [u8; 16],
    /// What the batches are told if it took place.
    pub outcomes: Vec<Outcome>,
}

impl From<EngineError> for Failure {
    fn from(e: EngineError) -> Self {
        Self::Before(e)
    }
}

/// Decides a group and commits what it changes.
pub async fn commit(
    session: &Session,
    group: &[Batch],
    life: &OnceLock<u64>,
    patience: Duration,
) -> Result<Vec<Outcome>, Failure> {
    let needs = needs(group);
    let facts = timeout(patience, Box::pin(facts(session, &needs))).await;
    let facts = facts.unwrap_or_else(|_| Err(silent(patience)))?;
    let before = facts.seq;
    if *life.get_or_init(|| before >> 40) != before >> 40 {
        return Err(Failure::Before(EngineError::Io(REPLACED.to_owned())));
    }
    let (changes, outcomes) = decide(group, facts);
    let Some(changes) = changes else {
        let ended = session.client.batch_execute("ROLLBACK").await;
        ended.map_err(engine_error)?;
        return Ok(outcomes);
    };
    let pending = Pending {
        seq: changes.seq,
        name: name(group, &outcomes),
        outcomes,
    };
    let writing = Writing::of(&changes)?;
    let committed = Box::pin(writing.commit(session, before, &pending));
    let committed = timeout(patience, committed).await;
    // Whoever says nothing may be about to do it.
    match committed.unwrap_or(Err(None)) {
        Ok(()) => Ok(pending.outcomes),
        Err(Some(e)) => Err(Failure::Before(e)),
        Err(None) => Err(Failure::Lost(pending)),
    }
}

/// A group is known by the number it leaves and the name of its first accepted batch.
fn name(group: &[Batch], outcomes: &[Outcome]) -> [u8; 16] {
    let accepted = group
        .iter()
        .zip(outcomes)
        .find(|(_, outcome)| matches!(outcome, Outcome::Committed(_)));
    accepted.map_or([0; 16], |(batch, _)| batch.id.to_be_bytes())
}

/// Whether a commit took place. The lock is waited for: a session that the database has not missed
/// yet may still be about to commit.
pub async fn took_place(session: &Session, pending: &Pending) -> Result<bool, EngineError> {
    let (client, sql) = (&session.client, &session.sql);
    let found = async {
        client.batch_execute(BEGIN).await?;
        client.query_one(&sql.lock, &[]).await?;
        let (seq, named) = (signed(pending.seq), pending.name.as_slice());
        let found = client.query_one(&sql.committed, &[&seq, &named]).await?;
        client.batch_execute("ROLLBACK").await?;
        found.try_get(0)
    };
    found.await.map_err(engine_error)
}

/// Whatever the database's own default is: each statement sees what was committed before it began.
/// A database that is read-only by default is so for a reason.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Rows of a statement that is left out when there is nothing to ask.
async fn ask(
    session: &Session,
    statement: &Statement,
    parameters: &[&(dyn ToSql + Sync)],
    any: bool,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    if any {
        session.client.query(statement, parameters).await
    } else {
        Ok(Vec::new())
    }
}

/// Begins a transaction, waits for those before it, and reads what deciding the group needs.
async fn facts(session: &Session, needs: &Needs) -> Result<Facts, EngineError> {
    let sql = &session.sql;
    let (colls, ids) = split(needs.rows.iter().map(|(coll, id)| (coll.0, id.as_str())));
    let probes: Vec<&Probe> = needs.probes.iter().collect();
    let ends: Vec<Vec<u8>> = probes.iter().map(|probe| end(probe)).collect();
    let indexes: Vec<&str> = probes.iter().map(|p| p.index.name).collect();
    let over: Vec<&str> = probes.iter().map(|p| p.index.coll.0).collect();
    let firsts: Vec<&[u8]> = probes.iter().map(|p| p.key.as_slice()).collect();
    let (written_colls, written_ids) = split(
        needs
            .written()
            .iter()
            .map(|(coll, id)| (coll.0, id.as_str())),
    );
    let counters: Vec<&[u8]> = needs.counters.iter().map(Vec::as_slice).collect();
    let streams: Vec<&str> = needs.streams.iter().copied().collect();
    let (row_names, counter_names): ([&(dyn ToSql + Sync); 2], [&(dyn ToSql + Sync); 1]) =
        ([&colls, &ids], [&counters]);
    let stretches: [&(dyn ToSql + Sync); 6] = [
        &indexes,
        &firsts,
        &ends,
        &over,
        &written_colls,
        &written_ids,
    ];
    let stream_names: [&(dyn ToSql + Sync); 1] = [&streams];
    let (begun, locked, rows, held, counters, heads) = tokio::join!(
        biased;
        session.client.batch_execute(BEGIN),
        session.client.query_opt(&sql.lock, &[]),
        ask(session, &sql.fact_rows, &row_names, !ids.is_empty()),
        ask(session, &sql.probe, &stretches, !probes.is_empty()),
        ask(session, &sql.fact_counters, &counter_names, !needs.counters.is_empty()),
        ask(session, &sql.heads, &stream_names, !streams.is_empty())
    );
    begun.map_err(engine_error)?;
    let meta = locked.map_err(engine_error)?;
    let meta = meta.ok_or_else(|| EngineError::Corrupt("it has no sequence number".to_owned()))?;
    let format: i64 = column(&meta, 1)?;
    if format != FORMAT {
        return Err(EngineError::Format {
            found: unsigned(format),
            known: unsigned(FORMAT),
        });
    }
    let mut facts = Facts {
        seq: unsigned(column(&meta, 0)?),
        now: Some(Time::from_micros(column(&meta, 2)?)),
        ..Facts::default()
    };
    if facts.seq == LOADING {
        return Err(EngineError::HalfLoaded);
    }
    note_rows(&mut facts, needs, &rows.map_err(engine_error)?)?;
    for found in held.map_err(engine_error)? {
        let n: i64 = column(&found, 0)?;
        let probe = usize::try_from(n - 1).ok().and_then(|n| probes.get(n));
        let probe = probe.ok_or_else(|| EngineError::Corrupt("an answer too many".to_owned()))?;
        facts.hold(probe.index, column(&found, 1)?, id(column(&found, 2)?)?);
    }
    for found in counters.map_err(engine_error)? {
        facts
            .counters
            .insert(column(&found, 0)?, column(&found, 1)?);
    }
    for found in heads.map_err(engine_error)? {
        let name: &str = column(&found, 0)?;
        if let Some(stream) = needs.streams.get(name) {
            let head = Head {
                number: unsigned(column(&found, 1)?),
                link: link(column(&found, 2)?)?,
            };
            facts.heads.insert(stream, head);
        }
    }
    Ok(facts)
}

/// Where a probe's stretch of keys ends.
fn end(probe: &Probe) -> Vec<u8> {
    match probe.extent {
        // Nothing lies between a key and the same with a zero behind it.
        Extent::Exact => [probe.key.as_slice(), &[0]].concat(),
        Extent::Prefix => above(probe.key.clone()).unwrap_or_else(|| ABOVE_ALL.to_vec()),
    }
}

/// Notes the rows found, and which of the probed keys those hold that the group writes: the
/// database was asked for the first other holder only.
fn note_rows(facts: &mut Facts, needs: &Needs, found: &[Row]) -> Result<(), EngineError> {
    let mut held: BTreeMap<Place, BTreeSet<Id>> = BTreeMap::new();
    let asked = needs
        .rows
        .iter()
        .map(|row| ((row.0.0, row.1.as_str()), row));
    let asked: BTreeMap<_, _> = asked.collect();
    for found in found {
        let name: (&str, &str) = (column(found, 0)?, column(found, 1)?);
        let Some(&row) = asked.get(&name) else {
            continue;
        };
        let keys = places::decode(column(found, 3)?)?;
        if needs.written().contains(row) {
            for place in &keys {
                held.entry(place.clone()).or_default().insert(row.1.clone());
            }
        }
        let version = unsigned(column(found, 2)?);
        facts.rows.insert(row.clone(), RowFact { version, keys });
    }
    for probe in &needs.probes {
        let start = Place {
            index: probe.index.name.to_owned(),
            key: probe.key.clone(),
            counted: None,
        };
        let from = held.range(start..).take_while(|(place, _)| {
            place.index == probe.index.name
                && match probe.extent {
                    Extent::Exact => place.key == probe.key,
                    Extent::Prefix => place.key.starts_with(&probe.key),
                }
        });
        for (place, ids) in from {
            for id in ids {
                facts.hold(probe.index, &place.key, id.clone());
            }
        }
    }
    Ok(())
}

/// Takes over a part of another store.
pub async fn load(session: &Session, part: &Load) -> Result<(), EngineError> {
    let (client, sql) = (&session.client, &session.sql);
    client.batch_execute(BEGIN).await.map_err(engine_error)?;
    let meta = client
        .query_one(&sql.lock, &[])
        .await
        .map_err(engine_error)?;
    let seq = signed(commit::loading(unsigned(column(&meta, 0)?), part.last)?);
    let trimmed = signed(part.last.unwrap_or(0));
    let none = BTreeSet::new();
    let mut all = Writing::default();
    for (coll, row) in &part.rows {
        all.put(coll, &row.id, row.version, &row.doc, &none)?;
    }
    for (coll, id) in &part.gone {
        all.delete.0.push(coll);
        all.delete.1.push(id.as_str());
    }
    for (name, value) in &part.counters {
        all.counters.0.push(name);
        all.counters.1.push(*value);
    }
    let mut heads = BTreeMap::new();
    for (stream, entry) in &part.entries {
        all.taken.0.push(stream);
        all.taken.1.push(signed(entry.number));
        all.taken.2.push(&entry.link);
        all.taken.3.push(&entry.doc);
        heads.insert(stream, entry);
    }
    for (stream, last) in heads {
        all.heads.0.push(stream);
        all.heads.1.push(signed(last.number));
        all.heads.2.push(&last.link);
    }
    let mut steps = all.steps(sql);
    steps.push((&sql.load_to, vec![&seq, &trimmed]));
    for (statement, lists) in steps {
        client
            .execute(statement, &lists)
            .await
            .map_err(engine_error)?;
    }
    client.batch_execute("COMMIT").await.map_err(engine_error)
}

/// Two lists from a list of pairs.
fn split<A, B>(pairs: impl Iterator<Item = (A, B)>) -> (Vec<A>, Vec<B>) {
    pairs.unzip()
}

/// Rows, column by column.
type Rows<'a> = (
    Vec<&'a str>,
    Vec<&'a str>,
    Vec<i64>,
    Vec<&'a str>,
    Vec<Vec<u8>>,
);
/// Entries of streams, column by column.
type Entries<'a> = (Vec<&'a str>, Vec<i64>, Vec<&'a [u8]>, Vec<&'a [u8]>);

/// What is written, as the lists that statements take.
#[derive(Default)]
struct Writing<'a> {
    put: Rows<'a>,
    place: (Vec<&'a str>, Vec<&'a str>, Vec<Vec<u8>>),
    delete: (Vec<&'a str>, Vec<&'a str>),
    lose: (Vec<&'a str>, Vec<&'a [u8]>, Vec<&'a str>),
    gain: (Vec<&'a str>, Vec<&'a [u8]>, Vec<&'a str>),
    count: (Vec<&'a str>, Vec<&'a [u8]>, Vec<i64>),
    uncount: (Vec<&'a str>, Vec<&'a [u8]>),
    counters: (Vec<&'a [u8]>, Vec<i64>),
    forgotten: (Vec<&'a [u8]>,),
    heads: (Vec<&'a str>, Vec<i64>, Vec<&'a [u8]>),
    entries: Entries<'a>,
    taken: Entries<'a>,
    feed: (Vec<i64>, Vec<i64>, Vec<String>),
    trim: u64,
}

impl<'a> Writing<'a> {
    fn of(changes: &'a Changes) -> Result<Self, EngineError> {
        let mut all = Self {
            trim: changes.trim,
            ..Self::default()
        };
        for ((coll, id), change) in &changes.rows {
            all.row(*coll, id, &change.row, &change.keys)?;
            for place in &change.lost {
                all.lose.0.push(&place.index);
                all.lose.1.push(&place.key);
                all.lose.2.push(id.as_str());
            }
            for place in &change.gained {
                all.gain.0.push(&place.index);
                all.gain.1.push(&place.key);
                all.gain.2.push(id.as_str());
            }
        }
        for ((index, start), delta) in &changes.counts {
            all.count.0.push(index);
            all.count.1.push(start);
            all.count.2.push(*delta);
            if *delta < 0 {
                all.uncount.0.push(index);
                all.uncount.1.push(start);
            }
        }
        for (name, value) in &changes.counters {
            match value {
                Some(value) => {
                    all.counters.0.push(name);
                    all.counters.1.push(*value);
                }
                None => all.forgotten.0.push(name),
            }
        }
        for (stream, head) in &changes.heads {
            all.heads.0.push(stream);
            all.heads.1.push(signed(head.number));
            all.heads.2.push(&head.link);
        }
        for (stream, entry) in &changes.entries {
            all.entries.0.push(stream);
            all.entries.1.push(signed(entry.number));
            all.entries.2.push(&entry.link);
            all.entries.3.push(&entry.doc);
        }
        for change in &changes.feed {
            all.feed.0.push(signed(change.seq));
            all.feed.1.push(change.at.micros());
            let rows: Vec<_> = change.rows.iter().map(|(c, id)| (c, id.as_str())).collect();
            let rows = serde_json::to_string(&rows);
            let rows = rows.map_err(|e| EngineError::Refused(e.to_string()))?;
            all.feed.2.push(rows);
        }
        Ok(all)
    }

    fn row(
        &mut self,
        coll: Coll,
        id: &'a Id,
        row: &'a Stored,
        keys: &BTreeSet<Place>,
    ) -> Result<(), EngineError> {
        match row {
            Stored::Put(version, doc) => self.put(coll.0, id, *version, doc, keys)?,
            Stored::Same => {
                self.place.0.push(coll.0);
                self.place.1.push(id.as_str());
                self.place.2.push(places::encode(keys));
            }
            Stored::Gone => {
                self.delete.0.push(coll.0);
                self.delete.1.push(id.as_str());
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        coll: &'a str,
        id: &'a Id,
        version: u64,
        doc: &'a [u8],
        keys: &BTreeSet<Place>,
    ) -> Result<(), EngineError> {
        let text = str::from_utf8(doc)
            .map_err(|_| EngineError::Refused(format!("{coll}/{id} is no text")))?;
        self.put.0.push(coll);
        self.put.1.push(id.as_str());
        self.put.2.push(signed(version));
        self.put.3.push(text);
        self.put.4.push(places::encode(keys));
        Ok(())
    }

    /// The statements that there is something for, in order.
    fn steps<'s>(&'s self, sql: &'s Sql) -> Vec<(&'s Statement, Vec<&'s (dyn ToSql + Sync)>)> {
        macro_rules! steps {
            ($($statement:ident: $lists:ident [$($n:tt),*];)*) => {{
                let mut steps: Vec<(&Statement, Vec<&(dyn ToSql + Sync)>)> = Vec::new();
                $(if !self.$lists.0.is_empty() {
                    steps.push((&sql.$statement, vec![$(&self.$lists.$n),*]));
                })*
                steps
            }};
        }
        steps! {
            put: put [0, 1, 2, 3, 4];
            place: place [0, 1, 2];
            delete: delete [0, 1];
            lose: lose [0, 1, 2];
            gain: gain [0, 1, 2];
            count: count [0, 1, 2];
            uncount: uncount [0, 1];
            set_counters: counters [0, 1];
            forget_counters: forgotten [0];
            set_heads: heads [0, 1, 2];
            append: entries [0, 1, 2, 3];
            take_over: taken [0, 1, 2, 3];
            tell: feed [0, 1, 2];
        }
    }

    /// Writes and commits. An error is `None` when the database did not say what became of it.
    async fn commit(
        &self,
        session: &Session,
        before: u64,
        pending: &Pending,
    ) -> Result<(), Option<EngineError>> {
        let (client, sql) = (&session.client, &session.sql);
        let (seq, trim) = (signed(pending.seq), signed(self.trim));
        let named = pending.name.as_slice();
        let mut steps = self.steps(sql);
        if self.trim > 0 {
            steps.push((&sql.trim, vec![&trim]));
        }
        if before / FORGET_EVERY != pending.seq / FORGET_EVERY {
            steps.push((&sql.forget, vec![&seq]));
        }
        steps.push((&sql.close, vec![&seq, &trim, &named]));
        let each = steps
            .iter()
            .map(|(statement, lists)| client.execute(*statement, lists));
        let (written, ended) = tokio::join!(
            biased;
            in_turn(each.collect()),
            client.batch_execute("COMMIT")
        );
        match written.into_iter().find_map(Result::err) {
            // The database said no to a statement, and so to the COMMIT behind it.
            Some(e) if e.as_db_error().is_some() => Err(Some(engine_error(e))),
            Some(_) => Err(None),
            None => ended.map_err(|_| None),
        }
    }
}
