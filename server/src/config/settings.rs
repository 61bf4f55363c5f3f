//! What holds now: the flags, and what the configuration file says instead of them.

use super::file::ConfigFile;
use super::flags::ServeFlags;
use super::otlp::OtlpSettings;
use kymo_storage::options::RetentionRule;
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that a reload may change, with the flags filled in. A request takes it once and keeps it to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Labels added to what leaves for another server; sorted by name.
    pub external_labels: BTreeMap<String, String>,
    /// Series kept for another time than the rest.
    pub retention_rules: Vec<RetentionRule>,
    /// Limits of queries.
    pub query: QuerySettings,
    /// Limits of writes.
    pub ingest: IngestSettings,
    /// How OpenTelemetry metrics are named.
    pub otlp: OtlpSettings,
    /// The file these come from, for the status page.
    pub file: ConfigFile,
}

/// Limits of queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuerySettings {
    /// The longest a query may run.
    pub timeout: Duration,
    /// Samples one query may hold in memory.
    pub samples_max: u64,
    /// Steps a range query may have, not counting the first.
    pub points_max: u64,
    /// How far back an instant selector looks.
    pub lookback: Duration,
}

/// Limits of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestSettings {
    /// Bytes of a body as it is sent.
    pub body_bytes_max: usize,
    /// Bytes of a body when decompressed.
    pub decoded_bytes_max: usize,
}

impl Settings {
    /// What holds with these flags and this file.
    pub fn resolve(flags: &ServeFlags, file: ConfigFile) -> Self {
        let (query, ingest) = (&file.query, &file.ingest);
        Self {
            query: QuerySettings {
                timeout: query.timeout.map_or(flags.query.query_timeout, |t| t.0),
                samples_max: query.max_samples.unwrap_or(flags.query.query_max_samples),
                points_max: query.max_points.unwrap_or(flags.query.query_max_points),
                lookback: query.lookback.map_or(flags.query.query_lookback, |t| t.0),
            },
            ingest: IngestSettings {
                body_bytes_max: ingest.max_body_bytes.unwrap_or(flags.ingest.ingest_max_body_bytes),
                decoded_bytes_max: ingest.max_decoded_bytes.unwrap_or(flags.ingest.ingest_max_decoded_bytes),
            },
            external_labels: file.external_labels.clone(),
            retention_rules: file.retention_rules(),
            otlp: file.otlp.clone(),
            file,
        }
    }
}
