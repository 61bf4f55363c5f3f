//! Our own scripts leave nothing of the language out: each function, aggregator, operator and modifier is evaluated by one of
//! them with an answer to compare, and each thing that can be said of an answer is said.

use kymo_query::ast::{At, Cardinality, DurationExpr, DurationOp, Expr, UnaryOp, VectorSelector};
use kymo_query::catalog::{AGGREGATORS, FUNCTIONS};
use kymo_query::{ParseOptions, parse};
use kymo_tests::promqltest::folder::{own_scripts, scripts};
use kymo_tests::promqltest::script::{self, Command, Eval, TextTest};
use std::collections::BTreeSet;

/// What may stand in a query besides functions and aggregators, in the words [`seen`] finds it by.
const CONSTRUCTS: &[&str] = &[
    "operator or",
    "operator and",
    "operator unless",
    "operator ==",
    "operator !=",
    "operator <=",
    "operator <",
    "operator >=",
    "operator >",
    "operator </",
    "operator >/",
    "operator +",
    "operator -",
    "operator *",
    "operator /",
    "operator %",
    "operator atan2",
    "operator ^",
    "sign +",
    "sign -",
    "bool",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "group_left with labels",
    "fill_left",
    "fill_right",
    "by",
    "without",
    "offset",
    "negative offset",
    "@ time",
    "@ start()",
    "@ end()",
    "anchored",
    "smoothed vector",
    "smoothed range",
    "range",
    "subquery",
    "subquery without step",
    "duration +",
    "duration -",
    "duration *",
    "duration /",
    "duration %",
    "duration ^",
    "duration min_of",
    "duration max_of",
    "duration step()",
    "duration range()",
    "duration negated",
    "duration in parentheses",
    "string",
    "number",
    "duration as number",
    "parentheses",
    "quoted name",
    "matcher =",
    "matcher !=",
    "matcher =~",
    "matcher !~",
];

/// Everything that is said of an answer (the `__type__` label's info needs a feature: `query/tests/engine/switches.rs`).
const ANNOTATIONS: &[&str] = &[
    "PromQL warning: ratio value should be between -1 and 1, got 1.5, capping to 1 (",
    "PromQL warning: quantile value should be between 0 and 1, got 1.5 (",
    "PromQL warning: bucket label \"le\" is missing or has a malformed value of \"\" for metric name \"temperature\" (",
    "PromQL warning: encountered a mix of histograms and floats for metric name \"both\" (",
    "PromQL warning: encountered a mix of histograms and floats for aggregation (",
    "PromQL warning: vector contains a mix of classic and native histograms for metric name \"twofold\" (",
    "PromQL warning: this native histogram metric is not a counter: \"level\" (",
    "PromQL warning: this native histogram metric is not a gauge: \"sizes\" (",
    "PromQL warning: vector contains a mix of histograms with exponential and custom buckets schemas for metric name \"changed_total\" (",
    "PromQL warning: incompatible bucket layout encountered for binary operator + (",
    "PromQL warning: conflicting counter resets during histogram addition (",
    "PromQL warning: conflicting counter resets during histogram subtraction (",
    "PromQL warning: conflicting counter resets during histogram aggregation (",
    "PromQL warning: sort is ineffective for range queries since results are always ordered by labels (",
    "PromQL warning: sample has start time that overlaps with previous sample timestamp for metric \"odd_total\" (",
    "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"temperature\" (",
    "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name \"uneven_bucket\", from buckets 2 to 2, with a max diff of 1, over 1 samples from 1970-01-01T00:00:00Z to 1970-01-01T00:00:00Z (1:25)",
    "PromQL info: incompatible sample types encountered for binary operator \"+\": float + histogram (",
    "PromQL info: ignored histogram in stddev aggregation (",
    "PromQL info: ignored histograms in a range containing both floats and histograms for metric name \"both\" (",
    "PromQL info: input to histogram_quantile has NaN observations, result is NaN for metric name \"undefined\" (",
    "PromQL info: input to histogram_quantile has NaN observations, result is skewed higher for metric name \"undefined\" (",
    "PromQL info: input to histogram_fraction has NaN observations, which are excluded from all fractions for metric name \"undefined\" (",
    "PromQL info: mismatched custom buckets were reconciled during aggregation (",
    "PromQL info: mismatched custom buckets were reconciled during addition (",
    "PromQL info: mismatched custom buckets were reconciled during subtraction (",
];

fn evaluations() -> Vec<(String, Eval)> {
    let mut found = Vec::new();
    for (name, text) in scripts(&own_scripts()) {
        for command in script::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}")) {
            if let Command::Eval(eval) = command {
                found.push((name.clone(), *eval));
            }
        }
    }
    found
}

/// An evaluation proves something of a construct if there are values to compare.
fn has_values(eval: &Eval) -> bool {
    let e = &eval.expected;
    e.fail.is_none() && (!e.rows.is_empty() || e.scalar.is_some() || e.text.is_some())
}

fn of_duration(duration: &DurationExpr, seen: &mut BTreeSet<String>) {
    let mut add = |word: &str| {
        seen.insert(format!("duration {word}"));
    };
    match duration {
        DurationExpr::Number { .. } => {}
        DurationExpr::Step { .. } => add("step()"),
        DurationExpr::Range { .. } => add("range()"),
        DurationExpr::Negate { operand, .. } => {
            add("negated");
            of_duration(operand, seen);
        }
        DurationExpr::Paren { inner, .. } => {
            add("in parentheses");
            of_duration(inner, seen);
        }
        DurationExpr::Binary { op, left, right, .. } => {
            add(match op {
                DurationOp::Add => "+",
                DurationOp::Sub => "-",
                DurationOp::Mul => "*",
                DurationOp::Div => "/",
                DurationOp::Mod => "%",
                DurationOp::Pow => "^",
                DurationOp::Min => "min_of",
                DurationOp::Max => "max_of",
            });
            of_duration(left, seen);
            of_duration(right, seen);
        }
    }
}

