//! The whole product under `kill -9`.

mod kills;
mod ledger;
