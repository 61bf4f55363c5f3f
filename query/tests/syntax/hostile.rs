//! No text upsets the parser: it answers, and soon.

use super::expressions::Source;
use kymo_query::{ParseOptions, parse, pretty, syntax};
use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

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

/// The most that any text may cost: 50 ms. Without optimization everything takes several times as long.
const CPU_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 400 } else { 50 });

/// What this thread has computed; other work on the machine does not count.
fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), spent.tv_nsec.unsigned_abs() as u32)
}

fn start(text: &str) -> String {
    text.chars().take(80).collect()
}

/// What reading `text` in each of the ways there are costs at most.
fn answers(text: &str) -> Duration {
    let mut worst = Duration::ZERO;
    let mut timed = |way: &str, run: &mut dyn FnMut()| {
        let began = cpu();
        run();
        let spent = cpu().saturating_sub(began);
        assert!(spent < CPU_MAX, "{way} took {spent:?} for {} bytes: {:?}", text.len(), start(text));
        worst = worst.max(spent);
    };
    let mut parsed = None;
    timed("parsing", &mut || parsed = Some(parse(text, &ParseOptions::default())));
    match parsed {
        Some(Ok(expr)) => {
            timed("printing", &mut || drop(expr.to_string()));
            timed("layout", &mut || drop(pretty::pretty(&expr)));
        }
        Some(Err(errors)) => assert!(!errors.is_empty() && !errors[0].to_string().is_empty()),
        None => panic!("parsing did not end"),
    }
    timed("reading a selector", &mut || drop(syntax::parse_metric_selector(text)));
    timed("reading a series", &mut || drop(syntax::series_text::parse_series(text)));
    timed("reading a duration", &mut || drop(syntax::parse_duration(text)));
    worst
}

/// Texts of about 64 KiB, each made to be as slow as can be in one way.
fn adversarial() -> Vec<(&'static str, String)> {
    let many = |piece: &str, room: usize| piece.repeat(room / piece.len());
    let full = |piece: &str| many(piece, 65_000);
    let listed =
        |of: &dyn Fn(usize) -> String, count: usize| (0..count).map(of).collect::<Vec<_>>().join(",");
    vec![
        ("minuses", full("-") + "a"),
        ("minuses of numbers", full("- ") + "1"),
        ("open parentheses", full("(")),
        ("parentheses at the limit", "(".repeat(128) + &many("a + ", 64_000) + "a" + &")".repeat(128)),
        ("calls at the limit", "abs(".repeat(127) + "a" + &")".repeat(127)),
        ("one long string", format!("label_replace(a, \"b\", \"{}\", \"c\", \"d\")", full("x"))),
        ("escapes", format!("\"{}\"", full("\\u00e9"))),
        ("an open string", format!("\"{}", full("x"))),
        ("a raw string of lines", format!("`{}`", full("\n"))),
        ("comments", full("# c\n")),
        ("comments between tokens", full("a #c\n + ") + "a"),
        ("spaces", full(" ") + "a"),
        ("lines, then mistakes", many("\n", 32_000) + &many("rate(a)+", 32_000) + "a"),
        ("type errors", full("rate(a)+") + "a"),
        ("unknown functions", full("f(a)+") + "a"),
        ("unknown characters", full("~")),
        ("matchers", format!("{{{}}}", full("a=\"b\","))),
        ("different matchers", format!("a{{{}}}", listed(&|i| format!("l{i}!=\"v{i}\""), 4000))),
        ("regular expressions", format!("a{{{}}}", listed(&|i| format!("b=~\"x{i}.*\""), 4000))),
        (
            "large regular expressions",
            format!("a{{{}}}", listed(&|i| format!("b=~\"(x{i}|\\\\pL{{9}}){{9}}\""), 2000)),
        ),
        ("too large regular expressions", {
            format!("a{{{}}}", listed(&|i| format!("b=~\"(x{i}|\\\\pL{{90}}){{9}}\""), 2000))
        }),
        ("classes of characters", format!("a{{b=~\"{}\"}}", full("\\\\pL"))),
        ("one regular expression", format!("a{{b=~\"{}\"}}", full("(a|b)*"))),
        ("alternatives", format!("a{{b=~\"{}\"}}", full("ab|cd|"))),
        ("repetitions of repetitions", format!("a{{b=~\"{}\"}}", full("(((a{9}){9}){9})"))),
        ("names with braces", full("a{}+") + "a"),
        ("braces", full("{")),
        ("brackets", "a".to_owned() + &full("[1m:]")),
        ("numbers", full("1e308+") + "1"),
        ("one huge number", full("9")),
        ("a huge hexadecimal number", "0x".to_owned() + &full("f")),
        ("a huge fraction", "0.".to_owned() + &full("0") + "1"),
        ("a number with underscores", full("1_") + "1"),
        ("a huge exponent", "1e".to_owned() + &full("9")),
        ("a huge duration", full("9") + "y"),
        ("durations", full("1y+") + "1y"),
        ("units again and again", format!("a[{}]", full("1h"))),
        ("sums of durations", format!("a[{}1m]", full("1m+"))),
        ("powers of durations", format!("a[{}1m]", full("2^"))),
        ("signs of durations", format!("a offset {}1m", full("- "))),
        ("divisions by zero", format!("a[{}1m]", full("1/0+"))),
        ("offsets", "a".to_owned() + &full(" offset 1m")),
        ("pins", "a".to_owned() + &full(" @ 1")),
        ("powers", full("1^") + "1"),
        ("unions", full("a or ") + "a"),
        ("joins", full("a*on(b)") + "a"),
        ("group labels", format!("sum by ({}) (a)", listed(&|i| format!("l{i}"), 9000))),
        ("the same group label", format!("sum by ({}) (a)", full("b,"))),
        ("labels of joins", {
            let labels = listed(&|i| format!("l{i}"), 4500);
            format!("a * on ({labels}) group_left ({labels}) a")
        }),
        ("arguments", format!("label_join(a,\"b\",\"c\"{})", full(",\"d\""))),
        ("arguments of the wrong type", format!("label_join(a,\"b\",\"c\"{})", full(",a"))),
        ("grouping without an end", "sum by (".to_owned() + &full("a,")),
        ("aggregations without an end", full("sum by (a) (").chars().take(65_000).collect()),
        ("letters outside ASCII", full("é")),
        ("a quoted name", format!("{{\"{}\"}}", full("é"))),
        ("values of a series", "a ".to_owned() + &full("1 ")),
        ("histograms of a series", "a ".to_owned() + &full("{{buckets:[1]}} ")),
        ("repetition of a series", "a 1+1x99999999999".to_owned()),
        ("repetitions of a series", "a ".to_owned() + &full("1x9999 ")),
    ]
}

/// `cargo test --release -p kymo-query --test syntax hostile -- --nocapture` shows the worst of them.
#[test]
fn what_is_made_to_be_slow() {
    let mut costs: Vec<(Duration, &str)> =
        adversarial().iter().map(|(name, text)| (answers(text), *name)).collect();
    costs.sort();
    for (cost, name) in costs.iter().rev().take(5) {
        println!("{cost:?} {name}");
    }
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
