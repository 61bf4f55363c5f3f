//! The vocabulary of a metrics database: labels, matchers, samples, times, re-exported flat.

mod labels;
mod matcher;
mod metadata;
mod regex;
mod sample;
mod series_ref;
mod time;

pub use labels::{Labels, LabelsBuilder, LabelsError, METRIC_NAME};
pub use matcher::{MatchOp, Matcher};
pub use metadata::{Metadata, MetricType};
pub use regex::{Regex, RegexError};
pub use sample::{STALE_NAN_BITS, Sample, is_stale, stale_nan};
pub use series_ref::SeriesRef;
pub use time::{TimeRange, Timestamp};
