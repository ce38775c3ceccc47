//! A file system that forgets what was not synced when the power goes.

use super::{chance::Chance, machine::Machine};
use certctl::sys::{FileError, Files, Kind, Metadata, Owner, TEMP_PREFIX};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

/// A disk's content, which outlives the machine it is in. Clones share it.
#[derive(Clone, Default)]
pub struct Volume(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: BTreeMap<PathBuf, Node>,
    synced: BTreeMap<PathBuf, Node>,
    /// Changes of directory entries that their directory's sync has not made durable.
    unsynced: Vec<(PathBuf, Option<Node>)>,
    made: u64,
}

#[derive(Clone)]
enum Node {
    File {
        bytes: Vec<u8>,
        mode: u32,
        inode: u64,
        /// Whether the content itself was synced.
        whole: bool,
    },
    Dir {
        mode: u32,
        inode: u64,
    },
    Link(PathBuf),
}

impl Volume {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The power goes, and nothing is left that was not synced.
    pub fn forget(&self) {
        let mut state = self.state();
        state.unsynced.clear();
        let mut left = state.synced.clone();
        drop_lost(&mut left);
        state.synced = left.clone();
        state.now = left;
    }

    /// What the power's loss leaves: each unsynced change is there or not, an unsynced content is
    /// cut somewhere.
    pub fn lose_power(&self, chance: &Chance) {
        let mut state = self.state();
        let mut left = state.synced.clone();
        for (path, node) in std::mem::take(&mut state.unsynced) {
            if chance.one_in(2) {
                continue;
            }
            match node {
                Some(Node::File {
                    mut bytes,
                    mode,
                    inode,
                    whole,
                }) => {
                    if !whole {
                        bytes.truncate(chance.below(bytes.len() as u64 + 1) as usize);
                    }
                    let whole = true;
                    let file = Node::File {
                        bytes,
                        mode,
                        inode,
                        whole,
                    };
                    left.insert(path, file);
                }
                Some(node) => drop(left.insert(path, node)),
                None => drop(left.remove(&path)),
            }
        }
        drop_lost(&mut left);
        state.synced = left.clone();
        state.now = left;
    }

    /// The text of a file.
    pub fn text(&self, path: &str) -> String {
        match self.state().now.get(Path::new(path)) {
            Some(Node::File { bytes, .. }) => String::from_utf8(bytes.clone()).unwrap(),
            _ => panic!("there is no file {path}"),
        }
    }

    /// A file or link's content, for a program that is not the agent.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.state().at(path)? {
            Node::File { bytes, .. } => Ok(bytes.clone()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Whether some file has exactly this content.
    pub fn holds(&self, content: &[u8]) -> bool {
        let state = self.state();
        let mut nodes = state.now.values();
        nodes.any(|node| matches!(node, Node::File { bytes, .. } if bytes == content))
    }

    /// Puts a file there that was always there.
    pub fn plant(&self, path: &str, bytes: &[u8], mode: u32) {
        let mut state = self.state();
        let node = Node::File {
            bytes: bytes.to_vec(),
            mode,
            inode: state.next_inode(),
            whole: true,
        };
        state.plant(Path::new(path), node);
    }

    /// Puts a directory there that was always there, with those above it.
    pub fn plant_dir(&self, path: &str) {
        let mut state = self.state();
        let path = Path::new(path);
        let above: Vec<&Path> = path.ancestors().filter(|p| *p != Path::new("/")).collect();
        for dir in above
            .into_iter()
            .rev()
            .filter(|dir| !dir.as_os_str().is_empty())
        {
            if !state.is_dir(dir) {
                let (mode, inode) = (0o755, state.next_inode());
                state.plant(dir, Node::Dir { mode, inode });
            }
        }
    }

    /// All that there is, for looking at from outside.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().now.keys().cloned().collect()
    }
}

impl State {
    fn plant(&mut self, path: &Path, node: Node) {
        self.now.insert(path.to_owned(), node.clone());
        self.synced.insert(path.to_owned(), node);
    }

    fn enter(&mut self, path: &Path, node: Option<Node>) {
        match &node {
            Some(node) => drop(self.now.insert(path.to_owned(), node.clone())),
            None => drop(self.now.remove(path)),
        }
        self.unsynced.push((path.to_owned(), node));
    }

    fn sync_dir(&mut self, dir: &Path) {
        for (path, node) in std::mem::take(&mut self.unsynced) {
            if path.parent() != Some(dir) {
                self.unsynced.push((path, node));
                continue;
            }
            match node {
                Some(node) => drop(self.synced.insert(path, node)),
                None => drop(self.synced.remove(&path)),
            }
        }
    }

