use certctl::pki::{San, Sans};
use proptest::prelude::*;
use rustls_pki_types::DnsName;

fn label(length: usize) -> String {
    "a".repeat(length)
}

/// 253 characters: three labels of 63 and one of 61.
fn longest() -> String {
    [label(63), label(63), label(63), label(61)].join(".")
}

#[test]
fn names_are_read_in_one_form() {
    let longest = longest();
    let names = [
        ("www.example.test", "www.example.test"),
        ("WWW.Example.TEST", "www.example.test"),
        ("localhost", "localhost"),
        ("*.example.test", "*.example.test"),
        ("_sip._tcp.my_host.test", "_sip._tcp.my_host.test"),
        ("1.example.test", "1.example.test"),
        ("r3---sn.example.test", "r3---sn.example.test"),
        (&longest, &longest),
        ("bücher.example.test", "xn--bcher-kva.example.test"),
        ("BÜCHER.example.test", "xn--bcher-kva.example.test"),
        ("*.bücher.test", "*.xn--bcher-kva.test"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        // A Cyrillic а among Latin letters shows itself.
        ("p\u{430}ypal.test", "xn--pypal-4ve.test"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("Ops+1@Example.TEST", "Ops+1@example.test"),
        ("ops@bücher.test", "ops@xn--bcher-kva.test"),
        (
            "spiffe://example.test/ns/a/sa/b",
            "spiffe://example.test/ns/a/sa/b",
        ),
        (
            "https://example.test:8443/x?y=%20#z",
            "https://example.test:8443/x?y=%20#z",
        ),
    ];
    for (text, read) in names {
        let san: San = text.parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(san.to_string(), read);
        assert_eq!(san.dns().is_some(), matches!(san, San::Dns(_)));
    }
}

#[test]
fn the_kind_of_a_name_is_plain_from_its_text() {
    let kind = |text: &str| match text.parse().unwrap() {
        San::Dns(_) => "dns",
        San::Ip(_) => "ip",
        San::Email(_) => "email",
        San::Uri(_) => "uri",
    };
    assert_eq!(kind("a.test"), "dns");
    assert_eq!(kind("fe80::1"), "ip");
    assert_eq!(kind("a@b.test"), "email");
    assert_eq!(kind("https://a@b.test/c"), "uri");
}

#[test]
fn what_cannot_be_a_name_is_refused_with_the_reason() {
    let too_long = format!("a.{}", longest());
    let wild_too_long = format!("*.{}", longest());
    let long_label = format!("{}.test", label(64));
    let long_local = format!("{}@a.test", label(65));
    let very_long = format!("https://a.test/{}", label(1024));
    let labels = "labels are";
    let number = "ends in a number";
    let local = "before @";
    let uri = "RFC 3986";
    let hidden = "control, direction or zero-width";
    let names = [
        ("", "empty"),
        (" ", "space"),
        ("a b.test", "space"),
        ("a.test\u{3000}", "space"),
        ("a\0.test", hidden),
        ("a.test\n", hidden),
        ("a\u{202e}tset.b", hidden),
        ("a\u{200b}.test", hidden),
        ("\u{feff}a.test", hidden),
        ("a.test.", "dot at the end"),
        (".", "dot at the end"),
        (".a.test", labels),
        ("a..test", labels),
        ("-a.test", labels),
        ("a-.test", labels),
        (&long_label, labels),
        (&too_long, "253"),
        (&wild_too_long, "253"),
        ("*", labels),
        ("*.", labels),
        ("*.*.test", labels),
        ("www.*.test", labels),
        ("w*.test", labels),
        ("**.test", labels),
        ("a.test:443", labels),
        ("a/b", labels),
        ("a,b.test", labels),
        ("[::1]", labels),
        ("fe80::1%eth0", labels),
        ("::g", labels),
        ("xn--a.test", "IDNA"),
        ("1.2.3", number),
        ("256.0.0.1", number),
        ("127.0.0.01", number),
        ("0x7f.0x1", number),
        ("a.test.1", number),
        ("*.1.2.3.4", number),
        ("１２７.０.０.１", number),
        ("@a.test", local),
        ("a@b@c.test", local),
        ("\"a\"@b.test", local),
        ("a..b@c.test", local),
        ("ä@b.test", local),
        (&long_local, local),
        ("a@", labels),
        ("a@*.test", labels),
        ("a@127.0.0.1", number),
        ("://a.test", uri),
        ("https://", uri),
        ("https:///path", uri),
        ("file:///etc/passwd", uri),
        ("https://a.test/<b>", uri),
        ("https://bücher.test/", uri),
        ("1https://a.test", uri),
        (&very_long, "1024"),
    ];
    for (text, reason) in names {
        let refusal = match text.parse::<San>() {
            Ok(san) => panic!("{text:?} was read as {san:?}"),
            Err(e) => e.to_string(),
        };
        assert!(refusal.contains(reason), "{text:?}: {refusal}");
    }
}

#[test]
fn refusals_quote_no_more_than_a_line() {
    let refusal = "ä@".repeat(500).parse::<San>().unwrap_err();
    assert!(refusal.to_string().chars().count() < 200);
}

#[test]
fn stored_names_are_checked_when_they_are_read() {
    let san: San = serde_json::from_str("\"A.test\"").unwrap();
    assert_eq!(serde_json::to_string(&san).unwrap(), "\"a.test\"");
    assert!(serde_json::from_str::<San>("\"a b\"").is_err());
}

#[test]
fn a_set_of_names_has_one_order_and_no_repetitions() {
    let read = |names: &[&str]| {
        let names = names.iter().map(|n| n.parse().unwrap()).collect();
        Sans::new(names).into_vec()
    };
    let once = read(&["b.test", "A.test", "10.0.0.1", "a.test"]);
    assert_eq!(once, read(&["10.0.0.1", "a.test", "b.test"]));
    assert_eq!(once.len(), 3);
}

/// Texts near to names of all kinds, and far from them.
fn text() -> impl Strategy<Value = String> {
    let label = "[a-zA-Z0-9_-]{0,8}|\\*|xn--[a-z0-9]{1,6}|[a-zäßøжя例。．]{1,4}|[0-9]{1,3}";
    prop_oneof![
        proptest::collection::vec(label, 1..5).prop_map(|labels| labels.join(".")),
        "[a-z0-9.+\"]{0,8}@[a-z0-9.@*-]{0,12}",
        "[a-z:]{0,6}://[a-z0-9.@/:?#\\[\\]%ä-]{0,16}",
        any::<std::net::IpAddr>().prop_map(|ip| ip.to_string()),
        "[0-9a-f:.%]{0,20}",
        ".{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_name_reads_as_itself(text in text()) {
        if let Ok(san) = text.parse::<San>() {
            let shown = san.to_string();
            prop_assert!(shown.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(shown.parse::<San>().unwrap(), san);
        }
    }

    #[test]
    fn rustls_takes_every_dns_name(text in text()) {
        if let Ok(San::Dns(name)) = text.parse::<San>() {
            let name = name.replacen('*', "any", 1);
            prop_assert!(DnsName::try_from(name.as_str()).is_ok(), "{}", name);
        }
    }
}
