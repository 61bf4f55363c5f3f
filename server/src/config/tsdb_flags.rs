//! The command line of `kymo tsdb`: what can be done with a store that no server has open.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What `kymo tsdb` can do.
#[derive(Debug, Clone, Subcommand)]
pub enum TsdbCommand {
    /// Take in blocks of Prometheus: floats, native histograms and staleness markers. What is stored already stays as it is, so
    /// an import that was interrupted can be run again.
    ImportBlocks(ImportFlags),
    /// Write the store as blocks of Prometheus, one for each two hours.
    ExportBlocks(ExportFlags),
    /// List the blocks of the store.
    List(StoreFlags),
    /// Say which metrics, labels and values make how many series.
    Analyze(AnalyzeFlags),
    /// Print samples, one a line: labels, value, milliseconds.
    Dump(DumpFlags),
    /// Merge all blocks of the same eight days into one, now: for a store that is to be kept as it is. A server does so by
    /// itself, in time.
    Compact(StoreFlags),
    /// Read every byte of the store and say what is wrong with it.
    Verify(StoreFlags),
}

/// Which store.
#[derive(Debug, Clone, Args)]
pub struct StoreFlags {
    /// The data directory. No server may have it open, but for `list`; a snapshot will do.
    #[arg(long, env = "KYMO_DATA", default_value = "./kymo-data")]
    pub data: PathBuf,
}

/// Which times.
#[derive(Debug, Clone, Args)]
pub struct RangeFlags {
    /// The first time: seconds since 1970 or RFC 3339. Without it, the first sample's.
    #[arg(long, allow_hyphen_values = true)]
    pub start: Option<String>,
    /// The last time. Without it, the last sample's.
    #[arg(long, allow_hyphen_values = true)]
    pub end: Option<String>,
}

/// The flags of `kymo tsdb import-blocks`.
#[derive(Debug, Clone, Args)]
pub struct ImportFlags {
    /// A data directory or a snapshot of Prometheus, or one block.
    pub dir: PathBuf,
    /// Where to.
    #[command(flatten)]
    pub store: StoreFlags,
}

/// The flags of `kymo tsdb export-blocks`.
#[derive(Debug, Clone, Args)]
pub struct ExportFlags {
    /// From where.
    #[command(flatten)]
    pub store: StoreFlags,
    /// Which times.
    #[command(flatten)]
    pub range: RangeFlags,
    /// The directory that gets a folder for each block; created if it is not there.
    #[arg(long)]
    pub out: PathBuf,
}

/// The flags of `kymo tsdb analyze`.
#[derive(Debug, Clone, Args)]
pub struct AnalyzeFlags {
    /// Which store.
    #[command(flatten)]
    pub store: StoreFlags,
    /// Which times.
    #[command(flatten)]
    pub range: RangeFlags,
    /// How many lines of each list.
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
}

/// The flags of `kymo tsdb dump`.
#[derive(Debug, Clone, Args)]
pub struct DumpFlags {
    /// Which store.
    #[command(flatten)]
    pub store: StoreFlags,
    /// Which times.
    #[command(flatten)]
    pub range: RangeFlags,
    /// Which series.
    #[arg(long = "match", default_value = r#"{__name__=~".*"}"#)]
    pub matcher: String,
}
