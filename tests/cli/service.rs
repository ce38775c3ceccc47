//! The server as a service manager runs it.

use super::{
    home::Home,
    process::{Process, certctl},
};
use std::{fs, process::Command};

#[test]
fn a_server_may_open_as_many_files_as_the_machine_allows() {
    let home = Home::new();
    let line = format!("server --listen {}", home.control());
    let program = certctl::<&str>([]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -Sn 256 && exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(home.command(&line).get_args());
    let server = Process::start(&mut command);
    server.line(" ready ");
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let files = limits.lines().find(|l| l.starts_with("Max open files"));
    let numbers: Vec<_> = files.unwrap().split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{limits}");
}
