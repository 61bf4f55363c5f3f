//! Reads a script into commands.

use super::duration::parse_duration;
use super::notation::{Point, Row, parse_row, unquote};
use crate::answer::parse_value;
use regex_automata::meta::Regex;

/// One block of a script.
#[derive(Debug, Clone)]
pub enum Command {
    /// Forget everything.
    Clear,
    /// Store series.
    Load(Load),
    /// Ask and compare.
    Eval(Box<Eval>),
}

/// `load`.
#[derive(Debug, Clone)]
pub struct Load {
    /// Between two points.
    pub step_ms: i64,
    /// Also store classic histograms as native ones with custom buckets.
    pub with_nhcb: bool,
    /// What to store.
    pub rows: Vec<Row>,
}

/// When a query is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At one time.
    Instant {
        /// Milliseconds since the epoch.
        at_ms: i64,
    },
    /// At each step.
    Range {
        /// The first step.
        start_ms: i64,
        /// Not after this.
        end_ms: i64,
        /// Between two steps.
        step_ms: i64,
    },
}

/// `eval`.
#[derive(Debug, Clone)]
pub struct Eval {
    /// The line of the script, from 1.
    pub line: usize,
    /// The query.
    pub query: String,
    /// Its time.
    pub when: When,
    /// The answer.
    pub expected: Expected,
}

/// What an answer must be.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The series must come in the order given.
    pub ordered: bool,
    /// The query must fail, with one of these texts if there are any.
    pub fail: Option<Vec<TextTest>>,
    /// What the warnings must be, if anything is said of them (an empty list: any, but some).
    pub warn: Option<Vec<TextTest>>,
    /// There must be no warning.
    pub no_warn: bool,
    /// As `warn`.
    pub info: Option<Vec<TextTest>>,
    /// There must be no info.
    pub no_info: bool,
    /// The answer is this string.
    pub text: Option<String>,
    /// An instant query answers a range vector with points at these times.
    pub range_vector: Option<When>,
    /// The answer is this scalar.
    pub scalar: Option<f64>,
    /// The series.
    pub rows: Vec<Row>,
}

/// A condition on a text.
#[derive(Debug, Clone)]
pub enum TextTest {
    /// The same text.
    Exact(String),
    /// The expression is found in it.
    Pattern(Regex),
}

impl TextTest {
    /// Whether `text` satisfies it.
    pub fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Exact(expected) => text == expected,
            Self::Pattern(regex) => regex.is_match(text),
        }
    }
}

/// Reads a whole script.
///
/// # Errors
/// The line and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Command>, String> {
    let lines: Vec<&str> =
        text.lines().map(|l| l.trim()).map(|l| if l.starts_with('#') { "" } else { l }).collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let head = lines[at];
        let first = at + 1;
        at = first;
        if head.is_empty() {
            continue;
        }
        if head == "clear" {
            commands.push(Command::Clear);
            continue;
        }
        while at < lines.len() && !lines[at].is_empty() {
            at += 1;
        }
        let block: Vec<(usize, &str)> = (first..at).map(|i| (i + 1, lines[i])).collect();
        let word = head.split_whitespace().next().unwrap_or_default();
        let command = match word {
            "load" | "load_with_nhcb" => parse_load(head, &block).map(Command::Load),
            _ if word == "eval" || word.starts_with("eval_") => {
                parse_eval(first, head, &block).map(|e| Command::Eval(Box::new(e)))
            }
            _ => Err(format!("unknown command {word:?}")),
        };
        commands.push(command.map_err(|e| format!("line {first}: {e}"))?);
    }
    Ok(commands)
}

fn parse_load(head: &str, block: &[(usize, &str)]) -> Result<Load, String> {
    let (word, step) = head.split_once(char::is_whitespace).ok_or("load without a step")?;
    let mut rows = Vec::new();
    for (line, text) in block {
        rows.push(parse_row(text).map_err(|e| format!("line {line}: {e}"))?);
    }
    Ok(Load { step_ms: parse_duration(step.trim())?, with_nhcb: word != "load", rows })
}

/// Takes one word off the front.
fn word<'a>(text: &mut &'a str) -> &'a str {
    let trimmed = text.trim_start();
    let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
    *text = trimmed[end..].trim_start();
    &trimmed[..end]
}

fn expect_word(text: &mut &str, wanted: &str) -> Result<(), String> {
    let got = word(text);
    if got == wanted { Ok(()) } else { Err(format!("expected {wanted}, got {got:?}")) }
}

fn parse_range(text: &mut &str) -> Result<When, String> {
    expect_word(text, "from")?;
    let start_ms = parse_duration(word(text))?;
    expect_word(text, "to")?;
    let end_ms = parse_duration(word(text))?;
    expect_word(text, "step")?;
    let step_ms = parse_duration(word(text))?;
    if step_ms <= 0 {
        return Err("a step must be above zero".to_owned());
    }
    Ok(When::Range { start_ms, end_ms, step_ms })
}

