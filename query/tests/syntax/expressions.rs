//! Random expressions of the right types, as text. The same choices always make the same expression.

use kymo_query::ValueType;
use kymo_query::catalog::{AGGREGATORS, FUNCTIONS, Function, FunctionId};

/// Turns numbers into an expression. When they run out, everything that follows is as plain as can be.
pub(crate) struct Source<'c> {
    choices: std::slice::Iter<'c, u16>,
    depth: usize,
}

const DEPTH_MAX: usize = 6;

const NAMES: &[&str] = &["up", "http_requests_total", "a:b", "sum", "by", "start", "fill", "offset"];
const LABELS: &[&str] = &["job", "le", "on", "bool", "\"my.label\"", "\"ä\""];
const DURATIONS: &[&str] = &["5m", "300", "1h30m", "90d", "1y", "0x10", "1ms", "1.5", "0.0004", "1.00051"];
const NUMBERS: &[&str] =
    &["1", "0.5", "1e21", "Inf", "NaN", "5m", "0x1f", "1e-9", "1_000", "0", "0s", "5e-324", "1e308"];
const STRINGS: &[&str] = &["\"a\"", "'q\"'", "`raw\\`", "\"\\xff\\n\"", "\"é\\u0001\"", "\"\""];

impl<'c> Source<'c> {
    pub(crate) fn new(choices: &'c [u16]) -> Self {
        Self { choices: choices.iter(), depth: 0 }
    }

