//! What a query did, operator by operator.

use std::time::Duration;

/// One operator of a query that has run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operator {
    /// What it does: `selector`, the name of a function, an aggregator with its groups, an operator's sign.
    pub name: String,
    /// The piece of the query it stands for.
    pub text: String,
    /// The steps it is evaluated at.
    pub steps: usize,
    /// Series it yields.
    pub series: u64,
    /// How often a series was computed, over all steps each time.
    pub computed: u64,
    /// Points those had.
    pub points: u64,
    /// Samples it read from the store.
    pub samples: u64,
    /// Memory it and what is below it hold from when it was built, in bytes.
    pub bytes: u64,
    /// Chunks its selector decoded (shared by equal selectors of a query).
    pub chunks_decoded: u64,
    /// Chunks its selector passed over.
    pub chunks_skipped: u64,
    /// Time spent in it and below it, on all threads together.
    pub time: Duration,
    /// What it takes its series from.
    pub children: Vec<Operator>,
}
