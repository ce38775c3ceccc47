use certctl::deploy::{TargetConfig, config::Reload};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;

fn error(kind: &str, config: Value) -> String {
    TargetConfig::parse(kind, &config).unwrap_err().to_string()
}

/// The least an nginx needs, and `more`.
fn nginx(more: Value) -> Value {
    let mut config = json!({
        "cert_path": "/cert", "key_path": "/key", "endpoints": ["127.0.0.1:443"],
    });
    let Value::Object(more) = more else { panic!() };
    config.as_object_mut().unwrap().extend(more);
    config
}

#[test]
fn what_is_wrong_is_named() {
    for (kind, config, names) in [
        ("Nginx", json!({}), "\"Nginx\""),
        ("File", json!([]), "object"),
        ("File", json!({ "endpoint": [] }), "config.endpoint "),
        ("File", json!({ "endpoints": "a:1" }), "config.endpoints"),
        ("File", json!({ "endpoints": ["a"] }), "host:port"),
        ("File", json!({ "endpoints": ["a:0"] }), "config.endpoints"),
        (
            "File",
            json!({ "endpoints": vec!["a:1"; 17] }),
            "at most 16",
        ),
        (
            "File",
            json!({ "server_name": "a b" }),
            "config.server_name",
        ),
        ("File", json!({ "server_name": 5 }), "config.server_name"),
        (
            "File",
            json!({ "verify_timeout": 5 }),
            "config.verify_timeout",
        ),
        (
            "File",
            json!({ "endpoints": [format!("{}:443", "a.".repeat(127))] }),
            "253 characters at most",
        ),
        ("File", json!({ "verify_timeout": "5" }), "\"10s\""),
        (
            "File",
            json!({ "verify_timeout": "99999999999999999999s" }),
            "config.verify_timeout",
        ),
        (
            "File",
            json!({ "verify_timeout": "1h" }),
            "config.verify_timeout",
        ),
        ("Site", json!({}), "config.listen is missing"),
        (
            "Site",
            json!({ "listen": "localhost:9443" }),
            "config.listen",
        ),
        (
            "Site",
            json!({ "listen": "127.0.0.1:1", "endpoints": [] }),
            "config.endpoints",
        ),
        ("NGINX", json!({}), "config.cert_path is missing"),
        ("NGINX", nginx(json!({ "endpoints": [] })), "at least one"),
        ("NGINX", nginx(json!({ "endpoints": null })), "at least one"),
        ("NGINX", nginx(json!({ "key_path": "tls/key" })), "absolute"),
        (
            "NGINX",
            nginx(json!({ "key_path": "/a/../key" })),
            "absolute",
        ),
        ("NGINX", nginx(json!({ "key_path": "/a//key" })), "absolute"),
        ("NGINX", nginx(json!({ "key_path": "/a/" })), "absolute"),
        (
            "NGINX",
            nginx(json!({ "key_path": "/a\u{0}b" })),
            "absolute",
        ),
        ("NGINX", nginx(json!({ "key_path": "/" })), "absolute"),
        ("NGINX", nginx(json!({ "key_path": "/cert" })), "twice"),
        ("NGINX", nginx(json!({ "chain_path": "/key" })), "twice"),
        (
            "NGINX",
            nginx(json!({ "config_path": "nginx.conf" })),
            "config.config_path",
        ),
        (
            "NGINX",
            nginx(json!({ "binary": "nginx" })),
            "config.binary",
        ),
        ("NGINX", nginx(json!({ "pid_path": 1 })), "config.pid_path"),
        (
            "NGINX",
            nginx(json!({ "pidpath": "/a" })),
            "config.pidpath ",
        ),
        (
            "NGINX",
            nginx(json!({ "reload": "restart" })),
            "absolute path",
        ),
        ("NGINX", nginx(json!({ "reload": "" })), "absolute path"),
        ("NGINX", nginx(json!({ "reload": "/a 'b" })), "quote"),
        (
            "NGINX",
            nginx(json!({ "reload": { "argv": [] } })),
            "absolute path",
        ),
        (
            "NGINX",
            nginx(json!({ "reload": { "argv": ["/a"], "shell": true } })),
            "config.reload",
        ),
        (
            "NGINX",
            nginx(json!({ "reload": { "argv": vec!["/a"; 65] } })),
            "at most 64",
        ),
        (
            "NGINX",
            nginx(json!({ "reload_timeout": "1h" })),
            "config.reload_timeout",
        ),
    ] {
        let text = error(kind, config.clone());
        assert!(text.contains(names), "{kind} {config}: {text}");
    }
}

