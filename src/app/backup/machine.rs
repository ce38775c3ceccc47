//! Backups on a machine where no server is asked: its disk, its clock, its random bytes.

use super::{
    Agreed, BackupFailure, Bench, Locking, Proof, Proven, Restore, Restored, S3Access, Sink,
    Source, Stored, Ways, create, keys_of, machine_key, prove, restore, restore::restore_database,
    verify,
};
use crate::{
    app::{StartError, database, start::found_engine},
    clock::{Clock, Rng, SystemClock, Time},
    config::{OpenedBy, ServerConfig},
    crypt::{MachineKey, OsRng},
    domain::{Principal, PrincipalKind},
    store::{
        Committer, Store,
        backup::{BackupError, Ending, Header, Keys, Progress, Reader, Since},
    },
    sys::{Disk, Files, own_user},
};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use secrecy::ExposeSecret;
use std::{io, path::Path, sync::Arc};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// In the data directory: backups that were made before migrations, where they have no other place.
const BEFORE_MIGRATIONS: &str = "before-migrations";
/// So many of them stay, with the one that is made.
const KEPT: usize = 5;

/// A machine with a data directory.
pub struct Machine {
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    s3: Option<S3Access>,
    /// Nobody stops it but by ending the process.
    stop: CancellationToken,
    config: ServerConfig,
    /// Why not, where there is one that cannot be read.
    key: Result<Option<MachineKey>, String>,
}

/// A backup somewhere.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where.
    pub sink: Sink,
    /// Its name.
    pub name: String,
}

impl Place {
    /// Whether it is called as an increment is.
    pub fn is_increment(&self) -> bool {
        Stored::parse(&self.name).is_some_and(|stored| stored.increment)
    }
}

/// The increments of a sink that follow a backup.
#[derive(Debug, Clone)]
pub struct Following {
    /// Where they are, in order.
    pub places: Vec<Place>,
    /// The names of what is only called as one is.
    pub left_out: Vec<String>,
    /// How many follow a backup that was made after a restore.
    pub of_later_lives: usize,
}

impl std::str::FromStr for Place {
    type Err = String;
    /// A path, or a sink and a name.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("dir:") || text.starts_with("s3://") {
            let (sink, name) = text
                .rsplit_once('/')
                .ok_or("a backup in a sink is SINK/NAME")?;
            return Ok(Self {
                sink: sink.parse()?,
                name: name.to_owned(),
            });
        }
        let path = Path::new(text);
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or("a backup is a file")?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        Ok(Self {
            sink: Sink::Dir(dir.unwrap_or(Path::new(".")).to_owned()),
            name: name.to_owned(),
        })
    }
}

impl Machine {
    /// This one. A machine key that this user may not read is missed only by what needs it: a
    /// server makes the backups.
    ///
    /// # Errors
    /// When there is no way to S3.
    pub fn this(config: ServerConfig) -> Result<Self, BackupFailure> {
        let files: Arc<dyn Files> = Arc::new(Disk);
        Ok(Self {
            key: machine_key(&*files, &config).map_err(|e| e.to_string()),
            files,
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            stop: CancellationToken::new(),
            s3: config.s3.as_ref().map(S3Access::new).transpose()?,
            config,
        })
    }

