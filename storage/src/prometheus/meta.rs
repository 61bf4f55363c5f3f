//! `meta.json`: what a block of Prometheus says about itself.

use super::place::{self, Sink};
use super::ulid::Ulid;
use crate::env::Fs;
use crate::error::{Error, ErrorKind, Result};
use crate::model::TimeRange;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// The file's name.
pub(super) const META_FILE: &str = "meta.json";
/// The most bytes a `meta.json` may have; real ones have hundreds.
const META_BYTES_MAX: u64 = 16 << 20;
/// The only version there is.
const VERSION: u32 = 1;

/// The contents of `meta.json`. What Kymo does not know of is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// The name of the block, a ULID.
    pub ulid: String,
    /// First millisecond of the block.
    pub min_time: i64,
    /// First millisecond after it.
    pub max_time: i64,
    /// What is in it.
    #[serde(default)]
    pub stats: MetaStats,
    /// Where it comes from.
    #[serde(default)]
    pub compaction: MetaCompaction,
    /// The version of the layout.
    pub version: u32,
}

/// How much is in a block. Only told; nothing relies on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetaStats {
    /// Samples of all kinds.
    pub num_samples: u64,
    /// Floats among them; newer versions tell.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    /// Histograms among them; newer versions tell.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    /// Series.
    pub num_series: u64,
    /// Chunks.
    pub num_chunks: u64,
    /// Tombstones.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
}

/// Where a block comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetaCompaction {
    /// How often its samples were merged, from 1.
    pub level: u32,
    /// The first blocks its samples were in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The blocks it was merged from; it replaces them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<MetaParent>,
    /// Nothing is left in it.
    #[serde(skip_serializing_if = "is_false")]
    pub deletable: bool,
    /// Prometheus failed to merge it.
    #[serde(skip_serializing_if = "is_false")]
    pub failed: bool,
}

/// A block that another one replaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetaParent {
    /// Its name.
    pub ulid: String,
    /// Its first millisecond.
    pub min_time: i64,
    /// The first millisecond after it.
    pub max_time: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Meta {
    /// The description of an empty new block.
    pub(super) fn new(ulid: Ulid, range: TimeRange) -> Self {
        let ulid = ulid.to_string();
        let sources = vec![ulid.clone()];
        Self {
            ulid,
            min_time: range.min_time,
            max_time: range.max_time,
            stats: MetaStats::default(),
            compaction: MetaCompaction { level: 1, sources, ..MetaCompaction::default() },
            version: VERSION,
        }
    }

    /// The times of the block.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.min_time, self.max_time)
    }

    /// Reads the `meta.json` of the block in `dir`.
    ///
    /// # Errors
    /// `Corrupt`: not such a file, or of a version nobody knows; otherwise the operating system refuses.
    pub fn read(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Self> {
        let path = dir.join(META_FILE);
        let bytes = place::read_small(fs, &path, META_BYTES_MAX)?;
        let meta: Self = serde_json::from_slice(&bytes)
            .map_err(|e| Error::corrupt(format!("{} at line {}: {e}", path.display(), e.line())))?;
        let wrong = |what: String| Err(Error::corrupt(format!("{}: {what}", path.display())));
        if meta.version != VERSION {
            return wrong(format!("version {} of the block; Kymo reads version {VERSION}", meta.version));
        }
        if Ulid::parse(&meta.ulid).is_none() {
            return wrong(format!("{:?} is no ULID", meta.ulid));
        }
        if meta.max_time < meta.min_time {
            return wrong(format!(
                "the block ends at {} before it begins at {}",
                meta.max_time, meta.min_time
            ));
        }
        Ok(meta)
    }

    /// Writes it into `dir`.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn write(&self, fs: &Arc<dyn Fs>, dir: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("write {META_FILE}: {e}")))?;
        let mut sink = Sink::create(fs, dir.join(META_FILE))?;
        sink.put(&text)?;
        sink.put(b"\n")?;
        sink.finish()
    }
}
