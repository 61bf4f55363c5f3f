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
            let by_time = match e.function.id {
                FunctionId::Time | FunctionId::Timestamp | FunctionId::PredictLinear => true,
                FunctionId::Minute
                | FunctionId::Hour
                | FunctionId::DayOfMonth
                | FunctionId::DayOfWeek
                | FunctionId::DayOfYear
                | FunctionId::DaysInMonth
                | FunctionId::Month
                | FunctionId::Year => e.args.is_empty(),
                _ => false,
            };
            !by_time && e.args.iter().all(is_invariant)
        }
        Expr::Aggregate(_) | Expr::Binary(_) | Expr::Unary(_) | Expr::Paren(_) => {
            expr.children().into_iter().all(is_invariant)
        }
    }
}
