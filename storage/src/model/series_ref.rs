//! Opaque ids of series: what an appender resolves once and uses many times.

/// A series of one open store; never stored by callers. Good for the batch it was resolved with. It may be used in later
/// batches too, but once a series got no samples for a while its number stands for nothing any more (see
/// [`Options::series_idle_after`](crate::options::Options::series_idle_after)): its samples are then refused as `NotFound`, and the
/// series is to be resolved again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef {
    /// Dense, and given again when a series is gone.
    pub(crate) number: u32,
    /// A part of the hash of its labels: tells it from the next series of this number.
    pub(crate) tag: u32,
}
