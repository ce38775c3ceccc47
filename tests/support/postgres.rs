//! PostgreSQL for tests: clusters of their own, which end with the test process.

use certctl::{
    net::{DatabaseDialer, DatabasePlace, Dialer, Guard, Resolver, Secrecy},
    store::{EngineError, Login, LoginBinding, Postgres},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::Write,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// Where Debian puts the server's programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Who runs a cluster: the server refuses to be run by root.
const NOBODY: u32 = 65534;
/// The port; each cluster has an address of its own.
const PORT: u16 = 5432;
/// The superuser of each cluster.
pub const USER: &str = "certctl";
/// For a database to come up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster in a directory of its own, sorted by ICU's rules.
pub struct Cluster {
    dir: PathBuf,
    /// A loopback address that nothing else listens on.
    pub address: String,
    /// Closed when this process ends, however it does: then the cluster is removed.
    _keeper: ChildStdin,
}

/// A program as the cluster's user.
fn program(name: &str) -> Command {
    let path = format!("{PROGRAMS}/{name}");
    if !nix::unistd::geteuid().is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    let id = NOBODY.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", &path]);
    command
}

fn succeeds(command: &mut Command) -> String {
    let done = command.output().expect("the program starts");
    assert!(
        done.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).expect("text")
}

impl Cluster {
    /// Makes one and starts it. `settings` are lines of `postgresql.conf`.
    pub fn start(settings: &str) -> Self {
        assert!(
            Path::new(PROGRAMS).exists(),
            "PostgreSQL is missing: tests/run installs what tests need"
        );
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let [_, _, a, b] = std::process::id().to_be_bytes();
        // Another process id, another pair; few clusters a process.
        let address = format!("127.{}.{}.{}", 16 + number % 200, a, b.clamp(1, 254));
        let dir = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        let dir = dir.keep();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        if nix::unistd::geteuid().is_root() {
            chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = dir.join("data");
        let keeper = keep(&dir);
        succeeds(program("initdb").arg("-D").arg(&data).args([
            "-U",
            USER,
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--locale-provider=icu",
            "--icu-locale=de-DE",
        ]));
        // Processes are killed here, machines are not: what they wrote stays without a sync.
        let all = format!(
            "listen_addresses = '{address}'\nport = {PORT}\nunix_socket_directories = '{}'\n\
             fsync = off\nmax_connections = 300\nshared_buffers = 32MB\nlog_min_messages = fatal\n\
             {settings}\n",
            dir.display()
        );
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))
            .unwrap();
        file.write_all(all.as_bytes()).unwrap();
        let cluster = Self {
            dir,
            address,
            _keeper: keeper,
        };
        cluster.up();
        cluster
    }

    /// The one that tests share which stop and change nothing beyond their database.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(""))
    }

    fn control(&self) -> Command {
        let mut command = program("pg_ctl");
        command.arg("-D").arg(self.data()).arg("-w");
        command.stdin(Stdio::null());
        command
    }

    /// Starts it, and waits until it takes connections.
    pub fn up(&self) {
        let log = self.dir.join("log");
        // The server keeps what it is given: no pipe of ours.
        let status = self
            .control()
            .arg("-l")
            .arg(log)
            .arg("start")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{}", self.log());
    }

    /// Stops it as a power loss would.
    pub fn kill(&self) {
        succeeds(self.control().args(["stop", "-m", "immediate"]));
    }

    /// Stops it in order.
    pub fn down(&self) {
        succeeds(self.control().args(["stop", "-m", "fast"]));
    }

    /// Stops all of its processes where they stand, or has them go on.
    pub fn signal_all(&self, signal: Signal) {
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let postmaster: i32 = pid.lines().next().unwrap().parse().unwrap();
        // First the one that makes others.
        kill(Pid::from_raw(postmaster), signal).unwrap();
        let task = format!("/proc/{postmaster}/task/{postmaster}/children");
        for child in fs::read_to_string(task).unwrap().split_whitespace() {
            let _ = kill(Pid::from_raw(child.parse().unwrap()), signal);
        }
    }

    /// Has it read its files again.
    pub fn reload(&self) {
        succeeds(self.control().arg("reload"));
    }

    /// Gives a file to its user.
    pub fn give(&self, path: &Path) {
        let owner = fs::metadata(self.data()).unwrap();
        chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(format!(".s.PGSQL.{PORT}"))
    }

    /// The directory of its unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }

    /// Runs SQL as the superuser; gives the rows as lines, columns apart by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        succeeds(&mut self.psql(database, sql))
            .trim_end()
            .to_owned()
    }

    /// What does that.
    pub fn psql(&self, database: &str, sql: &str) -> Command {
        let mut psql = Command::new(format!("{PROGRAMS}/psql"));
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", USER, "-h"])
            .arg(&self.dir)
            .args(["-d", database, "-c", sql]);
        psql
    }

    /// A new, empty database.
    pub fn database(&self) -> Database<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        // One at a time: each is made from the same template, which nobody else may be using.
        static MAKING: Mutex<()> = Mutex::new(());
        let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let _making = MAKING.lock().unwrap_or_else(|e| e.into_inner());
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        Database {
            cluster: self,
            name,
        }
    }
}

