//! The programs that one deployment runs, and what they wrote.

use super::Fault;
use crate::sys::{Command, Ending, Exec, Finished, MAX_OUTPUT};
use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How much of a failing program's last words a reason quotes, in bytes.
const QUOTED: usize = 512;

/// Runs programs and keeps the end of what they write, in order.
pub struct Programs<'a> {
    exec: &'a dyn Exec,
    output: Mutex<String>,
}

impl<'a> Programs<'a> {
    /// Nothing has run yet.
    pub fn new(exec: &'a dyn Exec) -> Self {
        Self {
            exec,
            output: Mutex::default(),
        }
    }

    /// Runs a program that must exit with code 0.
    pub async fn run(&self, argv: Vec<String>, limit: Duration) -> Result<(), Fault> {
        self.note(&format!("$ {}\n", argv.join(" ")));
        let (name, finished) = self.finish(argv, limit).await?;
        self.note(&finished.output);
        succeeded(&name, &finished, limit)
    }

    /// What a program says of itself; it is not part of the output.
    pub async fn ask(&self, argv: Vec<String>, limit: Duration) -> Result<String, Fault> {
        let (name, finished) = self.finish(argv, limit).await?;
        succeeded(&name, &finished, limit)?;
        Ok(finished.output)
    }

    /// Sends SIGHUP to the process that `pid_file` names, when it is `program`.
    pub fn hang_up(&self, pid_file: &Path, program: &Path) -> Result<(), Fault> {
        self.exec
            .hang_up(pid_file, program)
            .map_err(Fault::operator)
    }

    /// The end of what was written, [`MAX_OUTPUT`] bytes at most.
    pub fn output(&self) -> String {
        self.output
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn finish(
        &self,
        argv: Vec<String>,
        limit: Duration,
    ) -> Result<(String, Finished), Fault> {
        let name = argv.join(" ");
        let command = Command { argv, limit };
        let finished = self.exec.run(&command).await.map_err(Fault::operator)?;
        Ok((name, finished))
    }

    fn note(&self, text: &str) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.push_str(text);
        if !text.is_empty() && !text.ends_with('\n') {
            output.push('\n');
        }
        *output = end(&output, MAX_OUTPUT).to_owned();
    }
}

fn succeeded(name: &str, finished: &Finished, limit: Duration) -> Result<(), Fault> {
    let how = match finished.ending {
        Ending::Code(0) => return Ok(()),
        Ending::Code(code) => format!("exited with code {code}"),
        Ending::Signal(signal) => format!("was ended by signal {signal}"),
        Ending::TimedOut => format!("did not end within {limit:?} and was killed"),
    };
    let lines: Vec<&str> = finished.output.split('\n').map(str::trim).collect();
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    let said = lines.join("; ");
    let reason = match end(&said, QUOTED) {
        "" => format!("{name} {how}"),
        said => format!("{name} {how}: {said}"),
    };
    Err(match finished.ending {
        Ending::TimedOut => Fault::transient(reason),
        _ => Fault::operator(reason),
    })
}

/// The last whole characters of a text.
fn end(text: &str, bytes: usize) -> &str {
    let from = text.len().saturating_sub(bytes);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at));
    from.and_then(|from| text.get(from..)).unwrap_or_default()
}
