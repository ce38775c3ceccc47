//! What this process is told from outside, and by which source.

use super::{
    database::DatabaseConfig,
    fault::{ConfigError, Fault},
    file,
    settings::{SETTINGS, Setting, setting},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use secrecy::ExposeSecret;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path, PathBuf},
};

/// Reads a text file.
pub type Reader<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// Names the configuration file; no setting itself, for a file cannot name another.
const CONFIG_FILE: &str = "CERTCTL_CONFIG";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody gave one.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// A variable of the environment.
    Variable,
    /// The file of a secret, which a variable or a key of the configuration file names.
    SecretFile(PathBuf),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Variable => f.write_str("environment"),
            Self::Flag(name) => f.write_str(name),
            Self::File(path) | Self::SecretFile(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A value that was given.
#[derive(Clone)]
struct Given {
    text: String,
    source: Source,
}

/// A setting as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The variable.
    pub name: &'static str,
    /// The value in force; `None` when there is none, and for a secret.
    pub value: Option<String>,
    /// Whether there is a value that is not shown.
    pub secret: bool,
    /// Where the value comes from.
    pub source: String,
}

/// The settings that this process was given, and what is wrong with them.
#[derive(Clone, Default)]
pub struct Environment {
    given: BTreeMap<&'static str, Given>,
    faults: Vec<Fault>,
    /// Of files that a server alone reads.
    faults_of_files: Vec<Fault>,
}

impl Environment {
    /// From the variables of the environment and the configuration file: the one `named`, else the
    /// one that CERTCTL_CONFIG names, else [`DEFAULT_FILE`](super::DEFAULT_FILE), which need not
    /// be there. An empty variable counts as not set.
    pub fn read(
        variables: impl IntoIterator<Item = (String, String)>,
        named: Option<&Path>,
        reader: Reader<'_>,
    ) -> Self {
        let variables: BTreeMap<String, String> = variables
            .into_iter()
            .filter(|(name, value)| name.starts_with("CERTCTL_") && !value.is_empty())
            .filter(|(name, value)| !is_service_link(name, value))
            .collect();
        let mut settings = Self::default();
        settings.read_file(named.map(Path::to_owned), &variables, reader);
        settings.read_variables(&variables, reader);
        for setting in SETTINGS {
            settings.check(setting);
        }
        settings.check_password();
        settings.check_rate_backend();
        settings.check_database_cas(reader);
        settings
    }

