//! No text upsets the parser: it answers, and soon.

use super::expressions::Source;
use kymo_query::{ParseOptions, parse, syntax};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// Everything the language is made of, and some things it is not.
const PIECES: &[&str] = &[
    " ",
    "\n",
    "# note\n",
    "a",
    "sum",
    "rate",
    "by",
    "on",
    "ignoring",
    "group_left",
    "offset",
    "@",
    "start()",
    "end",
    "bool",
    "fill",
    "anchored",
    "step()",
    "min_of(",
    "(",
    "(",
    ")",
    ")",
    "{",
    "}",
    "[",
    "[5m]",
    "[1h:5m]",
    "]",
    ":",
    ",",
    "=",
    "==",
    "!=",
    "=~",
    "!~",
    "<",
    "</",
    ">/",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "and",
    "or",
    "unless",
    "atan2",
    "1",
    "0x",
    "1e",
    "5m",
    "1_",
    ".",
    "NaN",
    "\"s\"",
    "\"",
    "'",
    "`",
    "\\",
    "a=\"b\"",
    "a=~\"b.*\"",
    "topk(3, ",
    "label_join(",
    "é",
    "🙂",
    "\0",
];

/// Far more than any text needs on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(2);

fn answers(text: &str) {
    let began = Instant::now();
    match parse(text, &ParseOptions::default()) {
        Ok(expr) => drop(expr.to_string()),
        Err(errors) => assert!(!errors.is_empty() && !errors[0].to_string().is_empty()),
    }
    let _ = syntax::parse_metric_selector(text);
    let _ = syntax::series_text::parse_series(text);
    let _ = syntax::parse_duration(text);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

/// One piece again and again, as long as a text may be.
#[test]
fn repetitions() {
    for first in PIECES {
        for second in ["", "a", "1", "(", "-", "[5m]", ",", "a=\"b\","] {
            let piece = format!("{first}{second}");
            for start in ["", "a", "sum(", "a{", "a["] {
                let count = (60_000 / piece.len()).min(6000);
                answers(&format!("{start}{}", piece.repeat(count)));
            }
        }
    }
}

#[test]
fn longest_chains_and_lists() {
    let many = |piece: &str, end: &str| piece.repeat(65_000 / piece.len()) + end;
    answers(&many("1+", "1"));
    answers(&many("1^", "1"));
    answers(&many("a or ", "a"));
    answers(&many("-", "a"));
    answers(&("a".to_owned() + &many("[1m:]", "")));
    answers(&("a".to_owned() + &many(" offset 1m", "")));
    answers(&format!("label_join({}a)", "a,".repeat(30_000)));
    answers(&format!("sum by ({}a) (b)", "a,".repeat(30_000)));
    let labels: String = (0..4000).map(|i| format!("a{i},")).collect();
    answers(&format!("b * on ({labels}) group_left ({labels}) b"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn mixtures_of_tokens(picks in prop::collection::vec(0..PIECES.len(), 0..400), times in 1usize..20) {
        let text: String = picks.iter().map(|p| PIECES[*p]).collect();
        answers(&text.repeat(times));
    }

    /// Expressions with one piece put in, taken out or doubled.
    #[test]
    fn almost_expressions(
        choices in prop::collection::vec(any::<u16>(), 0..100),
        at in any::<prop::sample::Index>(),
        piece in 0..PIECES.len(),
        cut in 0usize..4,
    ) {
        let text = Source::new(&choices).expression();
        let chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len() + 1);
        let behind: String = chars.iter().skip(at + cut).collect();
        let before: String = chars.iter().take(at).collect();
        answers(&format!("{before}{}{behind}", PIECES[piece]));
        answers(&before);
    }

    #[test]
    fn any_characters(text in any::<String>()) {
        answers(&text);
    }
}
