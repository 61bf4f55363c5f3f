//! Random well-typed expressions over the fleet.

use crate::expression::{Node, Part, Rounding, Type, text};
use crate::selectors::Selectors;
use kymo_query::ValueType;
use kymo_query::catalog::{AGGREGATORS, Aggregator, AggregatorId, FUNCTIONS, Function, FunctionId};
use kymo_tests::rng::Rng;

/// What expressions may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// What Prometheus 2.42 knows and computes as 3.x does, of floats.
    StableFloat,
    /// Everything of 3.x.
    Everything,
}

/// Functions that are left out of both classes: `start_timestamp` needs `use-start-timestamps`, with which stable functions
/// answer otherwise.
const NEVER: [FunctionId; 1] = [FunctionId::StartTimestamp];

/// Not in 2.42, or not for floats.
fn is_new(function: &Function) -> bool {
    let new = [
        FunctionId::FirstOverTime,
        FunctionId::HistogramAvg,
        FunctionId::HistogramCount,
        FunctionId::HistogramSum,
        FunctionId::HistogramStddev,
        FunctionId::HistogramStdvar,
        FunctionId::HistogramFraction,
    ];
    function.experimental || new.contains(&function.id)
}

/// A source of random expressions.
#[derive(Debug)]
pub(crate) struct Generator<'a> {
    /// Where chance comes from.
    pub(crate) rng: &'a mut Rng,
    /// What it may make.
    pub(crate) class: Class,
    /// Whether it is inside of a subquery.
    inside: bool,
}

