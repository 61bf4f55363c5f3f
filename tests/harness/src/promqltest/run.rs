//! Carries a script out: loads, asks, asks again in other words, and counts.

use super::check;
use super::classify::{Class, classify};
use super::custom_buckets::custom_buckets;
use super::notation::{Point, Stored};
use super::pin;
use super::script::{Command, Eval, Load, When, parse};
use crate::answer::{Answer, LabelMap, Outcome, SampleValue};
use kymo_storage::model::{FloatHistogram, ResetHint};
use std::fmt::Write as _;
use std::sync::Arc;

/// Something that stores series and answers queries.
pub trait Backend {
    /// Forgets everything.
    ///
    /// # Errors
    /// It cannot.
    fn clear(&mut self) -> Result<(), String>;
    /// Stores series.
    ///
    /// # Errors
    /// It refuses one.
    fn load(&mut self, series: &[Stored]) -> Result<(), String>;
    /// Answers a query.
    fn ask(&mut self, query: &str, when: When) -> Outcome;
}

/// Counts of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered as the script says, in all variations.
    pub passed: usize,
    /// Answered otherwise.
    pub failed: usize,
    /// Not asked.
    pub skipped: usize,
}

/// What a script came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// For each [`Class`], in its order.
    pub counts: [Counts; 4],
    /// How many more times the queries were asked in other words.
    pub variations: usize,
    /// Script, line, query, class and reason of each failure.
    pub failures: Vec<(Class, String)>,
}

impl Report {
    /// The counts of `class`.
    pub fn of(&self, class: Class) -> Counts {
        self.counts[class as usize]
    }

    /// Adds another script's.
    pub fn add(&mut self, other: Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            mine.passed += theirs.passed;
            mine.failed += theirs.failed;
            mine.skipped += theirs.skipped;
        }
        self.variations += other.variations;
        self.failures.extend(other.failures);
    }

    /// One line: `passed/failed/skipped` of each class.
    pub fn line(&self, name: &str) -> String {
        let mut out = format!("{name:<26}");
        let names = ["floats", "experimental", "start timestamps", "histograms"];
        for (label, Counts { passed, failed, skipped }) in names.iter().zip(self.counts) {
            let _ = match (passed + failed, skipped) {
                (0, 0) => Ok(()),
                (0, skipped) => write!(out, "  {label}: {skipped} not yet"),
                (_, 0) => write!(out, "  {label}: {passed} passed, {failed} failed"),
                _ => write!(out, "  {label}: {passed} passed, {failed} failed, {skipped} not yet"),
            };
        }
        out
    }
}

/// Which evaluations to carry out.
pub type Chosen<'a> = &'a dyn Fn(Class, &Eval) -> bool;

/// Carries `text` out on `backend`. Evaluations for which `chosen` is false are counted as skipped.
///
/// # Errors
/// The script cannot be read, or the backend cannot store its series.
pub fn run(name: &str, text: &str, backend: &mut dyn Backend, chosen: Chosen<'_>) -> Result<Report, String> {
    let commands = parse(text).map_err(|e| format!("{name}: {e}"))?;
    let mut classes = classify(&commands).into_iter();
    let mut report = Report::default();
    backend.clear()?;
    for command in &commands {
        match command {
            Command::Clear => backend.clear()?,
            Command::Load(load) => {
                let mut series = stored(load).map_err(|e| format!("{name}: {e}"))?;
                if load.with_nhcb {
                    let converted = custom_buckets(&series).map_err(|e| format!("{name}: {e}"))?;
                    series.extend(converted);
                }
                backend.load(&series).map_err(|e| format!("{name}: {e}"))?;
            }
            Command::Eval(eval) => {
                let class = classes.next().ok_or("fewer classes than evaluations")?;
                let counts = &mut report.counts[class as usize];
                if !chosen(class, eval) {
                    counts.skipped += 1;
                    continue;
                }
                match evaluate(eval, backend, &mut report.variations) {
                    Ok(()) => counts.passed += 1,
                    Err(reason) => {
                        counts.failed += 1;
                        let place = format!("{name}:{}: {}\n    {reason}", eval.line, eval.query);
                        report.failures.push((class, place));
                    }
                }
            }
        }
    }
    Ok(report)
}

