//! What lies around the store: files, the disk, clocks, the database, backups.

use super::{Found, Ground, NAMED};
use crate::{
    app::{
        StartError,
        backup::{MACHINE_KEY, STORE_FILE},
        birth::{EARLIEST, MAX_PEM, SYSTEM_NODE},
        database, known,
        room::reserve_of,
        start::{FIRST_START, SYSTEM_CA_FILE},
    },
    clock::Time,
    config::Sink,
    domain::{CaNode, Finding},
    pki::Certificate,
    store::{Ping, Postgres, RingRow, Store},
    sys::size,
};
use std::{path::Path, sync::Arc, time::Duration};

/// The newest backup is to be younger.
const STALE: Duration = Duration::from_secs(36 * 3_600);
/// The clocks of server and database may differ by so much.
const CLOCKS: Duration = Duration::from_secs(5);

/// The credential of an agent that lives beside the server.
const AGENT: &str = "agent/identity/agent.json";

/// Whether what is secret is kept from others.
pub(super) fn files(ground: &Ground<'_>) -> Vec<Finding> {
    let dir = &ground.config.data_dir;
    let mut found = Vec::new();
    let owner = match ground.files.metadata(dir) {
        Ok(Some(there)) => {
            if there.mode & 0o022 != 0 {
                found.push(too_open(dir, there.mode, "change what is in it", 0o700));
            }
            there.uid
        }
        Ok(None) => {
            return vec![Finding::error(
                "files",
                dir.display(),
                "there is no such directory",
                "name the server's data directory: `certctl doctor --data-dir DIR`",
            )];
        }
        Err(e) => {
            return vec![Finding::error(
                "files",
                dir.display(),
                e.to_string(),
                "run this as root or as the server's user",
            )];
        }
    };
    for name in [MACHINE_KEY, STORE_FILE, FIRST_START, AGENT] {
        let path = dir.join(name);
        let there = match ground.files.metadata(&path) {
            Ok(Some(there)) => there,
            Ok(None) => continue,
            Err(e) => {
                let remedy = "run this as root or as the server's user";
                found.push(Finding::error(
                    "files",
                    path.display(),
                    e.to_string(),
                    remedy,
                ));
                continue;
            }
        };
        if there.mode & 0o077 != 0 {
            found.push(too_open(&path, there.mode, "use it", 0o600));
        }
        if there.uid != owner {
            found.push(Finding::warning(
                "files",
                path.display(),
                format!("it belongs to user {}, its directory to {owner}", there.uid),
                format!("`chown {owner} {}`", path.display()),
            ));
        }
        if name == FIRST_START {
            found.push(Finding::notice(
                "files",
                path.display(),
                "the administrator's first key lies there still",
                format!("keep the key elsewhere, then `rm {}`", path.display()),
            ));
        }
    }
    // Their group may be the server's.
    for path in &ground.config.secret_files {
        if let Ok(Some(there)) = ground.files.metadata(path)
            && there.mode & 0o007 != 0
            && is_reached(ground, path)
        {
            found.push(Finding::warning(
                "files",
                path.display(),
                format!(
                    "its mode is {:o}: everybody may use it, and a setting's secret is in it",
                    there.mode
                ),
                format!("`chmod o= {}`", path.display()),
            ));
        }
    }
    if found.is_empty() {
        let what = format!("{} is its owner's alone", dir.display());
        found.push(Finding::ok("files", what));
    }
    found
}

/// Whether everybody may go through all directories that lead to a file.
fn is_reached(ground: &Ground<'_>, path: &Path) -> bool {
    path.ancestors().skip(1).all(|dir| {
        let there = ground.files.metadata(dir);
        there.is_ok_and(|there| there.is_none_or(|there| there.mode & 0o001 != 0))
    })
}

fn too_open(path: &Path, mode: u32, may: &str, right: u32) -> Finding {
    Finding::error(
        "files",
        path.display(),
        format!("its mode is {mode:o}: others may {may}"),
        format!("`chmod {right:o} {}`", path.display()),
    )
}

/// Whether the disk has room.
pub(super) fn disk(ground: &Ground<'_>) -> Vec<Finding> {
    let dir = &ground.config.data_dir;
    let room = match ground.rooms.room(dir) {
        Ok(room) => room,
        // That there is no directory was said.
        Err(_) => return Vec::new(),
    };
    let reserve = reserve_of(ground.config, room);
    let what = format!(
        "{} are free, and nothing new is begun below {}",
        size(room.free),
        size(reserve)
    );
    let remedy = "free space there, or enlarge the disk; CERTCTL_DISK_RESERVE sets the bound";
    vec![if room.free < reserve {
        Finding::error("disk", dir.display(), what, remedy)
    } else if room.free < reserve * 2 {
        Finding::warning("disk", dir.display(), what, remedy)
    } else {
        Finding::ok("disk", what)
    }]
}

/// Whether the clock was ever set.
pub(super) fn clock(ground: &Ground<'_>) -> Vec<Finding> {
    let now = ground.now.whole_seconds();
    vec![if ground.now < EARLIEST {
        Finding::error(
            "clock",
            "",
            format!("the clock says {now}, which cannot be"),
            "set the clock by NTP (`timedatectl set-ntp true`)",
        )
    } else {
        Finding::ok("clock", format!("it says {now}"))
    }]
}

/// Whether the database answers, takes commits, and has the same time.
pub(super) async fn database(ground: &Ground<'_>) -> Vec<Finding> {
    let Some(config) = &ground.config.database else {
        return Vec::new();
    };
    let pinged = async {
        let known = database::passwords_now(config, ground.files);
        let login = database::login_by(config, ground.files, Arc::new(move || known.clone()))?;
        Ok::<_, StartError>(Postgres::ping(login).await?)
    };
    let name = format!("{}/{}", config.host, config.name);
    match pinged.await {
        Ok(ping) => of_ping(&name, &ping, ground.now),
        Err(e) => vec![Finding::error(
            "database",
            name,
            e.to_string(),
            "`certctl db ping` tells more; the address is CERTCTL_DATABASE_URL",
        )],
    }
}

