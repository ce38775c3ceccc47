//! The C library's name service is refused, not crashed into.

use std::{collections::BTreeSet, net::ToSocketAddrs};

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "proves that the banned call fails cleanly"
)]
fn resolving_through_the_c_library_is_an_error() {
    assert!("example.org:1".to_socket_addrs().is_err());
    assert!("localhost:1".to_socket_addrs().is_err());
    // An address needs no name service.
    assert_eq!("127.0.0.1:1".to_socket_addrs().unwrap().count(), 1);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "proves that the banned call fails cleanly"
)]
fn users_and_groups_are_unknown() {
    use nix::unistd::{Group, User, getgid, getuid};
    assert_eq!(User::from_uid(getuid()).unwrap(), None);
    assert_eq!(User::from_name("root").unwrap(), None);
    assert_eq!(Group::from_gid(getgid()).unwrap(), None);
    assert_eq!(Group::from_name("root").unwrap(), None);
}

#[test]
fn a_user_is_in_no_group_but_the_one_given() {
    use nix::unistd::{getgid, getgrouplist, initgroups};
    assert_eq!(getgrouplist(c"root", getgid()).unwrap(), [getgid()]);
    assert_eq!(
        initgroups(c"root", getgid()),
        Err(nix::errno::Errno::ENOSYS)
    );
}

/// The tests and the product link the same library, so what holds for this binary holds for that.
#[test]
fn the_name_service_switch_is_not_linked() {
    let binary = std::fs::read("/proc/self/exe").unwrap();
    // Written backwards, for the text must not get into the binary by this test.
    let [present, absent_lookup, absent_load] =
        ["tsilpuorgteg", "noitcnuf_pukool_ssn__", "daol_eludom_ssn__"]
            .map(|backwards| backwards.bytes().rev().collect::<Vec<u8>>());
    let symbols: BTreeSet<&[u8]> = binary
        .split(|byte| *byte == 0)
        .filter(|s| *s == present || *s == absent_lookup || *s == absent_load)
        .collect();
    assert_eq!(symbols, BTreeSet::from([present.as_slice()]));
}
