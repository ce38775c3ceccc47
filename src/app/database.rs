//! The way to the database that the configuration names.

use super::StartError;
use crate::{
    config::{Binding, DatabaseConfig, DatabaseHost, SslMode},
    net::{DatabaseDialer, DatabasePlace, Dialer, Guard, Resolver, Secrecy, Trust},
    store::{Login, LoginBinding, Passwords},
    sys::Files,
};

use secrecy::{ExposeSecret, SecretString};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// The longest file of CAs, in bytes.
const MAX_PEM: usize = 1 << 20;

/// The longest file of a password, in bytes.
const MAX_PASSWORD: usize = 4 << 10;

/// Where a new password lies until it takes the place of the one in `file`.
pub fn next_to(file: &Path) -> PathBuf {
    let mut next = file.as_os_str().to_owned();
    next.push(".next");
    next.into()
}

/// The passwords that may be the right one now: that of the file, the one that is about to take
/// its place, and the one that was read at the start.
pub fn passwords_now(config: &DatabaseConfig, files: &dyn Files) -> Vec<SecretString> {
    let of_file = |path: &Path| {
        let bytes = Zeroizing::new(files.read(path, MAX_PASSWORD).ok()?);
        let text = std::str::from_utf8(&bytes).ok()?;
        let text = text.trim_end_matches(['\n', '\r']);
        (!text.is_empty()).then(|| SecretString::from(text))
    };
    let mut found: Vec<SecretString> = Vec::new();
    let file = config.password_file.as_deref();
    let files = file
        .into_iter()
        .flat_map(|file| [file.to_owned(), next_to(file)]);
    let of_files: Vec<_> = files.filter_map(|path| of_file(&path)).collect();
    for password in of_files.into_iter().chain(config.password.clone()) {
        let text = password.expose_secret();
        if !found.iter().any(|other| other.expose_secret() == text) {
            found.push(password);
        }
    }
    found
}

/// How to log in there, by the password that is the right one each time.
pub fn login(config: &DatabaseConfig, files: &Arc<dyn Files>) -> Result<Login, StartError> {
    let (of, files_then) = (config.clone(), Arc::clone(files));
    let passwords = Arc::new(move || passwords_now(&of, &*files_then));
    login_by(config, &**files, passwords)
}

/// How to log in there by these passwords.
pub fn login_by(
    config: &DatabaseConfig,
    files: &dyn Files,
    passwords: Passwords,
) -> Result<Login, StartError> {
    let trust = || match &config.ca_file {
        None => Ok(Trust::System),
        Some(path) => {
            let pem = files.read(path, MAX_PEM)?;
            Trust::from_pem(&pem)
                .map_err(|e| StartError::DatabaseTrust(format!("{}: {e}", path.display())))
        }
    };
    let secrecy = match config.ssl {
        SslMode::Disable => Secrecy::Plain,
        SslMode::Require => Secrecy::Encrypted,
        SslMode::VerifyCa => Secrecy::Vouched(trust()?),
        SslMode::VerifyFull => Secrecy::Named(trust()?),
    };
    if config.ssl == SslMode::Disable && !config.host.is_here() {
        tracing::warn!(
            "sslmode=disable: the way to the database is in the clear, with all that is read and \
             written"
        );
    }
    let place = match &config.host {
        DatabaseHost::Name(host) => DatabasePlace::Tcp(host.clone(), config.port),
        DatabaseHost::Directory(dir) => {
            DatabasePlace::Unix(dir.join(format!(".s.PGSQL.{}", config.port)))
        }
    };
    let dialer = Dialer::new(Resolver::system(), Guard::Any);
    let dialer = DatabaseDialer::new(dialer, place, &secrecy)
        .map_err(|e| StartError::DatabaseTrust(e.to_string()))?;
    Ok(Login {
        dialer,
        user: config.user.clone(),
        passwords,
        database: config.name.clone(),
        binding: match config.binding {
            Binding::Disable => LoginBinding::Disable,
            Binding::Prefer => LoginBinding::Prefer,
            Binding::Require => LoginBinding::Require,
        },
        connections: config.connections as usize,
        timeout: config.timeout,
    })
}
