//! What a query of a script needs of an engine: floats only, experimental features, start timestamps, or native histograms.

use super::notation::Point;
use super::script::{Command, Eval};
use regex_automata::meta::Regex;

/// The class of an `eval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Floats only, and nothing Prometheus calls experimental.
    Floats,
    /// Floats only, with an experimental function or modifier.
    Experimental,
    /// The data loaded since the last `clear` holds start timestamps.
    StartTimestamps,
    /// The data loaded since the last `clear`, or the answer, holds native histograms and no start timestamps.
    Histograms,
}

/// What marks a query as experimental: functions, aggregations, modifiers.
const EXPERIMENTAL: &str = r"\b(?:double_exponential_smoothing|histogram_quantiles|info|mad_over_time|sort_by_label|sort_by_label_desc|start_timestamp|ts_of_(?:first|last|max|min)_over_time|max_of|min_of|range|step|limitk|limit_ratio|fill|fill_left|fill_right)\s*(?:by|without)?\s*\(|\b(?:anchored|smoothed)\b|(?:^|[^@\s])\s*\b(?:start|end)\(\)";

/// The class of each `eval` of a script, in order.
pub fn classify(commands: &[Command]) -> Vec<Class> {
    let experimental = Regex::new(EXPERIMENTAL).expect("the expression is constant");
    let mut classes = Vec::new();
    for segment in commands.split(|c| matches!(c, Command::Clear)) {
        let histograms = segment.iter().any(|c| match c {
            Command::Load(load) => {
                load.with_nhcb || load.rows.iter().any(|r| r.points.iter().any(Point::is_histogram))
            }
            Command::Eval(eval) => eval.expected.has_histograms(),
            Command::Clear => false,
        });
        let starts = segment.iter().any(|c| match c {
            Command::Load(load) => load.rows.iter().any(|r| r.starts.is_some()),
            _ => false,
        });
        for command in segment {
            let Command::Eval(eval) = command else { continue };
            classes.push(match histograms {
                _ if starts => Class::StartTimestamps,
                true => Class::Histograms,
                false if needs_experimental(&experimental, eval) => Class::Experimental,
                false => Class::Floats,
            });
        }
    }
    classes
}

fn needs_experimental(experimental: &Regex, eval: &Eval) -> bool {
    experimental.is_match(eval.query.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promqltest::script::parse;

    #[test]
    fn by_segment_and_by_query() {
        let text = "load 1m\n m 1\n\neval instant at 1m m @ start()\n\neval instant at 1m rate(m[1m] smoothed)\n\neval instant at 1m limitk by (a) (1, m)\n\n\
                    clear\n\nload 1m\n h {{}}\n\neval instant at 1m m\n\nclear\n\nload 1m\n m@st 1\n m 1\n\neval instant at 1m m\n";
        let expected = [
            Class::Floats,
            Class::Experimental,
            Class::Experimental,
            Class::Histograms,
            Class::StartTimestamps,
        ];
        assert_eq!(classify(&parse(text).unwrap()), expected);
    }
}
