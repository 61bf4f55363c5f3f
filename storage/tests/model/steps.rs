//! What is done to a store, at random.

use kymo_storage::model::{
    AnyHistogram, Buckets, CUSTOM_SCHEMA, Histogram, IntHistogram, Labels, MetricType, ResetHint,
};
use proptest::prelude::*;

/// The time at which every sequence begins, in milliseconds.
pub(crate) const NOW: i64 = 1_700_000_000_000;
/// How many series there are.
pub(crate) const SERIES: usize = 12;
/// An hour in milliseconds.
pub(crate) const HOUR: i64 = 3_600_000;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// One sample of each series of a run, all at one time after the last.
    Scrape {
        first: usize,
        len: usize,
        after: i64,
        value: i32,
    },
    /// A sample at any time, mostly late.
    Single {
        series: usize,
        time: i64,
        value: i32,
    },
    /// The staleness marker.
    Stale {
        series: usize,
        after: i64,
    },
    /// Histograms one after the other: enough of them are sealed.
    Histograms {
        series: usize,
        len: usize,
        after: i64,
        shape: usize,
        value: u64,
    },
    /// A histogram at any time, mostly late.
    Late {
        series: usize,
        time: i64,
        shape: usize,
        value: u64,
    },
    /// The samples of one series, or of those with a parity, from a time on.
    Delete {
        series: Option<usize>,
        time: i64,
        len: i64,
    },
    /// Exemplars of a series at times after or before its newest.
    Exemplars {
        series: usize,
        len: usize,
        after: i64,
        id: u8,
    },
    /// What is said about a metric family, beside a sample.
    Describe {
        family: u8,
        metric_type: MetricType,
        help: String,
    },
    /// The clock goes on, and maintenance drops what is over its time.
    Advance {
        hours: i64,
    },
    /// Series with an odd number are kept for a shorter time than before.
    KeepLess {
        hours: i64,
    },
    /// Blocks and log may take so many percent of what they take; then there is no bound any more.
    Shrink {
        percent: u64,
    },
    Flush,
    /// Series whose samples are all in blocks leave memory.
    Forget,
    Compact,
    /// Merges all blocks, whether their windows are over or not.
    CompactAll,
    /// Rewrites what was deleted.
    Clean,
    /// A snapshot takes the place of the store.
    Snapshot,
    /// Closed in order and opened again.
    Reopen,
    /// The process is gone without a word; everything acknowledged must be there.
    Kill,
}

/// One step.
pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..SERIES, 1..SERIES, 0i64..20_000, -3i32..1000)
            .prop_map(|(first, len, after, value)| Step::Scrape { first, len, after, value }),
        6 => (0..SERIES, -200_000_000i64..100_000, 0i32..5)
            .prop_map(|(series, time, value)| Step::Single { series, time, value }),
        1 => (0..SERIES, 0i64..20_000).prop_map(|(series, after)| Step::Stale { series, after }),
        4 => (0..SERIES, prop_oneof![4 => 1..6usize, 1 => 60..140usize], 1i64..9_000, 0..SHAPES, 0u64..50)
            .prop_map(|(series, len, after, shape, value)| Step::Histograms { series, len, after, shape, value }),
        6 => (0..SERIES, -200_000_000i64..100_000, 0..SHAPES, 0u64..3)
            .prop_map(|(series, time, shape, value)| Step::Late { series, time, shape, value }),
        1 => (proptest::option::of(0..SERIES), -200_000_000i64..200_000, prop_oneof![Just(0), 0i64..300_000_000])
            .prop_map(|(series, time, len)| Step::Delete { series, time, len }),
        3 => (0..SERIES, 1..4usize, -3_000i64..9_000, 0u8..3)
            .prop_map(|(series, len, after, id)| Step::Exemplars { series, len, after, id }),
        1 => (0u8..4, 0u64..8, "[a-zé ]{0,6}").prop_map(|(family, number, help)| Step::Describe {
            family, metric_type: MetricType::from_number(number), help,
        }),
        1 => (0i64..60).prop_map(|hours| Step::Advance { hours }),
        1 => (1i64..40).prop_map(|hours| Step::KeepLess { hours }),
        1 => (0u64..120).prop_map(|percent| Step::Shrink { percent }),
        2 => Just(Step::Flush),
        2 => Just(Step::Forget),
        2 => Just(Step::Compact),
        1 => Just(Step::CompactAll),
        1 => Just(Step::Clean),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

/// The labels of series `i`.
pub(crate) fn labels(i: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}", i % 3)),
        ("i", format!("{i:02}")),
        ("parity", if i.is_multiple_of(2) { String::new() } else { "odd".to_owned() }),
    ])
}

/// How many kinds of histograms [`histogram`] makes.
pub(crate) const SHAPES: usize = 8;

/// A histogram whose counts grow with `value`.
pub(crate) fn histogram(shape: usize, value: u64) -> AnyHistogram {
    let counts = vec![value, 0, value + 1, 2 * value];
    let int = IntHistogram {
        schema: 3,
        zero_threshold: 0.001,
        zero_count: value,
        count: 5 * value + 1,
        sum: value as f64 / 8.0,
        positive: Buckets::run(-3, counts.clone()).unwrap(),
        ..Histogram::default()
    };
    AnyHistogram::Int(match shape {
        0 => int,
        1 => IntHistogram { positive: Buckets::run(value as i32, counts).unwrap(), ..int },
        2 => IntHistogram { schema: 11, hint: ResetHint::Reset, ..int },
        3 => IntHistogram {
            schema: CUSTOM_SCHEMA,
            zero_threshold: 0.0,
            zero_count: 0,
            count: 4 * value + 1,
            positive: Buckets::run(0, counts).unwrap(),
            custom_bounds: [0.1, 1.0, 5.0].into(),
            ..int
        },
        4 => Histogram { hint: ResetHint::Gauge, ..Histogram::stale() },
        5 => {
            IntHistogram { negative: std::mem::take(&mut int.clone().positive), count: 9 * value + 2, ..int }
        }
        _ => {
            let mut float = int.to_float();
            float.positive.counts_mut().iter_mut().for_each(|c| *c *= 0.7);
            if shape == 7 {
                float.sum = f64::NAN;
            }
            return AnyHistogram::Float(float);
        }
    })
}
