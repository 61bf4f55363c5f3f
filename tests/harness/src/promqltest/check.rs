//! Judges an answer against what the script expects.

use super::notation::{Point, Row};
use super::script::{Eval, Expected, TextTest, When};
use crate::answer::{Answer, LabelMap, Outcome, SampleValue, ShownBucket, ShownHistogram};
use crate::compare::close;
use kymo_storage::model::{Buckets, FloatHistogram};

/// The relative tolerance of the language.
pub const EPSILON: f64 = 1e-6;

/// Judges the outcome of the evaluation as it stands in the script.
///
/// # Errors
/// A sentence that says what was expected and what came.
pub fn outcome(eval: &Eval, outcome: &Outcome) -> Result<(), String> {
    let expected = &eval.expected;
    let answer = match (&outcome.result, &expected.fail) {
        (Ok(_), Some(_)) => return Err("expected a failure, got an answer".to_owned()),
        (Err(text), None) => return Err(format!("failed: {text}")),
        (Err(text), Some(tests)) => {
            let accepted = tests.is_empty() || tests.iter().any(|t| t.accepts(text));
            return if accepted {
                Ok(())
            } else {
                Err(format!("failed, but with: {text} (expected {tests:?})"))
            };
        }
        (Ok(answer), None) => answer,
    };
    value(expected, eval.when, answer)?;
    annotations("warning", &expected.warn, expected.no_warn, &outcome.warnings)?;
    annotations("info", &expected.info, expected.no_info, &outcome.infos)
}

fn annotations(kind: &str, tests: &Option<Vec<TextTest>>, none: bool, got: &[String]) -> Result<(), String> {
    if none && !got.is_empty() {
        return Err(format!("expected no {kind}, got {got:?}"));
    }
    let Some(tests) = tests else { return Ok(()) };
    if got.is_empty() {
        return Err(format!("expected a {kind}, got none"));
    }
    if tests.is_empty() {
        return Ok(());
    }
    for test in tests {
        if !got.iter().any(|text| test.accepts(text)) {
            return Err(format!("expected the {kind} {test:?}, got {got:?}"));
        }
    }
    match got.iter().find(|text| !tests.iter().any(|test| test.accepts(text))) {
        Some(text) => Err(format!("unexpected {kind}: {text}")),
        None => Ok(()),
    }
}

/// Judges a value alone.
///
/// # Errors
/// As [`outcome`].
pub fn value(expected: &Expected, when: When, answer: &Answer) -> Result<(), String> {
    if let Some(text) = &expected.text {
        return match answer {
            Answer::Text(got) if got == text => Ok(()),
            other => Err(format!("expected the string {text:?}, got {other:?}")),
        };
    }
    if let Some(wanted) = expected.scalar {
        return match answer {
            Answer::Scalar(got) if close(wanted, *got, EPSILON) => Ok(()),
            other => Err(format!("expected the scalar {wanted}, got {other:?}")),
        };
    }
    let when = expected.range_vector.unwrap_or(when);
    match (answer, when) {
        (Answer::Vector(series), When::Instant { .. }) => vector(expected, series),
        (Answer::Matrix(series), When::Range { start_ms, end_ms, step_ms }) => {
            sorted(series)?;
            matrix(expected, (start_ms, end_ms, step_ms), series)
        }
        (other, _) => Err(format!("expected {} series, got {other:?}", expected.rows.len())),
    }
}

fn vector(expected: &Expected, series: &[(LabelMap, SampleValue)]) -> Result<(), String> {
    same_sets(&expected.rows, series.iter().map(|s| &s.0))?;
    for (position, (labels, got)) in series.iter().enumerate() {
        let row = find(&expected.rows, labels)?;
        if expected.ordered && row.0 != position {
            return Err(format!("{labels:?} is at place {position}, expected at {}", row.0));
        }
        match row.1.points.first() {
            Some(wanted) if same(wanted, got) => {}
            wanted => return Err(format!("{labels:?}: expected {wanted:?}, got {got:?}")),
        }
    }
    Ok(())
}

fn matrix(
    expected: &Expected,
    (start, end, step): (i64, i64, i64),
    series: &[(LabelMap, Vec<(i64, SampleValue)>)],
) -> Result<(), String> {
    same_sets(&expected.rows, series.iter().map(|s| &s.0))?;
    for (labels, got) in series {
        let (_, row) = find(&expected.rows, labels)?;
        let mut wanted = Vec::new();
        for (index, point) in row.points.iter().enumerate() {
            let at = start + index as i64 * step;
            if at > end {
                return Err(format!("{labels:?}: more values expected than there are steps"));
            }
            match point {
                Point::Absent => {}
                Point::Float(_) | Point::Histogram(..) => wanted.push((at, point)),
            }
        }
        let equal =
            wanted.len() == got.len() && wanted.iter().zip(got).all(|(w, g)| w.0 == g.0 && same(w.1, &g.1));
        if !equal {
            return Err(format!("{labels:?}: expected {wanted:?}, got {got:?}"));
        }
    }
    Ok(())
}

