//! Flags and arguments, variables and configuration files.

use super::{case, line, name_of, refuse};
use crate::cli::home::Home;
use std::fs;

#[test]
fn command_lines() {
    let usage = |name, words, says| line(name, words, 2, says);
    refuse(vec![
        usage(
            "an unknown command",
            "frobnicate",
            &["frobnicate", "--help"],
        ),
        usage("a command that is nearly one", "cert list", &["certs"]),
        usage("an unknown flag", "certs list --nosuch", &["--nosuch"]),
        usage(
            "a flag without its value",
            "certs list --server",
            &["--server", "value"],
        ),
        usage(
            "a flag twice",
            "certs list --output json --output table",
            &["--output", "multiple times"],
        ),
        usage(
            "an unknown form of output",
            "certs list --output yaml",
            &["yaml", "table, json"],
        ),
        usage("a word too many", "certs show a b", &["'b'"]),
        usage("a word too few", "certs show", &["<CERTIFICATE>"]),
        usage(
            "an id that is none",
            "certs show a/b",
            &["a/b", "an id is 1 to 128 characters"],
        ),
        usage(
            "an empty id",
            "certs show ",
            &["an id is 1 to 128 characters"],
        ),
        usage(
            "a timeout of nothing",
            "certs renew x --timeout 0",
            &["--timeout", "1..=86400"],
        ),
        usage(
            "a timeout that is a word",
            "certs renew x --timeout soon",
            &["--timeout", "soon"],
        ),
        usage(
            "an address that is none",
            "server --listen nowhere",
            &["--listen", "nowhere"],
        ),
        usage(
            "a port beyond ports",
            "server --listen 127.0.0.1:70000",
            &["--listen", "70000"],
        ),
        usage(
            "a name that is none",
            "server --name a@b.example",
            &["--name", "host name or an IP address"],
        ),
        usage(
            "both pin and bundle",
            "agent enrol --token t --ca-pin p --ca-bundle b",
            &["--ca-pin", "--ca-bundle"],
        ),
        usage(
            "both token and file",
            "agent enrol --token t --token-file f",
            &["--token", "--token-file"],
        ),
        usage("no token", "agent enrol --server https://x", &["--token"]),
        usage("an unknown shell", "completions csh", &["csh", "bash"]),
        usage(
            "a target without an agent",
            "targets create x --type File",
            &["--agent"],
        ),
        usage(
            "an unknown measurement",
            "bench everything",
            &["everything"],
        ),
    ]);
}

#[test]
fn settings() {
    let home = Home::new();
    let file = |name: &str, text: &[u8]| {
        let path = home.beside(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let check = |name, variable: &str, value: &str, says: &[&str]| {
        let says = [&[variable.trim_end_matches("_FILE")], says].concat();
        case(name, home.command("server"), 78, &says).env(variable, value)
    };
    let of_file = |name, text: &[u8], says: &[&str]| {
        let path = file(&name_of(name), text);
        let mut command = home.command("server");
        command.args(["--config", &path]);
        let mut case = case(name, command, 78, says);
        case.says.push(path);
        case
    };
    let secret = file("secret", b"two\nlines\n");
    refuse(vec![
        check(
            "an unknown setting",
            "CERTCTL_NOSUCH",
            "1",
            &["no such setting"],
        ),
        check(
            "a host that is a name",
            "CERTCTL_SERVER_HOST",
            "example.org",
            &["IP address"],
        ),
        check("port 0", "CERTCTL_SERVER_PORT", "0", &["1 to 65535"]),
        check(
            "port 65536",
            "CERTCTL_SERVER_PORT",
            "65536",
            &["1 to 65535"],
        ),
        check(
            "a port with a sign",
            "CERTCTL_SERVER_PORT",
            "-1",
            &["1 to 65535"],
        ),
        check(
            "a port that is a word",
            "CERTCTL_SERVER_PORT",
            "https",
            &["1 to 65535", "https"],
        ),
        check(
            "an unknown log level",
            "CERTCTL_LOG_LEVEL",
            "loud",
            &["info"],
        ),
        check(
            "an unknown log format",
            "CERTCTL_LOG_FORMAT",
            "xml",
            &["text or json"],
        ),
        check(
            "a public address by http",
            "CERTCTL_PUBLIC_URL",
            "http://x",
            &["https://"],
        ),
        check(
            "a public address without host",
            "CERTCTL_PUBLIC_URL",
            "https://",
            &["https://"],
        ),
        check(
            "a plain listener without port",
            "CERTCTL_PKI_HTTP_LISTEN",
            "127.0.0.1",
            &["port"],
        ),
        check(
            "a server that is no address",
            "CERTCTL_SERVER_URL",
            "certctl",
            &["https://"],
        ),
        check(
            "a key of two lines",
            "CERTCTL_API_KEY_FILE",
            &secret,
            &["CERTCTL_API_KEY in ", "secret: ", "control characters"],
        ),
        check(
            "a key file that is not there",
            "CERTCTL_API_KEY_FILE",
            "/nosuch",
            &["CERTCTL_API_KEY_FILE: /nosuch cannot be read"],
        ),
        check(
            "a key file that is a directory",
            "CERTCTL_API_KEY_FILE",
            "/",
            &["cannot be read"],
        ),
        check(
            "a key and a file of it",
            "CERTCTL_API_KEY_FILE",
            &secret,
            &["leave one out"],
        )
        .env("CERTCTL_API_KEY", "k"),
        of_file("not TOML", b"server_port = = 1", &["line 1 is not TOML"]),
        of_file("JSON", b"{\"server_port\": 1}", &["line 1 is not TOML"]),
        of_file("not UTF-8", b"server_host = \"\xff\"", &["UTF-8"]),
        of_file("a NUL", b"server_host = \"\0\"", &["line 1 is not TOML"]),
        of_file(
            "a key twice",
            b"log_level = \"info\"\nlog_level = \"warn\"",
            &["line 2 is not TOML"],
        ),
        of_file(
            "an unknown key",
            b"pubic_url = \"https://x\"",
            &["pubic_url", "no such setting"],
        ),
        of_file(
            "a table",
            b"[server]\nport = 1",
            &["server", "not in tables"],
        ),
        of_file(
            "a date",
            b"server_host = 2026-01-01",
            &["server_host", "a text, a number"],
        ),
        of_file(
            "a number beyond numbers",
            b"server_port = 99999999999999999999",
            &["line 1 is not TOML"],
        ),
        of_file(
            "a list where one is wanted",
            b"server_host = [\"::1\", \"::2\"]",
            &["server_host", "IP address"],
        ),
        of_file("a file of 2 MiB", &vec![b'#'; 2 << 20], &["cannot be read"]),
        case(
            "no file",
            {
                let mut c = home.command("server");
                c.args(["--config", "/nosuch.toml"]);
                c
            },
            78,
            &["/nosuch.toml", "cannot be read"],
        ),
        case(
            "a directory for a file",
            {
                let mut c = home.command("server");
                c.args(["--config", "/"]);
                c
            },
            78,
            &["cannot be read"],
        ),
    ]);
    assert!(!home.data().exists());
}
