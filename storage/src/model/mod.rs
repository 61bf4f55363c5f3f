//! The vocabulary of a metrics database: labels, matchers, samples, times, re-exported flat.

mod any_histogram;
mod bucket_bounds;
mod buckets;
mod exemplar;
mod histogram;
mod histogram_check;
mod histogram_custom;
mod histogram_error;
mod histogram_reset;
mod labels;
mod matcher;
mod metadata;
mod regex;
mod sample;
mod series_ref;
mod time;

pub use any_histogram::AnyHistogram;
pub use bucket_bounds::{Bucket, General, exponential_bound};
pub use buckets::{BUCKETS_MAX, BucketCount, Buckets, BucketsIter, POSITION_MAX, Span};
pub use exemplar::{EXEMPLAR_LABEL_CHARS_MAX, Exemplar};
pub use histogram::{
    CUSTOM_SCHEMA, EXPONENTIAL_SCHEMAS, FloatHistogram, Histogram, IntHistogram, ResetHint,
    SCHEMA_ACCEPTED_MAX,
};
pub use histogram_check::counts_from_deltas;
pub use histogram_custom::{intersect_bounds, onto_bounds};
pub use histogram_error::HistogramError;
pub use histogram_reset::{Swallowed, swallowed};
pub use labels::{Labels, LabelsBuilder, LabelsError, METRIC_NAME};
pub use matcher::{MatchOp, Matcher};
pub use metadata::{Metadata, MetricType};
pub use regex::{Regex, RegexError};
pub use sample::{STALE_NAN_BITS, Sample, is_stale, stale_nan};
pub use series_ref::SeriesRef;
pub use time::{TimeRange, Timestamp};