fn same(wanted: &Point, got: &SampleValue) -> bool {
    match (wanted, got) {
        (Point::Float(wanted), SampleValue::Float(got)) => close(*wanted, *got, EPSILON),
        (Point::Histogram(wanted, hint), SampleValue::Histogram(got)) => same_histogram(wanted, got, *hint),
        (Point::Histogram(wanted, _), SampleValue::Shown(got)) => {
            same_shown(&ShownHistogram::of(wanted), got)
        }
        _ => false,
    }
}

/// What an answer does not show (schema, hint, empty buckets) cannot be judged.
fn same_shown(wanted: &ShownHistogram, got: &ShownHistogram) -> bool {
    let number = |a: f64, b: f64| close(a, b, EPSILON);
    let bucket = |(a, b): (&ShownBucket, &ShownBucket)| {
        a.boundary_rule == b.boundary_rule
            && number(a.lower, b.lower)
            && number(a.upper, b.upper)
            && number(a.count, b.count)
    };
    number(wanted.count, got.count)
        && number(wanted.sum, got.sum)
        && wanted.buckets.len() == got.buckets.len()
        && wanted.buckets.iter().zip(&got.buckets).all(bucket)
}

/// The hint counts only if the script writes one.
fn same_histogram(wanted: &FloatHistogram, got: &FloatHistogram, with_hint: bool) -> bool {
    let number = |a: f64, b: f64| close(a, b, EPSILON);
    let side = |a: &Buckets<f64>, b: &Buckets<f64>| {
        let counts = |buckets: &Buckets<f64>| -> Vec<(i32, f64)> {
            buckets.iter().filter(|bucket| bucket.1 != 0.0).collect()
        };
        let (a, b) = (counts(a), counts(b));
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && number(a.1, b.1))
    };
    (!with_hint || wanted.hint == got.hint)
        && wanted.schema == got.schema
        && wanted.custom_bounds == got.custom_bounds
        && wanted.zero_threshold == got.zero_threshold
        && number(wanted.zero_count, got.zero_count)
        && number(wanted.count, got.count)
        && number(wanted.sum, got.sum)
        && side(&wanted.positive, &got.positive)
        && side(&wanted.negative, &got.negative)
}

fn find<'a>(rows: &'a [Row], labels: &LabelMap) -> Result<(usize, &'a Row), String> {
    // Of two lines with the same labels the later counts, as in the language's first implementation.
    let found = rows.iter().enumerate().rev().find(|(_, row)| row.labels == *labels);
    found.ok_or_else(|| format!("unexpected series {labels:?}"))
}

fn same_sets<'a>(rows: &[Row], series: impl Iterator<Item = &'a LabelMap>) -> Result<(), String> {
    let mut seen: Vec<&LabelMap> = Vec::new();
    for labels in series {
        if seen.contains(&labels) {
            return Err(format!("{labels:?} comes twice"));
        }
        find(rows, labels)?;
        seen.push(labels);
    }
    match rows.iter().find(|row| !seen.contains(&&row.labels)) {
        Some(row) => Err(format!("missing series {:?}, got {} series", row.labels, seen.len())),
        None => Ok(()),
    }
}

