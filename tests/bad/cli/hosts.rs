//! What stands on a host: policies and identities of agents, data directories of servers.

use super::{case, name_of, refuse};
use crate::cli::{home::Home, process::certctl};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

#[test]
fn hosts_of_agents() {
    let home = Home::new();
    let file = |name: &str, text: &[u8]| {
        let path = home.beside(name);
        fs::write(&path, text).unwrap();
        path
    };
    let policy = |name: &'static str, text: &[u8], says: &[&str]| {
        let mut command = home.host("policy --policy");
        let path = file(&name_of(name), text);
        command.arg(&path);
        let mut case = case(name, command, 78, says);
        case.says.push(path.to_str().unwrap().to_owned());
        case
    };
    let open = file("open", b"");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o666)).unwrap();
    let given = |name, path: &Path, says: &[&str]| {
        let mut command = home.host("policy --policy");
        command.arg(path);
        case(name, command, 78, says)
    };
    let link = home.beside("link");
    std::os::unix::fs::symlink(&open, &link).unwrap();
    refuse(vec![
        policy("no TOML", b"target_types = [", &["TOML"]),
        policy("an unknown rule", b"pathes = [\"/srv\"]", &["pathes"]),
        policy("paths that are a number", b"paths = 1", &["paths"]),
        policy(
            "a path that is relative",
            b"paths = [\"srv\"]",
            &["srv", "absolute"],
        ),
        policy("all paths", b"paths = [\"/\"]", &["/"]),
        policy(
            "a command that is a text",
            b"commands = [\"systemctl reload nginx\"]",
            &["commands"],
        ),
        policy("no UTF-8", b"paths = [\"\xff\"]", &["UTF-8"]),
        given("no policy", Path::new("/nosuch.toml"), &["/nosuch.toml"]),
        given("a directory for a policy", Path::new("/"), &["/"]),
        given(
            "a policy that all may write",
            &open,
            &["open", "chmod go-w"],
        ),
        given(
            "a link to a policy that all may write",
            &link,
            &["chmod go-w"],
        ),
        case(
            "no identity",
            home.host(""),
            78,
            &["holds no identity", "agent enrol"],
        ),
        case(
            "no identity to ping with",
            home.host("ping"),
            78,
            &["holds no identity", "agent enrol"],
        ),
        case(
            "no server named",
            home.host("enrol --token t --ca-pin p"),
            78,
            &["--server"],
        ),
        case(
            "nobody to trust",
            home.host("enrol --token t --server https://x"),
            78,
            &["--ca-pin", "--ca-bundle"],
        ),
    ]);
}

#[test]
fn data_directories() {
    let made = Home::new();
    made.quickstart_to_its_end().good();
    // Each with a copy of a good directory in which one thing is wrong.
    let spoiled = |name: &'static str, code, spoil: &dyn Fn(&Path), says: &[&str]| {
        let dir = made.beside(&name_of(name));
        copy(&made.data(), &dir);
        spoil(&dir);
        let mut command = certctl(["server", "--listen"]);
        command
            .arg(made.control().to_string())
            .arg("--data-dir")
            .arg(&dir);
        case(name, command, code, says).env("CERTCTL_LOG_LEVEL", "error")
    };
    let write = |name: &'static str, text: &'static [u8]| {
        move |dir: &Path| fs::write(dir.join(name), text).unwrap()
    };
    let directory = |name: &'static str| {
        move |dir: &Path| {
            let at = dir.join(name);
            if at.is_dir() {
                fs::remove_dir_all(&at).unwrap();
            } else if at.exists() {
                fs::remove_file(&at).unwrap();
            }
            fs::create_dir(&at).unwrap();
        }
    };
    refuse(vec![
        spoiled(
            "a store that is empty",
            66,
            &write("certctl.redb", b""),
            &["certctl.redb"],
        ),
        spoiled(
            "a store that is text",
            74,
            &write("certctl.redb", b"hello"),
            &["certctl.redb", "damaged", "restore"],
        ),
        spoiled(
            "a store that is zeros",
            74,
            &write("certctl.redb", &[0; 65_536]),
            &["certctl.redb", "damaged", "restore"],
        ),
        spoiled(
            "a store that is a directory",
            74,
            &directory("certctl.redb"),
            &["certctl.redb"],
        ),
        spoiled(
            "a machine key that is empty",
            74,
            &write("machine.key", b""),
            &["machine.key", "64 hexadecimal digits"],
        ),
        spoiled(
            "a machine key that is short",
            74,
            &write("machine.key", b"abcdef"),
            &["machine.key", "64 hexadecimal digits"],
        ),
        spoiled(
            "a machine key of noise",
            74,
            &write("machine.key", &[0xff; 64]),
            &["machine.key"],
        ),
        spoiled(
            "a machine key of another store",
            74,
            &write("machine.key", &[b'a'; 64]),
            &["does not fit this store"],
        ),
        spoiled(
            "a machine key that is a directory",
            74,
            &directory("machine.key"),
            &["machine.key"],
        ),
        spoiled(
            "a machine key of 1 MiB",
            74,
            &|dir| fs::write(dir.join("machine.key"), vec![b'a'; 1 << 20]).unwrap(),
            &["machine.key"],
        ),
        spoiled(
            "a socket's place that is a directory",
            1,
            &directory("certctl.sock"),
            &["certctl.sock"],
        ),
        spoiled(
            "a socket's place that is a file",
            1,
            &write("certctl.sock", b"mine"),
            &["certctl.sock"],
        ),
        spoiled(
            "a directory of TLS that is a file",
            74,
            &|dir| {
                fs::remove_dir_all(dir.join("tls")).unwrap();
                fs::write(dir.join("tls"), "").unwrap();
            },
            &["tls"],
        ),
        case(
            "an empty name",
            certctl(["server", "--data-dir", ""]),
            2,
            &["--data-dir"],
        ),
        case(
            "a file",
            certctl([
                "server",
                "--data-dir",
                made.path("machine.key").to_str().unwrap(),
            ]),
            74,
            &["machine.key", "--data-dir"],
        ),
        case(
            "nowhere",
            certctl(["server", "--data-dir", "/proc/certctl"]),
            74,
            &["/proc/certctl", "--data-dir"],
        ),
    ]);
    // What stood there stands there.
    let kept = made.beside("a-socket's-place-that-is-a-file/certctl.sock");
    assert_eq!(fs::read(kept).unwrap(), b"mine");
    made.quickstart_to_its_end().good();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, at) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &at);
        } else if kind.is_file() {
            fs::copy(entry.path(), at).unwrap();
        }
    }
}
