//! The room a store takes, on the wire.

use crate::app::storage::{AHEAD, StorageState, kept};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How much room the store takes, and will take.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = Storage)]
pub struct StorageShape {
    /// It is being counted.
    pub counting: bool,
    /// When it was last counted; all else is of then.
    #[schema(format = DateTime)]
    pub counted_at: Option<String>,
    /// The size of the store's file; nothing where a database holds it.
    pub on_disk_bytes: Option<u64>,
    /// The bytes of all documents.
    pub document_bytes: u64,
    /// What is left on the disk of the data directory.
    pub free_bytes: u64,
    /// The size of that disk.
    pub disk_bytes: u64,
    /// Versions that were issued in the last 30 days.
    pub issued_in_30_days: u64,
    /// Versions that are issued in 30 days, by what is planned.
    pub expected_in_30_days: u64,
    /// What each collection and the audit log take, the largest first.
    pub collections: Vec<TakenShape>,
    /// What the store will take.
    pub forecast: Vec<ForecastShape>,
    /// In how many days the disk is full, where that is within a century.
    pub full_in_days: Option<u64>,
}

/// What a collection takes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = StorageOfCollection)]
pub struct TakenShape {
    /// Its name.
    pub name: String,
    /// How many rows.
    pub rows: u64,
    /// The bytes of their documents.
    pub bytes: u64,
    /// How long they are kept.
    pub kept: String,
}

/// What the store will take.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = StorageForecast)]
pub struct ForecastShape {
    /// In so many days.
    pub days: u64,
    /// So many bytes.
    pub bytes: u64,
}

impl StorageShape {
    /// Of a count; `days` is how long orders and jobs are kept.
    pub fn of(state: StorageState, days: (u64, u64)) -> Self {
        let counting = state.counting;
        let Some(census) = state.last else {
            return Self {
                counting,
                ..Self::default()
            };
        };
        let forecast = AHEAD.iter().map(|ahead| ForecastShape {
            days: *ahead,
            bytes: census.forecast(*ahead, days),
        });
        let collections = census.collections.iter().map(|taken| TakenShape {
            name: taken.what.to_owned(),
            rows: taken.rows,
            bytes: taken.bytes,
            kept: kept(taken.what),
        });
        Self {
            counting,
            counted_at: Some(census.at.to_string()),
            on_disk_bytes: census.on_disk,
            document_bytes: census.documents(),
            free_bytes: census.room.free,
            disk_bytes: census.room.total,
            issued_in_30_days: census.issued,
            expected_in_30_days: census.expected,
            collections: collections.collect(),
            forecast: forecast.collect(),
            full_in_days: census.full_in(days),
        }
    }
}
