//! What a door for writes holds, and what it hands to the commit.

use super::refusals::Refusals;
use crate::telemetry::Metrics;
use kymo_storage::db::{Storage, WriteBatch};
use std::sync::Arc;

/// What a write needs.
#[derive(Clone)]
pub struct Receiver {
    /// Where samples go.
    pub storage: Storage,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The largest decoded body.
    pub decoded_bytes_max: usize,
}

/// A request resolved against the store, ready to be committed.
pub struct Prepared {
    /// What is to be stored.
    pub batch: WriteBatch,
    /// How many samples, histograms and exemplars came.
    pub sent: u64,
    /// What cannot be stored.
    pub refusals: Refusals,
}
