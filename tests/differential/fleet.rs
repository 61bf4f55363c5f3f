//! The series both sides hold: every kind of counter, gauge and histogram that expressions can meet, a function of a seed.
//!
//! Samples lie at whole seconds plus 300 to 960 ms, so that a query at a whole second plus 250 ms never has one on the edge of
//! a window of whole seconds. The first sample of every series comes in the order of the labels: so the order in which a
//! store came to know its series, which `limitk` and ties show, is that of the labels on both sides.

use crate::native::{Native, NativeKind};
use kymo_storage::model::{AnyHistogram, stale_nan};
use kymo_tests::answer::{LabelMap, SampleValue};
use kymo_tests::promqltest::notation::Stored;
use kymo_tests::rng::{Rng, mix};
use std::sync::Arc;

/// The first second of the fleet: 1 January 2026.
pub(crate) const START_MS: i64 = 1_767_225_600_000;
/// How long it lives.
pub(crate) const LENGTH_MS: i64 = 90 * 60_000;

/// A sample.
#[derive(Debug, Clone)]
pub(crate) enum Point {
    /// A number, or the end of a series.
    Float(f64),
    /// A native histogram.
    Histogram(AnyHistogram),
}

/// A series with its samples in order of time.
#[derive(Debug, Clone)]
pub(crate) struct FleetSeries {
    /// Name and labels.
    pub(crate) labels: LabelMap,
    /// Milliseconds and values.
    pub(crate) points: Vec<(i64, Point)>,
}

/// How the values of a metric go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Grows by whole numbers, seldom starts again.
    Counter,
    /// Grows by fractions, often starts again.
    RestlessCounter,
    /// A walk, with halves and hundredths.
    Gauge,
    /// Always the same fraction.
    Constant,
    /// 0 or 1.
    Switch,
    /// What its label `kind` says: NaN, infinities, zeros of both signs, tiny and huge numbers.
    Weird,
    /// A classic histogram: what its label `le` says, of a common stream of observations.
    Bucket,
    /// A classic histogram that is broken in the way its label `kind` says.
    BrokenBucket,
    /// A native histogram.
    Native(NativeKind),
}

/// Where samples are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Nowhere.
    Always,
    /// Now and then for minutes, sometimes with the marker that ends a series.
    Gaps,
    /// Before a time and after another.
    Short,
}

/// A metric of the fleet.
#[derive(Debug)]
pub(crate) struct Metric {
    /// Its name.
    pub(crate) name: &'static str,
    /// Labels and their values; the series are all combinations.
    pub(crate) labels: &'static [(&'static str, &'static [&'static str])],
    /// The values.
    pub(crate) shape: Shape,
    /// The gaps.
    pub(crate) presence: Presence,
    /// Seconds between samples.
    pub(crate) interval: i64,
    /// Whether Prometheus 2.42 computes the same of it: no samples missing, no number beyond the ordinary.
    pub(crate) stable: bool,
}

const JOBS: &[&str] = &["api", "db", "web"];
const INSTANCES: &[&str] = &["i0", "i1", "i2", "i3", "i4", "i5"];
const FEW: &[&str] = &["i0", "i1", "i2"];
const TWO: &[&str] = &["i0", "i1"];
const BOUNDS: &[&str] = &["0.05", "0.1", "0.5", "1", "2.5", "+Inf"];
// Nothing below 2^-1022: there the logarithms of Go on x86-64 are wrong.
const WEIRD: &[&str] = &["huge", "inf", "mixed", "nan", "negzero", "ninf", "tiny", "wide"];
const BROKEN: &[&str] = &["empty", "falling", "malformed", "negative", "noinf", "single"];

const fn metric(
    name: &'static str,
    labels: &'static [(&'static str, &'static [&'static str])],
    shape: Shape,
    interval: i64,
) -> Metric {
    Metric { name, labels, shape, presence: Presence::Always, interval, stable: true }
}

const fn rough(metric: &Metric, presence: Presence) -> Metric {
    Metric { presence, stable: false, ..*metric }
}

