//! `parse` reads back what `print` and `pretty` write.

use super::expressions::Source;
use kymo_query::ast::Expr;
use kymo_query::catalog::{AGGREGATORS, FUNCTIONS};
use kymo_query::{ParseOptions, parse, pretty};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn read(text: &str) -> Expr {
    let mut expr =
        parse(text, &ParseOptions::default()).unwrap_or_else(|errors| panic!("{text}\n{}", errors[0]));
    expr.clear_spans();
    expr
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn printing_keeps_the_tree(choices in prop::collection::vec(any::<u16>(), 0..200)) {
        let text = Source::new(&choices).expression();
        let expr = read(&text);
        let printed = expr.to_string();
        let again = read(&printed);
        prop_assert_eq!(&again, &expr, "{}\n{}", text, printed);
        prop_assert_eq!(again.to_string(), printed);
        prop_assert_eq!(&read(&pretty::pretty(&expr)), &expr);
    }
}

/// What nodes an expression is made of, with what sets them apart.
fn kinds(expr: &Expr, seen: &mut BTreeSet<String>) {
    expr.walk(&mut |expr| {
        let kind = match expr {
            Expr::NumberLiteral(e) if e.duration => "number of a duration".to_owned(),
            Expr::NumberLiteral(_) => "number".to_owned(),
            Expr::StringLiteral(_) => "string".to_owned(),
            Expr::VectorSelector(e) => format!("vector, smoothed: {}", e.smoothed),
            Expr::MatrixSelector(e) => {
                format!("matrix, anchored: {}, smoothed: {}", e.selector.anchored, e.selector.smoothed)
            }
            Expr::Subquery(e) => format!("subquery, with a step: {}", e.step.is_some()),
            Expr::Aggregate(e) => format!("aggregator {}", e.op.name),
            Expr::Binary(e) => {
                format!("operator {} of {}", e.op, e.left.value_type() == e.right.value_type())
            }
            Expr::Unary(e) => format!("sign {}", e.op),
            Expr::Call(e) => format!("function {}", e.function.name),
            Expr::Paren(_) => "parentheses".to_owned(),
        };
        seen.insert(kind);
    });
}

/// The property above says something of each kind of node only if each is made.
#[test]
fn every_kind_of_node_is_made() {
    let mut seen = BTreeSet::new();
    let mut state = 1u64;
    for _ in 0..3000 {
        let choices: Vec<u16> = (0..120)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 48) as u16
            })
            .collect();
        kinds(&read(&Source::new(&choices).expression()), &mut seen);
    }
    let named = |kind: &str, name: &str| seen.contains(&format!("{kind} {name}"));
    let functions = FUNCTIONS.iter().filter(|f| !named("function", f.name)).map(|f| f.name);
    let aggregators = AGGREGATORS.iter().filter(|a| !named("aggregator", a.name)).map(|a| a.name);
    let missing: Vec<&str> = functions.chain(aggregators).collect();
    assert!(missing.is_empty(), "never made: {missing:?}");
    let others = seen.iter().filter(|k| !k.starts_with("function") && !k.starts_with("aggregator"));
    // Two numbers, a string, two vectors, three matrices, two subqueries, two signs, parentheses, and 18 operators, of which
    // those that are not trimming or a set also stand between a vector and a number or two numbers.
    assert!(others.count() >= 13 + 18, "{seen:?}");
}
