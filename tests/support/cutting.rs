//! A way to a database on which connections break, most of all around COMMIT.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

/// What is done to a COMMIT, in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It never arrives.
    Before,
    /// It takes place, and the answer is lost.
    After,
    /// It is on its way while the connection breaks.
    During,
    /// Nothing.
    Not,
}

const TURNS: [Cut; 5] = [Cut::After, Cut::Not, Cut::Before, Cut::During, Cut::Not];

/// Listens until the process ends.
pub struct Cutting {
    pub address: SocketAddr,
    plan: Arc<Plan>,
}

/// What is done.
struct Plan {
    commits: AtomicUsize,
    turns: &'static [Cut],
    /// What is done to the next COMMIT instead; nobody is let through after it.
    next: Mutex<Option<Cut>>,
    closed: AtomicBool,
    /// Those who came, by turn.
    clients: Mutex<Vec<TcpStream>>,
}

impl Plan {
    /// For a COMMIT of this client.
    fn turn(&self, client: usize) -> Cut {
        let turn = self.commits.fetch_add(1, Ordering::Relaxed);
        if let Some(cut) = self.next.lock().unwrap().take() {
            self.closed.store(true, Ordering::SeqCst);
            for (n, other) in self.clients.lock().unwrap().iter().enumerate() {
                if n != client {
                    let _ = other.shutdown(Shutdown::Both);
                }
            }
            return cut;
        }
        self.turns[turn % self.turns.len()]
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a proxy between the engine and its database"
)]
fn listen() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).unwrap()
}

impl Cutting {
    /// Before the socket of a database.
    pub fn before(socket: PathBuf) -> Self {
        Self::with(socket, &TURNS)
    }

    /// One that lets everything through until it is told otherwise.
    pub fn at_will(socket: PathBuf) -> Self {
        Self::with(socket, &[Cut::Not])
    }

    fn with(socket: PathBuf, turns: &'static [Cut]) -> Self {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(Plan {
            commits: AtomicUsize::new(0),
            turns,
            next: Mutex::default(),
            closed: AtomicBool::new(false),
            clients: Mutex::default(),
        });
        let followed = plan.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if followed.closed.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = UnixStream::connect(&socket) else {
                    continue;
                };
                pass(client, server, &followed);
            }
        });
        Self { address, plan }
    }

    /// How many COMMITs came by.
    pub fn commits(&self) -> usize {
        self.plan.commits.load(Ordering::Relaxed)
    }

    /// Cuts the next COMMIT; the database is away from then on.
    pub fn cut_and_close(&self, cut: Cut) {
        *self.plan.next.lock().unwrap() = Some(cut);
    }

    /// The database is back.
    pub fn open(&self) {
        self.plan.closed.store(false, Ordering::SeqCst);
    }
}

fn pass(client: TcpStream, server: UnixStream, plan: &Arc<Plan>) {
    let _ = client.set_nodelay(true);
    let number = {
        let mut clients = plan.clients.lock().unwrap();
        clients.push(client.try_clone().unwrap());
        clients.len() - 1
    };
    // The answer to the next COMMIT is for nobody.
    let last = Arc::new(AtomicBool::new(false));
    let ends = || (client.try_clone().unwrap(), server.try_clone().unwrap());
    let ((mut from, mut to), plan, cut) = (ends(), plan.clone(), last.clone());
    thread::spawn(move || {
        let _ = copy(&mut from, &mut to, |bytes, to| {
            if !holds(bytes, b"COMMIT\0") {
                return to.write_all(bytes);
            }
            match plan.turn(number) {
                Cut::Not => to.write_all(bytes),
                Cut::Before => Err(io::ErrorKind::BrokenPipe.into()),
                Cut::During => {
                    to.write_all(bytes)?;
                    Err(io::ErrorKind::BrokenPipe.into())
                }
                Cut::After => {
                    cut.store(true, Ordering::SeqCst);
                    to.write_all(bytes)
                }
            }
        });
        // With what the server is about to say.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut to, mut from) = ends();
    thread::spawn(move || {
        let _ = copy(&mut from, &mut to, |bytes, to| {
            if !last.load(Ordering::SeqCst) {
                return to.write_all(bytes);
            }
            if holds(bytes, b"COMMIT\0") {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        });
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}

fn copy<W>(
    from: &mut impl Read,
    to: &mut W,
    mut each: impl FnMut(&[u8], &mut W) -> io::Result<()>,
) -> io::Result<()> {
    let mut bytes = vec![0; 256 << 10];
    loop {
        match from.read(&mut bytes)? {
            0 => return Ok(()),
            n => each(&bytes[..n], to)?,
        }
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