const fn native(name: &'static str, kind: NativeKind) -> Metric {
    let labels: &[(&str, &[&str])] = &[("instance", FEW), ("job", &["api", "db"])];
    rough(&metric(name, labels, Shape::Native(kind), 15), Presence::Always)
}

/// All metrics.
pub(crate) static METRICS: &[Metric] = &[
    metric(
        "requests_total",
        &[
            ("code", &["200", "404", "500", "503"]),
            ("instance", INSTANCES),
            ("job", JOBS),
            ("path", &["/", "/a"]),
        ],
        Shape::Counter,
        15,
    ),
    metric(
        "errors_total",
        &[("code", &["500", "503"]), ("instance", INSTANCES), ("job", JOBS)],
        Shape::Counter,
        30,
    ),
    metric("fast_total", &[("instance", FEW), ("job", &["api"])], Shape::Counter, 5),
    metric("memory_bytes", &[("instance", INSTANCES), ("job", JOBS)], Shape::Gauge, 15),
    metric("temperature", &[("instance", INSTANCES), ("sensor", &["a", "b"])], Shape::Gauge, 30),
    metric("slow_gauge", &[("instance", INSTANCES)], Shape::Gauge, 60),
    metric("constant", &[("instance", INSTANCES)], Shape::Constant, 15),
    metric("up", &[("instance", INSTANCES), ("job", JOBS)], Shape::Switch, 15),
    metric(
        "target_info",
        &[("instance", INSTANCES), ("job", JOBS), ("region", &["eu"]), ("version", &["v1"])],
        Shape::Constant,
        60,
    ),
    metric("build_info", &[("branch", &["main"]), ("instance", FEW), ("job", JOBS)], Shape::Constant, 60),
    metric("instance_weight", &[("instance", INSTANCES)], Shape::Gauge, 60),
    metric("job_owner", &[("job", JOBS), ("team", &["red"])], Shape::Constant, 60),
    metric(
        "latency_seconds_bucket",
        &[("instance", TWO), ("job", &["api", "db"]), ("le", BOUNDS)],
        Shape::Bucket,
        15,
    ),
    metric("latency_seconds_count", &[("instance", TWO), ("job", &["api", "db"])], Shape::Counter, 15),
    metric("latency_seconds_sum", &[("instance", TWO), ("job", &["api", "db"])], Shape::RestlessCounter, 15),
    rough(
        &metric("restless_total", &[("instance", FEW), ("job", JOBS)], Shape::RestlessCounter, 15),
        Presence::Gaps,
    ),
    rough(&metric("gappy", &[("instance", FEW), ("job", JOBS)], Shape::Gauge, 15), Presence::Gaps),
    rough(
        &metric("shortlived", &[("instance", INSTANCES), ("job", &["web"])], Shape::Gauge, 15),
        Presence::Short,
    ),
    rough(
        &metric("shortlived_total", &[("instance", INSTANCES), ("job", &["web"])], Shape::Counter, 15),
        Presence::Short,
    ),
    rough(&metric("weird", &[("kind", WEIRD)], Shape::Weird, 15), Presence::Always),
    rough(
        &metric(
            "broken_bucket",
            &[("kind", BROKEN), ("le", &["0.1", "1", "5", "+Inf"])],
            Shape::BrokenBucket,
            15,
        ),
        Presence::Always,
    ),
    native("nh_int", NativeKind::Int),
    native("nh_float", NativeKind::Float),
    native("nh_custom", NativeKind::Custom),
    native("nh_gauge", NativeKind::Gauge),
    native("nh_changing", NativeKind::Changing),
    native("nh_mixed", NativeKind::Mixed),
    native("nh_negative", NativeKind::Negative),
    native("nh_bounds", NativeKind::Bounds),
];

