//! Broken texts and all that Prometheus says of each: `broken.txt` is the table, its head says how it is written.

use kymo_query::{ParseOptions, parse};
use std::fmt::Write as _;

const TABLE: &str = include_str!("broken.txt");

fn unescape(text: &str) -> String {
    text.replace("\\\\", "\0").replace("\\n", "\n").replace('\0', "\\")
}

#[test]
fn all_mistakes_are_listed_as_prometheus_lists_them() {
    let (mut texts, mut mistakes, mut wrong) = (0, 0, String::new());
    for block in TABLE.split("\n\n").skip(1) {
        let mut lines = block.trim_end().lines();
        let text = lines.next().unwrap();
        let text = if text == "~" { String::new() } else { unescape(text) };
        let expected: Vec<String> = lines
            .map(|line| {
                let (place, message) = line.trim_start().split_once(' ').unwrap();
                let place = if place == "-" { "unknown position" } else { place };
                format!("{place}: parse error: {}", unescape(message))
            })
            .collect();
        let met: Vec<String> = match parse(&text, &ParseOptions::default()) {
            Ok(expr) => vec![format!("read as {expr}")],
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        };
        texts += 1;
        mistakes += expected.len();
        if met != expected {
            let _ = writeln!(wrong, "{text}\n  expected {expected:#?}\n  met {met:#?}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(texts > 400 && mistakes > 800, "{texts} texts with {mistakes} mistakes");
}
