//! What the fuzz targets do with bytes, as plain functions: cargo-fuzz drives them (`fuzz/`), and the tests of this crate replay
//! what it found (`fuzz/corpus`, `fuzz/regressions`) without it.
//!
//! Each target begins with a byte that chooses a reader, so that few targets cover all readers. A body ends in silence or in a
//! panic: what a reader refuses is no finding; what it takes has to keep the properties that the body asserts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a finding"
)]

pub mod allocations;

mod block;
mod columns;
mod files;
mod input;
mod lines;
mod otlp;
mod prometheus;
mod promql;
mod remote;
mod selectors;
mod settings;
mod store;
mod wal;

/// One fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of its file in `fuzz/fuzz_targets` and of its folders in `fuzz/corpus` and `fuzz/regressions`.
    pub name: &'static str,
    /// What it reads, in a few words.
    pub what: &'static str,
    /// Does it; panics on a finding.
    pub run: fn(&[u8]),
    /// Inputs to begin with: every choice of the first byte, with sound bytes behind it.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "wal", what: "frames, records, segments, replay", run: wal::run, seeds: wal::seeds },
    Target {
        name: "columns",
        what: "columns of floats, times and histograms, compression, dictionaries, postings",
        run: columns::run,
        seeds: columns::seeds,
    },
    Target { name: "block", what: "block files, every section", run: block::run, seeds: block::seeds },
    Target {
        name: "files",
        what: "manifest, tombstones, registry checkpoint, quarantine: a whole store",
        run: files::run,
        seeds: files::seeds,
    },
    Target {
        name: "prometheus",
        what: "chunks, index, tombstones and description of Prometheus' blocks",
        run: prometheus::run,
        seeds: prometheus::seeds,
    },
    Target {
        name: "promql",
        what: "expressions: parsed, printed, evaluated",
        run: promql::run,
        seeds: promql::seeds,
    },
    Target {
        name: "selectors",
        what: "regular expressions and the label index",
        run: selectors::run,
        seeds: selectors::seeds,
    },
    Target {
        name: "remote",
        what: "remote write 1.0 and 2.0, remote read, compressed bodies",
        run: remote::run,
        seeds: remote::seeds,
    },
    Target {
        name: "lines",
        what: "text format, OpenMetrics, Influx, JSON lines, imports, exposition",
        run: lines::run,
        seeds: lines::seeds,
    },
    Target {
        name: "otlp",
        what: "OpenTelemetry metrics in protobuf and JSON",
        run: otlp::run,
        seeds: otlp::seeds,
    },
    Target {
        name: "settings",
        what: "configuration files, parameters, durations, times",
        run: settings::run,
        seeds: settings::seeds,
    },
];

/// The target of that name.
///
/// # Panics
/// There is none.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("the name of a target")
}
