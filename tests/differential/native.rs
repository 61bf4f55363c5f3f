//! Native histograms of the fleet: whole and float counts, several schemas, listed bounds, gauges, resets and changes of layout.

use crate::fleet::Point;
use kymo_storage::model::{
    AnyHistogram, Buckets, CUSTOM_SCHEMA, FloatHistogram, IntHistogram, ResetHint, Span,
};
use kymo_tests::rng::Rng;
use std::collections::BTreeMap;

/// What is special about the histograms of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NativeKind {
    /// Whole counts.
    Int,
    /// Float counts.
    Float,
    /// Listed bounds.
    Custom,
    /// Not counters.
    Gauge,
    /// The schema, the zero threshold and the bounds change, and it is reset now and then.
    Changing,
    /// Floats, exponential and custom histograms in one series.
    Mixed,
    /// Observations below zero, too, and some of NaN.
    Negative,
    /// Listed bounds that change.
    Bounds,
}

const BOUNDS: [&[f64]; 3] = [&[0.1, 0.5, 1.0, 2.5, 5.0], &[0.1, 1.0, 5.0], &[0.25, 0.5, 1.0, 10.0]];

/// The state of one series.
#[derive(Debug)]
pub(crate) struct Native {
    kind: NativeKind,
    schema: i32,
    threshold: f64,
    bounds: usize,
    zero: f64,
    positive: BTreeMap<i32, f64>,
    negative: BTreeMap<i32, f64>,
    sum: f64,
    outside: f64,
}

impl Native {
    /// A series with nothing observed.
    pub(crate) fn new(kind: NativeKind, rng: &mut Rng) -> Self {
        let schema = match kind {
            NativeKind::Custom | NativeKind::Bounds => CUSTOM_SCHEMA,
            _ => [0, 1, 3, 3, -1, 5][rng.below(6) as usize],
        };
        let mut native = Self {
            kind,
            schema,
            threshold: 1e-3,
            bounds: 0,
            zero: 0.0,
            positive: BTreeMap::new(),
            negative: BTreeMap::new(),
            sum: 0.0,
            outside: 0.0,
        };
        native.forget();
        native
    }

    fn forget(&mut self) {
        (self.zero, self.sum, self.outside) = (0.0, 0.0, 0.0);
        self.positive.clear();
        self.negative.clear();
    }

    /// The sample of the next scrape.
    pub(crate) fn next(&mut self, step: usize, rng: &mut Rng) -> Point {
        self.change(rng);
        if self.kind == NativeKind::Mixed && step % 40 >= 28 {
            return Point::Float(step as f64 / 4.0);
        }
        for _ in 0..rng.below(12) {
            self.observe(rng);
        }
        Point::Histogram(self.histogram(rng))
    }

    fn change(&mut self, rng: &mut Rng) {
        let rarely = rng.below(40) == 0;
        match self.kind {
            NativeKind::Gauge => self.forget(),
            NativeKind::Changing if rarely => {
                match rng.below(3) {
                    0 => self.schema = rng.below(7) as i32 - 1,
                    1 => self.threshold = [0.0, 1e-3, 0.01, 0.3][rng.below(4) as usize],
                    _ => {}
                }
                self.forget();
            }
            NativeKind::Bounds if rarely => {
                self.bounds = rng.below(BOUNDS.len() as u64) as usize;
                self.forget();
            }
            NativeKind::Mixed if rarely => {
                self.schema = if self.schema == CUSTOM_SCHEMA { 2 } else { CUSTOM_SCHEMA };
                self.forget();
            }
            _ if rng.below(120) == 0 => self.forget(),
            _ => {}
        }
    }

    fn observe(&mut self, rng: &mut Rng) {
        let count = if self.whole() { 1.0 + rng.below(3) as f64 } else { rng.unit() * 2.0 };
        let value = (rng.unit() * 6.0 - 3.0).exp();
        if self.kind == NativeKind::Negative && rng.below(60) == 0 {
            self.outside += count;
            self.sum = f64::NAN;
            return;
        }
        if self.schema == CUSTOM_SCHEMA {
            let bucket =
                BOUNDS[self.bounds].iter().position(|b| value <= *b).unwrap_or(BOUNDS[self.bounds].len());
            *self.positive.entry(bucket as i32).or_default() += count;
            self.sum += value * count;
            return;
        }
        if value <= self.threshold.max(0.06) && self.threshold > 0.0 {
            self.zero += count;
            return;
        }
        let position = (value.log2() * 2f64.powi(self.schema)).ceil() as i32;
        let below = self.kind == NativeKind::Negative && rng.below(2) == 0;
        let side = if below { &mut self.negative } else { &mut self.positive };
        *side.entry(position).or_default() += count;
        self.sum += if below { -value * count } else { value * count };
    }

    fn whole(&self) -> bool {
        !matches!(self.kind, NativeKind::Float | NativeKind::Changing)
    }

    fn histogram(&self, rng: &mut Rng) -> AnyHistogram {
        let hint = if self.kind == NativeKind::Gauge { ResetHint::Gauge } else { ResetHint::Unknown };
        let custom = self.schema == CUSTOM_SCHEMA;
        let count = self.zero + self.positive.values().sum::<f64>() + self.negative.values().sum::<f64>();
        let histogram = FloatHistogram {
            hint,
            schema: self.schema,
            zero_threshold: if custom { 0.0 } else { self.threshold },
            zero_count: self.zero,
            count: count + self.outside,
            sum: self.sum,
            positive: buckets(&self.positive, rng),
            negative: buckets(&self.negative, rng),
            custom_bounds: if custom { BOUNDS[self.bounds].into() } else { [].into() },
        };
        if !self.whole() {
            return AnyHistogram::Float(histogram);
        }
        AnyHistogram::Int(IntHistogram {
            hint,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero_count: histogram.zero_count as u64,
            count: histogram.count as u64,
            sum: histogram.sum,
            positive: histogram.positive.map(|n| n as u64),
            negative: histogram.negative.map(|n| n as u64),
            custom_bounds: histogram.custom_bounds,
        })
    }
}

/// Runs of neighbouring buckets, now and then with an empty bucket listed between two.
fn buckets(counts: &BTreeMap<i32, f64>, rng: &mut Rng) -> Buckets<f64> {
    let fill = rng.below(2) == 0;
    let (mut spans, mut listed): (Vec<Span>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut next = 0;
    for (position, count) in counts {
        match spans.last_mut() {
            Some(span) if *position == next => span.length += 1,
            Some(span) if fill && *position == next + 1 => {
                span.length += 2;
                listed.push(0.0);
            }
            _ => spans.push(Span { offset: position - next, length: 1 }),
        }
        listed.push(*count);
        next = position + 1;
    }
    Buckets::new(spans, listed).expect("spans and counts agree")
}
