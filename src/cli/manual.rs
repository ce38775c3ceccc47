//! `certctl completions` and `certctl man`: made from the definition of the command line itself.

use super::{CliError, definition, output};
use clap::Args;
use clap_complete::Shell;
use std::{fs, path::PathBuf};

/// Print a shell's completions.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell, e.g. `certctl completions bash >/etc/bash_completion.d/certctl`
    shell: Shell,
}

/// Write the manual pages.
#[derive(Debug, Args)]
pub struct Man {
    /// The directory they are written into, a page for each command
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Prints completions.
pub fn completions(command: &Completions) {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut definition(), "certctl", &mut script);
    output::raw(&script);
}

/// Writes the manual.
pub fn man(command: &Man) -> Result<(), CliError> {
    let dir = &command.dir;
    let written =
        fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(definition(), dir));
    written.map_err(|e| CliError::Storage(format!("{}: {e}", dir.display())))?;
    output::line(&format!("the manual is in {}", dir.display()));
    Ok(())
}
