//! Opaque ids of series: what an appender resolves once and uses many times.

/// A series of one open store. Valid until the store is closed; never stored by callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef(pub u32);
