//! A process of the binary: what it says, how it is told, how it ends.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

/// Long enough that only a hang reaches it.
pub const AMPLE: Duration = Duration::from_secs(60);

/// The binary with an environment that holds nothing of the machine's but `PATH`.
pub fn certctl<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certctl"));
    command.env_clear().args(args).stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ended {
    Process::start(command).end()
}

/// A process that runs; killed when dropped.
pub struct Process {
    child: Child,
    said: Arc<Said>,
}

#[derive(Default)]
struct Said {
    text: Mutex<Text>,
    more: Condvar,
}

#[derive(Default)]
struct Text {
    /// Lines of standard output and of standard error.
    lines: [Vec<String>; 2],
    /// Streams that have ended.
    ended: usize,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Self::heard(command, |_| ())
    }

    /// Starts one whose every line `hear` is told too, as it is said.
    pub fn heard(command: &mut Command, hear: impl Fn(&str) + Clone + Send + 'static) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::<Said>::default();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for (which, stream) in streams.into_iter().enumerate() {
            let (said, hear) = (said.clone(), hear.clone());
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines() {
                    line.iter().for_each(|line| hear(line));
                    said.text.lock().unwrap().lines[which].extend(line);
                    said.more.notify_all();
                }
                said.text.lock().unwrap().ended += 1;
                said.more.notify_all();
            });
        }
        Self { child, said }
    }

    /// Waits for a line on either stream that holds `part`, and returns it.
    pub fn line(&self, part: &str) -> String {
        let found = self.until(|text| {
            let mut lines = text.lines.iter().flatten();
            let line = lines.find(|line| line.contains(part)).cloned();
            (line.is_some() || text.ended == 2).then_some(line)
        });
        found.unwrap_or_else(|| panic!("it ended without saying {part:?}: {}", self.text()))
    }

    /// All that was said on standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.said.text.lock().unwrap().lines[0].clone()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for the end.
    pub fn end(mut self) -> Ended {
        self.until(|text| (text.ended == 2).then_some(()));
        let status = self.child.wait().unwrap();
        let text = self.said.text.lock().unwrap();
        let [stdout, stderr] = text.lines.each_ref().map(|lines| lines.join("\n"));
        Ended {
            status,
            stdout,
            stderr,
        }
    }

    /// As [`kill`](Self::kill); says how it ended, for it may have done so before.
    pub fn killed(mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn until<T>(&self, ready: impl Fn(&Text) -> Option<T>) -> T {
        let deadline = Instant::now() + AMPLE;
        let mut text = self.said.text.lock().unwrap();
        loop {
            if let Some(found) = ready(&text) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(text);
                panic!("nothing came of it: {}", self.text());
            }
            text = self.said.more.wait_timeout(text, left).unwrap().0;
        }
    }

    fn text(&self) -> String {
        self.said.text.lock().unwrap().lines.concat().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// It did what it was told, and had nothing to complain about.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.status.code(), Some(0), "{self:?}");
        assert_eq!(self.stderr, "", "{self:?}");
        self.stdout
    }

    /// As [`good`](Self::good), of a command that logs what it does.
    #[track_caller]
    pub fn good_with_log(self) -> String {
        assert_eq!(self.status.code(), Some(0), "{self:?}");
        assert!(!self.stderr.contains("ERROR"), "{self:?}");
        self.stdout
    }

    /// It failed with this code and one line, which is returned.
    #[track_caller]
    pub fn bad(self, code: i32) -> String {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        let line = self.stderr.strip_prefix("certctl: ");
        line.unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }

    /// It did not do what it was told, and says why as programs read it; gives the reason.
    #[track_caller]
    pub fn bad_json(self, code: i32) -> String {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        let said: serde_json::Value = serde_json::from_str(&self.stderr).unwrap();
        assert_eq!(said["exit_code"], code, "{self:?}");
        assert!(!said["hint"].as_str().unwrap().is_empty(), "{self:?}");
        said["error"].as_str().unwrap().to_owned()
    }
}
