//! Which expressions have the same value at every step.

use crate::ast::Expr;
use crate::catalog::FunctionId;

/// Whether nothing in `expr` depends on the step: everything it reads is pinned by `@`.
pub(super) fn is_invariant(expr: &Expr) -> bool {
    match expr {
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => true,
        Expr::VectorSelector(e) => e.at.is_some(),
        Expr::MatrixSelector(e) => e.selector.at.is_some(),
        Expr::Subquery(e) => e.at.is_some(),
        Expr::Call(e) => {
            // Some are the same at every step, but on Prometheus' list; and what it thinks of a call shows in warnings.
            let by_time = matches!(
                e.function.id,
                FunctionId::Time
                    | FunctionId::Timestamp
                    | FunctionId::PredictLinear
                    | FunctionId::Minute
                    | FunctionId::Hour
                    | FunctionId::DayOfMonth
                    | FunctionId::DayOfWeek
                    | FunctionId::DayOfYear
                    | FunctionId::DaysInMonth
                    | FunctionId::Month
                    | FunctionId::Year
                    | FunctionId::Start
                    | FunctionId::End
                    | FunctionId::Range
                    | FunctionId::Step
            );
            !by_time && e.args.iter().all(is_invariant)
        }
        // As in Prometheus, the parameter is the one of the first step then.
        Expr::Aggregate(e) => is_invariant(&e.expr),
        Expr::Binary(_) | Expr::Unary(_) | Expr::Paren(_) => expr.children().into_iter().all(is_invariant),
    }
}
