//! What a change expects to change: an update that would undo another one unseen is refused.

use super::AppError;
use crate::store::Loaded;

/// The versions of a row that a change was meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected(Option<Vec<u64>>);

impl Expected {
    /// Whichever there is.
    pub const ANY: Self = Self(None);

    /// One of these.
    pub fn one_of(versions: impl IntoIterator<Item = u64>) -> Self {
        Self(Some(versions.into_iter().collect()))
    }

    /// Refuses a row of another version. The row is one that the decision's commit asserts, so that
    /// nothing comes between.
    pub(super) fn met_by<T>(&self, row: &Loaded<T>) -> Result<(), AppError> {
        match &self.0 {
            Some(versions) if !versions.contains(&row.version()) => Err(AppError::Stale),
            _ => Ok(()),
        }
    }
}
