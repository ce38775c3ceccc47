//! Storage: typed collections with declared indexes over a narrow engine.

mod batch;
mod engine;

pub use batch::{
    Append, Batch, Committed, CounterChange, CounterOp, Expect, IndexKey, Outcome, Refusal, Write,
};
pub use engine::{
    Answer, Coll, Engine, EngineError, Entry, Hit, Index, Query, Row, Scan,
};
