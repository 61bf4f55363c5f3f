//! From the histograms of a series in a test script to those the engine computes with.

use super::series_text::{CounterResetHint, HistogramText, SeriesItem};
use crate::math::histogram_arith::{add, subtract};
use kymo_storage::model::{Buckets, FloatHistogram, HistogramError, ResetHint};

impl HistogramText {
    /// The histogram as written: its parts need not agree, and it may list empty buckets.
    ///
    /// # Errors
    /// A bucket lies beyond every number.
    pub fn to_histogram(&self) -> Result<FloatHistogram, HistogramError> {
        Ok(FloatHistogram {
            hint: match self.counter_reset_hint {
                None | Some(CounterResetHint::Unknown) => ResetHint::Unknown,
                Some(CounterResetHint::Reset) => ResetHint::Reset,
                Some(CounterResetHint::NotReset) => ResetHint::NotReset,
                Some(CounterResetHint::Gauge) => ResetHint::Gauge,
            },
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive: Buckets::run(self.offset, self.buckets.clone())?,
            negative: Buckets::run(self.negative_offset, self.negative_buckets.clone())?,
            custom_bounds: self.custom_values.as_slice().into(),
        })
    }
}

impl SeriesItem {
    /// The histograms of this item in order; none if it is of floats or of nothing.
    ///
    /// # Errors
    /// A sentence: a histogram is impossible, or the step does not fit its start.
    pub fn histograms(&self) -> Result<Vec<FloatHistogram>, String> {
        let Self::Histogram { start, step, count } = self else { return Ok(Vec::new()) };
        let mut current = start.to_histogram().map_err(|e| e.to_string())?;
        let step = match step {
            None => None,
            Some((falls, step)) => Some((*falls, step.to_histogram().map_err(|e| e.to_string())?)),
        };
        let mut histograms = Vec::new();
        for index in 0..*count {
            if let (Some((falls, step)), true) = (&step, index > 0) {
                if current.schema > step.schema {
                    return Err(format!(
                        "error combining histograms: cannot merge from schema {} to {}",
                        step.schema, current.schema
                    ));
                }
                let next = if *falls { subtract(&current, step) } else { add(&current, step) };
                (current, _) =
                    next.map_err(|_| "a histogram cannot have both exponential and custom buckets")?;
            }
            histograms.push(current.clone());
        }
        Ok(histograms)
    }
}

#[cfg(test)]
mod tests {
    use super::super::series_text::parse_series;

    #[test]
    fn scripts_name_every_part() {
        let cases = [
            ("{{}}", "{count:0, sum:0}"),
            (
                "{{schema:1 sum:5 count:13 z_bucket:1 z_bucket_w:0.5 buckets:[1 0 2] offset:1 n_buckets:[4 5] n_offset:2}}",
                "{count:13, sum:5, [-2.82842712474619,-2):5, [-2,-1.414213562373095):4, [-0.5,0.5]:1, (1,1.414213562373095]:1, (2,2.82842712474619]:2}",
            ),
            (
                "{{schema:-53 count:3 custom_values:[1 2.5] buckets:[1 0 2]}}",
                "{count:3, sum:0, [-Inf,1]:1, (2.5,+Inf]:2}",
            ),
            (
                "{{count:1 buckets:[1]}}+{{count:2 buckets:[0 2]}}x2",
                "{count:1, sum:0, (0.5,1]:1} {count:3, sum:0, (0.5,1]:1, (1,2]:2} {count:5, sum:0, (0.5,1]:1, (1,2]:4}",
            ),
            (
                "{{count:1 buckets:[1]}}-{{count:2 buckets:[2]}}x1",
                "{count:1, sum:0, (0.5,1]:1} {count:-1, sum:0, (0.5,1]:-1}",
            ),
            ("{{schema:1}}+{{schema:0}}x1", "error combining histograms: cannot merge from schema 0 to 1"),
            ("{{schema:-53}}+{{schema:0}}x1", "a histogram cannot have both exponential and custom buckets"),
            (
                "{{buckets:[1] offset:2147483647}}",
                "histogram span number 1 reaches a bucket beyond position 1073741824",
            ),
            ("1 2 3", ""),
        ];
        for (text, expected) in cases {
            let series = parse_series(&format!("m {text}")).unwrap();
            let got = match series.items[0].histograms() {
                Ok(histograms) => histograms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
                Err(error) => error,
            };
            assert_eq!(got, expected, "{text}");
        }
    }
}