/// The samples of a `load`: point `i` lies at `i * step`.
///
/// # Errors
/// A line of start timestamps does not belong to the line after it.
pub fn stored(load: &Load) -> Result<Vec<Stored>, String> {
    let mut series: Vec<Stored> = Vec::new();
    let mut rows = load.rows.iter();
    while let Some(mut row) = rows.next() {
        let mut offsets: &[Option<i64>] = &[];
        if let Some(starts) = &row.starts {
            let of = row;
            row = rows.next().ok_or("a line of start timestamps is the last")?;
            if row.labels != of.labels || row.points.len() != starts.len() {
                return Err(format!("start timestamps of {:?} are not those of the next line", of.labels));
            }
            offsets = starts;
        }
        let sample = |(index, point): (usize, &Point)| {
            let time = index as i64 * load.step_ms;
            let value = match point {
                Point::Absent => return None,
                Point::Float(value) => SampleValue::Float(*value),
                Point::Histogram(histogram, _) => SampleValue::Histogram(histogram.clone()),
            };
            let start = offsets.get(index).copied().flatten().map_or(0, |offset| time + offset);
            Some(((time, value), start))
        };
        // Of two lines with the same labels the later one counts.
        series.retain(|s| s.labels != row.labels);
        let (mut points, mut starts): (Vec<_>, Vec<_>) =
            row.points.iter().enumerate().filter_map(sample).unzip();
        hint(&mut points);
        if starts.iter().all(|start| *start == 0) {
            starts.clear();
        }
        series.push(Stored { labels: row.labels.clone(), points, starts });
    }
    series.retain(|s| !s.points.is_empty());
    Ok(series)
}

/// Gives histograms the hints that scripts expect of a store which compares each histogram with its neighbour.
fn hint(samples: &mut Vec<(i64, SampleValue)>) {
    let mut before: Option<Arc<FloatHistogram>> = None;
    for (_, sample) in samples {
        let SampleValue::Histogram(histogram) = sample else {
            before = None;
            continue;
        };
        let counts_on = before.as_ref().is_some_and(|before| {
            before.hint != ResetHint::Gauge && !before.is_stale() && !histogram.has_fallen_from(before)
        });
        before = Some(histogram.clone());
        if matches!(histogram.hint, ResetHint::Unknown | ResetHint::NotReset) {
            Arc::make_mut(histogram).hint = if counts_on { ResetHint::NotReset } else { ResetHint::Unknown };
        }
    }
}

fn evaluate(eval: &Eval, backend: &mut dyn Backend, variations: &mut usize) -> Result<(), String> {
    let outcome = backend.ask(&eval.query, eval.when);
    check::outcome(eval, &outcome)?;
    let (When::Instant { at_ms }, Ok(answer)) = (eval.when, &outcome.result) else { return Ok(()) };
    if matches!(answer, Answer::Text(_) | Answer::Matrix(_)) || pin::depends_on_range(&eval.query) {
        return Ok(());
    }
    if let Some(query) = pin::pin(&eval.query, at_ms)? {
        for other in pin::other_times(at_ms) {
            *variations += 1;
            let outcome = backend.ask(&query, When::Instant { at_ms: other });
            let said = |reason| format!("asked as {query} at {other} ms: {reason}");
            let answer = outcome.result.map_err(said)?;
            check::value(&eval.expected, eval.when, &answer).map_err(said)?;
        }
    }
    if !eval.expected.ordered {
        *variations += 1;
        middle_step(eval, at_ms, answer, backend)
            .map_err(|reason| format!("asked as the middle step of a range query: {reason}"))?;
    }
    Ok(())
}

/// The same query over `[at - 1m, at + 1m]`, of which the middle step must answer the same.
fn middle_step(eval: &Eval, at_ms: i64, answer: &Answer, backend: &mut dyn Backend) -> Result<(), String> {
    let minute = 60_000;
    let when = When::Range { start_ms: at_ms - minute, end_ms: at_ms + minute, step_ms: minute };
    let matrix = match backend.ask(&eval.query, when).result? {
        Answer::Matrix(matrix) => matrix,
        other => return Err(format!("not a matrix: {other:?}")),
    };
    check::sorted(&matrix)?;
    let at = |points: &[(i64, SampleValue)]| points.iter().find(|p| p.0 == at_ms).map(|p| p.1.clone());
    let middle: Vec<(LabelMap, SampleValue)> =
        matrix.into_iter().filter_map(|(labels, points)| Some((labels, at(&points)?))).collect();
    let middle = match answer {
        Answer::Scalar(_) => {
            let value = middle.first().and_then(|series| series.1.float());
            Answer::Scalar(value.ok_or("no point in the middle")?)
        }
        _ => Answer::Vector(middle),
    };
    check::value(&eval.expected, eval.when, &middle)
}
