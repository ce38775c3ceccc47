//! Where backups go, as it is written in settings and on the command line.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A place for backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// A directory.
    Dir(PathBuf),
    /// A bucket, and what all keys in it begin with.
    S3 {
        /// The bucket.
        bucket: String,
        /// Nothing, or what ends with a slash.
        prefix: String,
    },
}

impl FromStr for Sink {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("dir:") {
            return if Path::new(path).is_absolute() {
                Ok(Self::Dir(path.into()))
            } else {
                Err("dir: is followed by an absolute path, as in dir:/var/backups".into())
            };
        }
        let Some(rest) = text.strip_prefix("s3://") else {
            return Err("a sink is dir:PATH or s3://BUCKET/PREFIX".into());
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let good = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if bucket.is_empty() || !bucket.chars().all(good) {
            return Err("s3:// is followed by a bucket and a prefix, as in s3://backups/ca".into());
        }
        if prefix.chars().any(char::is_control) || prefix.contains("..") {
            return Err("a prefix has no control characters and no two dots".into());
        }
        let prefix = prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        Ok(Self::S3 {
            bucket: bucket.to_owned(),
            prefix: format!("{prefix}{slash}"),
        })
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
            Self::S3 { bucket, prefix } => {
                write!(f, "s3://{bucket}/{}", prefix.trim_end_matches('/'))
            }
        }
    }
}
