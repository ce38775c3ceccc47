//! The tables, in a schema of their own: whoever is given the views (schema `certctl`) sees none of
//! them.

use std::borrow::Cow;

/// A schema with the tables of one store. SQL names those of [`SERVED`](Self::SERVED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema(&'static str);

impl Schema {
    /// That of the store which servers open.
    pub const SERVED: Self = Self("certctl_store");
    /// That of a store which is being restored and is nobody's yet.
    pub const RESTORED: Self = Self("certctl_restore");

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// The same said of this schema's tables.
    pub fn of(self, sql: &str) -> Cow<'_, str> {
        if self == Self::SERVED {
            Cow::Borrowed(sql)
        } else {
            Cow::Owned(sql.replace(Self::SERVED.0, self.0))
        }
    }
}

/// The layout of the tables.
pub const FORMAT: i64 = 1;

/// Held while tables or views are made: servers that start together make them once.
pub const LOCK: &str = "SELECT pg_advisory_xact_lock(8443, 0)";

/// Whether there are tables: asked of the catalog as of any table, for what is remembered of names
/// may be of before the lock.
pub const FOUND: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables \
                         WHERE schemaname = 'certctl_store' AND tablename = 'meta')";

/// Makes them. Ids, names and keys are compared byte by byte, whatever the database's language.
/// Rows that every commit writes are kept few to a page, where old ones are cleared at once.
pub const CREATE: &str = r#"
CREATE SCHEMA certctl_store;
CREATE TABLE certctl_store.meta (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  format bigint NOT NULL,
  seq bigint NOT NULL,
  trimmed bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
CREATE TABLE certctl_store.rows (
  coll text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  format integer NOT NULL DEFAULT 1,
  doc jsonb NOT NULL,
  places bytea NOT NULL,
  PRIMARY KEY (coll, id)
) WITH (fillfactor = 85);
CREATE TABLE certctl_store.entries (
  name text COLLATE "C" NOT NULL,
  key bytea NOT NULL,
  id text COLLATE "C" NOT NULL,
  PRIMARY KEY (name, key, id)
);
CREATE TABLE certctl_store.counts (
  name text COLLATE "C" NOT NULL,
  prefix bytea NOT NULL,
  n bigint NOT NULL CONSTRAINT counts_n CHECK (n >= 0),
  PRIMARY KEY (name, prefix)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE TABLE certctl_store.counters (
  name bytea PRIMARY KEY,
  value bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE certctl_store.streams (
  name text COLLATE "C" PRIMARY KEY,
  number bigint NOT NULL,
  link bytea NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
CREATE TABLE certctl_store.stream_entries (
  stream text COLLATE "C" NOT NULL,
  number bigint NOT NULL,
  link bytea NOT NULL,
  doc bytea NOT NULL,
  PRIMARY KEY (stream, number)
);
CREATE TABLE certctl_store.feed (
  seq bigint PRIMARY KEY,
  at bigint NOT NULL,
  written jsonb NOT NULL
);
CREATE TABLE certctl_store.commits (
  seq bigint PRIMARY KEY,
  id bytea NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"#;

/// A new store's numbers.
pub const BEGIN: &str = "INSERT INTO certctl_store.meta (format, seq) VALUES ($1, $2)";
