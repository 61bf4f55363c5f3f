//! Asks a query again in other words that must have the same answer: pinned by `@`, evaluated at another time.

use kymo_query::ParseOptions;
use kymo_query::ast::Expr;

/// Whether the answer depends on the query's own start, end or step, so that an instant and a range query may differ.
pub fn depends_on_range(query: &str) -> bool {
    let squeezed: String = query.chars().filter(|c| !c.is_whitespace()).collect();
    let squeezed = squeezed.to_ascii_lowercase();
    ["start()", "end()", "range()", "step()"].iter().any(|call| squeezed.contains(call))
}

/// Functions whose value depends on the evaluation time even when everything they read is pinned.
const TIME_DEPENDENT: [&str; 11] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "time",
    "timestamp",
];

/// The query with `@ at_ms` on every selector and subquery that has no `@` of its own and lies in no pinned subquery;
/// `None` if its answer depends on the evaluation time in another way.
///
/// # Errors
/// The query does not parse.
pub fn pin(query: &str, at_ms: i64) -> Result<Option<String>, String> {
    let expr = kymo_query::parse(query, &ParseOptions::default()).map_err(|errors| format!("{errors:?}"))?;
    let mut ends = Vec::new();
    let mut open = vec![&expr];
    while let Some(next) = open.pop() {
        match next {
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => {}
            Expr::VectorSelector(e) => ends.extend(e.at.is_none().then_some(e.span.end)),
            Expr::MatrixSelector(e) => ends.extend(e.selector.at.is_none().then_some(e.span.end)),
            // What is inside follows the subquery's time, pinned by it or by us.
            Expr::Subquery(e) => ends.extend(e.at.is_none().then_some(e.span.end)),
            Expr::Aggregate(e) => {
                open.push(&e.expr);
                open.extend(e.param.as_deref());
            }
            Expr::Binary(e) => open.extend([&*e.left, &*e.right]),
            Expr::Unary(e) => open.push(&e.expr),
            Expr::Call(e) if TIME_DEPENDENT.contains(&e.function.name) => return Ok(None),
            Expr::Call(e) => open.extend(&e.args),
            Expr::Paren(e) => open.push(&e.expr),
        }
    }
    ends.sort_unstable();
    let mut pinned = query.to_owned();
    for end in ends.into_iter().rev() {
        pinned.insert_str(end as usize, &format!(" @ {:.3}", at_ms as f64 / 1000.0));
    }
    Ok(Some(pinned))
}

/// The evaluation times at which a query pinned to `at_ms` is asked.
pub fn other_times(at_ms: i64) -> Vec<i64> {
    match at_ms {
        0 => vec![-1000, 0, 1000],
        t => vec![-10 * t, 0, t / 5, t, 10 * t],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_pinned_once() {
        for (query, pinned) in [
            ("m", Some("m @ 60.000")),
            (
                "sum by (a) (rate(m[5m])) / -n{b=\"c\"} offset 5m",
                Some("sum by (a) (rate(m[5m] @ 60.000)) / -n{b=\"c\"} offset 5m @ 60.000"),
            ),
            ("max_over_time(rate(m[1m])[5m:1m])", Some("max_over_time(rate(m[1m])[5m:1m] @ 60.000)")),
            ("max_over_time(m[5m:1m] @ 5) + m @ 7", Some("max_over_time(m[5m:1m] @ 5) + m @ 7")),
            ("topk(scalar(k), m)", Some("topk(scalar(k @ 60.000), m @ 60.000)")),
            ("1 + 2", Some("1 + 2")),
            ("m + time()", None),
            ("hour(m)", None),
        ] {
            assert_eq!(pin(query, 60_000).unwrap().as_deref(), pinned, "{query}");
            assert!(pinned.is_none_or(|p| kymo_query::parse(p, &ParseOptions::default()).is_ok()));
        }
        assert!(pin("sum(", 0).is_err());
        assert!(depends_on_range("m @ start( )") && !depends_on_range("starter()"));
    }
}