#[test]
fn defaults_and_values() {
    let TargetConfig::File(file) = TargetConfig::parse("File", &json!({})).unwrap() else {
        panic!()
    };
    assert_eq!(
        (file.endpoints.len(), file.verify_timeout.as_secs()),
        (0, 5)
    );
    let config = json!({ "endpoints": ["[::1]:443", "[::1]:443"], "verify_timeout": "2m" });
    let TargetConfig::File(file) = TargetConfig::parse("File", &config).unwrap() else {
        panic!()
    };
    assert_eq!(
        (file.endpoints.len(), file.verify_timeout.as_secs()),
        (1, 120)
    );
    let longest = format!("{}a:443", "a.".repeat(126));
    TargetConfig::parse("File", &json!({ "endpoints": [longest] })).unwrap();
}

#[test]
fn an_nginx_of_debian_needs_little() {
    let TargetConfig::Nginx(config) = TargetConfig::parse("NGINX", &nginx(json!({}))).unwrap()
    else {
        panic!()
    };
    assert_eq!(config.config_path, Path::new("/etc/nginx/nginx.conf"));
    assert_eq!(config.binary, Path::new("/usr/sbin/nginx"));
    assert_eq!(config.pid_path, Path::new("/run/nginx.pid"));
    assert_eq!(config.reload, Reload::Signal);
    assert_eq!(config.reload_timeout.as_secs(), 60);
    assert_eq!(config.verify_timeout.as_secs(), 2);
}

#[test]
fn what_is_written_of_an_nginx_is_read_back() {
    for reload in [
        json!("signal"),
        json!("command"),
        json!("/bin/systemctl reload 'my nginx'"),
        json!({ "argv": ["/bin/reload", "a b", ""] }),
    ] {
        let more = json!({
            "chain_path": "/chain", "server_name": "a.test", "reload": reload,
            "reload_timeout": "5s", "verify_timeout": "1m",
        });
        let parsed = TargetConfig::parse("NGINX", &nginx(more)).unwrap();
        let text = serde_json::to_string(&parsed).unwrap();
        let again: TargetConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(again, parsed);
        if let (TargetConfig::Nginx(config), Some("/bin/systemctl reload 'my nginx'")) =
            (parsed, reload.as_str())
        {
            let argv = ["/bin/systemctl", "reload", "my nginx"];
            assert_eq!(config.reload, Reload::Argv(argv.map(String::from).into()));
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        hosts in prop::collection::vec("[a-z]{1,9}(\\.[a-z]{1,9}){0,2}", 0..5),
        port in 1u16..,
        name in prop::option::of("[a-z]{1,9}\\.test"),
        millis in 100u64..300_000,
        site in any::<bool>(),
    ) {
        let endpoints: Vec<_> = hosts.iter().map(|h| format!("{h}:{port}")).collect();
        let timeout = format!("{millis}ms");
        let config = if site {
            json!({ "listen": format!("127.0.0.1:{port}"), "server_name": name, "verify_timeout": timeout })
        } else {
            json!({ "endpoints": endpoints, "server_name": name, "verify_timeout": timeout })
        };
        let parsed = TargetConfig::parse(if site { "Site" } else { "File" }, &config).unwrap();
        let text = serde_json::to_string(&parsed).unwrap();
        prop_assert_eq!(serde_json::from_str::<TargetConfig>(&text).unwrap(), parsed);
    }

    #[test]
    fn no_text_is_a_panic(kind in "File|Site|NGINX|.*", field in ".{0,20}", text in ".{0,40}") {
        let _ = TargetConfig::parse(&kind, &json!({ field: &text }));
        for field in ["cert_path", "endpoints", "listen", "reload", "server_name", "verify_timeout"] {
            let _ = TargetConfig::parse(&kind, &nginx(json!({ field: &text })));
            let _ = TargetConfig::parse(&kind, &json!({ field: &text }));
            let _ = TargetConfig::parse(&kind, &json!({ field: [&text] }));
        }
    }
}
