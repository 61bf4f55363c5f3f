//! Follows a difference down to the smallest expression that shows it, and judges whether rounding alone explains it there.
//!
//! An answer may differ by more than 1e-12 without a mistake on either side: `x - y` of nearly equal numbers magnifies the last
//! digit of its inputs, and a comparison turns it into a series more or less. So a difference is judged where it
//! arises: at the smallest expression whose parts all agree. There it must be explained by what that one
//! operation does to rounding errors of its inputs, in proportion to the size of those inputs; nothing else is excused.

use crate::compare::{EPSILON, Strictness, close, compare, identical, same_sums, same_values};
use crate::expression::{Node, Rounding, Type};
use crate::generate::Class;
use crate::reply::{Reply, Value, When, ask};
use kymo_tests::http::Client;
use std::collections::BTreeSet;

/// Both sides.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The real Prometheus.
    pub(crate) theirs: Client,
    /// Kymo.
    pub(crate) ours: Client,
    /// What is asked.
    pub(crate) class: Class,
    /// What must be the same.
    pub(crate) strict: Strictness,
}

/// Where a difference comes from.
#[derive(Debug)]
pub(crate) struct Cause {
    /// The smallest expression that shows it.
    pub(crate) query: String,
    /// When it was asked.
    pub(crate) when: When,
    /// The difference.
    pub(crate) difference: String,
    /// Whether rounding explains it.
    pub(crate) rounding: bool,
}

impl Pair {
    /// Asks both.
    pub(crate) fn ask(&mut self, query: &str, when: When) -> (Reply, Reply) {
        (ask(&mut self.theirs, query, when), ask(&mut self.ours, query, when))
    }

    fn strictness(&self, node: &Node) -> Strictness {
        let order = self.strict.order && node.ordered;
        Strictness { order, sorted: node.yields != Type::Matrix, ..self.strict }
    }

    /// Compares the answers to one expression; gives the number of values.
    ///
    /// # Errors
    /// The difference.
    pub(crate) fn check(&mut self, node: &Node, when: When) -> Result<usize, String> {
        let (theirs, ours) = self.ask(&node.to_string(), when);
        compare(&theirs, &ours, self.strictness(node), &close)
    }

    /// The cause of a difference that `node` shows.
    pub(crate) fn trace(&mut self, node: &Node, when: When, difference: String) -> Cause {
        for child in node.children() {
            for when in self.times(node, child, when) {
                if let Err(difference) = self.check(child, when) {
                    return self.trace(child, when, difference);
                }
            }
        }
        let rounding = self.is_rounding(node, when);
        Cause { query: node.to_string(), when, difference, rounding }
    }

    /// When to ask for a part of an expression that was asked at `when`.
    fn times(&mut self, node: &Node, child: &Node, when: When) -> Vec<When> {
        let last = match when {
            When::Instant(at) => at,
            When::Range { end, .. } => end,
        };
        let mut times = match (child.yields, when) {
            (Type::Text, _) => Vec::new(),
            // A range query has no range vector for an answer: a few of its steps are asked.
            (Type::Matrix, When::Range { start, end, step }) => {
                (0..=(end - start) / step).map(|i| When::Instant(start + i * step)).step_by(3).collect()
            }
            _ => vec![when],
        };
        if node.yields == Type::Matrix {
            // The inside of a subquery is asked over the hour before, on the grids that subqueries use.
            for step in [30_000, 7_000, 90_000] {
                let start = (last - 3_600_000).div_euclid(step) * step;
                times.push(When::Range { start, end: last, step });
            }
        }
        times
    }

