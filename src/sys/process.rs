//! The process and the machine it runs on.

use nix::sys::{
    prctl,
    resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit},
    stat,
    time::TimeValLike,
};
use std::{io, net::IpAddr};

/// Makes the process careful, first thing in `main`: files it creates are its own user's alone
/// (umask 077), and its memory, which holds keys, is neither dumped nor readable through `/proc`
/// by other processes of the same user. Both pass on: a child inherits the umask, and an
/// unprivileged process no longer lists its own `/proc/self/fd` (`proc(5)`).
pub fn harden() -> io::Result<()> {
    stat::umask(stat::Mode::from_bits_truncate(0o077));
    prctl::set_dumpable(false).map_err(io::Error::from)
}

/// Raises the soft limit on open files to the hard one, and returns it: every connection is a file,
/// and shells and service managers give 1,024. Only programs that use `select(2)` need the low one.
pub fn raise_open_files() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// How far a thread steps back: it gets a tenth of what another one gets that wants the same
/// processor.
const STEP_BACK: i32 = 10;

/// Has the calling thread leave the processors to all others of its control group that want them.
/// On Linux each thread has a niceness of its own (`setpriority(2)`).
pub fn step_back() {
    let this_thread = 0;
    #[expect(unsafe_code, reason = "the call takes numbers and touches no memory")]
    // SAFETY: it takes numbers alone. Where it is refused the thread stays as it is.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, this_thread, STEP_BACK) };
}

/// What this process uses of the machine; `None` where the kernel does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Microseconds of processor time since it began.
    pub cpu_micros: Option<u64>,
    /// Bytes of memory that are resident.
    pub resident_bytes: Option<u64>,
    /// Files that are open.
    pub open_files: Option<u64>,
    /// Files that may be open.
    pub max_files: Option<u64>,
}

impl Usage {
    /// Now.
    pub fn now() -> Self {
        let cpu = getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| {
            let time = usage.user_time() + usage.system_time();
            u64::try_from(time.num_microseconds()).unwrap_or(0)
        });
        Self {
            cpu_micros: cpu,
            resident_bytes: resident_bytes(),
            open_files: std::fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| files.count() as u64),
            max_files: getrlimit(Resource::RLIMIT_NOFILE)
                .ok()
                .map(|(soft, _)| soft),
        }
    }
}

/// The second number of `/proc/self/statm`, in pages (proc(5)).
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

/// What a machine calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's host name; "unknown" where it cannot be read.
    pub hostname: String,
    /// The operating system: `linux`.
    pub os: &'static str,
    /// The architecture in the names that packages use: `amd64`, `arm64`, else Rust's name.
    pub architecture: &'static str,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            hostname: match hostname.trim() {
                "" => "unknown".into(),
                name => name.into(),
            },
            os: std::env::consts::OS,
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
        }
    }

    /// The addresses of the network interfaces by which others may reach this machine, sorted:
    /// no loopback, no link-local ones.
    pub fn addresses() -> Vec<IpAddr> {
        let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
            return Vec::new();
        };
        let mut addresses: Vec<IpAddr> = interfaces
            .filter_map(|interface| {
                let address = interface.address?;
                let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
            })
            .filter(|ip| match ip {
                IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
                IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
            })
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}