/// All series of the fleet, sorted by labels; without native histograms if `floats_only`.
pub(crate) fn fleet(seed: u64, floats_only: bool) -> Vec<FleetSeries> {
    let mut all = Vec::new();
    for (number, metric) in METRICS.iter().enumerate() {
        if floats_only && matches!(metric.shape, Shape::Native(_)) {
            continue;
        }
        let count: usize = metric.labels.iter().map(|l| l.1.len()).product();
        for index in 0..count {
            let mut rest = index;
            let mut labels = LabelMap::from([("__name__".to_owned(), metric.name.to_owned())]);
            for (name, values) in metric.labels {
                labels.insert((*name).to_owned(), values[rest % values.len()].to_owned());
                rest /= values.len();
            }
            relabel(&mut labels);
            let points = points(seed, metric, &labels, mix(&[seed, number as u64, index as u64]));
            all.push(FleetSeries { labels, points });
        }
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

/// Labels that depend on others.
fn relabel(labels: &mut LabelMap) {
    let instance = labels.get("instance").cloned().unwrap_or_default();
    let job = labels.get("job").cloned().unwrap_or_default();
    match labels["__name__"].as_str() {
        "target_info" => {
            labels.insert("version".into(), if instance.as_str() < "i3" { "v1" } else { "v2" }.to_owned());
            labels.insert("region".into(), if job == "db" { "us" } else { "eu" }.to_owned());
        }
        "job_owner" => {
            labels.insert("team".into(), if job == "web" { "blue" } else { "red" }.to_owned());
        }
        "broken_bucket" => {
            let le = labels["le"].clone();
            let broken = match (labels["kind"].as_str(), le.as_str()) {
                ("malformed", "1") => "one",
                ("noinf", "+Inf") => "10",
                ("single", le) if le != "+Inf" => "+Inf ",
                (_, le) => le,
            };
            let broken = broken.to_owned();
            // All but one bucket of `single` would be the same series: they are told apart by another label.
            if broken == "+Inf " {
                labels.insert("other".into(), le);
            }
            labels.insert("le".into(), broken.trim().to_owned());
        }
        _ => {}
    }
}

fn text_seed(text: &str) -> u64 {
    text.bytes().fold(7, |sum, byte| mix(&[sum, u64::from(byte)]))
}

/// The times at which the target of these labels is scraped.
fn times(seed: u64, metric: &Metric, labels: &LabelMap) -> Vec<i64> {
    let target = |name: &str| labels.get(name).map_or(0, |v| text_seed(v));
    let mut rng = Rng::new(mix(&[seed, target("instance"), target("job"), metric.interval as u64]));
    let offset = rng.below(metric.interval as u64) as i64 * 1000 + 300 + rng.below(600) as i64;
    let jitter = if rng.below(3) == 0 { 60 } else { 1 };
    let mut times = Vec::new();
    let mut at = START_MS + offset;
    while at < START_MS + LENGTH_MS {
        times.push(at + rng.below(jitter) as i64);
        at += metric.interval * 1000;
    }
    times
}

fn points(seed: u64, metric: &Metric, labels: &LabelMap, own: u64) -> Vec<(i64, Point)> {
    let mut rng = Rng::new(own);
    let times = times(seed, metric, labels);
    let mut values = Values::new(metric, labels, &mut rng);
    let (first, last) = match metric.presence {
        Presence::Short => (rng.below(120) as usize, 120 + rng.below(200) as usize),
        _ => (0, usize::MAX),
    };
    let mut points: Vec<(i64, Point)> = Vec::new();
    let mut gap_until = 0;
    for (step, time) in times.into_iter().enumerate() {
        let value = values.next(step, &mut rng);
        if metric.presence == Presence::Gaps && step > 0 && rng.below(60) == 0 {
            gap_until = step + rng.below(40) as usize;
            if rng.below(2) == 0 {
                points.push((time, Point::Float(stale_nan())));
                continue;
            }
        }
        // The first sample is always there, so that the series is known in the order of the labels.
        let missing = step > 0 && (step < gap_until || step <= first || step > last);
        if !missing {
            points.push((time, value));
        } else if (first > 0 && step == 1) || (step > last && step == last + 1) {
            points.push((time, Point::Float(stale_nan())));
        }
    }
    points
}

/// The walk of one series.
struct Values {
    shape: Shape,
    kind: String,
    bound: f64,
    value: f64,
    native: Option<Native>,
}

impl Values {
    fn new(metric: &Metric, labels: &LabelMap, rng: &mut Rng) -> Self {
        let text = |name: &str| labels.get(name).cloned().unwrap_or_default();
        let bound = match text("le").as_str() {
            "+Inf" => f64::INFINITY,
            le => le.parse().unwrap_or(1.0),
        };
        let native = match metric.shape {
            Shape::Native(kind) => Some(Native::new(kind, rng)),
            _ => None,
        };
        let value = match metric.shape {
            // So large that no extrapolation reaches zero: there 2.42 and 3.x differ.
            Shape::Counter => 1e6 + rng.below(1_000_000) as f64,
            Shape::Constant => 1.0,
            Shape::Gauge => rng.below(1000) as f64 - 300.0,
            _ => 0.0,
        };
        let value = if metric.name == "constant" { 0.1 } else { value };
        Self { shape: metric.shape, kind: text("kind"), bound, value, native }
    }

    fn next(&mut self, step: usize, rng: &mut Rng) -> Point {
        match self.shape {
            Shape::Counter => {
                self.value += rng.below(200) as f64;
                if rng.below(150) == 0 {
                    self.value = 1e6 + rng.below(50) as f64;
                }
            }
            Shape::RestlessCounter => {
                self.value += rng.unit() * 3.0;
                if rng.below(25) == 0 {
                    self.value = if rng.below(2) == 0 { 0.0 } else { rng.unit() };
                }
            }
            Shape::Gauge => self.value += (rng.below(401) as f64 - 200.0) / 100.0,
            Shape::Constant => {}
            Shape::Switch => self.value = if rng.below(9) == 0 { 0.0 } else { 1.0 },
            Shape::Weird => self.value = weird(&self.kind, step, rng),
            Shape::Bucket => self.value += (self.bound.min(4.0) * 20.0 + rng.below(2) as f64).floor(),
            Shape::BrokenBucket => self.value = self.broken(rng),
            Shape::Native(_) => {
                if let Some(native) = &mut self.native {
                    return native.next(step, rng);
                }
            }
        }
        Point::Float(self.value)
    }

    fn broken(&self, rng: &mut Rng) -> f64 {
        let grown = self.value + (self.bound.min(8.0) * 10.0).floor();
        match self.kind.as_str() {
            "empty" => 0.0,
            "falling" => (grown - self.bound.min(8.0) * 3.0 * rng.below(3) as f64).max(0.0),
            "negative" => -grown,
            _ => grown,
        }
    }
}

fn weird(kind: &str, step: usize, rng: &mut Rng) -> f64 {
    let sign = if rng.below(2) == 0 { 1.0 } else { -1.0 };
    match kind {
        "nan" => f64::NAN,
        "inf" => f64::INFINITY,
        "ninf" => f64::NEG_INFINITY,
        "negzero" => {
            if step.is_multiple_of(3) {
                0.0
            } else {
                -0.0
            }
        }
        "tiny" => 1e-300 * (1.0 + rng.unit()),
        "huge" => sign * 1e308 * (1.0 + 0.7 * rng.unit()),
        "wide" => sign * 10f64.powi(rng.below(40) as i32 - 20),
        _ => match rng.below(8) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            3 => 0.0,
            4 => -0.0,
            _ => sign * rng.below(100) as f64,
        },
    }
}

impl FleetSeries {
    /// The series as an engine in this process takes it.
    pub(crate) fn stored(self) -> Stored {
        let value = |point: Point| match point {
            Point::Float(value) => SampleValue::Float(value),
            Point::Histogram(histogram) => SampleValue::Histogram(Arc::new(histogram.to_float())),
        };
        let points = self.points.into_iter().map(|(time, point)| (time, value(point))).collect();
        Stored { labels: self.labels, points, starts: Vec::new() }
    }
}
