//! The commands that a text names, such as `certctl restore plan`, as they are typed here.

use super::Global;
use crate::config;
use std::path::Path;

/// How a command begins in a text.
const BEGINS: &str = "`certctl ";
/// What names the place of an agent's state, and no server's data directory.
const OF_AGENTS: &str = "agent ";

impl Global {
    /// A command as it is typed here: by the program's name, with the data directory where this
    /// command line named one that is not the default.
    pub(super) fn call(&self, command: &str) -> String {
        let program = match self.program.as_str() {
            "" => "certctl",
            program => program,
        };
        match self.data_dir.as_deref().filter(|dir| !is_default(dir)) {
            Some(dir) => {
                let dir = word(&dir.display().to_string());
                format!("{program} --data-dir {dir} {command}")
            }
            None => format!("{program} {command}"),
        }
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

fn is_default(dir: &Path) -> bool {
    config::setting("CERTCTL_DATA_DIR").is_some_and(|setting| dir == Path::new(setting.default))
}

/// A word of a shell.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:,@%=".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}
