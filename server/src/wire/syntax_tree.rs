//! A syntax tree as JSON, in the shape that Prometheus' `/api/v1/parse_query` gives it.

use kymo_query::ast::{At, Binary, DurationExpr, DurationOp, Expr, MatrixSelector, Subquery, VectorSelector};
use kymo_query::ast::{ValueType, VectorMatching};
use kymo_query::catalog::Function;
use kymo_query::format::float_plain;
use kymo_storage::model::Matcher;
use serde_json::{Map, Value, json};

/// The tree of `expr`. Trees of the parser are of bounded height, so this may recurse.
pub fn syntax_tree(expr: &Expr) -> Value {
    match expr {
        Expr::NumberLiteral(e) => json!({ "type": "numberLiteral", "val": float_plain(e.value) }),
        Expr::StringLiteral(e) => {
            json!({ "type": "stringLiteral", "val": String::from_utf8_lossy(&e.value) })
        }
        Expr::VectorSelector(e) => Value::Object(selector("vectorSelector", e)),
        Expr::MatrixSelector(e) => matrix(e),
        Expr::Subquery(e) => subquery(e),
        Expr::Aggregate(e) => json!({
            "type": "aggregation",
            "op": e.op.name,
            "expr": syntax_tree(&e.expr),
            "param": e.param.as_deref().map(syntax_tree),
            "grouping": e.grouping.labels,
            "without": e.grouping.without,
        }),
        Expr::Binary(e) => binary(e),
        Expr::Unary(e) => {
            json!({ "type": "unaryExpr", "op": e.op.to_string(), "expr": syntax_tree(&e.expr) })
        }
        Expr::Call(e) => json!({
            "type": "call",
            "func": function(e.function),
            "args": e.args.iter().map(syntax_tree).collect::<Vec<_>>(),
        }),
        Expr::Paren(e) => json!({ "type": "parenExpr", "expr": syntax_tree(&e.expr) }),
    }
}

fn binary(e: &Binary) -> Value {
    let vectors = [&e.left, &e.right].iter().all(|side| side.value_type() == ValueType::Vector);
    json!({
        "type": "binaryExpr",
        "op": e.op.as_str(),
        "lhs": syntax_tree(&e.left),
        "rhs": syntax_tree(&e.right),
        "matching": vectors.then(|| matching(&e.matching)),
        "bool": e.return_bool,
    })
}

/// A stand-in that JSON has no number for is `null`.
fn matching(m: &VectorMatching) -> Value {
    json!({
        "card": m.card.to_string(),
        "labels": m.labels,
        "on": m.on,
        "include": m.include,
        "fillValues": { "lhs": m.fill.left, "rhs": m.fill.right },
    })
}

/// A function that takes more or fewer arguments has one type more than it needs arguments, and says how many may be left
/// out or added (-1: any number).
fn function(function: &Function) -> Value {
    let more = match function.args_max {
        None => -1,
        Some(max) => i64::try_from(max.saturating_sub(function.args_min)).unwrap_or(-1),
    };
    let types = function.args_min + usize::from(more != 0);
    let types: Vec<&str> =
        (0..types).filter_map(|i| function.arg(i)).map(|value_type| value_type.api_name()).collect();
    json!({
        "name": function.name,
        "argTypes": types,
        "variadic": more,
        "returnType": function.returns.api_name(),
    })
}

fn selector(kind: &str, e: &VectorSelector) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("type".into(), kind.into());
    object.insert("name".into(), e.name.as_deref().unwrap_or_default().into());
    object.insert("matchers".into(), e.matchers.iter().map(matcher).collect());
    add_duration(&mut object, "offset", e.offset.as_ref());
    add_at(&mut object, e.at);
    object.insert("anchored".into(), e.anchored.into());
    object.insert("smoothed".into(), e.smoothed.into());
    object
}

fn matcher(matcher: &Matcher) -> Value {
    json!({ "name": matcher.name(), "value": matcher.value(), "type": matcher.op().to_string() })
}

