//! What the owner of a store chooses: `Options`, `Limits`, `Durability`, each with its default.

use crate::error::{Error, Result};
use crate::model::Matcher;
use std::time::Duration;

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Power loss: every acknowledgement waits for `fdatasync` (shared by all writes that wait at that moment).
    #[default]
    Sync,
    /// A killed process; after power loss at most the last interval is missing.
    Interval(Duration),
    /// A killed process; the operating system writes back when it likes.
    Os,
}

/// The least of what [`Options::free_space_min`] is by itself: room for a flush of the head and a little more.
pub const FREE_SPACE_LEAST: u64 = 256 << 20;
/// The most of what [`Options::free_space_min`] is by itself: 1 % of a large disk is more than any flush needs.
pub const FREE_SPACE_MOST: u64 = 1 << 30;

/// How much one sender may ask of the store. What exceeds a limit is refused with its name; the rest is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Labels of one series, `__name__` included.
    pub labels_per_series: usize,
    /// Bytes of a label name.
    pub label_name_bytes: usize,
    /// Bytes of a label value.
    pub label_value_bytes: usize,
    /// Series known at one time.
    pub series: u32,
    /// Bytes of memory that the labels of all series and their index may take; see also [`Options::memory_budget`].
    pub registry_bytes: usize,
    /// Samples in one batch.
    pub samples_per_batch: usize,
    /// Samples waiting to be committed; more are answered `Unavailable`.
    pub samples_queued: usize,
    /// Metric families whose metadata is kept.
    pub metadata_families: usize,
    /// Populated buckets (and listed bounds) of one native histogram.
    pub histogram_buckets: usize,
    /// Exemplars of one series that are kept between two flushes: of more the oldest go. 0 stores none.
    pub exemplars_per_series: usize,
    /// How far ahead of the clock a sample may be.
    pub future: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            labels_per_series: 64,
            label_name_bytes: 256,
            label_value_bytes: 4096,
            series: 20_000_000,
            registry_bytes: usize::MAX,
            samples_per_batch: 5_000_000,
            samples_queued: 20_000_000,
            metadata_families: 100_000,
            histogram_buckets: 32_768,
            exemplars_per_series: 128,
            future: Duration::from_secs(600),
        }
    }
}

/// How long some series are kept. Of several rules the first whose matchers all hold for a series decides; a series that no rule
/// matches is kept as long as [`Options::retention`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRule {
    /// All of them must hold for the labels of a series.
    pub matchers: Vec<Matcher>,
    /// How long the samples of these series are kept. Older ones are not answered any more, and are left out when their block
    /// is merged or, once all of them are older, rewritten.
    pub keep: Duration,
}

impl RetentionRule {
    /// Checks that the rule makes sense.
    ///
    /// # Errors
    /// `Invalid`: it has no matchers, or keeps nothing.
    pub fn validate(&self) -> Result<()> {
        let (text, keep) = (self.text(), self.keep);
        if self.matchers.is_empty() {
            let text =
                format!("a retention rule of {keep:?} has no matchers; use `retention` for all series");
            return Err(Error::invalid(text));
        }
        if keep < Duration::from_secs(1) {
            return Err(Error::invalid(format!("the retention of {text} is {keep:?}; the least is 1s")));
        }
        Ok(())
    }

    fn text(&self) -> String {
        let matchers: Vec<String> = self.matchers.iter().map(ToString::to_string).collect();
        format!("{{{}}}", matchers.join(","))
    }
}

