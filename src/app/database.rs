//! The way to the database that the configuration names.

use super::StartError;
use crate::{
    config::{Binding, DatabaseConfig, DatabaseHost, SslMode},
    net::{DatabaseDialer, DatabasePlace, Dialer, Guard, Resolver, Secrecy, Trust},
    store::{Login, LoginBinding},
    sys::Files,
};

/// The longest file of CAs, in bytes.
const MAX_PEM: usize = 1 << 20;

/// How to log in there.
pub fn login(config: &DatabaseConfig, files: &dyn Files) -> Result<Login, StartError> {
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
        password: config.password.clone(),
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
