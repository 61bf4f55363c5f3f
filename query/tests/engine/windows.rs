//! Each function of range vectors against its definition, written down as plainly as can be, over random series and windows.

use super::memory::MemoryStore;
use super::{engine, labels};
use kymo_query::catalog::{FUNCTIONS, Function, FunctionId};
use kymo_query::{QueryOptions, Value, ValueType};
use kymo_storage::model::{is_stale, stale_nan};
use proptest::prelude::*;

/// The samples of one window, oldest first, without staleness markers.
pub(crate) struct Window<'s> {
    pub(crate) samples: &'s [(i64, f64)],
    /// Left border, which is outside, and right border, which is inside.
    pub(crate) borders: (i64, i64),
    /// When the window is asked for.
    pub(crate) now: i64,
}

/// What the functions with a parameter are asked with.
const QUANTILE: f64 = 0.7;
const AHEAD: f64 = 90.0;
const LEVEL: f64 = 0.3;
const TREND: f64 = 0.6;

pub(crate) fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

fn quantile(q: f64, values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan())));
    let rank = q * (sorted.len() - 1) as f64;
    let (lower, weight) = (rank.floor() as usize, rank.fract());
    let upper = (lower + 1).min(sorted.len() - 1);
    sorted[lower] * (1.0 - weight) + sorted[upper] * weight
}