/// How a store behaves. The default is what a server should run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long samples are kept; `None` keeps them for ever.
    pub retention: Option<Duration>,
    /// Series that are kept for another time than [`Options::retention`]; see
    /// [`Storage::set_retention_rules`](crate::Storage::set_retention_rules).
    pub retention_rules: Vec<RetentionRule>,
    /// How many bytes blocks and log may take; when they take more, the oldest blocks go first. `None` sets no bound.
    pub retention_bytes: Option<u64>,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// What a sender may ask.
    pub limits: Limits,
    /// The head is flushed into blocks when its samples take this many bytes of memory. Samples of real exporters take 0.4 to
    /// 0.8 B there beside some 40 B a series, so the default holds two hours of a million series at 15 s. While two
    /// flushes are under way the head may grow to twice as much before writes are refused: six times this is the most.
    pub flush_bytes: usize,
    /// Bytes of memory for labels, their index, and the samples not yet in blocks. Labels may take half of it: then new series are
    /// refused, and those that are known go on. Samples get what labels leave: the head is flushed when it takes a seventh
    /// of that (or [`Options::flush_bytes`], if that is less), because while the disk is slow three heads of twice that size may
    /// be there, and requests add to them at once. Queries, caches and requests come on top. `None`: only the other limits hold.
    pub memory_budget: Option<usize>,
    /// The head is flushed when this many bytes of the write-ahead log are needed to rebuild it, however many series it has; this
    /// bounds the start after a crash. A sample of real exporters takes 2.2 B of log and 26 to 40 ns of CPU to replay, so the default
    /// is 45 million samples or at most 1.8 CPU seconds, shared by all cores. To that comes about a second for a million series.
    pub flush_wal_bytes: u64,
    /// With few series the head is flushed earlier: at so many bytes of log for each series in it, but not below 16 MiB. The default
    /// is about an hour at 15 s; a flush costs some 15 to 40 bytes a series until blocks are merged.
    pub flush_wal_bytes_per_series: u64,
    /// [`Storage::close`](crate::Storage::close) flushes the head when a restart would have to read more than this many bytes of
    /// the log. A smaller log is left as it is: reading it takes milliseconds, and many small blocks serve nobody.
    pub flush_on_close_bytes: u64,
    /// The size of one file of the write-ahead log. Once half of a file is used the next one is made ready at full size, and
    /// up to two are kept after a flush to be written again, so the log takes up to three files more than it holds.
    pub wal_segment_bytes: u64,
    /// The head is flushed when its oldest sample arrived this long ago, or when the newest sample of the store is later by this
    /// much than it was when the head began.
    pub flush_age: Duration,
    /// A series whose samples are all in blocks, and whose newest is so much older than the newest of all, leaves memory; ten
    /// minutes later at the earliest (or after this time, if that is less). It comes back with its next sample. What was known
    /// of its newest sample is gone then: a sample at the same time is stored, and the last one written counts.
    pub series_idle_after: Duration,
    /// Writes are refused below this many free bytes; `None` means 1 % of the disk, at least [`FREE_SPACE_LEAST`] and at most
    /// [`FREE_SPACE_MOST`].
    pub free_space_min: Option<u64>,
    /// So many bytes are kept in a file that is given up when the disk is full and samples are to be deleted, or dropped by
    /// retention; it is laid down again when there is room, at the next maintenance. 0 keeps none.
    pub reserve_bytes: u64,
    /// How much of one core the merging of blocks in the background may take, in percent, at most 100; a quarter of that while
    /// writes wait or the head is being flushed. 0: blocks are merged by [`Storage::compact`](crate::Storage::compact) only.
    pub compaction_percent: u32,
    /// The time ranges blocks are merged to, ascending. Those longer than a tenth of the retention are left out (but for
    /// the first), so that retention can drop blocks in time.
    pub compaction_widths: Vec<Duration>,
    /// No block is merged from more bytes.
    pub compaction_bytes_max: u64,
    /// Blocks that hold deleted samples are rewritten without them so long after the delete, if they were not merged before.
    pub delete_reclaim_after: Duration,
    /// How many bytes of blocks a second are read again in the background to find rot; 0 reads none. The default is 84 GiB a day.
    pub scrub_bytes_per_second: u64,
    /// How often age, retention and free space are looked at.
    pub maintenance_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Some(Duration::from_secs(15 * 24 * 3600)),
            retention_bytes: None,
            retention_rules: Vec::new(),
            durability: Durability::Sync,
            limits: Limits::default(),
            flush_bytes: 256 << 20,
            memory_budget: None,
            flush_wal_bytes: 96 << 20,
            flush_wal_bytes_per_series: 512,
            flush_on_close_bytes: 4 << 20,
            wal_segment_bytes: 16 << 20,
            flush_age: Duration::from_secs(2 * 3600),
            series_idle_after: Duration::from_secs(3600),
            free_space_min: None,
            reserve_bytes: 16 << 20,
            compaction_percent: 50,
            compaction_widths: [8, 24, 8 * 24].map(|hours| Duration::from_secs(hours * 3600)).to_vec(),
            compaction_bytes_max: 16 << 30,
            delete_reclaim_after: Duration::from_secs(3600),
            scrub_bytes_per_second: 1 << 20,
            maintenance_interval: Duration::from_secs(10),
        }
    }
}

