//! The leaves of random expressions: selectors with their modifiers, label lists, texts, durations.

use crate::expression::{Node, Type};
use crate::fleet::{LENGTH_MS, METRICS, Metric, START_MS, Shape};
use crate::generate::Class;
use kymo_tests::rng::Rng;

/// A source of leaves.
#[derive(Debug)]
pub(crate) struct Selectors<'a> {
    /// Where chance comes from.
    pub(crate) rng: &'a mut Rng,
    /// What may be made.
    pub(crate) class: Class,
    /// Whether the leaf is inside of a subquery.
    pub(crate) inside: bool,
}

const LABELS: &[&str] =
    &["job", "instance", "code", "path", "le", "sensor", "version", "region", "team", "kind"];

impl Selectors<'_> {
    fn chance(&mut self, percent: u64) -> bool {
        self.rng.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.below(of.len() as u64) as usize]
    }

    fn new_things(&self) -> bool {
        self.class == Class::Everything
    }

    /// A metric good for `purpose`: a function of ranges, `native` or `bucket`.
    fn metric(&mut self, purpose: &str) -> &'static Metric {
        let counters = ["rate", "increase", "irate", "resets"].contains(&purpose);
        let aimed = self.chance(85);
        loop {
            let metric = self.pick(&METRICS.iter().collect::<Vec<_>>());
            if !metric.stable && !self.new_things() {
                continue;
            }
            // Histograms are many metrics of few series each; floats should be met more often.
            let native = matches!(metric.shape, Shape::Native(_));
            let fits = match purpose {
                "native" => native,
                "bucket" => matches!(metric.shape, Shape::Bucket | Shape::BrokenBucket),
                _ if counters => {
                    !aimed
                        || native
                        || matches!(metric.shape, Shape::Counter | Shape::RestlessCounter | Shape::Bucket)
                }
                _ => !native || self.chance(50),
            };
            if fits {
                return metric;
            }
        }
    }

    fn matchers(&mut self, metric: &Metric) -> Vec<String> {
        let mut matchers = Vec::new();
        for (name, values) in metric.labels {
            if !self.chance(25) {
                continue;
            }
            let value = self.pick(values);
            matchers.push(match self.rng.below(8) {
                0..3 => format!("{name}=\"{value}\""),
                3 => format!("{name}!=\"{value}\""),
                4 => format!("{name}=~\"{}|{}\"", escape(value), escape(self.pick(values))),
                5 => format!("{name}!~\"{}.*\"", escape(&value[..value.len().min(1)])),
                6 => format!("{name}=~\".+\""),
                _ => format!("{name}=~\".*{}\"", escape(&value[value.len().saturating_sub(1)..])),
            });
        }
        if self.chance(4) {
            matchers
                .push(self.pick(&["missing=\"\"", "missing=\"x\"", "job!=\"\"", "le=~\".*\""]).to_owned());
        }
        matchers
    }

    fn selector(&mut self, purpose: &str) -> String {
        let metric = self.metric(purpose);
        let mut matchers = self.matchers(metric);
        if self.chance(4) {
            let start = metric.name.split('_').next().unwrap_or_default();
            matchers.insert(0, format!("__name__=~\"{start}.*\""));
            // Histograms are no part of the class of floats, and names of other metrics may begin alike.
            return format!("{{{}}}", matchers.join(","));
        }
        match matchers.is_empty() {
            true => metric.name.to_owned(),
            false => format!("{}{{{}}}", metric.name, matchers.join(",")),
        }
    }

    /// A duration above zero, shorter than `most` seconds in the class of floats.
    fn duration(&mut self, most: u64) -> String {
        if self.new_things() && self.chance(12) {
            return self.duration_expression();
        }
        let all = [
            ("20s", 20),
            ("45s", 45),
            ("1m", 60),
            ("2m", 120),
            ("5m", 300),
            ("7m30s", 450),
            ("10m", 600),
            ("15m", 900),
        ];
        let fitting: Vec<&str> = all.iter().filter(|d| d.1 <= most).map(|d| d.0).collect();
        if self.new_things() {
            return match self.rng.below(20) {
                0 => format!("{}", 1 + self.rng.below(600)),
                1 => format!("{}ms", 1 + self.rng.below(100_000)),
                2 => "30m".to_owned(),
                3 => "1h".to_owned(),
                4 => format!("{}.5", self.rng.below(300)),
                _ => self.pick(&fitting).to_owned(),
            };
        }
        self.pick(&fitting).to_owned()
    }

    fn duration_expression(&mut self) -> String {
        let simple = ["5m", "90", "step()", "range()", "1m30s", "30s"];
        let (a, b) = (self.pick(&simple), self.pick(&simple));
        match self.rng.below(7) {
            0 => format!("{a} + {b}"),
            1 => format!("{a} * 2"),
            2 => format!("max_of({a}, {b})"),
            3 => format!("min_of({a}, {b})"),
            4 => format!("({a} + {b}) / 2"),
            5 => format!("10m - {a} % 7"),
            _ => format!("max_of({a}, 1m) ^ 1"),
        }
    }

    /// `offset` and `@`, often nothing.
    fn modifiers(&mut self) -> String {
        let mut offset = String::new();
        if self.chance(15) {
            let sign = if self.chance(25) { "-" } else { "" };
            let text = self.duration(300);
            let simple = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
            offset = if simple { format!(" offset {sign}{text}") } else { format!(" offset {sign}({text})") };
        }
        let mut at = String::new();
        // 2.42 evaluates what is the same at all steps of a subquery even if the subquery has no steps.
        if self.chance(8) && (self.new_things() || !self.inside) {
            at = match self.rng.below(3) {
                0 => " @ start()".to_owned(),
                1 => " @ end()".to_owned(),
                _ => {
                    let second = (START_MS + LENGTH_MS / 2) / 1000 + self.rng.below(2400) as i64;
                    if self.new_things() { format!(" @ {second}") } else { format!(" @ {second}.25") }
                }
            };
        }
        if self.chance(50) { offset + &at } else { at + &offset }
    }

    /// An instant selector.
    pub(crate) fn vector(&mut self, purpose: &str) -> Node {
        let smoothed = if self.new_things() && self.chance(3) { " smoothed" } else { "" };
        Node::leaf(Type::Vector, format!("{}{smoothed}{}", self.selector(purpose), self.modifiers()))
    }

    /// A range selector for a function of that name.
    pub(crate) fn matrix(&mut self, function: &str) -> Node {
        let extended = match function {
            "rate" | "increase" | "delta" => self.pick(&[" anchored", " smoothed"]),
            "changes" | "resets" => " anchored",
            _ => "",
        };
        let extended = if self.new_things() && self.chance(25) { extended } else { "" };
        let most = if self.inside { 600 } else { 900 };
        let text =
            format!("{}[{}]{extended}{}", self.selector(function), self.duration(most), self.modifiers());
        Node::leaf(Type::Matrix, text)
    }

    /// What makes a range of an expression.
    pub(crate) fn subquery(&mut self) -> String {
        let mut range = self.duration(600);
        // Prometheus takes no range without a digit for one of a subquery: `[step():30s]` is an error there.
        if !range.contains(|c: char| c.is_ascii_digit()) {
            range = "5m".to_owned();
        }
        let step = match self.rng.below(8) {
            0 => String::new(),
            1 if self.new_things() => self.duration(120),
            2 => "7s".to_owned(),
            3 => "1m30s".to_owned(),
            4 => "15s".to_owned(),
            _ => "30s".to_owned(),
        };
        let (outer, modifiers) = (self.inside, {
            self.inside = true;
            self.modifiers()
        });
        self.inside = outer;
        format!("[{range}:{step}]{modifiers}")
    }

    /// The second argument of `info`.
    pub(crate) fn info(&mut self) -> String {
        let texts = [
            "{version=~\".+\"}",
            "{version=\"v1\"}",
            "{region=~\".*\"}",
            "{__name__=\"build_info\"}",
            "{__name__=~\".+_info\"}",
            "{__name__=~\".+_info\",version=\"v2\"}",
            "{__name__=\"build_info\",branch=~\".+\"}",
            "{missing=\"x\"}",
            "{missing!=\"x\"}",
            "{version!=\"v1\"}",
        ];
        self.pick(&texts).to_owned()
    }

    /// A string literal.
    pub(crate) fn string(&mut self) -> Node {
        Node::leaf(
            Type::Text,
            self.pick(&["\"text\"", "'a\\tb'", "`raw\\n`", "\"\"", "\"é\\u00e9\"", "\"job\""]),
        )
    }

    /// The name of a label, as a text.
    pub(crate) fn label_text(&mut self) -> Node {
        let label = if self.chance(5) { "__name__" } else { self.pick(LABELS) };
        let label = if self.chance(10) { "other" } else { label };
        Node::leaf(Type::Text, format!("\"{label}\""))
    }

    fn label_list(&mut self, most: u64) -> String {
        let mut names: Vec<&str> = Vec::new();
        for _ in 0..self.rng.below(most + 1) {
            let name = if self.chance(60) { self.pick(&LABELS[..3]) } else { self.pick(LABELS) };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(", ")
    }

    /// `by`, `without` or nothing.
    pub(crate) fn grouping(&mut self) -> String {
        match self.rng.below(5) {
            0 => " ".to_owned(),
            1 | 2 => format!(" by ({}) ", self.label_list(3)),
            _ => format!(" without ({}) ", self.label_list(3)),
        }
    }

    /// How the sides of an operator find each other; often nothing is said.
    pub(crate) fn matching(&mut self, set: bool) -> String {
        if self.chance(45) {
            return String::new();
        }
        let word = self.pick(&["on", "ignoring"]);
        let mut out = format!(" {word} ({})", self.label_list(3));
        if set {
            return out;
        }
        if self.chance(40) {
            let side = self.pick(&["group_left", "group_right"]);
            let list = self.pick(&["", "", "version", "team", "le"]);
            out.push_str(&format!(" {side} ({list})"));
        }
        if self.new_things() && self.chance(20) {
            let fill = self.pick(&[
                " fill (0)",
                " fill_left (1)",
                " fill_right (-2.5)",
                " fill_right (1) fill_left (NaN)",
            ]);
            out.push_str(fill);
        }
        out
    }
}

/// The text as a regular expression inside of a string.
fn escape(text: &str) -> String {
    text.replace('+', "\\\\+").replace('.', "\\\\.")
}
