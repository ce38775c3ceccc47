//! The whole product under `kill -9`: a server and two agents, each a process of its own.

mod clients;
mod dice;
mod fleet;
mod kills;
mod ledger;
mod moment;
mod nginx;

pub use dice::Dice;
