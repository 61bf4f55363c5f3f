//! A seeded load: gauges, counters with resets, constants. Every value is a function of seed, series and step.

use crate::remote_write::{TimeSeries, label_bytes};
use crate::rng::{Rng, mix};

/// How the values of a series go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Always the same number.
    Constant,
    /// A random walk of hundredths.
    Gauge,
    /// Grows by whole numbers, now and then starts again from zero.
    Counter,
}

/// One series of the load.
#[derive(Debug, Clone)]
pub struct Series {
    /// Sorted names and values.
    pub labels: Vec<(String, String)>,
    /// Their protobuf.
    pub label_bytes: Vec<u8>,
    /// The behaviour.
    pub kind: Kind,
    value: f64,
    rng: Rng,
}

impl Series {
    /// The value of the next step.
    pub fn next_value(&mut self) -> f64 {
        match self.kind {
            Kind::Constant => {}
            Kind::Gauge => {
                let step = self.rng.below(201) as f64 - 100.0;
                self.value = ((self.value * 100.0) + step).round() / 100.0;
            }
            Kind::Counter => {
                let reset = self.rng.below(500) == 0;
                self.value = if reset { 0.0 } else { self.value + self.rng.below(40) as f64 };
            }
        }
        self.value
    }
}

/// A fleet of series that move in step.
#[derive(Debug, Clone)]
pub struct Load {
    /// All series.
    pub series: Vec<Series>,
}

impl Load {
    /// `count` series in jobs and instances, 60 % constants, 25 % counters, 15 % gauges.
    pub fn new(seed: u64, count: usize) -> Self {
        let series = (0..count as u64)
            .map(|i| {
                let mut rng = Rng::new(mix(&[seed, i]));
                let kind = match rng.below(100) {
                    0..60 => Kind::Constant,
                    60..85 => Kind::Counter,
                    _ => Kind::Gauge,
                };
                let suffix = if kind == Kind::Counter { "_total" } else { "" };
                let mut labels = vec![
                    ("__name__".to_owned(), format!("load_metric_{}{suffix}", i % 97)),
                    ("cluster".to_owned(), "eu-west-1".to_owned()),
                    ("instance".to_owned(), format!("10.0.{}.{}:9100", i / 97 / 256 % 256, i / 97 % 256)),
                    ("job".to_owned(), format!("job-{}", i / 97 % 7)),
                    ("number".to_owned(), format!("{i}")),
                ];
                labels.sort();
                let value = rng.below(100_000) as f64;
                Series { label_bytes: label_bytes(&labels), labels, kind, value, rng }
            })
            .collect();
        Self { series }
    }

    /// The samples of all series at `timestamp`.
    pub fn step(&mut self, timestamp: i64) -> Vec<TimeSeries> {
        self.series
            .iter_mut()
            .map(|s| TimeSeries { labels: s.labels.clone(), samples: vec![(timestamp, s.next_value())] })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_load() {
        let (mut a, mut b, mut c) = (Load::new(7, 50), Load::new(7, 50), Load::new(8, 50));
        for t in 0..20 {
            let step = a.step(t);
            assert_eq!(step, b.step(t));
            assert_ne!(step, c.step(t));
        }
    }
}
