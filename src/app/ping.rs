//! Whether the store of this machine can be reached.

use super::{
    StartError,
    backup::STORE_FILE,
    database,
    password::{PasswordChanged, PasswordError, rotate_password},
    start::disk,
};
use crate::{
    config::ServerConfig,
    crypt::OsRng,
    store::{EngineError, Ping, Postgres, Redb, migrate::PROGRAM_FORMAT},
    sys::{Disk, Files},
};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// What was reached.
#[derive(Debug, Clone)]
pub enum Pinged {
    /// A file.
    File {
        /// Which.
        path: PathBuf,
        /// It is there.
        there: bool,
        /// A process has it open.
        held: bool,
    },
    /// A database.
    Database {
        /// What it said.
        ping: Ping,
        /// The format of this program's stores.
        program: u16,
    },
}

/// Why nothing was reached.
#[derive(Debug, thiserror::Error)]
pub enum PingFailure {
    /// The database does not answer.
    #[error("{0}")]
    Away(String),
    /// The database takes no login, or cannot be used.
    #[error("{0}")]
    Refused(String),
    /// The file cannot be opened.
    #[error("{0}")]
    File(String),
}

/// Tries the way to the store, and changes nothing.
///
/// # Errors
/// When there is none.
pub async fn ping_machine(config: &ServerConfig) -> Result<Pinged, PingFailure> {
    let Some(database) = &config.database else {
        return of_file(config.data_dir.join(STORE_FILE));
    };
    let login = database::login(database, &disk());
    let login = login.map_err(|e: StartError| PingFailure::Refused(e.to_string()))?;
    match Postgres::ping(login).await {
        Ok(ping) => Ok(Pinged::Database {
            ping,
            program: PROGRAM_FORMAT,
        }),
        Err(e @ EngineError::Away(_)) => Err(PingFailure::Away(e.to_string())),
        Err(e) => Err(PingFailure::Refused(e.to_string())),
    }
}

fn of_file(path: PathBuf) -> Result<Pinged, PingFailure> {
    let failed = |e: String| PingFailure::File(e);
    let there = Disk.metadata(&path).map_err(|e| failed(e.to_string()))?;
    let (there, held) = match there {
        None => (false, false),
        Some(_) => match Redb::look(&path) {
            Ok(_) => (true, false),
            Err(EngineError::InUse(_)) => (true, true),
            Err(e) => return Err(failed(e.to_string())),
        },
    };
    Ok(Pinged::File { path, there, held })
}

/// Gives the database of this machine's server another password.
///
/// # Errors
/// As [`rotate_password`].
pub async fn rotate_machine_password(
    config: &ServerConfig,
    given: Option<Zeroizing<String>>,
) -> Result<PasswordChanged, PasswordError> {
    let given = given.map(|text| text.as_str().to_owned().into());
    rotate_password(config.database.as_ref(), &Disk, &OsRng, given).await
}
