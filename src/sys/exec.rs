//! Running other programs: no shell, a process group of its own, a time limit, little output kept.

#![expect(unsafe_code, reason = "a child's umask is set between fork and exec")]

use super::{Disk, Files};
use async_trait::async_trait;
use nix::{
    sys::{
        signal::{Signal, killpg},
        stat::{Mode, umask},
    },
    unistd::Pid,
};
use std::{io, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command as Process,
    time::timeout,
};

/// The most of a program's output that is kept, in bytes: its end.
pub const MAX_OUTPUT: usize = 4 << 10;
/// How long what a program leaves running may hold its output open after its end.
const LINGER: Duration = Duration::from_millis(200);

/// The longest file that holds a process number, in bytes.
const MAX_NUMBER: usize = 64;

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program, an absolute path, and its arguments. No shell reads them.
    pub argv: Vec<String>,
    /// How long it may take; then its whole process group is killed.
    pub limit: Duration,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Killed when its time was over.
    TimedOut,
}

/// A program's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub ending: Ending,
    /// The end of what it wrote to standard output and standard error, without control
    /// characters other than line breaks and tabs; [`MAX_OUTPUT`] bytes at most.
    pub output: String,
}

impl Finished {
    /// Whether it exited with code 0.
    pub fn succeeded(&self) -> bool {
        self.ending == Ending::Code(0)
    }
}

/// A program that could not be run, or a process that could not be signalled.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It did not start.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// No process is there to be signalled.
    #[error("cannot signal the process of {}: {problem}", pid_file.display())]
    Signal {
        /// The file that holds its number.
        pid_file: std::path::PathBuf,
        /// Why not.
        problem: String,
    },
}

/// Runs programs and signals daemons.
#[async_trait]
pub trait Exec: Send + Sync {
    /// Runs a program to its end, or to the end of its time. When the call is dropped, its
    /// process group is killed.
    async fn run(&self, command: &Command) -> Result<Finished, ExecError>;

    /// Sends SIGHUP to the process whose number is in `pid_file`, when its program is `program`.
    fn hang_up(&self, pid_file: &Path, program: &Path) -> Result<(), ExecError>;
}

/// The machine's programs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Programs;

#[async_trait]
impl Exec for Programs {
    async fn run(&self, command: &Command) -> Result<Finished, ExecError> {
        let program = command.argv.first().cloned().unwrap_or_default();
        let start = |source| ExecError::Start {
            program: program.clone(),
            source,
        };
        let mut process = Process::new(&program);
        process
            .args(command.argv.iter().skip(1))
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        // SAFETY: umask(2) is async-signal-safe and touches nothing but the child.
        unsafe {
            process.pre_exec(|| {
                umask(Mode::from_bits_truncate(0o022));
                Ok(())
            });
        }
        let mut child = process.spawn().map_err(start)?;
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
        let (mut out, mut err) = (Tail::default(), Tail::default());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ending = {
            let output = async { tokio::join!(out.fill(stdout), err.fill(stderr)) };
            tokio::pin!(output);
            let mut read = false;
            let ended = timeout(command.limit, async {
                tokio::select! {
                    biased;
                    status = child.wait() => status,
                    _ = &mut output => {
                        read = true;
                        child.wait().await
                    }
                }
            })
            .await;
            match ended {
                Ok(status) => {
                    let status = status.map_err(start)?;
                    group.leave();
                    if !read {
                        let _ = timeout(LINGER, output).await;
                    }
                    ending(status)
                }
                Err(_) => {
                    drop(group);
                    let _ = child.wait().await;
                    Ending::TimedOut
                }
            }
        };
        let mut output = out.text();
        output.push_str(&err.text());
        let cut = output.len().saturating_sub(MAX_OUTPUT);
        let cut = (cut..=output.len()).find(|at| output.is_char_boundary(*at));
        Ok(Finished {
            ending,
            output: output.split_off(cut.unwrap_or_default()),
        })
    }

    fn hang_up(&self, pid_file: &Path, program: &Path) -> Result<(), ExecError> {
        let refuse = |problem: String| ExecError::Signal {
            pid_file: pid_file.to_owned(),
            problem,
        };
        // Another's file may be named: what stands in it is never told.
        let bytes = Disk
            .read(pid_file, MAX_NUMBER)
            .map_err(|e| match e.source.kind() {
                io::ErrorKind::NotFound => refuse(format!("{}: is it running?", e.source)),
                _ => refuse("it is not a file that holds a process number".into()),
            })?;
        let text = String::from_utf8(bytes).unwrap_or_default();
        let number = text.trim().parse::<i32>().ok().filter(|pid| *pid > 1);
        let pid = number.ok_or_else(|| refuse("it holds no process number".into()))?;
        // A number left by a process that is gone may be another's by now.
        let named = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        if named.trim().is_empty() {
            return Err(refuse(format!(
                "process {pid} is not running: start {name}"
            )));
        }
        // The kernel keeps 15 bytes of a name.
        if !name.as_bytes().starts_with(named.trim().as_bytes()) {
            let named = named.trim();
            return Err(refuse(format!("process {pid} is {named}, not {name}")));
        }
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGHUP)
            .map_err(|e| refuse(e.to_string()))
    }
}

/// A process group, killed on drop.
struct Group(Option<i32>);

impl Group {
    /// Its leader has ended by itself: its number may soon be another's.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended meanwhile.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// The end of what a program writes.
#[derive(Default)]
struct Tail(std::collections::VecDeque<u8>);

impl Tail {
    async fn fill(&mut self, source: Option<impl AsyncRead + Unpin>) {
        let Some(mut source) = source else { return };
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = source.read(&mut buffer).await {
            self.0.extend(buffer.get(..n).unwrap_or_default());
            let over = self.0.len().saturating_sub(MAX_OUTPUT);
            self.0.drain(..over);
        }
    }

    fn text(self) -> String {
        let bytes: Vec<u8> = self.0.into();
        String::from_utf8_lossy(&bytes)
            .chars()
            .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
            .collect()
    }
}

fn ending(status: std::process::ExitStatus) -> Ending {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Code(code),
        (None, signal) => Ending::Signal(signal.unwrap_or_default()),
    }
}