/// A shell that ends the cluster and removes it when its input does.
#[expect(
    clippy::zombie_processes,
    reason = "it ends after this process, and belongs to nobody then"
)]
fn keep(dir: &Path) -> ChildStdin {
    const SCRIPT: &str = "read -r _; \
        [ -e \"$0/data/postmaster.pid\" ] && kill -QUIT \"$(head -n 1 \"$0/data/postmaster.pid\")\"; \
        for _ in 1 2 3 4 5 6 7 8 9 10; do \
        [ -e \"$0/data/postmaster.pid\" ] || break; sleep 0.1; done; \
        rm -rf \"$0\"";
    let mut shell: Child = Command::new("sh")
        .args(["-c", SCRIPT])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap()
}

/// A database of a test.
pub struct Database<'a> {
    pub cluster: &'a Cluster,
    pub name: String,
}

impl Database<'_> {
    /// A login over the cluster's socket.
    pub fn login(&self) -> Login {
        self.login_at(DatabasePlace::Unix(self.cluster.socket()), &Secrecy::Plain)
    }

    /// A login at another place.
    pub fn login_at(&self, place: DatabasePlace, secrecy: &Secrecy) -> Login {
        let dialer = Dialer::new(Resolver::system(), Guard::Any);
        Login {
            dialer: DatabaseDialer::new(dialer, place, secrecy).unwrap(),
            user: USER.to_owned(),
            passwords: Arc::new(Vec::new),
            database: self.name.clone(),
            binding: LoginBinding::Prefer,
            connections: 4,
            timeout: Duration::from_secs(15),
        }
    }

    /// The store in it.
    pub async fn open(&self) -> Postgres {
        self.try_open(self.login()).await.expect("it opens")
    }

    /// A login that takes the database for away when it says nothing for two seconds or so.
    pub fn impatient(&self) -> Login {
        Login {
            timeout: Duration::from_secs(2),
            ..self.login()
        }
    }

    /// Ends all sessions that are not ours.
    pub fn end_sessions(&self) {
        self.cluster.sql(
            "postgres",
            &format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE datname = '{}'",
                self.name
            ),
        );
    }

    /// The store, by a login.
    pub async fn try_open(&self, login: Login) -> Result<Postgres, EngineError> {
        Postgres::open(login, PATIENCE).await
    }

    /// The database's processes that serve programs.
    pub fn sessions(&self) -> Vec<Pid> {
        let pids = self.sql(
            "SELECT pid FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name LIKE 'certctl%'",
        );
        let pids = pids.lines().map(|pid| pid.parse().expect("a number"));
        pids.map(Pid::from_raw).collect()
    }

    /// Runs SQL in it.
    pub fn sql(&self, sql: &str) -> String {
        self.cluster.sql(&self.name, sql)
    }
}