fn of_ping(name: &str, ping: &Ping, now: Time) -> Vec<Finding> {
    let mut found = vec![match &ping.refuses {
        None => Finding::ok(
            "database",
            format!(
                "PostgreSQL {} answers within {} ms and takes commits",
                ping.version,
                ping.took.as_millis()
            ),
        ),
        Some(why) => Finding::error(
            "database",
            name,
            format!("it takes no commits: {why}"),
            "lead CERTCTL_DATABASE_URL to a server that takes writes, as a user who may",
        ),
    }];
    let differ = ping.clock.since(now).max(now.since(ping.clock));
    if differ > CLOCKS {
        found.push(Finding::warning(
            "clock",
            name,
            format!("the database's clock differs by {} s", differ.as_secs()),
            "set the clocks of both machines by NTP (`timedatectl set-ntp true`)",
        ));
    }
    if ping.sessions * 10 > ping.most_sessions * 9 {
        found.push(Finding::warning(
            "database",
            name,
            format!(
                "{} of {} connections are in use",
                ping.sessions, ping.most_sessions
            ),
            "raise its max_connections, or lower CERTCTL_DATABASE_MAX_CONNS",
        ));
    }
    found
}

/// Whether the system CA that agents are given is the store's.
pub(super) async fn trust(ground: &Ground<'_>, store: &Store) -> Found {
    let path = ground.config.data_dir.join(SYSTEM_CA_FILE);
    let Some(node) = store.get::<CaNode>(&known(SYSTEM_NODE)).await? else {
        return Ok(Vec::new());
    };
    let file = ground.files.read(&path, MAX_PEM).ok();
    let what = match &file {
        Some(_) => "it is not the certificate of the store's system CA",
        None => "it is not there, or cannot be read",
    };
    let file = file.and_then(|pem| String::from_utf8(pem).ok());
    let file = file.and_then(|pem| Certificate::from_pem(&pem).ok());
    let stored = Certificate::from_pem(&node.certificate_pem).ok();
    let same = file.as_ref().map(Certificate::der) == stored.as_ref().map(Certificate::der);
    Ok(vec![if same {
        Finding::ok(
            "tls",
            "the system CA's certificate lies where agents are given it",
        )
    } else {
        Finding::warning(
            "tls",
            path.display(),
            what,
            "each start of the server writes it: restart the server",
        )
    }])
}

/// Whether there are backups, of late, that were proven.
pub(super) async fn backups(ground: &Ground<'_>, store: &Store) -> Found {
    let now = ground.now;
    let ring = store.get::<RingRow>(&known("ring")).await?;
    let young = ring.is_none_or(|row| now.since(row.ring.created_at) < STALE);
    let Some(config) = &ground.config.backup else {
        return Ok(vec![Finding::warning(
            "backups",
            "",
            "no backup is made by itself",
            "set CERTCTL_BACKUP_SCHEDULE and CERTCTL_BACKUP_SINK, or run `certctl backup create \
             --sink dir:PATH --encrypt-to RECIPIENT` daily",
        )]);
    };
    let listed = config.sink.held(ground.ways()).await;
    let sink = &config.sink.to_string();
    let all = match listed {
        Ok(all) => all,
        Err(why) => {
            return Ok(vec![Finding::error(
                "backups",
                sink,
                format!("the sink cannot be read: {why}"),
                format!("mend that, then `certctl backup list --sink {sink}`"),
            )]);
        }
    };
    let make =
        format!("`certctl backup create --sink {sink} --encrypt-to RECIPIENT` makes one now");
    let mut found: Vec<Finding> = Vec::new();
    for stored in &all {
        if let Some(doubt) = stored.doubt {
            let (what, remedy) = doubt.told();
            let subject = format!("{sink}/{}", stored.name);
            found.push(Finding::warning("backups", subject, what, remedy));
        }
    }
    found.truncate(NAMED);
    let counted = || all.iter().filter(|stored| stored.counts());
    let Some(newest) = counted().rfind(|stored| !stored.increment) else {
        if let Sink::Dir(dir) = &config.sink
            && matches!(ground.files.metadata(dir), Ok(None))
        {
            let what = "the directory is not there, nor any backup that may be in it";
            let remedy = "where it is on a disk that is not mounted, mount that; else the next \
                          backup makes it";
            found.push(if young {
                Finding::notice("backups", sink, what, remedy)
            } else {
                Finding::error("backups", sink, what, remedy)
            });
            return Ok(found);
        }
        let what = "there is no backup yet";
        found.push(if young {
            Finding::notice("backups", sink, what, make)
        } else {
            Finding::warning("backups", sink, what, make)
        });
        return Ok(found);
    };
    let age = now.since(newest.created_at);
    if age > STALE {
        found.push(Finding::warning(
            "backups",
            sink,
            format!("the newest backup is {} hours old", age.as_secs() / 3_600),
            format!("see the server's log for why none was made; {make}"),
        ));
    }
    let mut proofs = counted().filter_map(|stored| stored.proven.as_ref());
    if !proofs.any(|proof| proof.restored) {
        found.push(Finding::warning(
            "backups",
            sink,
            "no backup was ever proven by restoring it",
            format!("`certctl backup verify {sink}/{} --restore`", newest.name),
        ));
    }
    if found.is_empty() {
        let what = format!("the newest is of {}", newest.created_at.whole_seconds());
        found.push(Finding::ok("backups", what));
    }
    Ok(found)
}
