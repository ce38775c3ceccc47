//! What the host allows, whatever the server asks for.

use super::{Fault, Paths, TargetConfig, config::TARGET_TYPES};
use crate::sys::{FileError, Files, own_user, read_trusted, trusted};
use serde::Serialize;
use std::{
    ffi::OsStr,
    fmt,
    path::{Component, Path, PathBuf},
};
use toml::{Table, Value};

/// Where the policy is when nobody says otherwise.
pub const POLICY_FILE: &str = "/etc/certctl/agent-policy.toml";

const MAX_BYTES: usize = 64 << 10;
/// More links than this on the way to a file are a circle.
const MAX_LINKS: usize = 40;
const NGINX: &str = "/usr/sbin/nginx";
/// Where distributions keep nginx's configuration.
const NGINX_CONFIGS: &str = "/etc/nginx";

/// What no server may have written, whatever else the policy says: who may log in and as what,
/// what runs by itself and what it loads, and the machine's own insides. A `*` ends a name.
const PROTECTED: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc/anacrontab",
    "/etc/apt",
    "/etc/at.*",
    "/etc/bash*",
    "/etc/ca-certificates*",
    "/etc/certctl",
    "/etc/cron*",
    "/etc/dbus-1",
    "/etc/default",
    "/etc/environment",
    "/etc/fstab",
    "/etc/group*",
    "/etc/gshadow*",
    "/etc/hosts*",
    "/etc/init*",
    "/etc/kubernetes",
    "/etc/ld.so*",
    "/etc/login.*",
    "/etc/logrotate*",
    "/etc/modprobe.d",
    "/etc/modules*",
    "/etc/network",
    "/etc/nsswitch.conf",
    "/etc/pam*",
    "/etc/passwd*",
    "/etc/pki/ca-trust*",
    "/etc/pki/rpm-gpg",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs/ca-*",
    "/etc/polkit-1",
    "/etc/profile*",
    "/etc/rc*",
    "/etc/resolv.conf",
    "/etc/security",
    "/etc/shadow*",
    "/etc/shells",
    "/etc/ssh",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs/ca-*",
    "/etc/ssl/openssl.cnf",
    "/etc/subgid*",
    "/etc/subuid*",
    "/etc/sudo*",
    "/etc/sysctl*",
    "/etc/systemd",
    "/etc/udev",
    "/lib*",
    "/proc",
    "/run/systemd",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/lib*",
    "/usr/local/bin",
    "/usr/local/share/ca-certificates",
    "/usr/local/lib*",
    "/usr/local/sbin",
    "/usr/sbin",
    "/usr/share",
    "/var/lib/certctl",
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/var/lib/systemd",
    "/var/spool/cron",
];

/// Names in any home directory by which a session begins.
const PROTECTED_NAMES: &[&str] = &[
    ".bash_login",
    ".bash_profile",
    ".bashrc",
    ".config",
    ".gnupg",
    ".local",
    ".profile",
    ".ssh",
    ".zshenv",
    ".zshrc",
];

/// What the host allows. Read once, when the agent starts; the server cannot change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// The file it is from; none says that there is no file.
    pub file: Option<PathBuf>,
    /// Types of targets that may be deployed to.
    pub target_types: Vec<String>,
    /// Directories below which a target's files may be; none allows every place outside of those
    /// that are always protected.
    pub paths: Option<Vec<PathBuf>>,
    /// Programs with their arguments that a target's configuration may have run.
    pub commands: Vec<Vec<String>>,
    /// Programs that are nginx.
    pub binaries: Vec<PathBuf>,
    /// Configuration files of nginx that may be used; none allows those below `/etc/nginx`. Only
    /// root and the agent's user may be able to change them.
    pub configs: Option<Vec<PathBuf>>,
    /// The user the agent acts as, to whom its files belong.
    #[serde(skip)]
    pub user: u32,
}

/// What a target needs of its host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs<'a> {
    /// Files it replaces.
    pub writes: Vec<&'a Path>,
    /// Programs it runs with arguments of our choice.
    pub binaries: Vec<&'a Path>,
    /// Configuration files that those read.
    pub configs: Vec<&'a Path>,
    /// Programs it runs with arguments of the server's choice.
    pub commands: Vec<&'a [String]>,
}

/// A policy file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read, or others could change it.
    #[error("the agent's policy: {0}")]
    File(#[from] FileError),
    /// What it says is wrong.
    #[error("the agent's policy {} cannot be used:\n  {}", file.display(), faults.join("\n  "))]
    Content {
        /// The file.
        file: PathBuf,
        /// All that is wrong.
        faults: Vec<String>,
    },
}

impl Default for Policy {
    /// What holds where there is no file.
    fn default() -> Self {
        Self {
            file: None,
            target_types: TARGET_TYPES.map(str::to_owned).to_vec(),
            paths: None,
            commands: Vec::new(),
            binaries: vec![NGINX.into()],
            configs: None,
            user: own_user(),
        }
    }
}