    fn is_unsynced(&self, path: &Path) -> bool {
        self.unsynced.iter().any(|(changed, _)| changed == path)
    }

    fn next_inode(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn is_dir(&self, path: &Path) -> bool {
        path == Path::new("/") || matches!(self.now.get(path), Some(Node::Dir { .. }))
    }

    /// The path without links, the last of them followed on request.
    fn resolve(&self, path: &Path, follow: bool) -> io::Result<PathBuf> {
        let mut rest: Vec<Component<'_>> = path.components().rev().collect();
        let mut owned: Vec<PathBuf> = Vec::new();
        let mut out = PathBuf::new();
        let mut links = 0;
        loop {
            let part = match owned.pop() {
                Some(part) => part,
                None => match rest.pop() {
                    Some(part) => Path::new(part.as_os_str()).to_owned(),
                    None => return Ok(out),
                },
            };
            if part == Path::new("..") {
                out.pop();
                continue;
            }
            out.push(part);
            let last = rest.is_empty() && owned.is_empty();
            if let Some(Node::Link(to)) = self.now.get(&out)
                && (follow || !last)
            {
                links += 1;
                if links > 8 {
                    return Err(io::Error::other("too many links"));
                }
                out.pop();
                owned.extend(
                    to.components()
                        .rev()
                        .map(|c| Path::new(c.as_os_str()).into()),
                );
            }
        }
    }

    fn at(&self, path: &Path) -> io::Result<&Node> {
        self.now
            .get(&self.resolve(path, true)?)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn below(&self, dir: &Path) -> Vec<PathBuf> {
        let all = self.now.range(dir.to_owned()..);
        all.map(|(path, _)| path.clone())
            .take_while(|path| path.starts_with(dir))
            .collect()
    }
}

/// The file system as one run of a process sees it. Each operation takes the steps that the real
/// one takes.
pub struct SimFiles {
    pub volume: Volume,
    pub machine: Machine,
}

impl SimFiles {
    fn step(&self, what: &str, path: &Path) -> io::Result<()> {
        self.machine.step(format_args!("{what} {}", path.display()))
    }

    fn sync_parent(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        self.step("sync", dir)?;
        self.volume.state().sync_dir(dir);
        Ok(())
    }

    /// A temporary name beside `path`, in a directory that must be there.
    fn beside(&self, path: &Path) -> io::Result<PathBuf> {
        let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let mut state = self.volume.state();
        if !state.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(dir.join(format!("{TEMP_PREFIX}{}", state.next_inode())))
    }

    /// Puts a node at a temporary name, and then in its place.
    fn put(&self, path: &Path, temporary: &Path, node: Node) -> io::Result<()> {
        let renamed = self.step("rename", path).inspect(|()| {
            let mut state = self.volume.state();
            state.enter(temporary, None);
            state.enter(path, Some(node));
        });
        self.tidy(temporary, renamed)?;
        self.sync_parent(path)
    }

    /// A temporary file goes when a step with it failed, save when everything has ended.
    fn tidy<T>(&self, temporary: &Path, step: io::Result<T>) -> io::Result<T> {
        step.inspect_err(|_| {
            if !self.machine.is_off() {
                self.volume.state().enter(temporary, None);
            }
        })
    }

    fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let path = self.volume.state().resolve(path, false)?;
        let temporary = self.beside(&path)?;
        self.step("create", &path)?;
        let inode = self.volume.state().next_inode();
        let file = |bytes: &[u8], whole| Node::File {
            bytes: bytes.to_vec(),
            mode,
            inode,
            whole,
        };
        self.volume
            .state()
            .enter(&temporary, Some(file(b"", false)));
        self.tidy(&temporary, self.step("write", &path))?;
        self.volume
            .state()
            .enter(&temporary, Some(file(bytes, false)));
        self.tidy(&temporary, self.step("fsync", &path))?;
        self.volume
            .state()
            .enter(&temporary, Some(file(bytes, true)));
        self.put(&path, &temporary, file(bytes, true))
    }

    fn mkdir(&self, path: &Path, mode: u32) -> io::Result<()> {
        let there = self.volume.state().is_dir(path);
        if there {
            let unsynced = self.volume.state().is_unsynced(path);
            return if unsynced {
                self.sync_parent(path)
            } else {
                Ok(())
            };
        }
        if self.volume.state().now.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let above = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        self.mkdir(above, mode)?;
        self.step("mkdir", path)?;
        let mut state = self.volume.state();
        let inode = state.next_inode();
        state.enter(path, Some(Node::Dir { mode, inode }));
        drop(state);
        self.sync_parent(path)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let path = self.volume.state().resolve(path, false)?;
        match self.volume.state().now.get(&path) {
            None => return Ok(()),
            Some(Node::Dir { .. }) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(_) => {}
        }
        self.step("unlink", &path)?;
        self.volume.state().enter(&path, None);
        self.sync_parent(&path)
    }

    fn unlink_tree(&self, path: &Path) -> io::Result<()> {
        let path = self.volume.state().resolve(path, false)?;
        let all = self.volume.state().below(&path);
        if all.is_empty() {
            return Ok(());
        }
        for path in all.iter().rev() {
            self.step("unlink", path)?;
            self.volume.state().enter(path, None);
        }
        self.sync_parent(&path)
    }

    fn move_to(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = {
            let state = self.volume.state();
            (state.resolve(from, false)?, state.resolve(to, false)?)
        };
        let all = self.volume.state().below(&from);
        if all.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.step("rename", &to)?;
        if from != to {
            let mut state = self.volume.state();
            for path in all {
                let node = state.now.get(&path).cloned();
                let place = to.join(path.strip_prefix(&from).unwrap());
                state.enter(&path, None);
                state.enter(&place, node);
            }
        }
        self.sync_parent(&to)?;
        if from.parent() == to.parent() {
            Ok(())
        } else {
            self.sync_parent(&from)
        }
    }
}

/// What was in a directory that is not there is lost with it. A directory comes before what is in it.
fn drop_lost(left: &mut BTreeMap<PathBuf, Node>) {
    let mut dirs = BTreeSet::from([PathBuf::from("/")]);
    left.retain(|path, node| {
        let there = dirs.contains(path.parent().unwrap());
        if there && matches!(node, Node::Dir { .. }) {
            dirs.insert(path.clone());
        }
        there
    });
}

fn at(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError {
        op,
        path: path.into(),
        source,
    }
}

impl Files for SimFiles {
    fn read(&self, path: &Path, max_bytes: usize) -> Result<Vec<u8>, FileError> {
        let state = self.volume.state();
        let bytes = state.at(path).and_then(|node| match node {
            Node::File { bytes, .. } if bytes.len() <= max_bytes => Ok(bytes.clone()),
            Node::File { .. } => Err(io::Error::other("it is too long")),
            _ => Err(io::Error::other("it is not a regular file")),
        });
        bytes.map_err(at("read", path))
    }