impl Window<'_> {
    fn values(&self) -> Vec<f64> {
        self.samples.iter().map(|s| s.1).collect()
    }

    fn mean(&self) -> f64 {
        self.values().iter().sum::<f64>() / self.samples.len() as f64
    }

    fn variance(&self) -> f64 {
        let mean = self.mean();
        self.values().iter().map(|v| (v - mean).powi(2)).sum::<f64>() / self.samples.len() as f64
    }

    /// The sample that no other beats; the last of several, and NaN only if there is nothing else.
    fn best(&self, beats: fn(f64, f64) -> bool) -> (i64, f64) {
        let numbers = self.samples.iter().copied().filter(|s| !s.1.is_nan());
        let best = numbers.reduce(|best, s| if beats(best.1, s.1) { best } else { s });
        best.unwrap_or(self.samples[self.samples.len() - 1])
    }

    fn pairs(&self) -> impl Iterator<Item = (f64, f64)> {
        self.samples.windows(2).map(|p| (p[0].1, p[1].1))
    }

    /// The difference of the border samples, with what a counter lost in resets.
    fn grown(&self, counter: bool) -> f64 {
        let (first, last) = (self.samples[0].1, self.samples[self.samples.len() - 1].1);
        self.pairs().filter(|(a, b)| counter && b < a).fold(last - first, |sum, (lost, _)| sum + lost)
    }

    /// [`Self::grown`], stretched to the borders of the window unless those are too far away.
    pub(crate) fn extrapolated(&self, counter: bool) -> Option<f64> {
        let [first, .., last] = self.samples else { return None };
        let grown = self.grown(counter);
        let sampled = seconds(last.0 - first.0);
        let gap = sampled / (self.samples.len() - 1) as f64;
        let near = |distance: f64| if distance >= gap * 1.1 { gap / 2.0 } else { distance };
        let mut before = near(seconds(first.0 - self.borders.0));
        let after = near(seconds(self.borders.1 - last.0));
        if counter && grown > 0.0 && first.1 >= 0.0 {
            before = before.min(sampled * (first.1 / grown));
        }
        Some(grown * ((sampled + before + after) / sampled))
    }

    fn instant(&self, counter: bool) -> Option<f64> {
        let [.., before, last] = self.samples else { return None };
        let grown = if counter && last.1 < before.1 { last.1 } else { last.1 - before.1 };
        Some(if counter { grown / seconds(last.0 - before.0) } else { grown })
    }

    /// Slope, and value at `origin`, of the line of least squares.
    fn line(&self, origin: i64) -> Option<(f64, f64)> {
        let [(_, first), _, ..] = self.samples else { return None };
        if self.samples.iter().all(|s| s.1 == *first) {
            return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, *first) });
        }
        let n = self.samples.len() as f64;
        let sum = |of: &dyn Fn(f64, f64) -> f64| {
            self.samples.iter().map(|(t, v)| of(seconds(t - origin), *v)).sum::<f64>()
        };
        let (x, y) = (sum(&|x, _| x), sum(&|_, y| y));
        let covariance = sum(&|x, y| x * y) - x * y / n;
        let slope = covariance / (sum(&|x, _| x * x) - x * x / n);
        Some((slope, y / n - slope * x / n))
    }

    fn smoothed(&self) -> Option<f64> {
        let [(_, first), (_, second), ..] = self.samples else { return None };
        let (mut level, mut trend) = (*first, second - first);
        for (at, (_, value)) in self.samples.iter().enumerate().skip(1) {
            let before = level;
            level = LEVEL * value + (1.0 - LEVEL) * (level + trend);
            // The trend of the next sample is that of this one and of the levels around it.
            if at + 1 < self.samples.len() {
                trend = TREND * (level - before) + (1.0 - TREND) * trend;
            }
        }
        Some(level)
    }

    /// What `function` is of this window, which holds something.
    fn define(&self, function: &Function) -> Option<f64> {
        use FunctionId as F;
        let count = |of: &dyn Fn(f64, f64) -> bool| self.pairs().filter(|(a, b)| of(*a, *b)).count() as f64;
        let length = seconds(self.borders.1 - self.borders.0);
        let (first, last) = (self.samples[0], self.samples[self.samples.len() - 1]);
        Some(match function.id {
            F::CountOverTime => self.samples.len() as f64,
            F::PresentOverTime => 1.0,
            F::SumOverTime => self.values().iter().sum(),
            F::AvgOverTime => self.mean(),
            F::StdvarOverTime => self.variance(),
            F::StddevOverTime => self.variance().sqrt(),
            F::FirstOverTime => first.1,
            F::LastOverTime => last.1,
            F::TsOfFirstOverTime => seconds(first.0),
            F::TsOfLastOverTime => seconds(last.0),
            F::MaxOverTime => self.best(|a, b| a > b).1,
            F::MinOverTime => self.best(|a, b| a < b).1,
            F::TsOfMaxOverTime => seconds(self.best(|a, b| a > b).0),
            F::TsOfMinOverTime => seconds(self.best(|a, b| a < b).0),
            F::QuantileOverTime => quantile(QUANTILE, &self.values()),
            F::MadOverTime if self.samples.iter().any(|s| s.1.is_nan()) => f64::NAN,
            F::MadOverTime => {
                let median = quantile(0.5, &self.values());
                let away: Vec<f64> = self.values().iter().map(|v| (v - median).abs()).collect();
                quantile(0.5, &away)
            }
            F::Changes => count(&|a, b| a != b && !(a.is_nan() && b.is_nan())),
            F::Resets => count(&|a, b| b < a),
            F::Delta => self.extrapolated(false)?,
            F::Increase => self.extrapolated(true)?,
            F::Rate => self.extrapolated(true)? / length,
            F::Irate => self.instant(true)?,
            F::Idelta => self.instant(false)?,
            F::Deriv => self.line(first.0)?.0,
            F::PredictLinear => {
                let (slope, now) = self.line(self.now)?;
                slope * AHEAD + now
            }
            F::DoubleExponentialSmoothing => self.smoothed()?,
            other => panic!("{other:?} has no plain definition here"),
        })
    }
}

fn arguments(function: &Function, window: &str) -> String {
    match function.id {
        FunctionId::QuantileOverTime => format!("{QUANTILE}, {window}"),
        FunctionId::PredictLinear => format!("{window}, {AHEAD}"),
        FunctionId::DoubleExponentialSmoothing => format!("{window}, {LEVEL}, {TREND}"),
        _ => window.to_owned(),
    }
}

/// Close enough that only the order of additions can be the reason, measured by what was added.
pub(crate) fn close(met: f64, defined: f64, scale: f64) -> bool {
    met == defined
        || (met.is_nan() && defined.is_nan())
        || (met - defined).abs() <= 1e-9 * scale.max(defined.abs())
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        40 => (0u32..2000).prop_map(|n| f64::from(n) / 4.0),
        6 => Just(0.0),
        2 => (-2000i32..0).prop_map(f64::from),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        2 => Just(stale_nan()),
    ]
}

