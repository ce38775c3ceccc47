//! The program of two formats later, for `tests/cli/next.rs`: the ordinary source with the feature
//! `next-format`, which adds one additive migration and one that renames.

use std::process::ExitCode;

fn main() -> ExitCode {
    certctl::cli::main(std::env::args_os())
}
