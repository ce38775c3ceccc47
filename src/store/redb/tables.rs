//! What is stored where.

use redb::TableDefinition;

/// (collection, id)
pub type RowName = (&'static str, &'static str);
/// (version, document)
pub type Stored = (u64, &'static [u8]);
/// (index, key, counted)s
pub type PlaceList = Vec<(&'static str, &'static [u8], Option<u16>)>;
/// (time, (collection, id)s)
pub type FeedRow = (i64, Vec<RowName>);
/// (link, document)
pub type Linked = (&'static [u8; 32], &'static [u8]);
/// (index, key, id)
pub type IndexEntry = (&'static str, &'static [u8], &'static str);

pub const REC: TableDefinition<RowName, Stored> = TableDefinition::new("rec");
/// All places of a row; no entry for a row that has none.
pub const KEYS: TableDefinition<RowName, PlaceList> = TableDefinition::new("keys");
pub const IDX: TableDefinition<IndexEntry, ()> = TableDefinition::new("idx");
/// By (index, counted beginning of its keys).
pub const COUNT: TableDefinition<(&str, &[u8]), u64> = TableDefinition::new("count");
/// By commit number.
pub const FEED: TableDefinition<u64, FeedRow> = TableDefinition::new("feed");
pub const COUNTER: TableDefinition<&[u8], i64> = TableDefinition::new("counter");
/// By (stream, number).
pub const STREAM: TableDefinition<(&str, u64), Linked> = TableDefinition::new("stream");
/// The (number, link) of a stream's newest entry.
pub const HEAD: TableDefinition<&str, (u64, &[u8; 32])> = TableDefinition::new("head");
/// "format"; "seq", the last sequence number given out, whose upper part is the epoch; "trimmed",
/// the newest commit that the feed has forgotten.
pub const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