    fn ways(&self) -> Ways<'_> {
        let temporary = Path::new("/tmp");
        let there = self.files.metadata(&self.config.data_dir);
        Ways {
            files: &*self.files,
            s3: self.s3.as_ref(),
            // A machine that only looks at backups has no data directory.
            spool: match there {
                Ok(Some(_)) => &self.config.data_dir,
                _ => temporary,
            },
            clock: &*self.clock,
        }
    }

    /// What opens backups here, beside what somebody brings: also the passphrase of those that the
    /// server makes by itself, where another is not brought.
    fn keys(&self, brought: Keys) -> Keys {
        let keys = self.bench().keys(brought);
        match self.config.backup.as_ref().map(|made| &made.opened_by) {
            Some(OpenedBy::Passphrase(text)) => {
                keys.or_passphrase(Zeroizing::new(text.expose_secret().to_owned()))
            }
            _ => keys,
        }
    }

    fn bench(&self) -> Bench<'_> {
        Bench {
            files: &*self.files,
            clock: &*self.clock,
            rng: &*self.rng,
            machine: self.key.as_ref().ok().and_then(Option::as_ref),
        }
    }

    /// The machine key, where there is none or it can be read.
    fn key(&self) -> Result<Option<&MachineKey>, BackupFailure> {
        let key = self.key.as_ref().map(Option::as_ref);
        key.map_err(|e| {
            BackupFailure::Refused(format!("{e}: be the user that the server runs as, or root"))
        })
    }

    fn source<'a>(&'a self, store: &'a Store, machine: Option<&'a MachineKey>) -> Source<'a> {
        Source {
            store,
            machine,
            ways: self.ways(),
            clock: &*self.clock,
            stop: &self.stop,
        }
    }

    /// Makes a backup of the store that no server has open.
    ///
    /// # Errors
    /// When there is none, a server runs, or a step of it fails.
    pub async fn create(
        &self,
        sink: &Sink,
        locking: &Locking,
        since: Option<Since>,
        progress: Progress<'_>,
    ) -> Result<Stored, BackupFailure> {
        let (dir, machine) = (&self.config.data_dir, self.key()?);
        let engine = found_engine(&self.config).await.map_err(|e| match e {
            StartError::InUse(_) => BackupFailure::Running(format!(
                "a server runs on {} and does not answer on its socket: name the socket by \
                 --socket, or stop it",
                dir.display()
            )),
            e if e.is_no_store() => BackupFailure::NoStore(e.to_string()),
            e if e.is_away() => BackupFailure::Away(e.to_string()),
            e => BackupFailure::Capture(e.to_string()),
        })?;
        let missing =
            || BackupFailure::Refused(StartError::no_machine_key(&self.config).to_string());
        let machine = machine.ok_or_else(missing)?;
        let store = Store::start(engine, Committer::Inline, Box::new(|_| {}));
        let store = store.map_err(BackupFailure::capture)?;
        let source = self.source(&store, Some(machine));
        create(source, sink, locking, since, progress).await
    }

    /// Makes a backup of a store that this process has open, and reads it to its end before it is
    /// there under its name; gives where it is. It goes where backups are configured to go, and
    /// otherwise, without the key that opens its secrets, into a place in the data directory. A
    /// machine key is not needed. Of those that have no other place the newest few stay.
    ///
    /// # Errors
    /// When a step of it fails.
    pub async fn create_of(&self, store: &Store) -> Result<Place, BackupFailure> {
        let (sink, locking) = match &self.config.backup {
            Some(config) => (config.sink.clone(), Locking::configured(config)),
            None => {
                let dir = self.config.data_dir.join(BEFORE_MIGRATIONS);
                (Sink::Dir(dir), Locking::WithoutKeys)
            }
        };
        let source = self.source(store, self.bench().machine);
        let made = create(source, &sink, &locking, None, &mut |_| {}).await?;
        if self.config.backup.is_none() {
            let mut newest_first = self.list(&sink).await?;
            // What was just made stays, though a clock that went back makes it the oldest.
            newest_first.retain(|other| {
                other.counts() && other.is_beside(&made) && other.name != made.name
            });
            newest_first.reverse();
            for stored in newest_first.iter().skip(KEPT - 1) {
                self.remove(&sink, &stored.name).await?;
            }
        }
        Ok(Place {
            sink,
            name: made.name,
        })
    }

    /// The backups in a sink, oldest first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn list(&self, sink: &Sink) -> Result<Vec<Stored>, BackupFailure> {
        sink.list(self.ways()).await
    }

    /// Removes a backup.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self, sink: &Sink, name: &str) -> Result<(), BackupFailure> {
        sink.remove(self.ways(), name).await
    }

    /// Reads a backup to its end.
    ///
    /// # Errors
    /// When it is not good.
    pub async fn verify(
        &self,
        place: &Place,
        keys: Keys,
        progress: Progress<'_>,
    ) -> Result<(Header, Ending), BackupFailure> {
        let keys = self.keys(keys);
        let from = place.sink.open(self.ways(), &place.name).await?;
        verify(&place.name, from, &keys, progress)
    }

    /// What a backup is restored from: a full one alone; an increment with the base that it
    /// follows, which is looked for where no other is named, and what lies between them.
    ///
    /// # Errors
    /// When there is no such base, or a sink cannot be read.
    pub async fn up_to(
        &self,
        place: &Place,
        base: Option<&Place>,
    ) -> Result<Vec<Place>, BackupFailure> {
        let Some(end) = Stored::parse(&place.name).filter(|stored| stored.increment) else {
            return Ok(vec![place.clone()]);
        };
        let base = match base {
            Some(base) => base.clone(),
            None => self.base_of(place, &end).await?,
        };
        let mut between = self.following(&base, &place.sink, None).await?.places;
        between.retain(|other| Stored::parse(&other.name).is_some_and(|s| s.seq < end.seq));
        Ok([vec![base], between, vec![place.clone()]].concat())
    }

    /// The newest full backup before an increment.
    async fn base_of(&self, place: &Place, end: &Stored) -> Result<Place, BackupFailure> {
        let mut sinks = vec![place.sink.clone()];
        if let Some(config) = &self.config.backup
            && !sinks.contains(&config.sink)
        {
            sinks.push(config.sink.clone());
        }
        for sink in &sinks {
            let all = self.list(sink).await?;
            let full = all.iter().filter(|s| s.may_be_read() && !s.increment);
            let before = full.filter(|s| s.seq <= end.seq && s.is_beside(end));
            if let Some(base) = before.max_by_key(|s| s.seq) {
                return Ok(Place {
                    sink: sink.clone(),
                    name: base.name.clone(),
                });
            }
        }
        let sinks: Vec<String> = sinks.iter().map(Sink::to_string).collect();
        Err(BackupFailure::Refused(format!(
            "{} is an increment, and the full backup that it follows is not in {}: name that by \
             --base, as `certctl backup verify {}/{} --restore --base SINK/NAME`",
            place.name,
            sinks.join(" nor in "),
            place.sink,
            place.name
        )))
    }

    /// Restores a base and what follows it into a scratch store and looks at all of it.
    ///
    /// # Errors
    /// When any of it is not as it should be.
    pub async fn prove(
        &self,
        places: &[Place],
        keys: Keys,
        scratch: Option<&Path>,
        progress: Progress<'_>,
    ) -> Result<Proof, BackupFailure> {
        let spool = scratch.unwrap_or(self.ways().spool);
        let name = places.last().map_or("", |place| place.name.as_str());
        let (_, bundles) = self.open(places, keys).await?;
        prove(name, bundles, self.bench(), spool, progress).await
    }

    /// Notes that a backup was proven now, unless more was noted of it.
    ///
    /// # Errors
    /// When it cannot be written beside it.
    pub async fn note(&self, place: &Place, restored: bool) -> Result<(), BackupFailure> {
        let at: Time = self.clock.now();
        let proven = Proven { at, restored };
        place.sink.note(self.ways(), &place.name, &proven).await
    }

    /// The increments of a sink that follow a backup, in order, up to another one, which is named
    /// by its name or sequence number.
    ///
    /// # Errors
    /// When the sink cannot be read, or the backup's name says nothing.
    pub async fn following(
        &self,
        base: &Place,
        sink: &Sink,
        before: Option<&str>,
    ) -> Result<Following, BackupFailure> {
        let Some(from) = Stored::parse(&base.name) else {
            return Err(BackupFailure::Refused(format!(
                "{} is not called as a backup is: name the increments that follow it",
                base.name
            )));
        };
        let mut found = self.list(sink).await?;
        found.retain(|s| s.increment && s.seq >= from.seq && s.is_beside(&from));
        // A restore begins another life, which has backups of its own.
        let all = found.len();
        found.retain(|s| s.seq >> 40 == from.seq >> 40);
        let of_later_lives = all - found.len();
        found.sort_by_key(|stored| (stored.seq, stored.created_at));
        if let Some(before) = before {
            let is = |s: &&Stored| s.name == before || s.seq.to_string() == before;
            let end = found.iter().find(is).map(|s| s.seq);
            let end = end.or_else(|| before.parse().ok()).ok_or_else(|| {
                BackupFailure::Refused(format!("{sink} holds no increment {before}"))
            })?;
            found.retain(|stored| stored.seq < end);
        }
        let (found, others): (Vec<_>, Vec<_>) = found.into_iter().partition(Stored::may_be_read);
        let place = |stored: Stored| Place {
            sink: sink.clone(),
            name: stored.name,
        };
        Ok(Following {
            places: found.into_iter().map(place).collect(),
            left_out: others.into_iter().map(|other| other.name).collect(),
            of_later_lives,
        })
    }

    /// Whether a sink is there to be listed: a directory that is not made yet, or whose disk is not
    /// mounted, is not.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub fn has(&self, sink: &Sink) -> Result<bool, BackupFailure> {
        match sink {
            Sink::Dir(dir) => Ok(self.files.metadata(dir)?.is_some()),
            Sink::S3 { .. } => Ok(true),
        }
    }

    /// Puts a base and the increments that follow it in the place of the store, or does all but
    /// that; agents may be asked then for what was issued after the backup.
    ///
    /// # Errors
    /// When a server runs, nobody agrees, or they are not good; nothing has changed.
    pub async fn restore(
        &self,
        places: &[Place],
        keys: Keys,
        (dry_run, reconcile): (bool, bool),
        agreed: Agreed<'_>,
        progress: Progress<'_>,
    ) -> Result<Restored, BackupFailure> {
        // One that is there and cannot be read is not replaced by the backup's.
        self.key()?;
        let name = places.first().map_or("", |place| place.name.as_str());
        let who = Principal::new(PrincipalKind::User, format!("local:{}", own_user()));
        let (store, bundles) = self.open(places, keys).await?;
        let wanted = Restore {
            name,
            store: &store,
            into: &self.config.data_dir,
            dry_run,
            reconcile,
            who: &who,
            agreed,
        };
        let Some(database) = &self.config.database else {
            return restore(wanted, bundles, self.bench(), progress).await;
        };
        let login = database::login(database, &self.files);
        let login = login.map_err(|e| BackupFailure::Refused(e.to_string()))?;
        restore_database(login, wanted, bundles, self.bench(), progress).await
    }

    /// A base, which is there, and what follows it, each of which is opened when its turn comes;
    /// and which store they are of, as far as the base can be read.
    async fn open<'a>(
        &'a self,
        places: &'a [Place],
        keys: Keys,
    ) -> Result<(String, Bundles<'a>), BackupFailure> {
        let keys = self.keys(keys);
        let Some((base, increments)) = places.split_first() else {
            return Ok((String::new(), stream::empty().boxed()));
        };
        let from = base.sink.open(self.ways(), &base.name).await?;
        let base = opened(base, from, &keys);
        let store = match &base {
            Ok(base) => base.header().store.clone(),
            Err(_) => String::new(),
        };
        // A journal is for the machine that made the base, whoever opens that.
        let machine = base.as_ref().ok().and_then(|base| {
            let text = base.header().machine_key.as_ref()?;
            MachineKey::from_text(&text.0).ok()
        });
        let keys = match &machine {
            Some(machine) => keys.and(keys_of(machine)),
            None => keys,
        };
        let increments = stream::iter(increments).then(move |place| {
            let keys = keys.clone();
            async move {
                let from = place.sink.open(self.ways(), &place.name).await;
                let from = from.map_err(|e| {
                    BackupError::Io(io::Error::other(e.to_string())).of(&place.name)
                })?;
                opened(place, from, &keys)
            }
        });
        let bundles = stream::iter([base]).chain(increments).boxed();
        Ok((store, bundles))
    }
}

/// A bundle, which names itself in what goes wrong with it.
fn opened(
    place: &Place,
    from: Box<dyn io::Read + Send>,
    keys: &Keys,
) -> Result<super::Bundle, BackupError> {
    let bundle = Reader::new(from, keys).map_err(|e| e.of(&place.name))?;
    Ok(bundle.named(&place.name))
}

/// Bundles that are opened one after another.
type Bundles<'a> = BoxStream<'a, Result<super::Bundle, BackupError>>;

/// Restores a backup into a scratch store in the spool and looks at all of it.
pub(in crate::app) async fn prove_place(
    place: &Place,
    keys: Keys,
    bench: Bench<'_>,
    ways: Ways<'_>,
    progress: Progress<'_>,
) -> Result<Proof, BackupFailure> {
    let from = place.sink.open(ways, &place.name).await?;
    let bundle = Reader::new(from, &bench.keys(keys));
    prove(
        &place.name,
        stream::iter([bundle]),
        bench,
        ways.spool,
        progress,
    )
    .await
}
