use certctl::deploy::TargetConfig;
use proptest::prelude::*;
use serde_json::{Value, json};

fn error(kind: &str, config: Value) -> String {
    TargetConfig::parse(kind, &config).unwrap_err().to_string()
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
    fn no_text_is_a_panic(kind in "File|Site|.*", field in ".{0,20}", text in ".{0,40}") {
        let _ = TargetConfig::parse(&kind, &json!({ field: &text }));
        for field in ["endpoints", "listen", "server_name", "verify_timeout"] {
            let _ = TargetConfig::parse(&kind, &json!({ field: &text }));
            let _ = TargetConfig::parse(&kind, &json!({ field: [&text] }));
        }
    }
}
