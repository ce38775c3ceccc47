//! The file of a unix socket.

use super::serve::BindError;
use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net,
    },
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// A socket file of ours; removed on drop unless another has taken its place.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    /// Listens on `path` with these permission bits, in place of a socket that nobody listens on.
    pub(super) fn bind(path: &Path, mode: u32) -> Result<(UnixListener, Self), BindError> {
        let failed = |source| BindError::Socket {
            path: path.into(),
            source,
        };
        if is_live(path).map_err(failed)? {
            return Err(BindError::SocketTaken(path.into()));
        }
        listen(path, mode).map_err(failed)
    }
}

fn is_live(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other("there is a file that is no socket"));
        }
        Ok(_) => {}
    }
    match net::UnixStream::connect(path) {
        Ok(_) => Ok(true),
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) =>
        {
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

/// The socket appears under its name with its permissions already set.
fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = net::UnixListener::bind(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(mode))?;
    let inode = fs::symlink_metadata(&new)?.ino();
    fs::rename(&new, path)?;
    listener.set_nonblocking(true)?;
    let file = SocketFile {
        path: path.into(),
        inode,
    };
    Ok((UnixListener::from_std(listener)?, file))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
