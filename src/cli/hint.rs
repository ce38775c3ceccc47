//! The commands that a text names, such as `certctl restore plan`, as they are typed here.

use super::Global;
use std::path::PathBuf;

/// How a command begins in a text.
const BEGINS: &str = "`certctl ";
/// What works on an agent's state, and on no server's store.
const OF_AGENTS: &str = "agent ";

impl Global {
    /// A command as it is typed here: by the program's name, with each flag of this command line
    /// that says which store or server is meant.
    pub(super) fn call(&self, command: &str) -> String {
        let mut call = match self.program.as_str() {
            "" => "certctl".to_owned(),
            program => word(program),
        };
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        for (flag, value) in [
            ("--config", path(&self.config)),
            ("--data-dir", path(&self.data_dir)),
            ("--socket", path(&self.socket)),
            ("--server", self.server.clone()),
            // Without it a server that was named may not be trusted.
            ("--ca-bundle", path(&self.ca_bundle)),
        ] {
            if let Some(value) = value {
                call.push_str(&format!(" {flag} {}", word(&value)));
            }
        }
        format!("{call} {command}")
    }

    /// A text whose commands of the server can be typed as they stand.
    pub(super) fn typed(&self, text: &str) -> String {
        let mut pieces = text.split(BEGINS);
        let mut typed = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (command, rest) = piece.split_once('`').unwrap_or((piece, ""));
            // A hint that says where is right already.
            if command.starts_with(OF_AGENTS) || command.contains("--data-dir") {
                typed.push_str(BEGINS);
                typed.push_str(piece);
            } else {
                typed.push('`');
                typed.push_str(&self.call(command));
                if piece.len() > command.len() {
                    typed.push('`');
                }
                typed.push_str(rest);
            }
        }
        typed
    }
}

/// A word of a shell.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:,@%=".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}
