//! Judges an answer against what the script expects.

use super::notation::{Point, Row};
use super::script::{Eval, Expected, TextTest, When};
use crate::answer::{Answer, LabelMap, Outcome};
use crate::compare::close;

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

fn vector(expected: &Expected, series: &[(LabelMap, f64)]) -> Result<(), String> {
    same_sets(&expected.rows, series.iter().map(|s| &s.0))?;
    for (position, (labels, got)) in series.iter().enumerate() {
        let row = find(&expected.rows, labels)?;
        if expected.ordered && row.0 != position {
            return Err(format!("{labels:?} is at place {position}, expected at {}", row.0));
        }
        match row.1.points.first() {
            Some(Point::Float(wanted)) if close(*wanted, *got, EPSILON) => {}
            wanted => return Err(format!("{labels:?}: expected {wanted:?}, got {got}")),
        }
    }
    Ok(())
}

fn matrix(
    expected: &Expected,
    (start, end, step): (i64, i64, i64),
    series: &[(LabelMap, Vec<(i64, f64)>)],
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
                Point::Float(value) => wanted.push((at, *value)),
                Point::Histogram => return Err(format!("{labels:?}: a histogram at {at}, got {got:?}")),
            }
        }
        let equal = wanted.len() == got.len()
            && wanted.iter().zip(got).all(|(w, g)| w.0 == g.0 && close(w.1, g.1, EPSILON));
        if !equal {
            return Err(format!("{labels:?}: expected {wanted:?}, got {got:?}"));
        }
    }
    Ok(())
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
        let (one, two) = ((series("1"), 1.0), (series("2"), f64::NAN));
        let vector = |v: &[(LabelMap, f64)]| Ok(Answer::Vector(v.to_vec()));
        assert!(judge(script, vector(&[one.clone(), two.clone()]), &[]).is_ok());
        assert!(judge(script, vector(&[two.clone(), one.clone()]), &[]).is_err(), "order");
        assert!(judge(script, vector(std::slice::from_ref(&one)), &[]).is_err(), "missing");
        assert!(judge(script, vector(&[one.clone(), two.clone(), one.clone()]), &[]).is_err(), "twice");
        assert!(judge(script, vector(&[(series("1"), 1.1), two]), &[]).is_err(), "value");
        assert!(judge(script, Ok(Answer::Scalar(1.0)), &[]).is_err(), "type");
        assert!(judge(script, Err("no".to_owned()), &[]).is_err(), "failure");
    }

    #[test]
    fn right_and_wrong_matrices() {
        let script = "eval range from 0 to 2m step 1m q\n {a=\"1\"} 1 _ 3\n {a=\"2\"} 1\n";
        let matrix = |rows: &[(&str, &[(i64, f64)])]| {
            Ok(Answer::Matrix(rows.iter().map(|(n, p)| (series(n), p.to_vec())).collect()))
        };
        let good: &[(i64, f64)] = &[(0, 1.0), (120_000, 3.0)];
        assert!(judge(script, matrix(&[("1", good), ("2", &[(0, 1.0)])]), &[]).is_ok());
        assert!(judge(script, matrix(&[("2", &[(0, 1.0)]), ("1", good)]), &[]).is_err(), "order");
        assert!(judge(script, matrix(&[("1", good), ("2", &[(60_000, 1.0)])]), &[]).is_err(), "time");
        assert!(judge(script, matrix(&[("1", &good[..1]), ("2", &[(0, 1.0)])]), &[]).is_err(), "number");
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
