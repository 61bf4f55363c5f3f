//! Two answers to one query, compared part by part.

use crate::reply::{Reply, Row, Value};
use kymo_tests::answer::LabelMap;
use std::collections::BTreeMap;

/// The relative difference of two numbers that is no difference.
pub(crate) const EPSILON: f64 = 1e-12;

/// What is compared beyond values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strictness {
    /// Whether there must be warnings and infos on both sides or on none.
    pub(crate) annotations: bool,
    /// Whether the texts of errors must be the same.
    pub(crate) texts: bool,
    /// Whether the order of an instant vector must be the same.
    pub(crate) order: bool,
    /// Whether the series of a matrix must come in the same order.
    pub(crate) sorted: bool,
}

/// How numbers are compared.
pub(crate) type Same<'a> = &'a dyn Fn(f64, f64) -> bool;

/// Equal up to [`EPSILON`]; NaN equals NaN, zero its negative.
pub(crate) fn close(a: f64, b: f64) -> bool {
    let difference = (a - b).abs();
    (a.is_nan() && b.is_nan())
        || a == b
        || (difference.is_finite() && difference <= EPSILON * a.abs().max(b.abs()))
}

/// Equal to the bit, all NaN being one.
pub(crate) fn identical(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || a == b
}

/// Compares; gives the number of values compared.
///
/// # Errors
/// The first difference, in words.
pub(crate) fn compare(
    theirs: &Reply,
    ours: &Reply,
    strict: Strictness,
    same: Same<'_>,
) -> Result<usize, String> {
    if theirs.status != ours.status || theirs.kind != ours.kind {
        let one = |r: &Reply| format!("{} {} {}", r.status, r.kind, r.text);
        return Err(format!("status or type: theirs {}\n      ours {}", one(theirs), one(ours)));
    }
    if theirs.text != ours.text && (theirs.succeeded() || strict.texts) {
        return Err(format!("text: theirs {}\n      ours {}", theirs.text, ours.text));
    }
    let values = if theirs.kind == "vector" || !strict.sorted {
        let sorted = |reply: &Reply| {
            let mut rows = reply.rows.clone();
            rows.sort_by(|a, b| a.0.cmp(&b.0));
            rows
        };
        // Which of two series with equal values comes first is not specified.
        let misplaced = |(a, b): (&Row, &Row)| a.1.iter().zip(&b.1).any(|(a, b)| !equal(&a.1, &b.1, same));
        if strict.order && theirs.rows.iter().zip(&ours.rows).any(misplaced) {
            let both = [&theirs.rows, &ours.rows]
                .map(|rows| rows.iter().take(12).map(|r| &r.1[0].1).collect::<Vec<_>>());
            return Err(format!("order: theirs {:?}\n      ours   {:?}", both[0], both[1]));
        }
        rows(&sorted(theirs), &sorted(ours), same)?
    } else {
        rows(&theirs.rows, &ours.rows, same)?
    };
    if strict.annotations {
        for (what, a, b) in
            [("warnings", &theirs.warnings, &ours.warnings), ("infos", &theirs.infos, &ours.infos)]
        {
            if a.is_empty() != b.is_empty() {
                return Err(format!("{what}: theirs {a:?}\n      ours {b:?}"));
            }
        }
    }
    Ok(values)
}

fn rows(theirs: &[Row], ours: &[Row], same: Same<'_>) -> Result<usize, String> {
    let labels = |rows: &[Row]| -> Vec<LabelMap> { rows.iter().map(|r| r.0.clone()).collect() };
    if labels(theirs) != labels(ours) {
        return Err(difference_of_labels(&labels(theirs), &labels(ours)));
    }
    let mut values = 0;
    for ((labels, a), (_, b)) in theirs.iter().zip(ours) {
        let wrong = a.iter().zip(b).find(|(a, b)| a.0 != b.0 || !equal(&a.1, &b.1, same));
        if let Some((a, b)) = wrong {
            return Err(format!("{labels:?}:\n      theirs {a:?}\n      ours   {b:?}"));
        }
        if a.len() != b.len() {
            let times = |points: &[(i64, Value)]| -> Vec<i64> { points.iter().map(|p| p.0).collect() };
            return Err(format!(
                "times of {labels:?}:\n      theirs {:?}\n      ours   {:?}",
                times(a),
                times(b)
            ));
        }
        values += a.len();
    }
    Ok(values)
}

fn difference_of_labels(theirs: &[LabelMap], ours: &[LabelMap]) -> String {
    let without = |a: &[LabelMap], b: &[LabelMap]| -> Vec<LabelMap> {
        a.iter().filter(|l| !b.contains(l)).take(4).cloned().collect()
    };
    let (missing, more) = (without(theirs, ours), without(ours, theirs));
    format!("series: theirs {}, ours {}; missing {missing:?}; too many {more:?}", theirs.len(), ours.len())
}

fn equal(a: &Value, b: &Value, same: Same<'_>) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => same(*a, *b),
        (Value::Histogram(count_a, sum_a, a), Value::Histogram(count_b, sum_b, b)) => {
            let bucket = |a: &(u64, f64, f64, f64), b: &(u64, f64, f64, f64)| {
                a.0 == b.0 && same(a.1, b.1) && same(a.2, b.2) && same(a.3, b.3)
            };
            // A bucket without observations shows only when something makes NaN of it; which such buckets a store lists
            // depends on the histograms beside it.
            let populated = |all: &[(u64, f64, f64, f64)]| -> Vec<_> {
                all.iter().copied().filter(|b| !b.3.is_nan()).collect()
            };
            let (a, b) = (populated(a), populated(b));
            same(*count_a, *count_b)
                && same(*sum_a, *sum_b)
                && a.len() == b.len()
                && a.iter().zip(&b).all(|(a, b)| bucket(a, b))
        }
        _ => false,
    }
}

/// Whether two answers have the same values at each step, whatever series have them.
pub(crate) fn same_values(theirs: &Reply, ours: &Reply) -> bool {
    let values = |reply: &Reply| {
        let all = reply.rows.iter().flat_map(|row| &row.1);
        let mut all: Vec<(i64, f64)> = all
            .filter_map(|(time, value)| if let Value::Float(v) = value { Some((*time, *v)) } else { None })
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        all
    };
    let (theirs, ours) = (values(theirs), values(ours));
    theirs.len() == ours.len() && theirs.iter().zip(&ours).all(|(a, b)| a.0 == b.0 && close(a.1, b.1))
}

/// Whether the values of two answers have the same sum at each step, whatever series have them.
pub(crate) fn same_sums(theirs: &Reply, ours: &Reply) -> bool {
    let sums = |reply: &Reply| {
        let mut sums = BTreeMap::new();
        for (time, value) in reply.rows.iter().flat_map(|row| &row.1) {
            if let Value::Float(v) = value {
                *sums.entry(*time).or_insert(0.0) += v;
            }
        }
        sums
    };
    let (theirs, ours) = (sums(theirs), sums(ours));
    theirs.len() == ours.len() && theirs.iter().zip(&ours).all(|(a, b)| a.0 == b.0 && close(*a.1, *b.1))
}

#[test]
fn close_and_not_close() {
    for (a, b, expected) in [
        (1.0, 1.0 + 1e-13, true),
        (1.0, 1.0 + 1e-11, false),
        (0.0, -0.0, true),
        (0.0, 1e-300, false),
        (f64::NAN, f64::NAN, true),
        (f64::INFINITY, f64::INFINITY, true),
        (f64::INFINITY, f64::MAX, false),
        (f64::NAN, 1.0, false),
    ] {
        assert_eq!(close(a, b), expected, "{a} {b}");
    }
}
