//! Names by the machine's files, as they are at the time.

use certctl::net::Resolver;
use std::{fs, net::IpAddr};

#[tokio::test]
async fn files_are_read_again_when_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let (servers, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
    let resolver = Resolver::of_files(&servers, &hosts);
    let lookup = async || resolver.lookup("server.test").await;
    let is = |address: &str| vec![address.parse::<IpAddr>().unwrap()];
    assert!(lookup().await.is_err(), "the network is not set up");

    // Nobody answers there: names come of the hosts alone.
    fs::write(&servers, "nameserver 127.0.0.1\n").unwrap();
    fs::write(&hosts, "192.0.2.1 server.test\n").unwrap();
    assert_eq!(lookup().await.unwrap(), is("192.0.2.1"));

    // In place, as an editor does, and by a new file, as a DHCP client does.
    fs::write(&hosts, "192.0.2.2 server.test # moved\n").unwrap();
    assert_eq!(lookup().await.unwrap(), is("192.0.2.2"));
    let new = dir.path().join("new");
    fs::write(&new, "192.0.2.3 server.test # moved\n").unwrap();
    fs::rename(&new, &hosts).unwrap();
    assert_eq!(lookup().await.unwrap(), is("192.0.2.3"));

    fs::remove_file(&hosts).unwrap();
    assert!(lookup().await.is_err());
}