/// The series of a range query come sorted by their labels.
///
/// # Errors
/// Names the first pair out of order.
pub fn sorted<T>(series: &[(LabelMap, T)]) -> Result<(), String> {
    match series.windows(2).find(|w| !w[0].0.iter().le(w[1].0.iter())) {
        Some(pair) => Err(format!("{:?} comes before {:?}", pair[0].0, pair[1].0)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promqltest::notation::parse_row;
    use crate::promqltest::script::{Command, parse};

    fn judge(script: &str, result: Result<Answer, String>, warnings: &[&str]) -> Result<(), String> {
        let Command::Eval(eval) = parse(script).unwrap().remove(0) else { panic!("no eval") };
        let warnings = warnings.iter().map(|w| (*w).to_owned()).collect();
        outcome(&eval, &Outcome { result, warnings, infos: Vec::new() })
    }

    fn series(name: &str) -> LabelMap {
        LabelMap::from([("a".to_owned(), name.to_owned())])
    }

    #[test]
    fn right_and_wrong_vectors() {
        let script = "eval instant at 1m q\n expect ordered\n {a=\"1\"} 1\n {a=\"2\"} NaN\n";
        let float = |name, value| (series(name), SampleValue::Float(value));
        let (one, two) = (float("1", 1.0), float("2", f64::NAN));
        let vector = |v: &[(LabelMap, SampleValue)]| Ok(Answer::Vector(v.to_vec()));
        assert!(judge(script, vector(&[one.clone(), two.clone()]), &[]).is_ok());
        assert!(judge(script, vector(&[two.clone(), one.clone()]), &[]).is_err(), "order");
        assert!(judge(script, vector(std::slice::from_ref(&one)), &[]).is_err(), "missing");
        assert!(judge(script, vector(&[one.clone(), two.clone(), one.clone()]), &[]).is_err(), "twice");
        assert!(judge(script, vector(&[float("1", 1.1), two]), &[]).is_err(), "value");
        assert!(judge(script, Ok(Answer::Scalar(1.0)), &[]).is_err(), "type");
        assert!(judge(script, Err("no".to_owned()), &[]).is_err(), "failure");
    }

    #[test]
    fn right_and_wrong_matrices() {
        let script = "eval range from 0 to 2m step 1m q\n {a=\"1\"} 1 _ 3\n {a=\"2\"} 1\n";
        let matrix = |rows: &[(&str, &[(i64, f64)])]| {
            let float = |p: &(i64, f64)| (p.0, SampleValue::Float(p.1));
            Ok(Answer::Matrix(rows.iter().map(|(n, p)| (series(n), p.iter().map(float).collect())).collect()))
        };
        let good: &[(i64, f64)] = &[(0, 1.0), (120_000, 3.0)];
        assert!(judge(script, matrix(&[("1", good), ("2", &[(0, 1.0)])]), &[]).is_ok());
        assert!(judge(script, matrix(&[("2", &[(0, 1.0)]), ("1", good)]), &[]).is_err(), "order");
        assert!(judge(script, matrix(&[("1", good), ("2", &[(60_000, 1.0)])]), &[]).is_err(), "time");
        assert!(judge(script, matrix(&[("1", &good[..1]), ("2", &[(0, 1.0)])]), &[]).is_err(), "number");
    }

    #[test]
    fn histograms_are_compared_part_by_part() {
        let same = |wanted: &str, got: &str| {
            let point = |text: &str| parse_row(&format!("m {text}")).unwrap().points.remove(0);
            let Point::Histogram(got, _) = point(got) else { panic!("{got}") };
            super::same(&point(wanted), &SampleValue::Histogram(got))
        };
        let cases = [
            (
                "{{schema:1 count:3 sum:2 buckets:[1 0 2]}}",
                "{{schema:1 count:3 sum:2.0000001 buckets:[1 0 2]}}",
                true,
            ),
            ("{{count:1}}", "{{count:1 counter_reset_hint:gauge}}", true),
            ("{{count:1 counter_reset_hint:reset}}", "{{count:1 counter_reset_hint:gauge}}", false),
            ("{{count:1}}", "{{count:2}}", false),
            ("{{buckets:[1]}}", "{{buckets:[1] offset:1}}", false),
            ("{{buckets:[0 1]}}", "{{buckets:[1] offset:1}}", true),
            ("{{n_buckets:[1]}}", "{{buckets:[1]}}", false),
            ("{{schema:-53 custom_values:[1]}}", "{{schema:-53 custom_values:[2]}}", false),
            ("{{z_bucket:1 z_bucket_w:1}}", "{{z_bucket:1 z_bucket_w:2}}", false),
            ("1", "{{}}", false),
        ];
        for (wanted, got, equal) in cases {
            assert_eq!(same(wanted, got), equal, "{wanted} {got}");
        }
    }

    #[test]
    fn failures_and_annotations() {
        let fail = "eval instant at 1m q\n expect fail regex: a.c\n";
        assert!(judge(fail, Err("xabcx".to_owned()), &[]).is_ok());
        assert!(judge(fail, Err("other".to_owned()), &[]).is_err());
        assert!(judge(fail, Ok(Answer::Scalar(1.0)), &[]).is_err());
        let warn = "eval instant at 1m q\n expect warn msg: w\n 1\n";
        assert!(judge(warn, Ok(Answer::Scalar(1.0)), &["w"]).is_ok());
        assert!(judge(warn, Ok(Answer::Scalar(1.0)), &["w", "more"]).is_err());
        assert!(judge(warn, Ok(Answer::Scalar(1.0)), &[]).is_err());
        let none = "eval instant at 1m q\n expect no_warn\n 1\n";
        assert!(judge(none, Ok(Answer::Scalar(1.0)), &["w"]).is_err());
    }
}
