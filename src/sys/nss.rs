//! Refuses name service lookups. A statically linked glibc answers them by loading NSS modules at
//! run time and crashes, so these definitions take the place of libc's: a dependency that strays
//! gets a clean error. Host names are resolved in `net`, users and groups are numbers.
//!
//! Signatures are those of POSIX and `netdb.h`, `pwd.h`, `grp.h`.
#![expect(unsafe_code, reason = "exported C symbols and their out pointers")]

use libc::{addrinfo, c_char, c_int, gid_t, group, hostent, passwd, size_t, socklen_t, uid_t};
use std::ptr::null_mut;

#[unsafe(no_mangle)]
extern "C" fn getaddrinfo(
    _node: *const c_char,
    _service: *const c_char,
    _hints: *const addrinfo,
    _result: *mut *mut addrinfo,
) -> c_int {
    libc::EAI_FAIL
}

/// Nothing is ever allocated by [`getaddrinfo`].
#[unsafe(no_mangle)]
extern "C" fn freeaddrinfo(_list: *mut addrinfo) {}

#[unsafe(no_mangle)]
extern "C" fn getnameinfo(
    _address: *const libc::sockaddr,
    _length: socklen_t,
    _host: *mut c_char,
    _host_length: socklen_t,
    _service: *mut c_char,
    _service_length: socklen_t,
    _flags: c_int,
) -> c_int {
    libc::EAI_FAIL
}

#[unsafe(no_mangle)]
extern "C" fn gethostbyname(_name: *const c_char) -> *mut hostent {
    null_mut()
}

#[unsafe(no_mangle)]
extern "C" fn getpwnam(_name: *const c_char) -> *mut passwd {
    null_mut()
}

#[unsafe(no_mangle)]
extern "C" fn getpwuid(_uid: uid_t) -> *mut passwd {
    null_mut()
}

#[unsafe(no_mangle)]
extern "C" fn getgrnam(_name: *const c_char) -> *mut group {
    null_mut()
}

#[unsafe(no_mangle)]
extern "C" fn getgrgid(_gid: gid_t) -> *mut group {
    null_mut()
}

/// Answers "no such entry": `*result` is null and the return value 0.
///
/// # Safety
/// `result` is null or valid for a write, as POSIX demands of the callers of the functions below.
unsafe fn no_entry<T>(result: *mut *mut T) -> c_int {
    if !result.is_null() {
        // SAFETY: not null, and valid by the contract above.
        unsafe { *result = null_mut() };
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getpwnam_r(
    _name: *const c_char,
    _entry: *mut passwd,
    _buffer: *mut c_char,
    _length: size_t,
    result: *mut *mut passwd,
) -> c_int {
    // SAFETY: passed on from the caller.
    unsafe { no_entry(result) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getpwuid_r(
    _uid: uid_t,
    _entry: *mut passwd,
    _buffer: *mut c_char,
    _length: size_t,
    result: *mut *mut passwd,
) -> c_int {
    // SAFETY: passed on from the caller.
    unsafe { no_entry(result) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getgrnam_r(
    _name: *const c_char,
    _entry: *mut group,
    _buffer: *mut c_char,
    _length: size_t,
    result: *mut *mut group,
) -> c_int {
    // SAFETY: passed on from the caller.
    unsafe { no_entry(result) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getgrgid_r(
    _gid: gid_t,
    _entry: *mut group,
    _buffer: *mut c_char,
    _length: size_t,
    result: *mut *mut group,
) -> c_int {
    // SAFETY: passed on from the caller.
    unsafe { no_entry(result) }
}

#[unsafe(no_mangle)]
extern "C" fn initgroups(_user: *const c_char, _group: gid_t) -> c_int {
    nix::errno::Errno::ENOSYS.set();
    -1
}

/// Answers, as for a user of no other groups, with `group` alone.
#[unsafe(no_mangle)]
unsafe extern "C" fn getgrouplist(
    _user: *const c_char,
    group: gid_t,
    groups: *mut gid_t,
    count: *mut c_int,
) -> c_int {
    // SAFETY: the caller passes a valid count and room for that many groups, getgrouplist(3).
    unsafe {
        let room = std::mem::replace(&mut *count, 1);
        if room < 1 {
            return -1;
        }
        *groups = group;
    }
    1
}