/// How many heads of the size at which one is flushed there may be: two that are being flushed and the active one, each twice as
/// large if the disk is slow; and the room of one for what a group of requests adds at once.
const HEADS_MAX: usize = 7;
/// The smallest head that is worth a block.
const FLUSH_BYTES_MIN: usize = 64 * 1024;
/// A log shorter than this is read back in a fifth of a second: no block is written for its sake.
const FLUSH_WAL_BYTES_MIN: u64 = 16 << 20;
/// The shortest time range blocks are merged to.
const COMPACTION_WIDTH_MIN: Duration = Duration::from_secs(1);
/// The smallest file of the log that is worth a file.
const WAL_SEGMENT_BYTES_MIN: u64 = 4096;

/// The smallest memory that a store can work with.
const MEMORY_BUDGET_MIN: usize = 16 << 20;

impl Options {
    /// When the head is flushed, in bytes, while labels take `registry_bytes`.
    pub(crate) fn flush_bytes_beside(&self, registry_bytes: usize) -> usize {
        let Some(budget) = self.memory_budget else { return self.flush_bytes };
        let rest = budget.saturating_sub(registry_bytes);
        self.flush_bytes.min(rest / HEADS_MAX).max(FLUSH_BYTES_MIN)
    }

    /// At how many bytes of log a head of so many series is flushed.
    pub(crate) fn flush_wal_bytes_of(&self, series: u32) -> u64 {
        let enough = self.flush_wal_bytes_per_series.saturating_mul(u64::from(series));
        self.flush_wal_bytes.min(enough.max(FLUSH_WAL_BYTES_MIN))
    }

    /// The limits, with what the memory budget leaves to labels.
    pub(crate) fn limits_within_budget(&self) -> Limits {
        let half = self.memory_budget.map_or(usize::MAX, |budget| budget / 2);
        Limits { registry_bytes: self.limits.registry_bytes.min(half), ..self.limits }
    }

    /// Checks that the choices make sense together.
    ///
    /// # Errors
    /// `Invalid`, naming the option, what was given and what is possible.
    pub fn validate(&self) -> Result<()> {
        let refuse = |text: String| Err(Error::invalid(text));
        if self.retention.is_some_and(|r| r < Duration::from_secs(1)) {
            return refuse(format!("retention is {:?}; the least is 1s", self.retention.unwrap_or_default()));
        }
        self.retention_rules.iter().try_for_each(RetentionRule::validate)?;
        if self.durability == Durability::Interval(Duration::ZERO) {
            return refuse(
                "durability interval is 0; use `sync` to sync before every acknowledgement".to_owned(),
            );
        }
        if self.flush_bytes < FLUSH_BYTES_MIN {
            return refuse(format!("flush_bytes is {}; the least is {FLUSH_BYTES_MIN}", self.flush_bytes));
        }
        if let Some(budget) = self.memory_budget.filter(|budget| *budget < MEMORY_BUDGET_MIN) {
            return refuse(format!("memory_budget is {budget}; the least is {MEMORY_BUDGET_MIN}"));
        }
        if self.wal_segment_bytes < WAL_SEGMENT_BYTES_MIN {
            let given = self.wal_segment_bytes;
            return refuse(format!("wal_segment_bytes is {given}; the least is {WAL_SEGMENT_BYTES_MIN}"));
        }
        if self.compaction_percent > 100 {
            return refuse(format!("compaction_percent is {}; the most is 100", self.compaction_percent));
        }
        let is_short = |width: &Duration| *width < COMPACTION_WIDTH_MIN;
        if self.compaction_widths.iter().any(is_short) || !self.compaction_widths.is_sorted() {
            return refuse("compaction_widths are ascending and at least 1s each".to_owned());
        }
        if self.maintenance_interval.is_zero() {
            return refuse("maintenance_interval is 0".to_owned());
        }
        let limits = &self.limits;
        let counts = [
            ("labels_per_series", limits.labels_per_series),
            ("label_name_bytes", limits.label_name_bytes),
            ("label_value_bytes", limits.label_value_bytes),
            ("series", limits.series as usize),
            ("samples_per_batch", limits.samples_per_batch),
            ("samples_queued", limits.samples_queued),
            ("histogram_buckets", limits.histogram_buckets),
        ];
        if let Some((name, _)) = counts.iter().find(|c| c.1 == 0) {
            return refuse(format!("limit {name} is 0; nothing could be written"));
        }
        if limits.samples_per_batch > BATCH_SAMPLES_MAX {
            return refuse(format!("limit samples_per_batch is at most {BATCH_SAMPLES_MAX}"));
        }
        if limits.label_name_bytes.max(limits.label_value_bytes) > LABEL_BYTES_MAX {
            return refuse(format!("label names and values are limited to {LABEL_BYTES_MAX} bytes"));
        }
        Ok(())
    }
}

