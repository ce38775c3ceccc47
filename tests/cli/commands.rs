//! `certctl certs` where it has nothing to be happy about, and command lines that are none.

use super::{
    home::Home,
    process::{certctl, run},
};
use std::process::Stdio;

#[test]
fn without_a_server_a_command_says_how_to_reach_one() {
    let home = Home::new();
    for output in ["", " --output json"] {
        let ended = home.run(&format!("certs list{output}"));
        assert_eq!(ended.stdout, "");
        let fault = match output {
            "" => ended.bad(69),
            _ => ended.bad_json(69),
        };
        let socket = home.path("certctl.sock");
        assert!(fault.contains(socket.to_str().unwrap()), "{fault}");
        for part in [
            "there is no server at",
            "start one",
            "--data-dir",
            "--server",
        ] {
            assert!(fault.contains(part), "{part:?} in {fault}");
        }
    }
    let url = format!("https://{}", home.control());
    let fault = run(home
        .command(&format!("certs list --server {url}"))
        .env("CERTCTL_API_KEY", "ctl_any"))
    .bad(69);
    assert!(fault.contains(&home.ip.to_string()), "{fault}");
    assert!(fault.contains("check that it is running"), "{fault}");
    let fault = home.run(&format!("certs list --server {url}")).bad(78);
    assert!(fault.starts_with("CERTCTL_API_KEY: "), "{fault}");
    let fault = home.run("certs list --server http://x").bad(78);
    assert!(fault.starts_with("--server: "), "{fault}");
}

#[test]
fn a_command_line_that_cannot_be_read_ends_with_2_and_names_its_fault() {
    for (line, part) in [
        ("certs list --nosuch", "--nosuch"),
        ("certs", "Usage: certctl certs"),
        ("nosuch", "nosuch"),
        ("certs show -- --x", "an id is 1 to 128 characters"),
        ("certs show a/b", "an id is 1 to 128 characters"),
        ("certs renew ../x", "an id is 1 to 128 characters"),
        ("certs renew x --timeout 0", "1..=86400"),
        ("quickstart --listen nowhere", "--listen"),
        ("certs list --output yaml", "[possible values: table, json]"),
        ("agent enrol --server https://x", "--token"),
    ] {
        let ended = run(&mut certctl(line.split(' ')));
        assert_eq!(ended.status.code(), Some(2), "{line}: {ended:?}");
        assert!(ended.stderr.contains(part), "{line}: {ended:?}");
        assert_eq!(ended.stdout, "", "{line}");
    }
}

#[test]
fn what_the_server_does_not_have_is_said_in_one_line() {
    let home = Home::new();
    let _running = home.quickstart();
    let before = home.json("certs list");
    for command in ["certs show nosuch", "certs renew nosuch"] {
        for output in ["", " --output json"] {
            let ended = home.run(&format!("{command}{output}"));
            assert_eq!(ended.stdout, "");
            let fault = match output {
                "" => ended.bad(1),
                _ => ended.bad_json(1),
            };
            assert_eq!(fault, r#"there is no certificate "nosuch""#);
        }
    }
    assert_eq!(home.json("certs list"), before);

    // The same commands by the network: the key counts, and so does the CA.
    let key = std::fs::read_to_string(home.path("first-start.txt")).unwrap();
    let key = key.lines().find_map(|l| l.strip_prefix("admin key: "));
    let list = |ca: &str, key: &str| {
        let (url, ca) = (home.control(), home.path(ca));
        let line = format!(
            "certs list --server https://{url} --ca-bundle {}",
            ca.display()
        );
        run(home.command(&line).env("CERTCTL_API_KEY", key))
    };
    let mut json = home.command(&format!(
        "certs list --output json --server https://{} --ca-bundle {}",
        home.control(),
        home.path("tls/system-ca.pem").display()
    ));
    // The key from a file, as a secret store mounts it.
    let key_file = home.beside("key");
    std::fs::write(&key_file, format!("{}\n", key.unwrap())).unwrap();
    let text = run(json.env("CERTCTL_API_KEY_FILE", &key_file)).good();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&text).unwrap(),
        before
    );
    let fault = list("tls/system-ca.pem", "ctl_wrong").bad(1);
    assert!(fault.to_lowercase().contains("key"), "{fault}");
    let fault = list("tls/local-root-ca.pem", "ctl_any").bad(69);
    assert!(fault.contains("check the CA bundle"), "{fault}");
    list("tls/nosuch.pem", "ctl_any").bad(74);
    list("first-start.txt", "ctl_any").bad(78);
}

#[test]
fn a_reader_that_has_gone_away_is_no_fault() {
    let home = Home::new();
    let _running = home.quickstart();
    for line in ["certs list", "certs show localhost", "--help", "--version"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = home.command(line);
        command.stdout(writer).stderr(Stdio::piped());
        let ended = command.output().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(stderr, "", "{line}");
        assert_eq!(ended.status.code(), Some(0), "{line}");
    }
}
