//! The database's password: changed so that at no moment nobody could log in.
//!
//! The new password lies beside the file of the old one, under `.next`, before the database has it;
//! whoever connects tries both. So a cut anywhere leaves a password that logs in where it is looked
//! for, and running it again goes on.

use super::{
    StartError,
    database::{login_by, next_to, passwords_now},
};
use crate::{
    clock::Rng,
    config::DatabaseConfig,
    store::{EngineError, Postgres},
    sys::{FileError, Files, Owner},
};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use std::{path::PathBuf, sync::Arc};
use zeroize::Zeroizing;

/// Random bytes of a password.
const BYTES: usize = 32;
/// The longest file of a password, in bytes.
const MAX: usize = 4 << 10;

/// What became of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordChanged {
    /// It is in the file that the settings name.
    Written(PathBuf),
    /// The settings are to be changed by somebody.
    ToBeSet,
}

/// Why a password was not changed, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// There is no database.
    #[error("the store is a file and has no password: set CERTCTL_DATABASE_URL to use a database")]
    NoDatabase,
    /// There is no password.
    #[error("no password is configured, so there is none to change")]
    NoPassword,
    /// It would be lost.
    #[error(
        "the password is in a variable or in CERTCTL_DATABASE_URL, which no program can change: \
         write a new one into a file and name it by --password-file, or keep the password in a \
         file (CERTCTL_DATABASE_PASSWORD_FILE), which is then rewritten"
    )]
    Nowhere,
    /// The file is not ours to replace.
    #[error(
        "{0} is a link, as of a mounted Secret: write a new password into a file, name it by \
         --password-file, and set the Secret to it at once"
    )]
    Link(PathBuf),
    /// A password that is none.
    #[error("the new password is empty, or holds a line end or NUL")]
    Bad,
    /// Nothing was changed.
    #[error("nothing was changed: {0}")]
    Before(#[source] FileError),
    /// The database is not to be reached.
    #[error("{0}; whatever of it was done, running this again goes on")]
    Away(String),
    /// The database.
    #[error("{0}; whatever of it was done, running this again goes on")]
    Database(String),
    /// The last step.
    #[error(
        "the database has the new password, which lies in {next}, where servers look, too; it \
         could not be put in the place of the old one ({source}): run this again, or `mv {next} \
         {file}`", next = next.display(), file = file.display()
    )]
    After {
        /// The file that the settings name.
        file: PathBuf,
        /// Where the new password is.
        next: PathBuf,
        /// What went wrong.
        source: FileError,
    },
}

impl From<StartError> for PasswordError {
    fn from(e: StartError) -> Self {
        match e {
            StartError::Engine(e) => e.into(),
            e => Self::Database(e.to_string()),
        }
    }
}

impl From<EngineError> for PasswordError {
    fn from(e: EngineError) -> Self {
        match e.is_away() {
            true => Self::Away(e.to_string()),
            false => Self::Database(e.to_string()),
        }
    }
}

/// Gives the database's role another password, one that is `given` or random, and writes it into
/// the file that the settings name. Servers that run take it from there at their next connection.
///
/// # Errors
/// When a step fails. Some password that is where servers look for it logs in all the same.
pub async fn rotate_password(
    config: Option<&DatabaseConfig>,
    files: &dyn Files,
    rng: &dyn Rng,
    given: Option<SecretString>,
) -> Result<PasswordChanged, PasswordError> {
    let config = config.ok_or(PasswordError::NoDatabase)?;
    if let Some(given) = &given
        && (given.expose_secret().is_empty() || given.expose_secret().contains(['\n', '\r', '\0']))
    {
        return Err(PasswordError::Bad);
    }
    let Some(file) = &config.password_file else {
        let new = given.ok_or(PasswordError::Nowhere)?;
        if config.password.is_none() {
            return Err(PasswordError::NoPassword);
        }
        change(config, files, &new).await?;
        return Ok(PasswordChanged::ToBeSet);
    };
    let link = files.read_link(file).map_err(PasswordError::Before)?;
    if link.is_some() {
        let new = given.ok_or_else(|| PasswordError::Link(file.clone()))?;
        change(config, files, &new).await?;
        return Ok(PasswordChanged::ToBeSet);
    }
    let next = next_to(file);
    // What an earlier call has left may be the password already.
    let left = match files.read(&next, MAX) {
        Ok(bytes) => Some(Zeroizing::new(bytes)),
        Err(e) if e.is_not_found() => None,
        Err(e) => return Err(PasswordError::Before(e)),
    };
    let left = left.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    let left = left.map(|text| text.trim_end_matches(['\n', '\r']).to_owned());
    let left = left.filter(|text| !text.is_empty());
    if let (Some(_), Some(_)) = (&left, &given) {
        // Otherwise it would be lost where it is the one in force.
        let left = left.clone().map(SecretString::from);
        finish(config, files, rng, left, &next).await?;
    }
    finish(
        config,
        files,
        rng,
        given.or(left.map(SecretString::from)),
        &next,
    )
    .await
}

async fn finish(
    config: &DatabaseConfig,
    files: &dyn Files,
    rng: &dyn Rng,
    new: Option<SecretString>,
    next: &std::path::Path,
) -> Result<PasswordChanged, PasswordError> {
    let Some(file) = &config.password_file else {
        return Err(PasswordError::Nowhere);
    };
    let new = new.unwrap_or_else(|| {
        let mut bytes = Zeroizing::new([0; BYTES]);
        rng.fill(&mut *bytes);
        BASE64URL_NOPAD.encode(&*bytes).into()
    });
    let there = files.metadata(file).map_err(PasswordError::Before)?;
    let there = there.ok_or(PasswordError::NoPassword)?;
    let text = Zeroizing::new(format!("{}\n", new.expose_secret()));
    let owner = Owner {
        uid: there.uid,
        gid: there.gid,
    };
    files
        .write_owned(next, text.as_bytes(), there.mode, owner)
        .map_err(PasswordError::Before)?;
    change(config, files, &new).await?;
    files
        .rename(next, file)
        .map_err(|source| PasswordError::After {
            file: file.clone(),
            next: next.to_owned(),
            source,
        })?;
    Ok(PasswordChanged::Written(file.clone()))
}

async fn change(
    config: &DatabaseConfig,
    files: &dyn Files,
    new: &SecretString,
) -> Result<(), PasswordError> {
    let known = passwords_now(config, files);
    if known.is_empty() {
        return Err(PasswordError::NoPassword);
    }
    let login = login_by(config, files, Arc::new(move || known.clone()))?;
    Ok(Postgres::change_password(login, new).await?)
}