    /// Whether the operation of `node`, whose parts agree, explains a difference by rounding.
    fn is_rounding(&mut self, node: &Node, when: When) -> bool {
        let (mut largest, mut exact, mut skewed, mut native) = (0.0_f64, true, false, false);
        for child in node.children() {
            for when in self.times(node, child, when) {
                let (theirs, ours) = self.ask(&child.to_string(), when);
                exact &= compare(&theirs, &ours, self.strictness(child), &identical).is_ok();
                for (_, value) in theirs.rows.iter().flat_map(|row| &row.1) {
                    if let Value::Histogram(_, sum, _) = value {
                        native = true;
                        skewed |= sum.is_nan();
                    }
                }
                largest = theirs.numbers().filter(|n| n.is_finite()).fold(largest, |max, n| max.max(n.abs()));
            }
        }
        let strict = self.strictness(node);
        let (theirs, ours) = self.ask(&node.to_string(), when);
        // With observations of NaN, Prometheus interpolates in the last bucket stored; that may be an empty one, depending on the
        // histograms that share a chunk with this one.
        if skewed && node.to_string().starts_with("histogram_quantile") {
            return true;
        }
        // Of all that a binary operator has to say of a step, Prometheus keeps the last.
        if native && node.children().filter(|child| child.yields == Type::Vector).count() == 2 {
            let silent = Strictness { annotations: false, ..strict };
            let told = |reply: &Reply| [&reply.warnings[..], &reply.infos[..]].concat();
            let (some, all) = (told(&theirs), told(&ours));
            let keeps = !some.is_empty() && some.iter().all(|text| all.contains(text));
            if keeps && compare(&theirs, &ours, silent, &close).is_ok() {
                return true;
            }
        }
        let unordered = Strictness { order: false, ..strict };
        if is_out_of_order(node, &theirs) && compare(&theirs, &ours, unordered, &close).is_ok() {
            return true;
        }
        // Go's arc cosine is a right angle less the arc sine, and these logarithms are the exponent and that of the fraction: where
        // they are nearly zero they keep the rounding of numbers like 1.
        if ["acos(", "log2(", "log10("].iter().any(|name| node.to_string().starts_with(name)) {
            let same = |a: f64, b: f64| close(a, b) || (a - b).abs() <= 2.0 * f64::EPSILON;
            if compare(&theirs, &ours, strict, &same).is_ok() {
                return true;
            }
        }
        // Equal histograms that list other empty buckets count as changed; which ones a store lists depends on their neighbours.
        if native && node.to_string().starts_with("changes") {
            return true;
        }
        if self.class == Class::StableFloat && changed_since(node, &theirs, &ours) {
            return true;
        }
        let within = |bound: f64| {
            let same = move |a: f64, b: f64| close(a, b) || (a - b).abs() <= bound;
            compare(&theirs, &ours, strict, &same).is_ok()
        };
        match node.rounding {
            // Equal inputs leave one correctly rounded operation, or a function of the platform's library.
            Rounding::Relative => false,
            // An error of the input is multiplied by the exponent, and may be what makes the answer infinite.
            Rounding::Exponential => {
                let same = |a: f64, b: f64| {
                    let near = (a - b).abs() <= EPSILON * largest.max(1.0) * a.abs().max(b.abs());
                    close(a, b) || near || a.abs().min(b.abs()) > 1e300
                };
                !exact && compare(&theirs, &ours, strict, &same).is_ok()
            }
            // A relative error of the input is an absolute one of its logarithm.
            Rounding::Logarithm => !exact && within(EPSILON),
            // Near 1 an arc has the root of what its cosine lacks to 1: errors are divided by the answer.
            Rounding::Arc => {
                let same = |a: f64, b: f64| close(a, b) || (a - b).abs() * a.abs().max(b.abs()) <= EPSILON;
                !exact && compare(&theirs, &ours, strict, &same).is_ok()
            }
            Rounding::Additive => within(EPSILON * largest),
            // The root of a sum of squares that cancels to EPSILON times its size is the root of that larger.
            Rounding::Squares => within(EPSILON * largest * largest) || within(EPSILON.sqrt() * largest),
            // Sums of products with seconds since the evaluation, a few thousand at the most, forward and back.
            Rounding::Fit => within(EPSILON * largest * 1e4),
            // The slope of a sine is at most 1, that of the tangent 1 and its square.
            Rounding::Periodic => {
                let same = |a: f64, b: f64| close(a, b) || (a - b).abs() <= EPSILON * largest * (1.0 + a * a);
                !exact && compare(&theirs, &ours, strict, &same).is_ok()
            }
            // Inputs that differ in a last digit may lie on different sides of the place where the answer jumps.
            Rounding::Jumps => !exact,
        }
    }
}

/// Whether the order of an answer is not determined by what Prometheus sorts by.
fn is_out_of_order(node: &Node, reply: &Reply) -> bool {
    let query = node.to_string();
    // Groups come in the order of their first series, and sorting leaves series of equal values in any order.
    if (query.starts_with("topk") || query.starts_with("bottomk")) && query.contains("sort") {
        return true;
    }
    // Its natural order has each of a missing label and a present one before the other, and so with `05` and `5`.
    let values: BTreeSet<&String> = reply.rows.iter().flat_map(|row| row.0.values()).collect();
    let equal: BTreeSet<String> = values.iter().map(|value| value.replace('0', "")).collect();
    let names: BTreeSet<Vec<&String>> = reply.rows.iter().map(|row| row.0.keys().collect()).collect();
    query.starts_with("sort_by_label") && (names.len() > 1 || equal.len() < values.len())
}

/// What Prometheus 2.42 does otherwise than 3.x where neither is wrong.
fn changed_since(node: &Node, theirs: &Reply, ours: &Reply) -> bool {
    let query = node.to_string();
    // Of series with equal values it keeps others.
    let ranks = query.starts_with("topk") || query.starts_with("bottomk");
    // It looks for several matches only among the series that pass the comparison.
    let matches = theirs.succeeded() && ours.text.starts_with("multiple matches for labels");
    // A group that begins with NaN or an infinity has no deviation there; and squares that overflow leave its sums with the difference
    // of two infinities.
    let spread = query.starts_with("std") && {
        let overflows = |a: f64, b: f64| a.is_nan() && b.is_infinite();
        let same = |a: f64, b: f64| close(a, b) || a == 0.0 && b.is_nan() || overflows(a, b);
        let strict = Strictness { annotations: false, texts: false, order: false, sorted: true };
        compare(theirs, ours, strict, &same).is_ok()
    };
    // It appends the label of the values to those of the group, and tells groups apart by a function that wants them sorted: unless
    // that label is the last of them, values of one group are counted in several, and those of several in one. None is lost.
    let counts = query.starts_with("count_values") && same_sums(theirs, ours) && {
        let label = query.split('"').nth(1).unwrap_or_default();
        let first = query.strip_prefix("count_values by (").and_then(|rest| rest.split_once(')'));
        let last = query.trim_end().strip_suffix(')').and_then(|rest| rest.rsplit_once(" by ("));
        let last = last.map(|(_, by)| by).filter(|by| !by.contains(['(', ')']));
        first.map(|by| by.0).or(last).is_some_and(|by| by.split(", ").any(|name| name > label))
    };
    // It looks at the number of series to keep before it knows whether there are any.
    let kept = ranks && theirs.text.starts_with("Scalar value") && ours.succeeded();
    // From the second step on it loses samples of a range that is pinned while the answer still depends on the step.
    let pinned = query.starts_with("predict_linear(") && query.contains(" @ ");
    (ranks && same_values(theirs, ours)) || matches || spread || pinned || counts || kept
}