fn of_place(offset: Option<&DurationExpr>, at: Option<At>, seen: &mut BTreeSet<String>) {
    if let Some(offset) = offset {
        let negative = matches!(offset, DurationExpr::Number { seconds, .. } if *seconds < 0.0);
        seen.insert(if negative { "negative offset" } else { "offset" }.to_owned());
        of_duration(offset, seen);
    }
    let at = at.map(|at| match at {
        At::Timestamp(_) => "@ time",
        At::Start => "@ start()",
        At::End => "@ end()",
    });
    seen.extend(at.map(str::to_owned));
}

fn of_selector(selector: &VectorSelector, seen: &mut BTreeSet<String>) {
    of_place(selector.offset.as_ref(), selector.at, seen);
    for matcher in &selector.matchers {
        seen.insert(if matcher.name() == "__name__" && selector.name.is_none() {
            "quoted name".to_owned()
        } else {
            format!("matcher {}", matcher.op())
        });
    }
}

/// What stands in an expression.
fn seen(expr: &Expr) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    expr.walk(&mut |expr| {
        let mut add = |word: &str| {
            seen.insert(word.to_owned());
        };
        match expr {
            Expr::NumberLiteral(e) => add(if e.duration { "duration as number" } else { "number" }),
            Expr::StringLiteral(_) => add("string"),
            Expr::VectorSelector(e) => {
                if e.smoothed {
                    add("smoothed vector");
                }
                of_selector(e, &mut seen);
            }
            Expr::MatrixSelector(e) => {
                add("range");
                if e.selector.anchored {
                    add("anchored");
                }
                if e.selector.smoothed {
                    add("smoothed range");
                }
                of_duration(&e.range, &mut seen);
                of_selector(&e.selector, &mut seen);
            }
            Expr::Subquery(e) => {
                add(if e.step.is_some() { "subquery" } else { "subquery without step" });
                of_duration(&e.range, &mut seen);
                e.step.iter().for_each(|step| of_duration(step, &mut seen));
                of_place(e.offset.as_ref(), e.at, &mut seen);
            }
            Expr::Aggregate(e) => {
                add(&format!("aggregator {}", e.op.name));
                if !e.grouping.labels.is_empty() {
                    add(if e.grouping.without { "without" } else { "by" });
                }
            }
            Expr::Binary(e) => {
                add(&format!("operator {}", e.op));
                let m = &e.matching;
                let words = [
                    ("bool", e.return_bool),
                    ("on", m.on),
                    ("ignoring", !m.on && !m.labels.is_empty()),
                    ("group_left", m.card == Cardinality::ManyToOne),
                    ("group_right", m.card == Cardinality::OneToMany),
                    ("group_left with labels", m.card == Cardinality::ManyToOne && !m.include.is_empty()),
                    ("fill_left", m.fill.left.is_some()),
                    ("fill_right", m.fill.right.is_some()),
                ];
                words.iter().filter(|(_, is)| *is).for_each(|(word, _)| add(word));
            }
            Expr::Unary(e) => add(if e.op == UnaryOp::Plus { "sign +" } else { "sign -" }),
            Expr::Call(e) => add(&format!("function {}", e.function.name)),
            Expr::Paren(_) => add("parentheses"),
        }
    });
    seen
}

#[test]
fn own_scripts_evaluate_all_of_the_language() {
    let mut all = BTreeSet::new();
    for (script, eval) in evaluations().iter().filter(|(_, eval)| has_values(eval)) {
        let expr = parse(&eval.query, &ParseOptions::default())
            .unwrap_or_else(|errors| panic!("{script}:{}: {}", eval.line, errors[0]));
        all.extend(seen(&expr));
    }
    let functions = FUNCTIONS.iter().map(|f| format!("function {}", f.name));
    let aggregators = AGGREGATORS.iter().map(|a| format!("aggregator {}", a.name));
    let constructs = CONSTRUCTS.iter().map(|c| (*c).to_owned());
    let wanted: BTreeSet<String> = functions.chain(aggregators).chain(constructs).collect();
    let missing: Vec<&String> = wanted.difference(&all).collect();
    assert!(missing.is_empty(), "no script evaluates, with an answer: {missing:#?}");
    // The other way round, so that a new construct finds its way into the list.
    let unlisted: Vec<&String> = all.difference(&wanted).collect();
    assert!(unlisted.is_empty(), "not in the list of constructs: {unlisted:#?}");
}

#[test]
fn own_scripts_expect_all_that_can_be_said() {
    let evaluations = evaluations();
    let tests: Vec<&TextTest> = evaluations
        .iter()
        .flat_map(|(_, eval)| eval.expected.warn.iter().chain(&eval.expected.info).flatten())
        .collect();
    let missing: Vec<&&str> = ANNOTATIONS
        .iter()
        .filter(|text| {
            !tests.iter().any(|test| match test {
                TextTest::Exact(expected) => expected.starts_with(**text),
                TextTest::Pattern(pattern) => pattern.is_match(text),
            })
        })
        .collect();
    assert!(missing.is_empty(), "no script expects: {missing:#?}");
}