    fn choose(&mut self, count: usize) -> usize {
        self.choices.next().map_or(0, |c| usize::from(*c) % count)
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.choose(from.len())]
    }

    /// Runs one of the rules, the first one if it is deep enough already.
    fn either(&mut self, rules: &[fn(&mut Self) -> String]) -> String {
        if self.depth >= DEPTH_MAX {
            return rules[0](self);
        }
        self.depth += 1;
        let at = self.choose(rules.len());
        let text = rules[at](self);
        self.depth -= 1;
        text
    }

    /// An expression of any type that can stand alone.
    pub(crate) fn expression(&mut self) -> String {
        self.either(&[Self::vector, Self::vector, Self::scalar, Self::matrix, |s| s.pick(STRINGS).to_owned()])
    }

    fn number(&mut self) -> String {
        let sign = self.pick(&["", "", "-"]);
        format!("{sign}{}", self.pick(NUMBERS))
    }

    fn scalar(&mut self) -> String {
        self.either(&[
            Self::number,
            |s| format!("({})", s.scalar()),
            |s| format!("scalar({})", s.vector()),
            |s| s.pick(&["time()", "pi()", "step()", "start()", "end()", "range()"]).to_owned(),
            |s| {
                let of = s.pick(&["min_of", "max_of"]);
                format!("{of}({}, {})", s.scalar(), s.scalar())
            },
            |s| {
                let op = s.pick(&[
                    "+", "-", "*", "/", "%", "^", "atan2", "== bool", "!= bool", ">= bool", "< bool",
                    "> bool", "<= bool",
                ]);
                format!("{} {op} {}", s.scalar(), s.scalar())
            },
            |s| format!("-({})", s.scalar()),
            |s| format!("{}{}", s.pick(&["-", "+"]), s.scalar()),
        ])
    }

    /// An expression that yields a vector.
    pub(crate) fn vector(&mut self) -> String {
        self.either(&[
            |s| s.selector() + &s.modifiers(),
            |s| s.selector() + s.pick(&["", " smoothed"]) + &s.modifiers(),
            |s| format!("({})", s.vector()),
            |s| format!("-{}", s.vector()),
            Self::aggregate,
            Self::aggregate,
            Self::call,
            Self::call,
            Self::binary,
            Self::binary,
        ])
    }

    fn selector(&mut self) -> String {
        let mut matchers = Vec::new();
        for label in ["\"my.label\"", "a", "job", "le"] {
            if self.choose(3) == 1 {
                let op = self.pick(&["=", "!=", "=~", "!~"]);
                let value = self.pick(&["\"x\"", "'.+'", "`a|b`", "\"é\""]);
                matchers.push(format!("{label}{op}{value}"));
            }
        }
        match self.choose(4) {
            0 => self.pick(NAMES).to_owned() + self.pick(&["", "{}"]),
            1 => {
                matchers.push("z=\"q\"".to_owned());
                format!("{{{}}}", matchers.join(" , "))
            }
            _ => format!("{}{{{}}}", self.pick(NAMES), matchers.join(",")),
        }
    }

    fn modifiers(&mut self) -> String {
        let offset = match self.choose(5) {
            1 => format!(" offset {}", self.pick(DURATIONS)),
            2 => format!(" offset -{}", self.pick(&["5m", "7", "0", "0.0004", "NaN", "step()", "(1m + 2m)"])),
            // An operator behind the parenthesis would belong to the duration.
            3 => return format!(" offset ({}) @ 5", self.duration()),
            _ => String::new(),
        };
        let at = self.pick(&["", "", " @ 5", " @ -1.5", " @ -0.0004", " @ 7e13", " @ start()", " @ END()"]);
        if self.choose(2) == 1 { format!("{at}{offset}") } else { format!("{offset}{at}") }
    }

    fn duration(&mut self) -> String {
        self.either(&[
            |s| s.pick(DURATIONS).to_owned(),
            |s| s.pick(&["step()", "range()", "STEP()"]).to_owned(),
            |s| format!("({})", s.duration()),
            |s| format!("-({})", s.duration()),
            |s| {
                let of = s.pick(&["min_of", "max_of"]);
                format!("{of}({}, {})", s.duration(), s.duration())
            },
            |s| {
                let op = s.pick(&["+", "-", "*", "/", "%", "^"]);
                format!("{} {op} {}", s.duration(), s.duration())
            },
        ])
    }

    fn matrix(&mut self) -> String {
        self.either(&[
            |s| format!("{}[{}]{}", s.selector(), s.duration(), s.modifiers()),
            |s| {
                let word = s.pick(&["anchored", "smoothed"]);
                format!("{}[{}] {word}{}", s.selector(), s.pick(DURATIONS), s.modifiers())
            },
            |s| {
                let step = s.pick(&["", "5m", "step()", "60 * 2"]);
                format!("({})[{}:{step}]{}", s.vector(), s.duration(), s.modifiers())
            },
        ])
    }

    fn labels(&mut self) -> String {
        let count = self.choose(3);
        (0..count).map(|_| self.pick(LABELS)).collect::<Vec<_>>().join(",")
    }

    fn aggregate(&mut self) -> String {
        let op = &AGGREGATORS[self.choose(AGGREGATORS.len())];
        let name = if self.choose(4) == 0 { op.name.to_uppercase() } else { op.name.to_owned() };
        let param = op.param.map(|kind| self.of_type(kind) + ", ").unwrap_or_default();
        let body = format!("({param}{})", self.vector());
        let clause = self.pick(&["by", "without"]);
        match self.choose(3) {
            0 => format!("{name}{body}"),
            1 => format!("{name} {clause} ({}) {body}", self.labels()),
            _ => format!("{name}{body} {clause} ({})", self.labels()),
        }
    }

    fn of_type(&mut self, kind: ValueType) -> String {
        match kind {
            ValueType::Scalar => self.scalar(),
            ValueType::Vector => self.vector(),
            ValueType::Matrix => self.matrix(),
            ValueType::String => self.pick(STRINGS).to_owned(),
        }
    }

    /// A call of any function that yields a vector, with any number of arguments that it takes.
    fn call(&mut self) -> String {
        let vectors: Vec<&Function> = FUNCTIONS.iter().filter(|f| f.returns == ValueType::Vector).collect();
        let function = vectors[self.choose(vectors.len())];
        let most = function.args_max.unwrap_or(function.args_min + 2);
        let count = function.args_min + self.choose(most - function.args_min + 1);
        let args: Vec<String> = (0..count)
            .map(|at| match function.id {
                FunctionId::Info if at == 1 => self.pick(&["{z=\"q\"}", "{job=~'.+', le!=\"x\"}"]).to_owned(),
                _ => function.arg(at).map_or_else(String::new, |kind| self.of_type(kind)),
            })
            .collect();
        format!("{}({})", function.name, args.join(", "))
    }

    fn binary(&mut self) -> String {
        let (left, right) = (self.vector(), self.vector());
        if self.choose(3) == 0 {
            let op = self.pick(&["and", "or", "unless"]);
            let matching = self.matching();
            return format!("{left} {op} {matching} {right}");
        }
        let op = self.pick(&[
            "==", "!=", "<", "<=", ">", ">=", "!= bool", "> bool", "+", "-", "*", "/", "%", "^", "atan2",
            "</", ">/",
        ]);
        let fill = self.pick(&[
            "",
            " fill(0)",
            " fill_left(-1)",
            " fill_right(Inf) fill_left(5m)",
            " fill(-NaN)",
            " fill_left(-0)",
        ]);
        let group = self.pick(&["", " group_left", " group_right()", " group_left(zone)"]);
        match self.matching() {
            none if none.is_empty() => format!("{left} {op}{fill} {right}"),
            // A parenthesis behind `group_left` would be taken for its labels.
            matching => format!("{left} {op} {matching}{group}{fill} +{right}"),
        }
    }

    fn matching(&mut self) -> String {
        match self.choose(3) {
            0 => String::new(),
            1 => format!("on({})", self.labels()),
            _ => format!("ignoring({})", self.labels()),
        }
    }
}
