//! Storage: typed collections with declared indexes over a narrow engine.

mod batch;
mod commit;
mod engine;
mod key;
mod memory;
mod redb;

pub use self::redb::Redb;
pub use batch::{
    Append, Batch, Committed, CounterChange, CounterOp, Expect, Invalid, IndexKey, Outcome,
    Refusal, Write,
};
pub use commit::link;
pub use engine::{
    Answer, Coll, Engine, EngineError, Entry, Hit, Index, Query, Row, Scan,
};
pub use key::Key;
pub use memory::Memory;
