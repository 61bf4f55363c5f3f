//! Samples and the staleness marker.

use super::Timestamp;

/// One float observation of a series.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub timestamp: Timestamp,
    /// The value, kept bit for bit.
    pub value: f64,
}

/// The bits of the NaN that says "this series ended here" (Prometheus' staleness marker).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The staleness marker as a float.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the staleness marker, bit for bit.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