impl<'a> Generator<'a> {
    /// A generator.
    pub(crate) fn new(rng: &'a mut Rng, class: Class) -> Self {
        Self { rng, class, inside: false }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.rng.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.below(of.len() as u64) as usize]
    }

    fn new_things(&self) -> bool {
        self.class == Class::Everything
    }

    fn selectors(&mut self) -> Selectors<'_> {
        Selectors { rng: self.rng, class: self.class, inside: self.inside }
    }

    /// An expression that a query may be: mostly a vector.
    pub(crate) fn query(&mut self) -> Node {
        match self.rng.below(40) {
            0 | 1 => self.scalar(3),
            2 => self.selectors().string(),
            3 => self.matrix(1, ""),
            n => self.vector(1 + n as usize % 3),
        }
    }

    /// An instant vector of at most so many levels.
    pub(crate) fn vector(&mut self, depth: usize) -> Node {
        if depth == 0 {
            return self.selectors().vector("");
        }
        match self.rng.below(100) {
            0..12 => self.selectors().vector(""),
            12..58 => self.call(depth, ValueType::Vector),
            58..76 => self.aggregation(depth),
            76..94 => self.binary(depth),
            94..97 => {
                let sign = self.pick(&["-", "+", "-"]);
                let operand = self.operand(depth - 1);
                Node::of(Type::Vector, Rounding::Relative, vec![text(sign), Part::Child(operand)])
            }
            _ => self.vector(depth - 1).within(Type::Vector, "(", ")"),
        }
    }

    /// A vector that can stand beside an operator.
    fn operand(&mut self, depth: usize) -> Node {
        let node = self.vector(depth);
        self.parenthesised(node)
    }

    fn parenthesised(&mut self, node: Node) -> Node {
        let whole = node.to_string();
        let yields = node.yields;
        let simple = whole.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
        if simple || (whole.ends_with(')') && self.chance(10)) {
            return node;
        }
        node.within(yields, "(", ")")
    }

    /// A number a step.
    pub(crate) fn scalar(&mut self, depth: usize) -> Node {
        let new = self.new_things();
        match self.rng.below(if depth == 0 { 7 } else { 16 }) {
            0..5 => Node::leaf(Type::Scalar, self.number()),
            5 => Node::leaf(Type::Scalar, "time()"),
            6 if new => {
                let name = self.pick(&["start()", "end()", "step()", "range()", "pi()"]);
                Node::leaf(Type::Scalar, name)
            }
            6 => Node::leaf(Type::Scalar, "pi()"),
            7 | 8 => self.vector(depth - 1).within(Type::Scalar, "scalar(", ")"),
            9 if new => {
                let name = self.pick(&["min_of(", "max_of("]);
                let (a, b) = (self.scalar(depth - 1), self.scalar(depth - 1));
                let parts = vec![text(name), Part::Child(a), text(", "), Part::Child(b), text(")")];
                Node::of(Type::Scalar, Rounding::Relative, parts)
            }
            10 => self.scalar(depth - 1).within(Type::Scalar, "-(", ")"),
            _ => {
                let (left, right) = (self.scalar(depth - 1), self.scalar(depth - 1));
                let (left, right) = (self.parenthesised(left), self.parenthesised(right));
                let op =
                    self.pick(&["+", "-", "*", "/", "%", "^", "== bool", "< bool", ">= bool", "!= bool"]);
                let parts = vec![Part::Child(left), text(format!(" {op} ")), Part::Child(right)];
                Node::of(Type::Scalar, arithmetic(op), parts)
            }
        }
    }

    fn number(&mut self) -> String {
        let plain = ["0", "1", "2", "0.5", "3", "10", "100", "1e3", "-1", "0.1", "1.5", "60"];
        let odd = ["NaN", "Inf", "-Inf", "1e308", "-0", "1e-300", "0x1F", ".5", "2.", "1e18"];
        if self.chance(85) {
            return self.pick(&plain).to_owned();
        }
        if self.new_things() && self.chance(30) {
            return self.pick(&["5m", "1_000", "1h30m", "250ms"]).to_owned();
        }
        self.pick(&odd).to_owned()
    }

    /// A range vector, good for a function of that name.
    fn matrix(&mut self, depth: usize, function: &str) -> Node {
        let may_nest = !self.inside || self.new_things();
        if depth == 0 || !may_nest || self.chance(65) {
            return self.selectors().matrix(function);
        }
        let outer = self.inside;
        self.inside = true;
        let inner = self.vector(depth - 1);
        self.inside = outer;
        let inner = match inner.to_string() {
            whole if whole.ends_with(')') && !whole.starts_with(['(', '-', '+']) && self.chance(5) => inner,
            _ => inner.within(Type::Vector, "(", ")"),
        };
        let after = self.selectors().subquery();
        inner.within(Type::Matrix, "", &after)
    }

    fn call(&mut self, depth: usize, yields: ValueType) -> Node {
        let new = self.new_things();
        let function = loop {
            let function = &FUNCTIONS[self.rng.below(FUNCTIONS.len() as u64) as usize];
            let wanted = function.returns == yields && !NEVER.contains(&function.id);
            if wanted && (new || !is_new(function)) {
                break function;
            }
        };
        let mut parts = vec![text(format!("{}(", function.name))];
        let args = self.arguments(function, depth - 1);
        for (index, arg) in args.into_iter().enumerate() {
            if index > 0 {
                parts.push(text(", "));
            }
            parts.push(Part::Child(arg));
        }
        parts.push(text(")"));
        let mut node = Node::of(Type::Vector, rounding(function.id), parts);
        use FunctionId::{Sort, SortByLabel, SortByLabelDesc, SortDesc};
        node.ordered = [Sort, SortDesc, SortByLabel, SortByLabelDesc].contains(&function.id);
        node
    }

    fn arguments(&mut self, function: &Function, depth: usize) -> Vec<Node> {
        let selectors = |g: &mut Self, kind: &str| {
            if g.chance(70) { g.selectors().vector(kind) } else { g.vector(depth) }
        };
        use FunctionId::{
            DoubleExponentialSmoothing, HistogramFraction, HistogramQuantile, HistogramQuantiles, Info,
            LabelJoin, LabelReplace, QuantileOverTime, SortByLabel, SortByLabelDesc,
        };
        match function.id {
            LabelReplace => self.label_replace(depth),
            LabelJoin | SortByLabel | SortByLabelDesc => {
                let mut args = vec![self.vector(depth)];
                if function.id == LabelJoin {
                    args.push(self.selectors().label_text());
                    args.push(Node::leaf(Type::Text, "\"-\""));
                }
                for _ in 0..self.rng.below(3) {
                    args.push(self.selectors().label_text());
                }
                args
            }
            HistogramQuantile => {
                vec![self.quantile(), self.histogram_vector(depth)]
            }
            HistogramFraction => {
                let bounds = ["0", "0.2", "1", "-Inf", "+Inf", "2.5", "-1"];
                let lower = Node::leaf(Type::Scalar, self.pick(&bounds));
                let upper = Node::leaf(Type::Scalar, self.pick(&bounds));
                vec![lower, upper, self.histogram_vector(depth)]
            }
            HistogramQuantiles => {
                let mut args = vec![self.histogram_vector(depth), Node::leaf(Type::Text, "\"q\"")];
                for _ in 0..=self.rng.below(3) {
                    args.push(self.quantile());
                }
                args
            }
            Info => {
                let mut args = vec![selectors(self, "")];
                if self.chance(60) {
                    args.push(Node::leaf(Type::Vector, self.selectors().info()));
                }
                args
            }
            QuantileOverTime => vec![self.quantile(), self.matrix(depth, function.name)],
            DoubleExponentialSmoothing => {
                let factor =
                    |g: &mut Self| Node::leaf(Type::Scalar, g.pick(&["0.1", "0.5", "0.9", "0.3", "1"]));
                vec![self.matrix(depth, function.name), factor(self), factor(self)]
            }
            _ => self.plain_arguments(function, depth),
        }
    }

    fn plain_arguments(&mut self, function: &Function, depth: usize) -> Vec<Node> {
        let most = function.args_max.unwrap_or(function.args_min + 2);
        let count = function.args_min + self.rng.below((most - function.args_min + 1) as u64) as usize;
        let native = function.name.starts_with("histogram_");
        (0..count)
            .map(|index| match function.arg(index) {
                Some(ValueType::Scalar) => self.scalar(depth.min(1)),
                Some(ValueType::Matrix) => self.matrix(depth, function.name),
                Some(ValueType::String) => self.selectors().string(),
                _ if native && self.chance(80) => self.selectors().vector("native"),
                _ => self.vector(depth),
            })
            .collect()
    }

    fn label_replace(&mut self, depth: usize) -> Vec<Node> {
        let replacement = self.pick(&["\"$1\"", "\"x-$1\"", "\"\"", "\"$0\"", "\"${1}y\"", "\"new\""]);
        let pattern = self.pick(&["\"(.*)\"", "\"i(.)\"", "\"(a|d).*\"", "\"\"", "\"i0\"", "\"(?P<n>.+)\""]);
        let label = self.selectors().label_text();
        vec![
            self.vector(depth),
            self.selectors().label_text(),
            Node::leaf(Type::Text, replacement),
            label,
            Node::leaf(Type::Text, pattern),
        ]
    }

    fn quantile(&mut self) -> Node {
        let text = self.pick(&["0.5", "0.9", "0.99", "0", "1", "0.25", "-1", "2", "NaN", "0.75"]);
        Node::leaf(Type::Scalar, text)
    }

    /// Something with buckets.
    fn histogram_vector(&mut self, depth: usize) -> Node {
        let native = self.new_things() && self.chance(60);
        match self.rng.below(10) {
            0..3 => self.selectors().vector(if native { "native" } else { "bucket" }),
            3..5 => {
                let matrix = self.selectors().matrix(if native { "native" } else { "bucket" });
                Node::of(
                    Type::Vector,
                    Rounding::Additive,
                    vec![text("rate("), Part::Child(matrix), text(")")],
                )
            }
            5..8 => {
                let kind = if native { "native" } else { "bucket" };
                let inner = self.selectors().vector(kind);
                let op = self.pick(&["sum", "avg"]);
                let by = if native { "job" } else { "job, le" };
                inner.within(Type::Vector, &format!("{op} by ({by}) ("), ")")
            }
            _ => self.vector(depth),
        }
    }

    fn aggregation(&mut self, depth: usize) -> Node {
        let new = self.new_things();
        let aggregator = loop {
            let aggregator: &Aggregator = self.pick(&AGGREGATORS.iter().collect::<Vec<_>>());
            if new || !aggregator.experimental {
                break aggregator;
            }
        };
        let grouping = self.selectors().grouping();
        let after = self.chance(20);
        let mut parts = vec![text(if after {
            aggregator.name.to_owned()
        } else {
            format!("{}{grouping}", aggregator.name)
        })];
        parts.push(text("("));
        if aggregator.param.is_some() {
            let param = match aggregator.id {
                AggregatorId::CountValues => {
                    let names = ["\"value\"", "\"job\"", "\"v.v\""];
                    // 2.42 knows no dots in the names of labels.
                    Node::leaf(Type::Text, self.pick(if new { &names } else { &names[..2] }))
                }
                AggregatorId::Quantile => self.quantile(),
                AggregatorId::LimitRatio => {
                    Node::leaf(Type::Scalar, self.pick(&["0.5", "-0.5", "0.1", "1", "0", "-0.9", "2"]))
                }
                _ if self.chance(80) => {
                    Node::leaf(Type::Scalar, self.pick(&["1", "2", "3", "5", "0", "100"]))
                }
                _ => self.scalar(depth.min(1)),
            };
            parts.push(Part::Child(param));
            parts.push(text(", "));
        }
        let inner = self.vector(depth - 1);
        parts.push(Part::Child(inner));
        parts.push(text(if after { format!("){grouping}") } else { ")".to_owned() }));
        use AggregatorId::{Bottomk, CountValues, Stddev, Stdvar, Topk};
        let rounding = match aggregator.id {
            AggregatorId::Sum | AggregatorId::Avg | AggregatorId::Quantile => Rounding::Additive,
            Stddev | Stdvar => Rounding::Squares,
            CountValues | Topk | Bottomk => Rounding::Jumps,
            _ => Rounding::Relative,
        };
        let mut node = Node::of(Type::Vector, rounding, parts);
        node.ordered = matches!(aggregator.id, Topk | Bottomk);
        node
    }

    fn binary(&mut self, depth: usize) -> Node {
        if self.chance(15) {
            return self.join();
        }
        let mut ops = vec!["+", "-", "*", "/", "%", "^", "==", "!=", "<", "<=", ">", ">="];
        if self.new_things() {
            ops.extend(["atan2", "</", ">/"]);
        }
        let with_scalar = self.chance(40);
        if !with_scalar {
            ops.extend(["and", "or", "unless", "and", "or", "unless"]);
        }
        let op = self.pick(&ops);
        let mut left = self.operand(depth - 1);
        let mut right = if with_scalar {
            let scalar = self.scalar(1);
            self.parenthesised(scalar)
        } else if self.chance(35) {
            // The same on both sides finds a partner for each.
            left.clone()
        } else {
            self.operand(depth - 1)
        };
        let trims = op == "</" || op == ">/";
        if with_scalar && !trims && self.chance(50) {
            std::mem::swap(&mut left, &mut right);
        }
        let comparison = ["==", "!=", "<", "<=", ">", ">="].contains(&op);
        let bool_word = if comparison && self.chance(35) { " bool" } else { "" };
        let set = ["and", "or", "unless"].contains(&op);
        let matching = if with_scalar { String::new() } else { self.selectors().matching(set) };
        let parts = vec![Part::Child(left), text(format!(" {op}{bool_word}{matching} ")), Part::Child(right)];
        Node::of(Type::Vector, arithmetic(op), parts)
    }

    /// A join that finds partners.
    fn join(&mut self) -> Node {
        let (left, how, right) = self.pick(&[
            ("requests_total", "* on (instance) group_left ()", "instance_weight"),
            ("requests_total", "* on (job) group_left (team)", "job_owner"),
            ("memory_bytes", "* on (instance, job) group_left (version, region)", "target_info"),
            ("target_info", "* on (instance, job) group_right (version)", "requests_total"),
            ("errors_total", "/ ignoring (path) group_right ()", "requests_total"),
            ("requests_total", "- ignoring (path) group_left ()", "errors_total"),
            ("memory_bytes", "> on (instance) group_left ()", "slow_gauge"),
            ("up", "== on (instance, job) group_right ()", "errors_total"),
            ("memory_bytes", "and on (instance)", "temperature"),
            ("memory_bytes", "unless on (instance)", "instance_weight"),
            ("slow_gauge", "/ on (instance)", "constant"),
            ("latency_seconds_sum", "/", "latency_seconds_count"),
            ("memory_bytes", "+ on (instance)", "slow_gauge"),
        ]);
        let leaf = |g: &mut Self, name: &str| {
            if name.ends_with("_total") && g.chance(50) {
                let matrix = Node::leaf(Type::Matrix, format!("{name}[5m]"));
                return Node::of(
                    Type::Vector,
                    Rounding::Additive,
                    vec![text("rate("), Part::Child(matrix), text(")")],
                );
            }
            let selector = Node::leaf(Type::Vector, name);
            if name == "memory_bytes" && g.chance(30) {
                selector.within(Type::Vector, "(", " > 0)")
            } else {
                selector
            }
        };
        let (left, right) = (leaf(self, left), leaf(self, right));
        let fill = if self.new_things() && !how.starts_with(['a', 'u']) && self.chance(30) {
            self.pick(&[" fill (0)", " fill_left (1)", " fill_right (-2)", " fill_left (1) fill_right (0.5)"])
        } else {
            ""
        };
        let op = how.split(' ').next().unwrap_or_default();
        let parts = vec![Part::Child(left), text(format!(" {how}{fill} ")), Part::Child(right)];
        Node::of(Type::Vector, arithmetic(op), parts)
    }
}

