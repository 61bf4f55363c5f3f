//! Classic histograms of a `load_with_nhcb`, stored once more as native histograms with custom buckets.

use super::notation::Stored;
use crate::answer::{LabelMap, SampleValue, parse_value};
use kymo_storage::model::{Buckets, CUSTOM_SCHEMA, FloatHistogram};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of one histogram at one time.
#[derive(Debug, Clone, Default)]
struct Classic {
    /// Upper bounds and how many observations are at or below.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// The native histograms of all series named `x_bucket`, `x_count` and `x_sum`, under the name `x`.
///
/// # Errors
/// Buckets that do not grow with their bounds, or more in them than the count says.
pub fn custom_buckets(series: &[Stored]) -> Result<Vec<Stored>, String> {
    let mut all: BTreeMap<LabelMap, BTreeMap<i64, Classic>> = BTreeMap::new();
    for Stored { labels, points, .. } in series {
        let name = labels.get("__name__").map(String::as_str).unwrap_or_default();
        let Some((base, part)) =
            ["_bucket", "_count", "_sum"].iter().find_map(|s| Some((name.strip_suffix(s)?, *s)))
        else {
            continue;
        };
        let bound = labels.get("le").and_then(|le| parse_value(le)).filter(|le| !le.is_nan());
        if part == "_bucket" && bound.is_none() {
            continue;
        }
        let mut rest = labels.clone();
        rest.remove("le");
        rest.insert("__name__".to_owned(), base.to_owned());
        let by_time = all.entry(rest).or_default();
        for (time, value) in points {
            let Some(value) = value.float() else { continue };
            let classic = by_time.entry(*time).or_default();
            match (part, bound) {
                ("_bucket", Some(bound)) => classic.buckets.push((bound, value)),
                ("_count", _) => classic.count = Some(value),
                _ => classic.sum = value,
            }
        }
    }
    let convert = |(labels, by_time): (LabelMap, BTreeMap<i64, Classic>)| {
        let points = by_time.into_iter().map(|(time, classic)| {
            let histogram = classic.convert().map_err(|e| format!("{labels:?} at {time}: {e}"))?;
            Ok((time, SampleValue::Histogram(Arc::new(histogram))))
        });
        let points = points.collect::<Result<_, String>>()?;
        Ok(Stored { labels: labels.clone(), points, starts: Vec::new() })
    };
    all.into_iter().map(convert).collect()
}

impl Classic {
    fn convert(mut self) -> Result<FloatHistogram, String> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|a, b| a.0 == b.0);
        let count = self.count.or(self.buckets.last().map(|b| b.1)).unwrap_or_default();
        if self.buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut before = 0.0;
        let mut counts = Vec::with_capacity(self.buckets.len());
        for (bound, upto) in &self.buckets {
            if *upto < before {
                return Err(format!("fewer observations up to {bound} than below"));
            }
            counts.push(upto - before);
            before = *upto;
        }
        if before != count {
            return Err(format!("the count is {count}, the buckets hold {before}"));
        }
        let bounds: Vec<f64> = self.buckets.iter().map(|b| b.0).filter(|b| b.is_finite()).collect();
        let mut histogram = FloatHistogram {
            schema: CUSTOM_SCHEMA,
            count,
            sum: self.sum,
            positive: Buckets::run(0, counts).map_err(|e| e.to_string())?,
            custom_bounds: bounds.into(),
            ..FloatHistogram::default()
        };
        histogram.compact();
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_together() {
        let one = |name: &str, le: Option<&str>, value: f64| -> Stored {
            let mut labels = LabelMap::from([("__name__".to_owned(), name.to_owned())]);
            labels.extend(le.map(|le| ("le".to_owned(), le.to_owned())));
            Stored { labels, points: vec![(0, SampleValue::Float(value))], starts: Vec::new() }
        };
        let parts = [
            one("h_bucket", Some("+Inf"), 6.0),
            one("h_bucket", Some("2"), 5.0),
            one("h_bucket", Some("1"), 2.0),
            one("h_bucket", None, 9.0),
            one("h_sum", None, 7.5),
            one("h_count", None, 6.0),
            one("other", None, 1.0),
        ];
        let converted = custom_buckets(&parts).unwrap();
        let [Stored { labels, points, .. }] = &converted[..] else { panic!("{converted:?}") };
        assert_eq!(labels.get("__name__").map(String::as_str), Some("h"));
        let [(0, SampleValue::Histogram(histogram))] = &points[..] else { panic!("{points:?}") };
        assert_eq!(histogram.to_string(), "{count:6, sum:7.5, [-Inf,1]:2, (1,2]:3, (2,+Inf]:1}");
        assert!(custom_buckets(&[one("h_bucket", Some("1"), 2.0), one("h_count", None, 1.0)]).is_err());
    }
}