    /// From the variables alone.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self::read(variables, None, &|_| Err(io::ErrorKind::NotFound.into()))
    }

    /// Of this process.
    pub fn of_process(named: Option<&Path>, reader: Reader<'_>) -> Self {
        let texts = std::env::vars_os().filter_map(|(name, value)| {
            Some((
                name.into_string().ok()?,
                value.to_string_lossy().into_owned(),
            ))
        });
        Self::read(texts, named, reader)
    }

    /// Takes the value of a flag, which leads all others.
    pub fn flag(&mut self, name: &'static str, flag: &'static str, value: Option<String>) {
        if let (Some(setting), Some(text)) = (setting(name), value) {
            let source = Source::Flag(flag);
            self.faults.retain(|fault| fault.setting != setting.name);
            self.given.insert(setting.name, Given { text, source });
            self.check(setting);
        }
    }

    /// A value that was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        let given = self.given.get(name).map(|given| given.text.as_str());
        given.filter(|text| !text.is_empty())
    }

    /// The file that a value comes from, where it is that of a secret.
    pub fn secret_file(&self, name: &str) -> Option<&Path> {
        match &self.given.get(name)?.source {
            Source::SecretFile(path) => Some(path),
            _ => None,
        }
    }

    /// The value in force: the one given, or the default.
    pub fn or_default(&self, name: &str) -> &str {
        self.get(name)
            .unwrap_or_else(|| setting(name).map_or("", |s| s.default))
    }

    /// Every setting with the value in force and its source; secrets by the table are not shown.
    pub fn shown(&self) -> Vec<Shown> {
        let shown = SETTINGS.iter().map(|setting| {
            let given = self.given.get(setting.name);
            let value = given.map_or(setting.default, |given| &given.text);
            let there = !value.is_empty();
            Shown {
                name: setting.name,
                value: (there && !setting.secret).then(|| value.to_owned()),
                secret: there && setting.secret,
                source: given.map_or(&Source::Default, |g| &g.source).to_string(),
            }
        });
        shown.collect()
    }

    /// How many settings were given.
    pub fn given(&self) -> usize {
        self.given.len()
    }

    /// What is wrong with values by themselves.
    pub(super) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// What is wrong with files that values name, and a server alone reads.
    pub(super) fn faults_of_files(&self) -> &[Fault] {
        &self.faults_of_files
    }

    /// The files that values come from which are not shown.
    pub(super) fn files_of_secrets(&self) -> Vec<PathBuf> {
        let secret = self.given.iter().filter_map(|(name, given)| {
            let path = match &given.source {
                Source::SecretFile(path) | Source::File(path) => path,
                _ => return None,
            };
            setting(name)?.secret.then(|| path.clone())
        });
        let files: BTreeSet<PathBuf> = secret.collect();
        files.into_iter().collect()
    }

    /// A fault of a setting, where its value stands.
    pub(super) fn at_fault(&self, name: &str, message: impl Into<String>) -> Fault {
        let (setting, file) = match self.given.get(name).map(|given| &given.source) {
            Some(Source::Flag(flag)) => ((*flag).to_owned(), None),
            Some(Source::File(path)) => (
                setting(name).map(Setting::file_key).unwrap_or_default(),
                Some(path),
            ),
            Some(Source::SecretFile(path)) => (name.to_owned(), Some(path)),
            Some(Source::Variable | Source::Default) | None => (name.to_owned(), None),
        };
        Fault {
            setting,
            file: file.map(|path| path.display().to_string()),
            message: message.into(),
        }
    }

    /// Refuses what is wrong, all of it.
    ///
    /// # Errors
    /// The faults.
    pub fn sound(&self) -> Result<(), ConfigError> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(ConfigError(self.faults.clone()))
        }
    }

    fn read_file(
        &mut self,
        named: Option<PathBuf>,
        variables: &BTreeMap<String, String>,
        reader: Reader<'_>,
    ) {
        let named = named.or_else(|| variables.get(CONFIG_FILE).map(PathBuf::from));
        let path = named.clone();
        let path = path.unwrap_or_else(|| PathBuf::from(file::DEFAULT_FILE));
        let text = match reader(&path) {
            Ok(text) => text,
            // The default file may hold the server's secrets: who may not read it has none.
            Err(e)
                if named.is_none()
                    && matches!(
                        e.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                    ) =>
            {
                return;
            }
            Err(e) => return self.fault("", Some(&path), format!("it cannot be read: {e}")),
        };
        let values = file::parse(&path, &text, &mut self.faults);
        for setting in SETTINGS {
            let key = setting.file_key();
            let secret_key = setting.secret.then(|| format!("{key}_file"));
            let source = Source::File(path.clone());
            let named = secret_key.as_ref().and_then(|key| values.get(key));
            self.take(setting, (&key, values.get(&key), source), named, reader);
        }
        for key in values.keys() {
            let known = |s: &Setting| {
                let own = s.file_key();
                *key == own || s.secret && key.strip_suffix("_file") == Some(&own)
            };
            if !SETTINGS.iter().any(known) {
                self.fault(key, Some(&path), unknown("remove it"));
            }
        }
    }

    fn read_variables(&mut self, variables: &BTreeMap<String, String>, reader: Reader<'_>) {
        for setting in SETTINGS {
            let named = setting.from_file().and_then(|name| variables.get(&name));
            let value = variables.get(setting.name);
            let place = (setting.name, value, Source::Variable);
            self.take(setting, place, named, reader);
        }
        for name in variables.keys() {
            let known = |s: &Setting| s.name == name || s.from_file().as_ref() == Some(name);
            if name != CONFIG_FILE && !SETTINGS.iter().any(known) {
                self.fault(name, None, unknown("unset it"));
            }
        }
    }

    /// Takes what one source says of a setting: its value, or for a secret the file of its value.
    fn take(
        &mut self,
        setting: &Setting,
        (place, value, source): (&str, Option<&String>, Source),
        named: Option<&String>,
        reader: Reader<'_>,
    ) {
        let of_file = match &source {
            Source::File(path) => Some(path.clone()),
            _ => None,
        };
        let names_file = match &of_file {
            Some(_) => format!("{place}_file"),
            None => format!("{place}_FILE"),
        };
        let given = match (value, named) {
            (None, None) => return,
            (Some(_), Some(_)) => {
                let message = format!(
                    "both the value and a file of it ({names_file}) are given: leave one out"
                );
                return self.fault(place, of_file.as_deref(), message);
            }
            (Some(text), None) => Given {
                text: text.clone(),
                source,
            },
            (None, Some(path)) => {
                let path = PathBuf::from(path);
                match reader(&path) {
                    Ok(text) => Given {
                        text: secret_text(&text).to_owned(),
                        source: Source::SecretFile(path),
                    },
                    Err(e) => {
                        let message = format!("{} cannot be read: {e}", path.display());
                        return self.fault(&names_file, of_file.as_deref(), message);
                    }
                }
            }
        };
        // A secret's file may be filled later.
        if given.text.is_empty() && !matches!(given.source, Source::SecretFile(_)) {
            return;
        }
        self.given.insert(setting.name, given);
    }

    /// Notes what is wrong with the value in force.
    fn check(&mut self, setting: &Setting) {
        let Some(given) = self.given.get(setting.name) else {
            return;
        };
        if let Err(message) = setting.check(&given.text) {
            self.faults.push(self.at_fault(setting.name, message));
        }
    }

    /// Notes a password that belongs nowhere, or stands against another.
    fn check_password(&mut self) {
        const PASSWORD: &str = "CERTCTL_DATABASE_PASSWORD";
        let Some(password) = self.get(PASSWORD) else {
            return;
        };
        let message = match self.get("CERTCTL_DATABASE_URL").map(DatabaseConfig::parse) {
            None => "it is given without CERTCTL_DATABASE_URL, which says what it is for",
            Some(Ok(config)) => match config.password {
                Some(other) if other.expose_secret() != password => {
                    "CERTCTL_DATABASE_URL holds another password: leave one of them out"
                }
                _ => return,
            },
            Some(Err(_)) => return,
        };
        self.fault(PASSWORD, None, message.to_owned());
    }

    /// Notes calls that are to be counted in a database that there is not.
    fn check_rate_backend(&mut self) {
        const BACKEND: &str = "CERTCTL_RATE_LIMIT_BACKEND";
        let shared = self.get(BACKEND) == Some("postgres");
        if shared && self.get("CERTCTL_DATABASE_URL").is_none() {
            let message = "postgres counts in the database of CERTCTL_DATABASE_URL, which is not \
                           given: give it, or take memory";
            self.fault(BACKEND, None, message.to_owned());
        }
    }

    /// Notes that the CAs which are to vouch for the database cannot be read.
    fn check_database_cas(&mut self, reader: Reader<'_>) {
        const URL: &str = "CERTCTL_DATABASE_URL";
        let url = self
            .get(URL)
            .and_then(|url| DatabaseConfig::parse(url).ok());
        let Some(path) = url.and_then(|config| config.ca_file) else {
            return;
        };
        let why = match reader(&path) {
            // What stands between the certificates need not be text that this reader takes.
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return,
            Err(e) => format!("cannot be read: {e}"),
            Ok(text) => match CertificateDer::pem_slice_iter(text.as_bytes()).next() {
                Some(Ok(_)) => return,
                _ => {
                    "holds no certificate in PEM: name the file of the CA of the database's server"
                        .to_owned()
                }
            },
        };
        let fault = self.at_fault(URL, format!("sslrootcert {} {why}", path.display()));
        self.faults_of_files.push(fault);
    }

    fn fault(&mut self, setting: &str, file: Option<&Path>, message: String) {
        self.faults.push(Fault {
            setting: setting.to_owned(),
            file: file.map(|path| path.display().to_string()),
            message,
        });
    }
}

/// The secret in the text of a file: without the line ends that editors and `echo` leave.
pub fn secret_text(text: &str) -> &str {
    text.trim_end_matches(['\n', '\r'])
}

fn unknown(remedy: &str) -> String {
    format!("there is no such setting; {remedy}, or see `certctl config keys`")
}

/// Kubernetes sets variables `<SERVICE>_SERVICE_*` and `<SERVICE>_PORT*` for the services beside
/// us, also under names that are settings (`CERTCTL_SERVER_PORT=tcp://10.0.0.1:8443` for a service
/// `certctl-server`); they are no settings.
fn is_service_link(name: &str, value: &str) -> bool {
    let link = setting(name).is_none() && (name.contains("_SERVICE_") || name.contains("_PORT_"));
    link || value.starts_with("tcp://") || value.starts_with("udp://")
}
