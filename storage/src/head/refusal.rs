//! `Refusal`: what is told to the sender of a series or sample that is not stored.

use crate::error::ErrorKind;
use crate::model::{Labels, Timestamp};

/// Why a series or a sample was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the sender can do about it.
    pub kind: ErrorKind,
    /// The labels of the series; empty when they could not be read.
    pub labels: Labels,
    /// The time of the sample; `None` when the whole series was refused.
    pub timestamp: Option<Timestamp>,
    /// What is wrong, in the present tense.
    pub reason: String,
}

impl Refusal {
    pub(crate) fn of_series(kind: ErrorKind, labels: Labels, reason: String) -> Self {
        Self { kind, labels, timestamp: None, reason }
    }
}