fn matrix(e: &MatrixSelector) -> Value {
    let mut object = selector("matrixSelector", &e.selector);
    add_duration(&mut object, "range", Some(&e.range));
    Value::Object(object)
}

fn subquery(e: &Subquery) -> Value {
    let mut object = Map::new();
    object.insert("type".into(), "subquery".into());
    object.insert("expr".into(), syntax_tree(&e.expr));
    add_duration(&mut object, "range", Some(&e.range));
    add_duration(&mut object, "step", e.step.as_ref());
    add_duration(&mut object, "offset", e.offset.as_ref());
    add_at(&mut object, e.at);
    Value::Object(object)
}

fn add_at(object: &mut Map<String, Value>, at: Option<At>) {
    let (timestamp, word) = match at {
        Some(At::Timestamp(timestamp)) => (Some(timestamp), None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
        None => (None, None),
    };
    object.insert("timestamp".into(), timestamp.into());
    object.insert("startOrEnd".into(), word.into());
}

/// `name` holds milliseconds and `nameExpr` the arithmetic; one of the two says all.
fn add_duration(object: &mut Map<String, Value>, name: &str, expr: Option<&DurationExpr>) {
    let (millis, tree) = match expr.map(duration) {
        None => (0, Value::Null),
        Some(Duration::Number { seconds, .. }) => (((seconds * 1e9).round() as i64) / 1_000_000, Value::Null),
        Some(computed @ Duration::Computed(_)) => (0, computed.tree()),
    };
    object.insert(name.into(), millis.into());
    object.insert(format!("{name}Expr"), tree);
}

/// A duration with signs of numbers taken into the numbers.
enum Duration {
    Number { seconds: f64, duration: bool },
    Computed(Map<String, Value>),
}

impl Duration {
    fn computed(op: &str, sides: [Value; 2]) -> Self {
        let [left, right] = sides;
        let mut object = Map::new();
        object.insert("type".into(), "durationExpr".into());
        object.insert("op".into(), op.into());
        object.insert("lhs".into(), left);
        object.insert("rhs".into(), right);
        object.insert("wrapped".into(), false.into());
        Self::Computed(object)
    }

    fn tree(self) -> Value {
        match self {
            Self::Number { seconds, duration } => {
                json!({ "type": "numberLiteral", "val": float_plain(seconds), "duration": duration })
            }
            Self::Computed(object) => Value::Object(object),
        }
    }
}

fn duration(expr: &DurationExpr) -> Duration {
    match expr {
        DurationExpr::Number { seconds, duration, .. } => {
            Duration::Number { seconds: *seconds, duration: *duration }
        }
        DurationExpr::Step { .. } => Duration::computed("step", [Value::Null, Value::Null]),
        DurationExpr::Range { .. } => Duration::computed("range", [Value::Null, Value::Null]),
        DurationExpr::Negate { operand, .. } => match duration(operand) {
            Duration::Number { seconds, duration } => Duration::Number { seconds: -seconds, duration },
            computed @ Duration::Computed(_) => Duration::computed("-", [Value::Null, computed.tree()]),
        },
        DurationExpr::Paren { inner, .. } => {
            // A number has no place for the word, so a plus without a left side carries it.
            let mut inner = match duration(inner) {
                number @ Duration::Number { .. } => Duration::computed("+", [Value::Null, number.tree()]),
                computed @ Duration::Computed(_) => computed,
            };
            if let Duration::Computed(object) = &mut inner {
                object.insert("wrapped".into(), true.into());
            }
            inner
        }
        DurationExpr::Binary { op, left, right, .. } => {
            let sides = [duration(left).tree(), duration(right).tree()];
            Duration::computed(duration_op(*op), sides)
        }
    }
}

fn duration_op(op: DurationOp) -> &'static str {
    match op {
        DurationOp::Add => "+",
        DurationOp::Sub => "-",
        DurationOp::Mul => "*",
        DurationOp::Div => "/",
        DurationOp::Mod => "%",
        DurationOp::Pow => "^",
        DurationOp::Min => "min_of",
        DurationOp::Max => "max_of",
    }
}
