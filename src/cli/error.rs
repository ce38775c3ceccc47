//! What a command says when it fails, and the exit code that goes with it.

use crate::{
    agent::{EnrolError, IdentityError, PolicyError},
    app::StartError,
    config::ConfigError,
    net::{BindError, CallError, TrustError},
};

/// Why a command failed. Exit codes: 1 it did not do what was asked, 69 the server is not to be
/// reached, 74 storage or files, 78 configuration; 2 is a command line that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// It did not do what was asked.
    #[error("{0}")]
    Failed(String),
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
    /// Storage or files.
    #[error("{0}")]
    Storage(String),
    /// Configuration.
    #[error("{0}")]
    Config(String),
}

impl CliError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Refused { .. } => 1,
            Self::Unreachable(_) => 69,
            Self::Storage(_) => 74,
            Self::Config(_) => 78,
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
        Self::Storage(e.to_string())
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