fn parse_eval(line: usize, head: &str, block: &[(usize, &str)]) -> Result<Eval, String> {
    let mut rest = head;
    let mut expected = Expected::default();
    match word(&mut rest) {
        "eval" => {}
        "eval_fail" => expected.fail = Some(Vec::new()),
        "eval_warn" => expected.warn = Some(Vec::new()),
        "eval_info" => expected.info = Some(Vec::new()),
        "eval_ordered" => expected.ordered = true,
        other => return Err(format!("unknown command {other:?}")),
    }
    let when = match word(&mut rest) {
        "instant" => {
            let mut at_ms = 0;
            if rest.starts_with("at ") {
                word(&mut rest);
                at_ms = parse_duration(word(&mut rest))?;
            }
            When::Instant { at_ms }
        }
        "range" => parse_range(&mut rest)?,
        other => return Err(format!("expected instant or range, got {other:?}")),
    };
    for (line, text) in block {
        parse_expected(text, &mut expected).map_err(|e| format!("line {line}: {e}"))?;
    }
    Ok(Eval { line, query: rest.to_owned(), when, expected })
}

fn parse_expected(line: &str, expected: &mut Expected) -> Result<(), String> {
    if let Some(rest) = line.strip_prefix("expected_fail_message") {
        expected.fail.get_or_insert_default().push(TextTest::Exact(rest.trim().to_owned()));
    } else if let Some(rest) = line.strip_prefix("expected_fail_regexp") {
        expected.fail.get_or_insert_default().push(pattern(rest.trim())?);
    } else if let Some(rest) = line.strip_prefix("expect ") {
        return parse_expect(rest.trim(), expected);
    } else if let Some(value) = parse_value(line) {
        expected.scalar = Some(value);
    } else {
        expected.rows.push(parse_row(line)?);
    }
    Ok(())
}

fn parse_expect(rest: &str, expected: &mut Expected) -> Result<(), String> {
    let mut rest = rest;
    let what = word(&mut rest);
    match what {
        "ordered" => expected.ordered = true,
        "no_warn" => expected.no_warn = true,
        "no_info" => expected.no_info = true,
        "string" => expected.text = Some(unquote(rest)?.0),
        "range" => {
            expect_word(&mut rest, "vector")?;
            expected.range_vector = Some(parse_range(&mut rest)?);
        }
        "fail" | "warn" | "info" => {
            let list = match what {
                "fail" => &mut expected.fail,
                "warn" => &mut expected.warn,
                _ => &mut expected.info,
            };
            let list = list.get_or_insert_default();
            if let Some(text) = rest.strip_prefix("msg:") {
                list.push(TextTest::Exact(text.trim().to_owned()));
            } else if let Some(text) = rest.strip_prefix("regex:") {
                list.push(pattern(text.trim())?);
            } else if !rest.is_empty() {
                return Err(format!("expected msg: or regex:, got {rest:?}"));
            }
        }
        other => return Err(format!("unknown expectation {other:?}")),
    }
    Ok(())
}

fn pattern(text: &str) -> Result<TextTest, String> {
    Regex::new(text).map(TextTest::Pattern).map_err(|e| format!("{text:?}: {e}"))
}

impl Expected {
    /// Whether a native histogram is expected.
    pub fn has_histograms(&self) -> bool {
        self.rows.iter().any(|row| row.points.iter().any(Point::is_histogram))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_in_pieces() {
        let text = "# note\nload 1m\n  m{a=\"b\"} 1+1x2\n\nclear\n\n  eval instant at 1m30s sum by (a) (m)\n  expect warn msg: x y\n  {a=\"b\"} 2\n\n\
                    eval_fail range from -1m to 1h step 5s m\n\neval instant \"x\"\n expect string \"x\"\n\neval instant at 5 1\n  1\n";
        let commands = parse(text).unwrap();
        assert!(matches!(&commands[0], Command::Load(l) if l.step_ms == 60_000 && l.rows.len() == 1));
        assert!(matches!(commands[1], Command::Clear));
        let evals: Vec<&Eval> = commands
            .iter()
            .filter_map(|c| if let Command::Eval(e) = c { Some(&**e) } else { None })
            .collect();
        assert_eq!((evals[0].line, evals[0].query.as_str()), (7, "sum by (a) (m)"));
        assert_eq!(evals[0].when, When::Instant { at_ms: 90_000 });
        assert!(evals[0].expected.warn.as_ref().is_some_and(|w| w[0].accepts("x y")));
        assert_eq!(evals[1].when, When::Range { start_ms: -60_000, end_ms: 3_600_000, step_ms: 5000 });
        assert!(evals[1].expected.fail.is_some());
        assert_eq!((evals[2].query.as_str(), evals[2].expected.text.as_deref()), ("\"x\"", Some("x")));
        assert_eq!((evals[3].when, evals[3].expected.scalar), (When::Instant { at_ms: 5000 }, Some(1.0)));
        for bad in [
            "lod 5m",
            "load",
            "eval instant at x 1",
            "eval sideways 1",
            "load 5m\n  m 1z",
            "eval instant at 1 1\n expect joy",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