impl Policy {
    /// Reads a policy file; where none is named, [`POLICY_FILE`], which need not be there.
    pub fn read(named: Option<&Path>) -> Result<Self, PolicyError> {
        let file = named.unwrap_or(Path::new(POLICY_FILE));
        let bytes = match read_trusted(file, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() && named.is_none() => return Ok(Self::default()),
            Err(e) => return Err(e.into()),
        };
        let policy = String::from_utf8(bytes)
            .map_err(|_| vec!["it is not a text in UTF-8".to_owned()])
            .and_then(|text| Self::parse(&text));
        let file = std::path::absolute(file).unwrap_or_else(|_| file.into());
        match policy {
            Ok(policy) => Ok(Self {
                file: Some(file),
                ..policy
            }),
            Err(faults) => Err(PolicyError::Content { file, faults }),
        }
    }

    /// Reads the text of a policy file; else all that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let table: Table = text
            .parse()
            .map_err(|e: toml::de::Error| vec![e.to_string().trim().to_owned()])?;
        let mut policy = Self::default();
        let mut faults = Vec::new();
        for (key, value) in &table {
            let read = match key.as_str() {
                "target_types" => types(value).map(|types| policy.target_types = types),
                "paths" => paths(value).map(|paths| policy.paths = Some(paths)),
                "commands" => commands(value).map(|commands| policy.commands = commands),
                "binaries" => paths(value).map(|paths| policy.binaries = paths),
                "configs" => paths(value).map(|paths| policy.configs = Some(paths)),
                _ => Err(
                    "there is no such key: target_types, paths, commands, binaries, configs"
                        .to_owned(),
                ),
            };
            faults.extend(read.err().map(|fault| format!("{key}: {fault}")));
        }
        if faults.is_empty() {
            Ok(policy)
        } else {
            Err(faults)
        }
    }

    /// Refuses a target that needs more than the host allows.
    pub fn permits(
        &self,
        files: &dyn Files,
        paths: &Paths,
        target: &TargetConfig,
    ) -> Result<(), Fault> {
        self.allows(files, paths, target.kind(), target.needs())
    }

    /// As [`permits`](Self::permits), of a target of type `kind`.
    pub fn allows(
        &self,
        files: &dyn Files,
        paths: &Paths,
        kind: &str,
        needs: Needs<'_>,
    ) -> Result<(), Fault> {
        if !self.target_types.iter().any(|t| t == kind) {
            return Err(self.refuse(format!("targets of type {kind}"), "target_types"));
        }
        for path in needs.writes {
            self.may_write(files, paths, path)?;
        }
        for binary in needs.binaries {
            if !self.binaries.iter().any(|b| b == binary) {
                return Err(self.refuse(format!("running {}", binary.display()), "binaries"));
            }
            self.unchanged(files, binary)?;
        }
        for config in needs.configs {
            self.may_use(files, config)?;
        }
        for command in needs.commands {
            if !self.commands.iter().any(|c| c == command) {
                return Err(self.refuse(format!("the command {command:?}"), "commands"));
            }
        }
        Ok(())
    }

    fn may_write(&self, files: &dyn Files, paths: &Paths, path: &Path) -> Result<(), Fault> {
        let Some((dir, name)) = plain(path) else {
            return Err(Fault::operator(format!(
                "{} is not the path of a file: an absolute one without `..` is wanted",
                path.display()
            )));
        };
        let real = resolve(files, dir)?.join(name);
        let shown = Way { path, real: &real };
        let protected = |path: &Path| {
            PROTECTED.iter().any(|p| covers(p, path))
                || path
                    .components()
                    .any(|part| PROTECTED_NAMES.iter().any(|n| part.as_os_str() == *n))
        };
        let live = resolve(files, &paths.live)?;
        let link = real.parent() == Some(&live);
        if !link && (protected(path) || protected(&real)) {
            return Err(Fault::operator(format!(
                "{shown} is never written by an agent: keep certificates elsewhere"
            )));
        }
        let state = resolve(files, &paths.state)?;
        if !link && real.starts_with(&state) {
            return Err(Fault::operator(format!(
                "{shown} is the agent's own: keep certificates outside of {}",
                paths.state.display()
            )));
        }
        if let Some(allowed) = &self.paths {
            let mut within = false;
            for prefix in allowed {
                within |= real.starts_with(resolve(files, prefix)?);
            }
            if !within {
                return Err(self.refuse(format!("writing {shown}"), "paths"));
            }
        }
        // Whoever may rename things there could lead a write, or the copy of what stood there,
        // elsewhere.
        for dir in real.ancestors().skip(1) {
            if files.metadata(dir).map_err(Fault::operator)?.is_some() {
                return trusted(files, dir, self.user)
                    .map_err(|e| Fault::operator(format!("{shown} is not written: {e}")));
            }
        }
        Ok(())
    }

    fn may_use(&self, files: &dyn Files, config: &Path) -> Result<(), Fault> {
        let allowed = match &self.configs {
            Some(allowed) => allowed.iter().any(|c| c == config),
            None => resolve(files, config)?.starts_with(resolve(files, NGINX_CONFIGS.as_ref())?),
        };
        if !allowed {
            let what = format!("the configuration {}", config.display());
            return Err(self.refuse(what, "configs"));
        }
        self.unchanged(files, config)
    }

    /// Refuses a file that others than root and the agent's user can change.
    fn unchanged(&self, files: &dyn Files, path: &Path) -> Result<(), Fault> {
        let real = resolve(files, path)?;
        trusted(files, &real, self.user)
            .map_err(|e| Fault::operator(format!("{} is not used: {e}", path.display())))
    }

    fn refuse(&self, what: String, key: &str) -> Fault {
        Fault::operator(match &self.file {
            Some(file) => format!(
                "the policy of this host refuses {what}: see `{key}` in {}; a change takes effect \
                 when the agent is restarted",
                file.display()
            ),
            None => format!(
                "this host has no policy for its agent, and refuses {what} without one: write \
                 {POLICY_FILE} with `{key}`, and restart the agent"
            ),
        })
    }
}

