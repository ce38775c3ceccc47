//! Starts that cannot succeed: one line that says what to do, and nothing changed.

use super::{
    home::Home,
    process::{AMPLE, Process, certctl, run},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::Stdio,
};

#[expect(
    clippy::disallowed_methods,
    reason = "another program that has the port"
)]
fn occupy(address: std::net::SocketAddr) -> TcpListener {
    TcpListener::bind(address).unwrap()
}

#[test]
fn a_taken_control_port_is_named() {
    let home = Home::new();
    let _other = occupy(home.control());
    let server = format!("server --listen {}", home.control());
    for mut command in [home.quickstart_command(), home.command(&server)] {
        let fault = run(command.env("CERTCTL_LOG_LEVEL", "error")).bad(1);
        for part in ["port 8443", "in use", "choose another port"] {
            assert!(fault.contains(part), "{part:?} in {fault}");
        }
        assert!(!home.path("certctl.redb").exists(), "a store was made");
    }
}

#[test]
fn a_taken_site_port_is_named_before_anything_is_made_for_it() {
    let home = Home::new();
    for _ in 0..2 {
        let other = occupy(home.site());
        let fault = home.quickstart_to_its_end().bad(1);
        for part in [
            "port 9443",
            "in use by another program",
            "choose another port",
        ] {
            assert!(fault.contains(part), "{part:?} in {fault}");
        }
        drop(other);
    }
    home.quickstart_to_its_end().good();
    let _other = occupy(home.site());
    home.quickstart_to_its_end().bad(1);
}

#[test]
fn a_data_directory_that_cannot_be_had_is_named() {
    let home = Home::new();
    let file = home.beside("data");
    fs::write(&file, "not ours").unwrap();
    let below = file.join("deeper");
    for dir in [Path::new("/proc/certctl"), &file, &below] {
        for command in ["quickstart", "server"] {
            let mut command = certctl(["--data-dir", dir.to_str().unwrap(), command]);
            let fault = run(command.env("CERTCTL_LOG_LEVEL", "error")).bad(74);
            assert!(fault.contains(dir.to_str().unwrap()), "{fault}");
            assert!(fault.contains("--data-dir"), "{fault}");
        }
    }
    let fault = home.run("certs list").bad(69);
    assert!(fault.contains("--data-dir"), "{fault}");
    assert_eq!(fs::read(&file).unwrap(), b"not ours");
}

#[test]
fn a_directory_serves_one_process_at_a_time() {
    let home = Home::new();
    let running = home.quickstart();
    let other = Home::new();
    let line = format!("server --listen {}", other.control());
    let second = run(home.command(&line).env("CERTCTL_LOG_LEVEL", "error"));
    let fault = second.bad(75);
    for part in ["another certctl runs on", "stop it", "--data-dir"] {
        assert!(fault.contains(part), "{part:?} in {fault}");
    }
    home.quickstart_to_its_end().bad(75);
    // Also as an agent alone.
    let state = home.path("agent");
    let agent = run(certctl(["agent", "--state-dir", state.to_str().unwrap()])
        .env("CERTCTL_LOG_LEVEL", "error"));
    let fault = agent.bad(75);
    assert!(fault.contains("another agent runs on"), "{fault}");
    home.json("certs list");
    running.signal(Signal::SIGTERM);
    running.end().good();
}

#[test]
fn a_wrong_configuration_is_told_whole_before_anything_starts() {
    let home = Home::new();
    let wrong = [
        ("CERTCTL_NOSUCH", "1"),
        ("CERTCTL_SERVER_HOST", "example.org"),
        ("CERTCTL_SERVER_PORT", "x"),
        ("CERTCTL_LOG_LEVEL", "loud"),
        ("CERTCTL_LOG_FORMAT", "xml"),
    ];
    for command in ["server", "quickstart"] {
        let ended = run(home.command(command).envs(wrong));
        assert_eq!(ended.status.code(), Some(78), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1 + wrong.len(), "{ended:?}");
        for (name, _) in wrong {
            assert!(ended.stderr.contains(&format!("  {name}: ")), "{ended:?}");
        }
        assert!(!home.data().exists());
    }
    for command in ["certs list", "agent"] {
        let ended = run(home.command(command).env("CERTCTL_NOSUCH", "1"));
        assert_eq!(ended.status.code(), Some(78), "{ended:?}");
        assert!(ended.stderr.contains("CERTCTL_NOSUCH: "), "{ended:?}");
    }
}

/// A command that a failure names is for the store or server that the failed one was for, whatever
/// the settings name.
#[test]
fn a_command_to_be_typed_names_what_was_named() {
    for named in [
        ["--data-dir", "/var/lib/certctl"],
        ["--server", "https://certctl.invalid:8443"],
    ] {
        let mut command = certctl(named);
        command.args(["certs", "list", "--output", "json"]);
        command.env("CERTCTL_DATA_DIR", "/elsewhere");
        let ended = run(command.env("CERTCTL_NOSUCH", "1"));
        assert_eq!(ended.status.code(), Some(78), "{ended:?}");
        let said: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
        let typed = format!("certctl {} config check`", named.join(" "));
        assert!(said["hint"].as_str().unwrap().contains(&typed), "{said}");
    }
}