/// What fits into one record of the log, however the samples lie.
const BATCH_SAMPLES_MAX: usize = 8_000_000;
/// What the formats can hold for one label name or value.
const LABEL_BYTES_MAX: usize = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(keep: Duration) -> RetentionRule {
        RetentionRule { matchers: vec![Matcher::equal("i", "1")], keep }
    }

    #[test]
    fn defaults_are_valid_and_nonsense_is_named() {
        assert!(Options::default().validate().is_ok());
        type Change = fn(&mut Options);
        let cases: [(&str, Change); 9] = [
            ("memory_budget", |o| o.memory_budget = Some(1 << 20)),
            ("samples_per_batch", |o| o.limits.samples_per_batch = 9_000_000),
            ("retention", |o| o.retention = Some(Duration::ZERO)),
            ("i=\"1\"", |o| o.retention_rules = vec![rule(Duration::ZERO)]),
            ("no matchers", |o| {
                o.retention_rules = vec![RetentionRule { matchers: vec![], ..rule(Duration::from_secs(5)) }];
            }),
            ("interval", |o| o.durability = Durability::Interval(Duration::ZERO)),
            ("flush_bytes", |o| o.flush_bytes = 1),
            ("labels_per_series", |o| o.limits.labels_per_series = 0),
            ("label names", |o| o.limits.label_value_bytes = 1 << 20),
        ];
        for (word, change) in cases {
            let mut options = Options::default();
            change(&mut options);
            let text = options.validate().unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn few_series_are_flushed_with_less_log() {
        const MIB: u64 = 1 << 20;
        let options = Options::default();
        for (series, mib) in [(0, 16), (1000, 16), (1 << 16, 32), (100 << 10, 50), (1 << 20, 96)] {
            assert_eq!(options.flush_wal_bytes_of(series), mib * MIB, "{series} series");
        }
        let small = Options { flush_wal_bytes: 1000, ..Options::default() };
        assert_eq!(small.flush_wal_bytes_of(1 << 20), 1000);
    }

    #[test]
    fn a_budget_is_shared_by_labels_and_samples() {
        const MIB: usize = 1 << 20;
        let none = Options::default();
        assert_eq!(none.flush_bytes_beside(1 << 40), none.flush_bytes);
        assert_eq!(none.limits_within_budget(), none.limits);
        let options = Options { memory_budget: Some(420 * MIB), ..Options::default() };
        assert_eq!(options.limits_within_budget().registry_bytes, 210 * MIB);
        for (labels, flush) in [(0, 60), (70 * MIB, 50), (210 * MIB, 30), (350 * MIB, 10)] {
            assert_eq!(options.flush_bytes_beside(labels), flush * MIB);
        }
        let large = Options { memory_budget: Some(64 << 30), ..Options::default() };
        assert_eq!(large.flush_bytes_beside(0), large.flush_bytes);
    }
}
