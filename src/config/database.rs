//! The address of a database, as it is written in `CERTCTL_DATABASE_URL`.

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use std::{net::IpAddr, path::PathBuf, time::Duration};

/// The port of PostgreSQL.
const PORT: u16 = 5432;

/// A database, and who logs in there.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// Where it is.
    pub host: DatabaseHost,
    /// Its port, also a part of a socket's name.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// The password, where one is given.
    pub password: Option<SecretString>,
    /// The file that the password was read from, and is read from again.
    pub password_file: Option<PathBuf>,
    /// The database.
    pub name: String,
    /// What must be known of the server.
    pub ssl: SslMode,
    /// The CAs that vouch for it; the machine's own when not given.
    pub ca_file: Option<PathBuf>,
    /// Whether the login is bound to the TLS connection that it goes over.
    pub binding: Binding,
    /// Sessions for reading, at most.
    pub connections: u32,
    /// For a statement.
    pub timeout: Duration,
}

/// Whether a login by SCRAM is bound to its TLS connection, so that nobody in between can use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// It is not.
    Disable,
    /// Where the server can.
    Prefer,
    /// It is, or there is no login.
    Require,
}

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseHost {
    /// A name or an address.
    Name(String),
    /// The directory of a unix socket.
    Directory(PathBuf),
}

/// How the way to a database is protected, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// In the clear.
    Disable,
    /// TLS with whoever answers.
    Require,
    /// TLS with a server that a CA vouches for, under whatever name.
    VerifyCa,
    /// TLS with a server that a CA vouches for under the name that is dialled.
    VerifyFull,
}

impl DatabaseConfig {
    /// Reads an address.
    ///
    /// # Errors
    /// All that is wrong with it, without any part of it that may be a secret.
    pub fn parse(url: &str) -> Result<Self, String> {
        let mut faults = Vec::new();
        let read = read(url, &mut faults);
        match read {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(faults.join("; ")),
        }
    }
}

/// Reads what can be read, and notes what cannot.
fn read(url: &str, faults: &mut Vec<String>) -> Option<DatabaseConfig> {
    let after = ["postgres://", "postgresql://"];
    let Some(rest) = after.iter().find_map(|scheme| url.strip_prefix(scheme)) else {
        faults.push(
            "an address such as postgres://user:password@host:5432/database?sslmode=verify-full \
             is expected"
                .to_owned(),
        );
        return None;
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (login, place),
        None => ("", authority),
    };
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    let bare = |text: &str| text.contains('@');
    if bare(login) || bare(name) || bare(query) {
        faults.push(
            "an @ in user, password, database's name or a parameter is written %40".to_owned(),
        );
    }
    let mut decoded = |what: &str, text: &str| match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => text.into_owned(),
        _ => {
            faults.push(format!("the {what} is not percent-encoded text"));
            String::new()
        }
    };
    let user = decoded("user", user);
    let password = password.map(|password| decoded("password", password));
    let name = decoded("database's name", name);
    let (host, port) = split_port(place);
    let host = decoded("host", host);
    let query: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), decoded("value of a parameter", value))
        })
        .collect();
    if user.is_empty() {
        faults.push("the user is missing: postgres://USER:password@host/database".to_owned());
    }
    if name.is_empty() {
        faults.push("the database's name is missing: postgres://user@host/DATABASE".to_owned());
    }
    let port = match port.map(str::parse) {
        None => PORT,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => {
            faults.push(
                "the port is no number from 1 to 65535 (a / : @ ? # or % in user or password \
                 is written %2F %3A %40 %3F %23 %25)"
                    .to_owned(),
            );
            PORT
        }
    };
    let (mut host, mut ssl, mut ca_file) = (host, None, None);
    let mut binding = Binding::Prefer;
    for (key, value) in query {
        match key.as_str() {
            "host" if host.is_empty() => host = value,
            "sslmode" => ssl = ssl_mode(&value, faults),
            "sslrootcert" if value.starts_with('/') => ca_file = Some(PathBuf::from(value)),
            "sslrootcert" => faults
                .push("sslrootcert is to name a PEM file by its whole path, from / on".to_owned()),
            "channel_binding" => match value.as_str() {
                "disable" => binding = Binding::Disable,
                "prefer" => {}
                "require" => binding = Binding::Require,
                _ => faults.push("channel_binding is to be disable, prefer or require".to_owned()),
            },
            // Where a password holds a ?, what follows is a part of it.
            _ => faults.push(
                "a parameter is neither sslmode nor sslrootcert nor channel_binding, which may be \
                 given (a ? or & in user or password is written %3F or %26)"
                    .to_owned(),
            ),
        }
    }
    if host.is_empty() {
        faults.push(
            "the host is missing: postgres://user@HOST/database, or the directory of a unix \
             socket with every / written %2F"
                .to_owned(),
        );
    }
    let host = match host.starts_with('/') {
        true => DatabaseHost::Directory(PathBuf::from(host)),
        false => DatabaseHost::Name(host),
    };
    let ssl = ssl.unwrap_or_else(|| host.default_ssl());
    match (&host, ssl) {
        (DatabaseHost::Directory(_), mode) if mode != SslMode::Disable => faults.push(
            "a unix socket does not leave this machine and takes no TLS: leave sslmode out"
                .to_owned(),
        ),
        (_, SslMode::Disable | SslMode::Require) if ca_file.is_some() => faults
            .push("sslrootcert is only looked at with sslmode verify-ca or verify-full".to_owned()),
        (_, SslMode::Disable) if binding == Binding::Require => faults.push(
            "channel_binding=require binds a login to TLS: give an sslmode with it".to_owned(),
        ),
        _ => {}
    }
    Some(DatabaseConfig {
        host,
        port,
        user,
        password: password.map(SecretString::from),
        password_file: None,
        name,
        ssl,
        ca_file,
        binding,
        connections: 0,
        timeout: Duration::ZERO,
    })
}

/// Host and port; a colon within brackets belongs to an address.
fn split_port(place: &str) -> (&str, Option<&str>) {
    let after_address = place.rfind(']').map_or(0, |end| end + 1);
    match place[after_address..].find(':') {
        None => (place, None),
        Some(colon) => {
            let (host, port) = place.split_at(after_address + colon);
            (host, port.strip_prefix(':'))
        }
    }
}

fn ssl_mode(text: &str, faults: &mut Vec<String>) -> Option<SslMode> {
    match text {
        "disable" => return Some(SslMode::Disable),
        "require" => return Some(SslMode::Require),
        "verify-ca" => return Some(SslMode::VerifyCa),
        "verify-full" => return Some(SslMode::VerifyFull),
        "allow" | "prefer" => faults.push(format!(
            "sslmode {text} can be talked out of TLS: give disable, require, verify-ca or \
             verify-full"
        )),
        _ => faults.push("sslmode is to be disable, require, verify-ca or verify-full".to_owned()),
    }
    None
}

impl std::fmt::Display for DatabaseHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Directory(dir) => dir.display().fmt(f),
        }
    }
}

impl DatabaseHost {
    /// Whether what is sent there stays on this machine.
    pub fn is_here(&self) -> bool {
        match self {
            Self::Directory(_) => true,
            Self::Name(name) if name.eq_ignore_ascii_case("localhost") => true,
            Self::Name(name) => name
                .trim_matches(['[', ']'])
                .parse()
                .is_ok_and(|address: IpAddr| address.is_loopback()),
        }
    }

    fn default_ssl(&self) -> SslMode {
        if self.is_here() {
            SslMode::Disable
        } else {
            SslMode::VerifyFull
        }
    }
}
