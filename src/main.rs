//! The certctl binary: parse, run, map the outcome to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    certctl::cli::main(std::env::args_os())
}
