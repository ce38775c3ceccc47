//! The operating system: files, tasks, signals, the service manager, the process itself. The only
//! `unsafe` of the crate is here, in `nss`, `exec` and `process`.

mod exec;
mod files;
mod lock;
pub mod notify;
mod nss;
mod process;
mod room;
mod signals;
mod size;
mod tasks;
mod trusted;

pub use exec::{Command, Ending, Exec, ExecError, Finished, MAX_OUTPUT, Programs};
pub use files::{
    Disk, FileError, Files, Kind, Metadata, Owner, Pending, Reach, TEMP_PREFIX, remove_temporaries,
};
pub use lock::Lock;
pub use process::{Machine, Usage, harden, raise_open_files};
pub use room::{Room, Rooms};
pub use signals::{Hangup, Terminate};
pub use size::size;
pub use tasks::{BlockingError, Tasks};
pub use trusted::{own_user, read_trusted, trusted};
