//! What things cost: work counted at the storage engine, and the benchmarks that measure time.

mod budget;
mod runs;
