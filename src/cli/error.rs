//! What a command says when it fails, and the exit code that goes with it.

use crate::{
    agent::{EnrolError, IdentityError, PolicyError},
    app::{StartError, backup::BackupFailure},
    config::ConfigError,
    net::{BindError, CallError, TrustError},
};

/// Every exit code, and what it says. Those above 63 are of sysexits.h.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (0, "it did what was asked"),
    (1, "it did not, or the server refused; the message says why"),
    (2, "the command line cannot be read"),
    (3, "`doctor` found what will go wrong unless somebody acts"),
    (4, "`doctor` found what is wrong"),
    (
        65,
        "a backup is damaged, cannot be opened, or does not prove itself",
    ),
    (66, "there is no store here"),
    (
        69,
        "the server, or the database, is not to be reached, or cannot do it for now",
    ),
    (
        73,
        "a backup could not be put into its sink, or the sink is not there or cannot be read",
    ),
    (74, "storage or a file failed"),
    (
        75,
        "a server, an agent or another command that runs stands in the way",
    ),
    (
        78,
        "the configuration, or a store of another version, cannot be used",
    ),
];

/// The exit codes, as help shows them.
pub fn exit_codes() -> String {
    let lines = EXIT_CODES
        .iter()
        .map(|(code, says)| format!("\n  {code:<4}{says}"));
    format!("Exit codes:{}", lines.collect::<String>())
}

/// Why a command failed; [`EXIT_CODES`] says how a script is told.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line cannot be read.
    #[error("{0}")]
    Usage(String),
    /// It did not do what was asked.
    #[error("{0}")]
    Failed(String),
    /// What was looked at will go wrong.
    #[error("{0}")]
    Ailing(String),
    /// What was looked at is wrong.
    #[error("{0}")]
    Ill(String),
    /// The server refused.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// The server is not to be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The database is not to be reached.
    #[error("{0}")]
    Away(String),
    /// Something that runs stands in the way.
    #[error("{0}")]
    Running(String),
    /// A backup that is not good.
    #[error("{0}")]
    Damaged(String),
    /// There is no store.
    #[error("{0}")]
    NoStore(String),
    /// A sink of backups.
    #[error("{0}")]
    Sink(String),
    /// Storage or files.
    #[error("{0}")]
    Storage(String),
    /// Configuration.
    #[error("{0}")]
    Config(String),
    /// The store has another format than this version can use.
    #[error("{0}")]
    Schema(String),
}

impl CliError {
    /// What to do, beside what the message itself says.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Usage(_) => "--help lists commands, arguments and flags",
            Self::Ailing(_) | Self::Ill(_) => "do what each finding says, the gravest first",
            Self::Failed(_) => "what the message names is to be mended first; then try again",
            Self::Refused { status, .. } => match status {
                401 => "set CERTCTL_API_KEY to a key that is valid there",
                403 => "use a key whose role holds the permission that the message names",
                404 => "the list commands show what there is",
                409 => "look at the present state first; it does not allow this",
                429 => "try again later",
                503 => "what the message names stands in the way: try again when it is gone",
                500.. => "the server's log says more",
                _ => "what the message names is to be changed",
            },
            Self::Unreachable(_) => {
                "start the server, or name another by --server, --socket or --data-dir"
            }
            Self::Away(_) => {
                "see that the database runs and CERTCTL_DATABASE_URL leads to it: `certctl db ping`"
            }
            Self::Running(_) => "stop what runs, or wait until it has ended; then try again",
            Self::Damaged(_) => "use another backup, or the key that opens this one",
            Self::NoStore(_) => "name the server's data directory by --data-dir, or its database",
            Self::Sink(_) => "check the sink that the message names, its owner and free space",
            Self::Storage(_) => {
                "check what the message names: a path, its owner and free space, or a database"
            }
            Self::Schema(_) => "`certctl migrate status` says what was done to the store",
            Self::Config(_) => {
                "`certctl config check` says all that is wrong, `certctl config keys` lists settings"
            }
        }
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            // A server that cannot, for a time.
            Self::Refused { status: 503, .. } => 69,
            Self::Failed(_) | Self::Refused { .. } => 1,
            Self::Usage(_) => 2,
            Self::Ailing(_) => 3,
            Self::Ill(_) => 4,
            Self::Damaged(_) => 65,
            Self::NoStore(_) => 66,
            Self::Unreachable(_) | Self::Away(_) => 69,
            Self::Sink(_) => 73,
            Self::Storage(_) => 74,
            Self::Running(_) => 75,
            Self::Config(_) | Self::Schema(_) => 78,
        }
    }
}

impl From<BackupFailure> for CliError {
    fn from(e: BackupFailure) -> Self {
        Self::of_step(e.step(), e.to_string())
    }
}

impl CliError {
    /// Of the step of a backup that failed.
    pub fn of_step(step: &str, text: String) -> Self {
        match step {
            "verify" => Self::Damaged(text),
            "upload" => Self::Sink(text),
            "no_store" => Self::NoStore(text),
            "away" => Self::Away(text),
            "stopped" => Self::Unreachable(text),
            "running" => Self::Running(text),
            "refused" | "gap" | "missing" => Self::Failed(text),
            _ => Self::Storage(text),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(e: ConfigError) -> Self {
        Self::Config(e.to_string())
    }
}

impl From<StartError> for CliError {
    fn from(e: StartError) -> Self {
        match e {
            StartError::SchemaTooNew { .. } | StartError::SchemaBehind { .. } => {
                Self::Schema(e.to_string())
            }
            StartError::Backup(ref failure) => Self::of_step(failure.step(), e.to_string()),
            e if e.is_no_store() => Self::NoStore(e.to_string()),
            e if e.is_away() => Self::Away(e.to_string()),
            e if e.is_of_others() => Self::Running(e.to_string()),
            e if e.is_of_the_way() => Self::Failed(e.to_string()),
            e if e.is_of_settings() => Self::Config(e.to_string()),
            e => Self::Storage(e.to_string()),
        }
    }
}

impl From<BindError> for CliError {
    fn from(e: BindError) -> Self {
        Self::Failed(e.to_string())
    }
}

impl From<CallError> for CliError {
    fn from(e: CallError) -> Self {
        Self::Unreachable(e.to_string())
    }
}

impl From<TrustError> for CliError {
    fn from(e: TrustError) -> Self {
        Self::Config(e.to_string())
    }
}

impl From<EnrolError> for CliError {
    fn from(e: EnrolError) -> Self {
        match e {
            EnrolError::Call(e) => e.into(),
            e => Self::Failed(e.to_string()),
        }
    }
}

impl From<IdentityError> for CliError {
    fn from(e: IdentityError) -> Self {
        Self::Failed(e.to_string())
    }
}

impl From<PolicyError> for CliError {
    fn from(e: PolicyError) -> Self {
        Self::Config(e.to_string())
    }
}
