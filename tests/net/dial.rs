//! Resolving and dialling.

use super::pki::{AMPLE, dialer};
use certctl::net::{DialError, Dialer, Guard, Resolver};
use std::net::{IpAddr, Ipv6Addr};
use tokio::net::TcpListener;

#[expect(clippy::disallowed_methods, reason = "a peer of the test")]
async fn listen(address: &str) -> TcpListener {
    TcpListener::bind(address).await.unwrap()
}

#[tokio::test]
async fn addresses_and_localhost_need_no_dns() {
    let resolver = Resolver::system();
    let lookup = async |host: &str| resolver.lookup(host).await.unwrap();
    assert_eq!(
        lookup("192.0.2.1").await,
        ["192.0.2.1".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(
        lookup("[2001:db8::1]").await,
        ["2001:db8::1".parse::<IpAddr>().unwrap()]
    );
    for name in ["localhost", "LOCALHOST", "localhost."] {
        let found = lookup(name).await;
        assert!(
            found.len() == 2 && found.iter().all(IpAddr::is_loopback),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_name_without_address_is_named() {
    for host in ["no-such-host.invalid", "not a name", "", "a..b"] {
        let error = Resolver::system().lookup(host).await.unwrap_err();
        assert!(error.to_string().contains(host), "{error}");
    }
}

#[tokio::test]
async fn every_address_is_tried_in_turn() {
    let listener = listen("[::1]:0").await;
    let address = listener.local_addr().unwrap();
    // localhost is 127.0.0.1 first, where nobody listens.
    let stream = dialer()
        .connect("localhost", address.port(), AMPLE)
        .await
        .unwrap();
    assert_eq!(stream.peer_addr().unwrap(), address);
}

#[tokio::test]
async fn a_forbidden_address_is_not_dialled_even_behind_a_name() {
    let listener = listen("127.0.0.1:0").await;
    let port = listener.local_addr().unwrap().port();
    let guarded = Dialer::new(Resolver::system(), Guard::Public);
    for host in [
        "localhost",
        "127.0.0.1",
        "::ffff:127.0.0.1",
        "169.254.169.254",
    ] {
        let error = guarded.connect(host, port, AMPLE).await.unwrap_err();
        assert!(matches!(error, DialError::Forbidden { .. }), "{error}");
        assert!(
            error.to_string().contains("not a public address"),
            "{error}"
        );
    }
}

#[test]
fn the_public_guard_refuses_every_special_purpose_range() {
    let allows = |text: &str| Guard::Public.allows(text.parse().unwrap());
    for refused in [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "100.100.100.200",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
    ] {
        assert!(!allows(refused), "{refused}");
        assert!(Guard::Any.allows(refused.parse().unwrap()));
    }
    for public in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::1",
        "2606:4700::1111",
        "2a00::1",
        "3fff:1000::1",
        "::ffff:8.8.8.8",
    ] {
        assert!(allows(public), "{public}");
    }
    assert!(!Guard::Public.allows(IpAddr::V6(Ipv6Addr::LOCALHOST)));
}