    fn write_durable(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        self.write(path, bytes, mode).map_err(at("write", path))
    }

    /// All files here are root's.
    fn write_owned(
        &self,
        path: &Path,
        bytes: &[u8],
        mode: u32,
        owner: Owner,
    ) -> Result<(), FileError> {
        assert_eq!(owner, Owner { uid: 0, gid: 0 });
        self.write_durable(path, bytes, mode)
    }

    fn make_dir(&self, path: &Path, mode: u32) -> Result<(), FileError> {
        self.mkdir(path, mode).map_err(at("make directory", path))
    }

    fn flip_link(&self, link: &Path, target: &Path) -> Result<(), FileError> {
        let flip = || {
            let temporary = self.beside(link)?;
            self.step("symlink", link)?;
            let node = Node::Link(target.to_owned());
            self.volume.state().enter(&temporary, Some(node.clone()));
            self.put(link, &temporary, node)
        };
        flip().map_err(at("link", link))
    }

    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, FileError> {
        let state = self.volume.state();
        let path = state.resolve(path, false).map_err(at("read link", path))?;
        Ok(match state.now.get(&path) {
            Some(Node::Link(to)) => Some(to.clone()),
            _ => None,
        })
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        self.unlink(path).map_err(at("remove", path))
    }

    fn remove_tree(&self, path: &Path) -> Result<(), FileError> {
        self.unlink_tree(path).map_err(at("remove", path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>, FileError> {
        let state = self.volume.state();
        let list = || {
            let dir = state.resolve(dir, true)?;
            if !state.is_dir(&dir) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let inside = state.below(&dir).into_iter();
            Ok(inside
                .filter(|path| path.parent() == Some(&dir))
                .map(|path| path.file_name().unwrap().to_owned())
                .collect())
        };
        list().map_err(at("list", dir))
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>, FileError> {
        let (kind, mode, len, inode) = match self.volume.state().at(path) {
            Ok(Node::File {
                bytes, mode, inode, ..
            }) => (Kind::File, *mode, bytes.len() as u64, *inode),
            Ok(Node::Dir { mode, inode }) => (Kind::Dir, *mode, 0, *inode),
            Ok(Node::Link(_)) => unreachable!("links are followed"),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(at("look at", path)(e)),
        };
        Ok(Some(Metadata {
            kind,
            mode,
            uid: 0,
            gid: 0,
            len,
            inode: (1, inode),
            modified: i128::from(inode),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.move_to(from, to).map_err(at("rename", from))
    }
}