#[test]
fn a_damaged_store_is_told_and_left_as_it_is() {
    let home = Home::new();
    home.quickstart_to_its_end().good();
    let store = home.path("certctl.redb");
    let whole = fs::read(&store).unwrap();
    let mut torn = whole.clone();
    torn[8192..].fill(0xa5);
    for damaged in [b"not a store".to_vec(), whole[..20_000].to_vec(), torn] {
        fs::write(&store, &damaged).unwrap();
        let ended = home.quickstart_to_its_end();
        assert_eq!(ended.status.code(), Some(74), "{ended:?}");
        let fault = ended.stderr.lines().last().unwrap();
        for part in [store.to_str().unwrap(), "damaged", "restore"] {
            assert!(fault.contains(part), "{part:?} in {fault}");
        }
        assert_eq!(fs::read(&store).unwrap().len(), damaged.len());
    }
    fs::write(&store, &whole).unwrap();
    home.quickstart_to_its_end().good();
}

#[test]
fn a_store_does_not_open_without_its_machine_key() {
    let (home, other) = (Home::new(), Home::new());
    home.quickstart_to_its_end().good();
    other.quickstart_to_its_end().good();
    let path = home.path("machine.key");
    let right = fs::read(&path).unwrap();

    fs::copy(other.path("machine.key"), &path).unwrap();
    let fault = home.quickstart_to_its_end().bad(74);
    assert!(fault.contains("does not fit this store"), "{fault}");
    fs::write(&path, "not a key").unwrap();
    let fault = home.quickstart_to_its_end().bad(74);
    assert!(fault.contains(path.to_str().unwrap()), "{fault}");
    assert!(fault.contains("64 hexadecimal digits"), "{fault}");
    fs::remove_file(&path).unwrap();
    let fault = home.quickstart_to_its_end().bad(74);
    assert!(fault.contains(path.to_str().unwrap()), "{fault}");
    assert!(fault.contains("put it back from your backup"), "{fault}");
    assert!(!path.exists());

    fs::write(&path, right).unwrap();
    home.quickstart_to_its_end().good();
}

#[test]
fn what_a_server_left_beside_its_store_does_not_make_an_empty_one() {
    let home = Home::new();
    home.quickstart_to_its_end().good();
    let store = home.path("certctl.redb");
    let kept = home.path("kept");
    fs::rename(&store, &kept).unwrap();
    let fault = home.quickstart_to_its_end().bad(66);
    assert!(
        fault.contains(" restore BACKUP` puts a store there"),
        "{fault}"
    );
    // Nor the machine key alone, whose CAs would be missed: nobody would see that they are others.
    let tls = home.path("tls");
    fs::rename(&tls, home.path("kept-tls")).unwrap();
    for _ in 0..2 {
        let fault = home.quickstart_to_its_end().bad(66);
        assert!(fault.contains("To begin anew"), "{fault}");
        assert!(!store.exists());
    }
    fs::rename(home.path("kept-tls"), &tls).unwrap();
    fs::rename(&kept, &store).unwrap();
    home.quickstart_to_its_end().good();
}

#[test]
fn a_taken_site_port_leaves_the_directory_free_for_another() {
    let (home, other) = (Home::new(), Home::new());
    let taken = occupy(home.site());
    let fault = home.quickstart_to_its_end().bad(1);
    assert!(fault.contains("is in use by another program"), "{fault}");
    let line = format!(
        "quickstart --exit --listen {} --site-listen {}",
        home.control(),
        other.site()
    );
    Process::start(&mut home.command(&line)).end().good();
    drop(taken);
}

#[test]
fn a_start_on_other_addresses_is_refused_with_the_known_ones() {
    let (home, other) = (Home::new(), Home::new());
    home.quickstart_to_its_end().good();
    for (control, site, flag, known) in [
        (other.control(), home.site(), "--listen", home.control()),
        (home.control(), other.site(), "--site-listen", home.site()),
    ] {
        let line = format!("quickstart --exit --listen {control} --site-listen {site}");
        // Its agent may already warn that it cannot reach the control plane.
        let mut command = home.command(&line);
        let process = Process::start(command.env("CERTCTL_LOG_LEVEL", "error"));
        let fault = process.end().bad(78);
        assert!(fault.starts_with(&format!("{flag}: ")), "{fault}");
        assert!(fault.contains(&known.to_string()), "{fault}");
        assert!(fault.contains("--data-dir"), "{fault}");
    }
}

#[test]
fn a_server_whose_log_nobody_reads_any_more_ends_when_it_is_told_to() {
    let home = Home::new();
    let mut command = home.command(&format!("server --listen {}", home.control()));
    let mut server = command.stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(server.stderr.take().unwrap());
    // The reader goes with the last line read.
    let ready = log
        .lines()
        .find(|line| line.as_ref().unwrap().contains(" ready "));
    let pid = Pid::from_raw(i32::try_from(server.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(server.wait().unwrap()));
    let ended = ended.recv_timeout(AMPLE);
    if ended.is_err() {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    assert!(ready.is_some());
    assert_eq!(ended.unwrap().code(), Some(0));
}
