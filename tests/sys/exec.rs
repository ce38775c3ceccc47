//! Other programs, run for real.

use crate::net::pki::AMPLE;
use certctl::sys::{Command, Ending, Exec, ExecError, Finished, MAX_OUTPUT, Programs};
use std::{
    path::Path,
    time::{Duration, Instant},
};

fn sh(script: &str) -> Command {
    Command {
        argv: ["/bin/sh", "-c", script].map(String::from).into(),
        limit: Duration::from_secs(20),
    }
}

async fn run(command: &Command) -> Finished {
    Programs.run(command).await.unwrap()
}

#[tokio::test]
async fn what_a_program_says_and_how_it_ends_is_told() {
    let ended = run(&sh("echo one; echo two >&2; exit 3")).await;
    assert_eq!(ended.ending, Ending::Code(3));
    assert_eq!(ended.output, "one\ntwo\n");
    assert!(!ended.succeeded());
    assert!(run(&sh("true")).await.succeeded());
    let ended = run(&sh("kill -9 $$")).await;
    assert_eq!(ended.ending, Ending::Signal(9));
}

#[tokio::test]
async fn the_end_of_long_output_is_kept_without_control_characters() {
    let ended = run(&sh(
        "head -c 3000000 /dev/zero | tr '\\0' 'x'; printf '\\033[31mend'",
    ))
    .await;
    assert_eq!(ended.output.len(), MAX_OUTPUT - 1);
    assert!(ended.output.ends_with("xxx[31mend"), "{}", ended.output);
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_it_started() {
    let mut command = sh("sleep 1000 & echo $!; sleep 1000");
    command.limit = Duration::from_millis(300);
    let ended = run(&command).await;
    assert_eq!(ended.ending, Ending::TimedOut);
    assert_gone(ended.output.trim());
}

#[tokio::test]
async fn a_program_that_leaves_another_running_is_not_waited_for() {
    let began = Instant::now();
    let ended = run(&sh("sleep 1000 & echo $!")).await;
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(ended.succeeded());
    let left: i32 = ended.output.trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(left), nix::sys::signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_program_sees_no_variable_of_ours_and_the_usual_umask() {
    let ended = run(&sh("env | cut -d= -f1 | sort; umask")).await;
    assert_eq!(ended.output, "LC_ALL\nPATH\nPWD\n0022\n");
}

#[tokio::test]
async fn what_cannot_start_says_so() {
    let mut command = sh("");
    command.argv[0] = "/nowhere/nginx".into();
    let error = Programs.run(&command).await.unwrap_err();
    assert!(matches!(error, ExecError::Start { .. }));
    assert!(error.to_string().contains("/nowhere/nginx"), "{error}");
}

#[test]
fn only_the_program_meant_is_signalled() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let hang_up = |content: &str| {
        std::fs::write(&pid_file, content).unwrap();
        let sent = Programs.hang_up(&pid_file, Path::new("/usr/sbin/nginx"));
        sent.unwrap_err().to_string()
    };
    assert!(hang_up("").contains("no process number"));
    assert!(hang_up("-1").contains("no process number"));
    assert!(hang_up("1\n").contains("no process number"));
    assert!(hang_up("4194304999").contains("no process number"));
    assert!(hang_up("4194303").contains("not running: start nginx"));
    let own = std::process::id().to_string();
    assert!(hang_up(&own).contains("not nginx"));
    std::fs::remove_file(&pid_file).unwrap();
    let error = Programs.hang_up(&pid_file, Path::new("nginx")).unwrap_err();
    assert!(error.to_string().contains("is it running?"), "{error}");
}

#[test]
fn what_stands_in_another_file_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    for text in ["hunter2", &"hunter2 ".repeat(1000)] {
        std::fs::write(&secret, text).unwrap();
        let error = Programs.hang_up(&secret, Path::new("/usr/sbin/nginx"));
        let said = format!("{0} {0:?}", error.unwrap_err());
        assert!(!said.contains("hunter2"), "{said}");
    }
    let error = Programs.hang_up(Path::new("/dev/zero"), Path::new("nginx"));
    assert!(error.is_err());
}

/// The process ends: the kernel kills it in its own time, and until its parent asks, it may still
/// stand there as a zombie.
fn assert_gone(pid: &str) {
    let began = Instant::now();
    loop {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = state.rsplit(") ").next().unwrap_or_default().to_owned();
        if state.is_empty() || state.starts_with('Z') {
            return;
        }
        assert!(began.elapsed() < AMPLE, "{pid}: {state}");
        std::thread::yield_now();
    }
}
