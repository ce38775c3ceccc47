//! Every parser of bytes from outside, under bytes that nobody meant: changed copies of good ones,
//! and noise. None panics, what one accepts it writes and reads again as the same, and the server's
//! doors answer no 5xx.
//!
//! A case is a seed and a list of changes, so that a failing one is made small. `tests/run --full`
//! looks longer: `CERTCTL_TEST_FUZZ` is the number of cases for each parser.

mod changes;
mod doors;
mod parsers;
mod rows;

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use std::fmt::Debug;

/// Cases for each parser, of those that cost little.
fn cases() -> u32 {
    let given = std::env::var("CERTCTL_TEST_FUZZ").ok();
    given.map_or(300, |n| n.parse().unwrap())
}

/// Gives `parse` a number of inputs; the smallest that fails is told.
fn run<T: Debug>(cases: u32, inputs: impl Strategy<Value = T>, parse: impl Fn(T)) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&inputs, |input| {
        parse(input);
        Ok(())
    });
    ran.unwrap_or_else(|e| panic!("{e}"));
}
