//! Anchored and smoothed ranges, and ranges of native histograms, against their definitions written down plainly.

use super::memory::MemoryStore;
use super::windows::{Window, cases, close, seconds, series};
use super::{engine, labels};
use kymo_query::{QueryOptions, Value};
use kymo_storage::api::HistogramSample;
use kymo_storage::model::{Buckets, FloatHistogram, is_stale};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How far an anchored or smoothed range looks for a sample beyond its borders.
const LOOKBACK: i64 = 300_000;

/// The value at `t` on the line through two samples; a counter that fell in between began at zero.
fn on_the_line(a: (i64, f64), b: (i64, f64), t: i64, counter: bool) -> f64 {
    let from = if counter && b.1 < a.1 { 0.0 } else { a.1 };
    from + (b.1 - from) * (t - a.0) as f64 / (b.0 - a.0) as f64
}

/// The samples an anchored or smoothed range stands for: one at its start, those within, and one at its end.
fn bordered(
    points: &[(i64, f64)],
    (start, end): (i64, i64),
    smoothed: bool,
    counter: bool,
) -> Option<Vec<f64>> {
    let right = if smoothed { end + LOOKBACK } else { end };
    let seen: Vec<(i64, f64)> = points
        .iter()
        .copied()
        .filter(|(t, v)| *t > start - LOOKBACK && *t <= right && !is_stale(*v))
        .collect();
    let before = seen.iter().copied().rfind(|(t, _)| *t <= start);
    let within = seen.iter().copied().filter(|(t, _)| *t > start && *t < end);
    let behind = seen.iter().copied().find(|(t, _)| *t >= end);
    let newest = *seen.last()?;
    if newest.0 <= start || (smoothed && seen[0].0 > end) {
        return None;
    }
    let next = seen.iter().copied().find(|(t, _)| *t > start)?;
    let first = match before {
        Some(before) if smoothed && before.0 < start => on_the_line(before, next, start, counter),
        Some(before) => before.1,
        None => next.1,
    };
    let last_before_end = seen.iter().copied().rfind(|(t, _)| *t < end);
    let last = match (last_before_end, behind) {
        (_, Some(behind)) if behind.0 == end => behind.1,
        (Some(before), Some(behind)) => on_the_line(before, behind, end, counter),
        (_, None) => newest.1,
        (None, Some(behind)) => behind.1,
    };
    let mut values = vec![first];
    values.extend(within.map(|(_, v)| v));
    values.push(last);
    Some(values)
}

fn grown(values: &[f64], counter: bool) -> f64 {
    let difference = values[values.len() - 1] - values[0];
    let lost = values.windows(2).filter(|p| counter && p[1] < p[0]).map(|p| p[0]).sum::<f64>();
    difference + lost
}

/// What `function` of an anchored or smoothed range is.
fn defined(points: &[(i64, f64)], function: &str, smoothed: bool, borders: (i64, i64)) -> Option<f64> {
    let counter = matches!(function, "rate" | "increase");
    let values = bordered(points, borders, smoothed, counter)?;
    Some(match function {
        "rate" => grown(&values, true) / seconds(borders.1 - borders.0),
        "increase" => grown(&values, true),
        "delta" => grown(&values, false),
        "changes" => {
            values.windows(2).filter(|p| p[0] != p[1] && !(p[0].is_nan() && p[1].is_nan())).count() as f64
        }
        "resets" => values.windows(2).filter(|p| p[1] < p[0]).count() as f64,
        other => panic!("{other} has no plain definition here"),
    })
}

/// The only series that answers `query` at 26 steps, if there is one.
fn answer(store: &MemoryStore, query: &str, first: i64, step: i64) -> Option<kymo_query::Series> {
    let result = engine(1).range(store, query, first, first + step * 25, step, &QueryOptions::default());
    let value = result.unwrap_or_else(|e| panic!("{query}: {}", e.message)).value;
    let Value::Matrix(mut series) = value else { panic!("a matrix") };
    assert!(series.len() <= 1, "{query}: {} series", series.len());
    series.pop()
}

/// Histograms of a few buckets that grow, begin anew now and then, and are missing now and then.
fn histograms() -> impl Strategy<Value = Vec<(i64, Vec<f64>)>> {
    let grown = prop::collection::vec(0u8..5, 4);
    let step = prop_oneof![8 => Just(10_000i64), 2 => 1i64..20_000, 1 => 60_000i64..200_000];
    prop::collection::vec((step, grown, 0u8..12), 1..200).prop_map(|steps| {
        let (mut time, mut counts) = (0, vec![0.0; 4]);
        let mut out = Vec::new();
        for (step, grown, fall) in steps {
            time += step;
            for (count, more) in counts.iter_mut().zip(grown) {
                *count = if fall == 0 { 0.0 } else { *count } + f64::from(more);
            }
            out.push((time, counts.clone()));
        }
        out
    })
}

fn histogram(counts: &[f64]) -> FloatHistogram {
    FloatHistogram {
        count: counts.iter().sum(),
        sum: counts[0] * 0.5 + counts[3] * 8.0,
        positive: Buckets::run(0, counts.to_vec()).unwrap(),
        ..FloatHistogram::default()
    }
}