/// Mostly rises, falls now and then, and has gaps and odd values.
pub(crate) fn series() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let step = prop_oneof![8 => Just(10_000i64), 2 => 1i64..20_000, 1 => 60_000i64..200_000];
    let odd = prop_oneof![3 => Just(true), 2 => Just(false)];
    (prop::collection::vec((step, value(), 0u8..12), 1..400), odd).prop_map(|(steps, only_numbers)| {
        let (mut time, mut counter) = (0, 0.0);
        let mut points = Vec::new();
        for (step, value, fall) in steps {
            time += step;
            if only_numbers {
                counter = if fall == 0 { 1.0 } else { counter + value.abs().min(500.0) };
                points.push((time, if counter.is_nan() { 0.0 } else { counter }));
            } else {
                points.push((time, value));
            }
        }
        points
    })
}

/// What each step should have: the value, and what rounding is measured by.
fn defined(
    points: &[(i64, f64)],
    function: &Function,
    (range, offset): (i64, i64),
    now: i64,
) -> Option<(f64, f64)> {
    let borders = (now - offset - range, now - offset);
    let samples: Vec<(i64, f64)> =
        points.iter().copied().filter(|(t, v)| *t > borders.0 && *t <= borders.1 && !is_stale(*v)).collect();
    if samples.is_empty() {
        return None;
    }
    let window = Window { samples: &samples, borders, now };
    let largest = samples.iter().map(|s| s.1.abs()).filter(|v| v.is_finite()).fold(1.0, f64::max);
    // Squares are in variances, and a slope far from its samples multiplies what is lost.
    let scale = match function.id {
        FunctionId::StdvarOverTime => largest * largest,
        FunctionId::PredictLinear => largest * 100.0,
        _ => largest,
    };
    Some((window.define(function)?, scale))
}

pub(crate) fn cases() -> u32 {
    std::env::var("KYMO_RANDOM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn functions_are_what_they_are_defined_as(
        fleet in prop::collection::vec(series(), 1..4),
        range in prop_oneof![1i64..100, 100i64..1200].prop_map(|s| s * 1000),
        step in prop_oneof![Just(10_000i64), 1_000i64..90_000],
        first in -50_000i64..500_000,
        offset in prop_oneof![Just(0i64), (-100i64..100).prop_map(|s| s * 1000)],
    ) {
        let mut store = MemoryStore::default();
        for (n, points) in fleet.iter().enumerate() {
            store.add(&labels(&[("__name__", "n_total"), ("n", &n.to_string())]), points.iter().copied());
        }
        let last = first + step * 25;
        for function in FUNCTIONS.iter().filter(|f| f.args.contains(&ValueType::Matrix)) {
            let window = format!("n_total[{}ms] offset {}ms", range, offset).replace("offset -", "offset - ");
            let query = format!("{}({})", function.name, arguments(function, &window));
            let result = engine(1).range(&store, &query, first, last, step, &QueryOptions::default());
            let Value::Matrix(met) = result.unwrap_or_else(|e| panic!("{query}: {}", e.message)).value else { panic!("a matrix") };
            if function.id == FunctionId::AbsentOverTime {
                let empty = |now: i64| fleet.iter().all(|points| {
                    let inside = |t: i64| t > now - offset - range && t <= now - offset;
                    !points.iter().any(|(t, v)| inside(*t) && !is_stale(*v))
                });
                let expected: Vec<i64> = (0..=25).map(|i| first + i * step).filter(|now| empty(*now)).collect();
                let times: Vec<i64> = met.iter().flat_map(|s| s.points.iter().map(|p| p.timestamp)).collect();
                prop_assert_eq!(times, expected, "{}", query);
                continue;
            }
            for (n, points) in fleet.iter().enumerate() {
                let n = n.to_string();
                let found = met.iter().find(|s| s.labels.value("n") == n);
                for now in (0..=25).map(|i| first + i * step) {
                    let value = found.and_then(|s| s.points.iter().find(|p| p.timestamp == now)).map(|p| p.value);
                    let wanted = defined(points, function, (range, offset), now);
                    let same = match (value, wanted) {
                        (None, None) => true,
                        (Some(value), Some((wanted, scale))) => close(value, wanted, scale),
                        _ => false,
                    };
                    prop_assert!(same, "{} at {} of {}: {:?}, by definition {:?}", query, now, n, value, wanted);
                }
            }
        }
    }
}
