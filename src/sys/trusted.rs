//! Files whose word counts: those that only root and the process's own user can change.

use super::{FileError, Files, Metadata, files::at};
use nix::fcntl::OFlag;
use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// The user this process acts as.
pub fn own_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Reads a file that only root and this process's user can change, themselves or by way of a
/// directory above it. What is judged is what was opened.
///
/// # Errors
/// The file cannot be read, is longer than `max_bytes`, or others can change it.
pub fn read_trusted(path: &Path, max_bytes: usize) -> Result<Vec<u8>, FileError> {
    read(path, max_bytes).map_err(at("read", path))
}

fn read(path: &Path, max_bytes: usize) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let opened = file.metadata()?;
    if !opened.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let user = own_user();
    let opened = Metadata::from(&opened);
    only_ours(path, &opened, user)?;
    // A link is trusted where it stands, and where it leads.
    let (named, real) = (std::path::absolute(path)?, fs::canonicalize(path)?);
    if Metadata::from(&fs::metadata(&real)?).inode != opened.inode {
        return Err(io::Error::other("it was replaced while it was read"));
    }
    for dir in named.ancestors().chain(real.ancestors()) {
        let found = Metadata::from(&fs::metadata(dir)?);
        if dir != named && dir != real {
            only_ours(dir, &found, user)?;
        }
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    file.by_ref()
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() > max_bytes {
        return Err(io::Error::other(format!(
            "it is longer than {max_bytes} bytes"
        )));
    }
    Ok(bytes)
}

/// Why others than root and `user` can change what is at `path`, if they can; `path` leads over no
/// link.
pub fn trusted(files: &dyn Files, path: &Path, user: u32) -> io::Result<()> {
    for part in path.ancestors() {
        match files.metadata(part).map_err(|e| e.source)? {
            Some(found) => only_ours(part, &found, user)?,
            None => {
                let missing = format!("{} is not there", part.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, missing));
            }
        }
    }
    Ok(())
}

/// In a sticky directory others can neither remove nor rename what is not theirs.
fn only_ours(path: &Path, found: &Metadata, user: u32) -> io::Result<()> {
    const WRITABLE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    let sticky = found.kind == super::Kind::Dir && found.mode & STICKY != 0;
    if found.uid != 0 && found.uid != user {
        let owner = found.uid;
        return Err(io::Error::other(format!(
            "{} belongs to user {owner}, who could change what this program may do: \
             give it to root (`chown root`)",
            path.display()
        )));
    }
    if found.mode & WRITABLE != 0 && !sticky {
        return Err(io::Error::other(format!(
            "{} can be changed by others than its owner (mode {:04o}): take that away \
             (`chmod go-w`)",
            path.display(),
            found.mode
        )));
    }
    Ok(())
}