/// What `function` of a window of histograms is, bucket by bucket.
fn defined_of_histograms(
    samples: &[(i64, Vec<f64>)],
    function: &str,
    (start, end): (i64, i64),
) -> Option<Vec<f64>> {
    let inside: Vec<&(i64, Vec<f64>)> = samples.iter().filter(|(t, _)| *t > start && *t <= end).collect();
    let column = |bucket: usize| inside.iter().map(|(_, counts)| counts[bucket]).collect::<Vec<f64>>();
    let count = inside.len() as f64;
    if inside.is_empty() {
        return None;
    }
    let fell = |pair: &[&(i64, Vec<f64>)]| pair[0].1.iter().zip(&pair[1].1).any(|(before, now)| now < before);
    let grown = |bucket: usize| {
        let all = column(bucket);
        let lost = inside.windows(2).filter(|pair| fell(pair)).map(|pair| pair[0].1[bucket]);
        all[all.len() - 1] - all[0] + lost.sum::<f64>()
    };
    let buckets = 0..4;
    Some(match function {
        "sum_over_time" => buckets.map(|b| column(b).iter().sum()).collect(),
        "avg_over_time" => buckets.map(|b| column(b).iter().sum::<f64>() / count).collect(),
        "last_over_time" => inside[inside.len() - 1].1.clone(),
        "first_over_time" => inside[0].1.clone(),
        "increase" | "rate" => {
            // A counter of all observations that falls where the histogram does, stretched like every counter.
            let first: f64 = inside[0].1.iter().sum();
            let total: f64 = buckets.clone().map(grown).sum();
            let mut counts = vec![(inside[0].0, first)];
            counts.extend(inside[1..].iter().map(|s| (s.0, first + total)));
            let window = Window { samples: &counts, borders: (start, end), now: end };
            let stretched = window.extrapolated(true)?;
            let factor = if total == 0.0 { 0.0 } else { stretched / total };
            let factor = if function == "rate" { factor / seconds(end - start) } else { factor };
            buckets.map(|b| grown(b) * factor).collect()
        }
        other => panic!("{other} has no plain definition here"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn anchored_and_smoothed_ranges_are_what_they_are_defined_as(
        points in series(),
        range in prop_oneof![1i64..100, 100i64..1200].prop_map(|s| s * 1000),
        step in prop_oneof![Just(10_000i64), 1_000i64..90_000],
        first in -50_000i64..500_000,
    ) {
        let mut store = MemoryStore::default();
        store.add(&labels(&[("__name__", "n_total")]), points.iter().copied());
        let largest = points.iter().map(|p| p.1.abs()).filter(|v| v.is_finite()).fold(1.0, f64::max);
        for (function, word) in [
            ("rate", "anchored"), ("increase", "anchored"), ("delta", "anchored"), ("changes", "anchored"),
            ("resets", "anchored"), ("rate", "smoothed"), ("increase", "smoothed"), ("delta", "smoothed"),
        ] {
            let query = format!("{function}(n_total[{range}ms] {word})");
            let met = answer(&store, &query, first, step);
            for now in (0..=25).map(|i| first + i * step) {
                let value = met.iter().flat_map(|s| &s.points).find(|p| p.timestamp == now).map(|p| p.value);
                let wanted = defined(&points, function, word == "smoothed", (now - range, now));
                let same = match (value, wanted) {
                    (None, None) => true,
                    (Some(value), Some(wanted)) => close(value, wanted, largest),
                    _ => false,
                };
                prop_assert!(same, "{} at {}: {:?}, by definition {:?}", query, now, value, wanted);
            }
        }
    }

    #[test]
    fn ranges_of_histograms_are_what_they_are_defined_as(
        samples in histograms(),
        range in prop_oneof![1i64..100, 100i64..1200].prop_map(|s| s * 1000),
        step in prop_oneof![Just(10_000i64), 1_000i64..90_000],
        first in -50_000i64..500_000,
    ) {
        let mut store = MemoryStore::default();
        let sampled = samples.iter().map(|(timestamp, counts)| HistogramSample {
            timestamp: *timestamp,
            start_timestamp: 0,
            histogram: Arc::new(histogram(counts)),
        });
        store.add_histograms(&labels(&[("__name__", "h")]), sampled);
        for function in
            ["sum_over_time", "avg_over_time", "last_over_time", "first_over_time", "increase", "rate"]
        {
            let query = format!("{function}(h[{range}ms])");
            let met = answer(&store, &query, first, step);
            for now in (0..=25).map(|i| first + i * step) {
                let value = met.iter().flat_map(|s| &s.histograms).find(|p| p.timestamp == now);
                let wanted = defined_of_histograms(&samples, function, (now - range, now));
                prop_assert_eq!(value.is_some(), wanted.is_some(), "{} at {}: {:?}", query, now, value);
                if let (Some(value), Some(wanted)) = (value, wanted) {
                    // Empty buckets need not be listed.
                    let buckets: BTreeMap<i32, f64> = value.histogram.positive.iter().collect();
                    for (position, wanted) in (0..4).zip(wanted) {
                        let met = buckets.get(&position).copied().unwrap_or(0.0);
                        prop_assert!(close(met, wanted, 1.0), "{} at {}: {:?} in bucket {}, by definition {}",
                            query, now, value, position, wanted);
                    }
                }
            }
        }
    }
}
