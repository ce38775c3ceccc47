//! What is said to the database, prepared once for each session.

use super::schema::Schema;
use tokio_postgres::{Client, Error, Statement};

/// Above every key: those are at most 512 bytes long.
pub const ABOVE_ALL: [u8; 513] = [u8::MAX; 513];

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)*) => {
        /// Prepared statements.
        pub struct Sql { $($(#[$doc])* pub $name: Statement,)* }

        impl Sql {
            /// Prepares them all at once, for the tables of one schema.
            pub async fn prepare(client: &Client, schema: Schema) -> Result<Self, Error> {
                $(let $name = schema.of($sql);)*
                let ($($name,)*) = tokio::try_join!(biased; $(client.prepare(&$name)),*)?;
                Ok(Self { $($name),* })
            }
        }
    };
}

/// A stretch of an index, (key, id) above one pair and below another, in an order.
macro_rules! walk {
    ($order:literal) => {
        concat!(
            "SELECT key, id FROM certctl_store.entries \
             WHERE name = $1::text AND (key, id) > ($2::bytea, $3::text) \
             AND (key, id) < ($4::bytea, $5::text) \
             ORDER BY key ",
            $order,
            ", id ",
            $order,
            " OFFSET $6::int8 LIMIT $7::int8"
        )
    };
}

/// Such a stretch with something of the rows.
macro_rules! walk_rows {
    ($what:literal, $order:literal) => {
        concat!(
            "SELECT w.key, w.id, ",
            $what,
            " FROM (",
            walk!($order),
            ") w LEFT JOIN certctl_store.rows r ON r.coll = $8::text AND r.id = w.id \
             ORDER BY w.key ",
            $order,
            ", w.id ",
            $order
        )
    };
}

statements! {
    rows = "SELECT r.coll, r.id, r.version, r.doc::text \
            FROM unnest($1::text[], $2::text[]) AS w (coll, id) \
            JOIN certctl_store.rows r ON r.coll = w.coll AND r.id = w.id";
    all = "SELECT id, version, doc::text FROM certctl_store.rows \
           WHERE coll = $1::text AND id > $2::text ORDER BY id LIMIT $3::int8";
    scan = walk_rows!("r.version, r.doc::text", "ASC");
    scan_back = walk_rows!("r.version, r.doc::text", "DESC");
    keys = walk_rows!("r.places", "ASC");
    keys_back = walk_rows!("r.places", "DESC");
    held = "SELECT count(*) FROM certctl_store.entries \
            WHERE name = $1::text AND key >= $2::bytea AND key < $3::bytea";
    counts = "SELECT prefix, n FROM certctl_store.counts \
              WHERE name = $1::text AND prefix >= $2::bytea AND prefix < $3::bytea \
              ORDER BY prefix LIMIT $4::int8";
    counter = "SELECT value FROM certctl_store.counters WHERE name = $1::bytea";
    tail = "SELECT number, link, doc FROM certctl_store.stream_entries \
            WHERE stream = $1::text AND number < $2::int8 ORDER BY number DESC LIMIT $3::int8";
    feed = "SELECT m.trimmed, f.seq, f.at, f.written FROM certctl_store.meta m \
            LEFT JOIN LATERAL (SELECT seq, at, written::text FROM certctl_store.feed \
            WHERE seq > $1::int8 AND $1::int8 >= m.trimmed ORDER BY seq LIMIT $2::int8) f ON true \
            ORDER BY f.seq";
    seq = "SELECT seq FROM certctl_store.meta";
    every_row = "SELECT coll, id, version, doc::text FROM certctl_store.rows \
                 WHERE (coll, id) > ($1::text, $2::text) ORDER BY coll, id LIMIT $3::int8";
    every_counter = "SELECT name, value FROM certctl_store.counters \
                     WHERE name >= $1::bytea ORDER BY name LIMIT $2::int8";
    every_entry = "SELECT stream, number, link, doc FROM certctl_store.stream_entries \
                   WHERE (stream, number) > ($1::text, $2::int8) \
                   ORDER BY stream, number LIMIT $3::int8";

    /// Commits wait for each other here: what is read after it is what they left.
    lock = "SELECT seq, format, (extract(epoch FROM clock_timestamp()) * 1000000)::int8 \
            FROM certctl_store.meta FOR UPDATE";
    fact_rows = "SELECT r.coll, r.id, r.version, r.places \
                 FROM unnest($1::text[], $2::text[]) AS w (coll, id) \
                 JOIN certctl_store.rows r ON r.coll = w.coll AND r.id = w.id";
    /// The first holder, of each stretch asked for, that is none of the rows named last.
    probe = "SELECT p.n, h.key, h.id FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[]) \
             WITH ORDINALITY AS p (name, first, below, coll, n) \
             CROSS JOIN LATERAL (SELECT e.key, e.id FROM certctl_store.entries e \
             WHERE e.name = p.name AND e.key >= p.first AND e.key < p.below \
             AND NOT EXISTS (SELECT FROM unnest($5::text[], $6::text[]) AS w (coll, id) \
             WHERE w.coll = p.coll AND w.id = e.id) \
             ORDER BY e.key, e.id LIMIT 1) h";
    fact_counters = "SELECT name, value FROM certctl_store.counters WHERE name = ANY ($1::bytea[])";
    heads = "SELECT name, number, link FROM certctl_store.streams WHERE name = ANY ($1::text[])";

    put = "INSERT INTO certctl_store.rows (coll, id, version, doc, places) \
           SELECT coll, id, version, doc::jsonb, places \
           FROM unnest($1::text[], $2::text[], $3::int8[], $4::text[], $5::bytea[]) \
           AS w (coll, id, version, doc, places) \
           ON CONFLICT (coll, id) DO UPDATE SET version = excluded.version, doc = excluded.doc, \
           places = excluded.places";
    place = "UPDATE certctl_store.rows r SET places = w.places \
             FROM unnest($1::text[], $2::text[], $3::bytea[]) AS w (coll, id, places) \
             WHERE r.coll = w.coll AND r.id = w.id";
    delete = "DELETE FROM certctl_store.rows r USING unnest($1::text[], $2::text[]) AS w (coll, id) \
              WHERE r.coll = w.coll AND r.id = w.id";
    lose = "DELETE FROM certctl_store.entries e \
            USING unnest($1::text[], $2::bytea[], $3::text[]) AS w (name, key, id) \
            WHERE e.name = w.name AND e.key = w.key AND e.id = w.id";
    gain = "INSERT INTO certctl_store.entries (name, key, id) \
            SELECT name, key, id FROM unnest($1::text[], $2::bytea[], $3::text[]) AS w (name, key, id) \
            ON CONFLICT DO NOTHING";
    count = "WITH d AS (SELECT * FROM unnest($1::text[], $2::bytea[], $3::int8[]) \
             AS d (name, prefix, delta)), \
             known AS (UPDATE certctl_store.counts c SET n = c.n + d.delta FROM d \
             WHERE c.name = d.name AND c.prefix = d.prefix RETURNING c.name, c.prefix) \
             INSERT INTO certctl_store.counts (name, prefix, n) SELECT name, prefix, delta FROM d \
             WHERE NOT EXISTS (SELECT FROM known k WHERE k.name = d.name AND k.prefix = d.prefix)";
    uncount = "DELETE FROM certctl_store.counts c \
               USING unnest($1::text[], $2::bytea[]) AS w (name, prefix) \
               WHERE c.name = w.name AND c.prefix = w.prefix AND c.n = 0";
    set_counters = "INSERT INTO certctl_store.counters (name, value) \
                    SELECT * FROM unnest($1::bytea[], $2::int8[]) \
                    ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    forget_counters = "DELETE FROM certctl_store.counters WHERE name = ANY ($1::bytea[])";
    set_heads = "INSERT INTO certctl_store.streams (name, number, link) \
                 SELECT * FROM unnest($1::text[], $2::int8[], $3::bytea[]) \
                 ON CONFLICT (name) DO UPDATE SET number = excluded.number, link = excluded.link";
    append = "INSERT INTO certctl_store.stream_entries (stream, number, link, doc) \
              SELECT * FROM unnest($1::text[], $2::int8[], $3::bytea[], $4::bytea[])";
    take_over = "INSERT INTO certctl_store.stream_entries (stream, number, link, doc) \
                 SELECT * FROM unnest($1::text[], $2::int8[], $3::bytea[], $4::bytea[]) \
                 ON CONFLICT (stream, number) DO UPDATE SET link = excluded.link, \
                 doc = excluded.doc";
    load_to = "UPDATE certctl_store.meta SET seq = $1::int8, trimmed = greatest(trimmed, $2::int8)";
    tell = "INSERT INTO certctl_store.feed (seq, at, written) \
            SELECT seq, at, written::jsonb FROM unnest($1::int8[], $2::int8[], $3::text[]) \
            AS w (seq, at, written)";
    trim = "DELETE FROM certctl_store.feed WHERE seq <= $1::int8";
    /// The number given out last, the commit's name, and the word to other processes.
    close = "WITH m AS (UPDATE certctl_store.meta SET seq = $1::int8, \
             trimmed = greatest(trimmed, $2::int8)), \
             c AS (INSERT INTO certctl_store.commits (seq, id) VALUES ($1::int8, $3::bytea)) \
             SELECT pg_notify('certctl', ($1::int8)::text)";
    committed = "SELECT EXISTS (SELECT FROM certctl_store.commits \
                 WHERE seq = $1::int8 AND id = $2::bytea)";
    /// Looks at some of the oldest alone: it runs under the lock, and a day of names is long.
    forget = "DELETE FROM certctl_store.commits WHERE seq IN (SELECT seq \
              FROM certctl_store.commits WHERE seq < $1::int8 ORDER BY seq LIMIT 4096) \
              AND at < clock_timestamp() - interval '24 hours'";
}
