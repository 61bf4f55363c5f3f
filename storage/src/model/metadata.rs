//! What a metric family says of itself: type, unit, help.

/// The type of a metric family. The numbers are those of Prometheus' remote write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum MetricType {
    /// Not said.
    #[default]
    Unknown = 0,
    /// Only grows, but for resets.
    Counter = 1,
    /// Goes up and down.
    Gauge = 2,
    /// Buckets, sum and count.
    Histogram = 3,
    /// A histogram whose buckets may shrink.
    GaugeHistogram = 4,
    /// Quantiles, sum and count.
    Summary = 5,
    /// A constant 1 that carries labels.
    Info = 6,
    /// One series a state.
    StateSet = 7,
}

impl MetricType {
    /// The type of a wire number; unknown numbers are `Unknown`.
    pub fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Counter,
            2 => Self::Gauge,
            3 => Self::Histogram,
            4 => Self::GaugeHistogram,
            5 => Self::Summary,
            6 => Self::Info,
            7 => Self::StateSet,
            _ => Self::Unknown,
        }
    }

    /// The name the Prometheus HTTP API uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

/// Type, unit and help text of one metric family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Metadata {
    /// The type.
    pub metric_type: MetricType,
    /// The unit, for example `seconds`; may be empty.
    pub unit: String,
    /// The help text; may be empty.
    pub help: String,
}