/// What an operator does to rounding.
fn arithmetic(op: &str) -> Rounding {
    match op.split(' ').next().unwrap_or_default() {
        "+" | "-" => Rounding::Additive,
        "*" | "/" | "atan2" => Rounding::Relative,
        "^" => Rounding::Exponential,
        _ => Rounding::Jumps,
    }
}

/// What a function does to rounding.
fn rounding(function: FunctionId) -> Rounding {
    use FunctionId::{
        Acos, Acosh, Asin, Atanh, AvgOverTime, Ceil, Changes, Cos, Cosh, DayOfMonth, DayOfWeek, DayOfYear,
        DaysInMonth, Delta, Deriv, DoubleExponentialSmoothing, Exp, Floor, HistogramAvg, HistogramFraction,
        HistogramQuantile, HistogramQuantiles, HistogramStddev, HistogramStdvar, HistogramSum, Hour, Idelta,
        Increase, Irate, Ln, Log2, Log10, MadOverTime, Minute, Month, PredictLinear, QuantileOverTime, Rate,
        Resets, Round, Sgn, Sin, Sinh, Sort, SortDesc, StddevOverTime, StdvarOverTime, SumOverTime, Tan,
        TsOfMaxOverTime, TsOfMinOverTime, Year,
    };
    match function {
        AvgOverTime
        | Delta
        | Idelta
        | Increase
        | Irate
        | Rate
        | SumOverTime
        | QuantileOverTime
        | MadOverTime
        | DoubleExponentialSmoothing
        | HistogramQuantile
        | HistogramQuantiles
        | HistogramFraction
        | HistogramAvg
        | HistogramSum => Rounding::Additive,
        HistogramStddev | HistogramStdvar | StddevOverTime | StdvarOverTime => Rounding::Squares,
        Deriv | PredictLinear => Rounding::Fit,
        Sin | Cos | Tan => Rounding::Periodic,
        Exp | Sinh | Cosh => Rounding::Exponential,
        Ln | Log10 | Log2 => Rounding::Logarithm,
        Acos | Asin | Acosh | Atanh => Rounding::Arc,
        Ceil | Floor | Round | Sgn | Changes | Resets | Sort | SortDesc | TsOfMaxOverTime
        | TsOfMinOverTime | DayOfMonth | DayOfWeek | DayOfYear | DaysInMonth | Hour | Minute | Month
        | Year => Rounding::Jumps,
        _ => Rounding::Relative,
    }
}