/// A path, with where it leads when that is another.
struct Way<'a> {
    path: &'a Path,
    real: &'a Path,
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.path != self.real {
            write!(f, " (which is {})", self.real.display())?;
        }
        Ok(())
    }
}

/// Directory and name of an absolute path that does not climb.
fn plain(path: &Path) -> Option<(&Path, &OsStr)> {
    let climbs = path.components().any(|part| part == Component::ParentDir);
    let whole = path.is_absolute() && !climbs && !path.as_os_str().as_encoded_bytes().contains(&0);
    Some((path.parent()?, path.file_name()?)).filter(|_| whole)
}

/// Where a path leads when all links on the way are followed. What is not there yet is no link.
fn resolve(files: &dyn Files, path: &Path) -> Result<PathBuf, Fault> {
    let parts = |path: &Path| -> Vec<PathBuf> {
        let parts = path.components().rev();
        parts.map(|part| part.as_os_str().into()).collect()
    };
    let mut rest = parts(path);
    let mut real = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == Path::new("..") {
            real.pop();
            continue;
        }
        let next = real.join(part);
        match files.read_link(&next).map_err(Fault::operator)? {
            None => real = next,
            Some(_) if links == MAX_LINKS => {
                let path = path.display();
                return Err(Fault::operator(format!("{path} leads over too many links")));
            }
            Some(to) => {
                links += 1;
                rest.extend(parts(&to));
            }
        }
    }
    Ok(real)
}

/// Whether `path` is what a pattern of [`PROTECTED`] names, or below it.
fn covers(pattern: &str, path: &Path) -> bool {
    let mut parts = path.components();
    Path::new(pattern).components().all(|wanted| {
        let Some(part) = parts.next() else {
            return false;
        };
        let (wanted, part) = (wanted.as_os_str(), part.as_os_str());
        match wanted.to_str().and_then(|w| w.strip_suffix('*')) {
            Some(start) => part.as_encoded_bytes().starts_with(start.as_bytes()),
            None => wanted == part,
        }
    })
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let items = value.as_array()?.iter();
    items.map(|item| item.as_str().map(str::to_owned)).collect()
}

fn types(value: &Value) -> Result<Vec<String>, String> {
    let types = texts(value).ok_or("a list of types such as [\"File\", \"NGINX\"] is expected")?;
    match types.iter().find(|t| !TARGET_TYPES.contains(&t.as_str())) {
        Some(other) => Err(format!(
            "{other:?} is no type of target: {} are",
            TARGET_TYPES.join(", ")
        )),
        None => Ok(types),
    }
}

fn paths(value: &Value) -> Result<Vec<PathBuf>, String> {
    let paths = texts(value).ok_or("a list of absolute paths is expected")?;
    match paths.iter().find(|path| plain(Path::new(path)).is_none()) {
        Some(path) => Err(format!(
            "{path:?} is not an absolute path without `..`, below the root directory"
        )),
        None => Ok(paths.into_iter().map(PathBuf::from).collect()),
    }
}

fn commands(value: &Value) -> Result<Vec<Vec<String>>, String> {
    const WANTED: &str = "a list of commands is expected, each a list of a program's absolute path \
                          and its arguments";
    let commands = value.as_array().ok_or(WANTED)?.iter();
    let commands: Option<Vec<Vec<String>>> = commands.map(texts).collect();
    let commands = commands.ok_or(WANTED)?;
    let absolute = |argv: &Vec<String>| argv.first().is_some_and(|p| plain(Path::new(p)).is_some());
    if commands.iter().all(absolute) {
        Ok(commands)
    } else {
        Err(WANTED.to_owned())
    }
}
