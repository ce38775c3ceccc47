//! What is wrong with a configuration.

use serde::Serialize;
use std::fmt;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The setting, as it is written where it stands: a variable, a key of the file, a flag; empty
    /// when the whole file is at fault.
    pub setting: String,
    /// The file it stands in; `None` for variables and flags.
    pub file: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            setting,
            file,
            message,
        } = self;
        match file {
            None => write!(f, "{setting}: {message}"),
            Some(file) if setting.is_empty() => write!(f, "{file}: {message}"),
            Some(file) => write!(f, "{setting} in {file}: {message}"),
        }
    }
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<Fault>);

impl ConfigError {
    /// One fault of a variable or flag.
    pub fn of(setting: &str, message: impl Into<String>) -> Self {
        Self(vec![Fault {
            setting: setting.to_owned(),
            file: None,
            message: message.into(),
        }])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}
