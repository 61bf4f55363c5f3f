//! Prometheus' own scripts, where this machine has them: every expression and every series in them can be read.

use kymo_query::{ParseOptions, parse, syntax::series_text::parse_series};
use std::path::{Path, PathBuf};

fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("KYMO_PROMQLTEST").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let beside = [root.join("../shared/promqltest"), root.join("../../shared/promqltest")];
    named.into_iter().chain(beside).find(|dir| dir.is_dir())
}

/// The expression of an `eval` line.
fn expression(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("eval")?.trim_start_matches(|c: char| c == '_' || c.is_ascii_lowercase());
    let mut words = rest.trim_start();
    let kind = take_word(&mut words)?;
    // `instant at T EXPR` or `range from T to T step D EXPR`
    let skipped = match (kind, words.starts_with("at ")) {
        ("instant", true) => 2,
        ("instant", false) => 0,
        _ => 6,
    };
    for _ in 0..skipped {
        take_word(&mut words)?;
    }
    Some(words)
}

fn take_word<'l>(line: &mut &'l str) -> Option<&'l str> {
    let (word, rest) = line.split_once(char::is_whitespace)?;
    *line = rest.trim_start();
    Some(word)
}

#[test]
fn every_expression_and_series_is_read() {
    let Some(folder) = folder() else {
        println!("skipped: KYMO_PROMQLTEST names no folder");
        return;
    };
    let (mut expressions, mut series) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "test") {
            continue;
        }
        let mut loading = false;
        for line in std::fs::read_to_string(&path).unwrap().lines().map(str::trim) {
            if line.starts_with("eval") {
                let text = expression(line).unwrap_or_else(|| panic!("{line}"));
                let expr = parse(text, &ParseOptions::default())
                    .unwrap_or_else(|errors| panic!("{}: {line}: {}", path.display(), errors[0]));
                let printed = expr.to_string();
                let again = parse(&printed, &ParseOptions::default()).unwrap();
                assert_eq!(again.to_string(), printed, "{line}");
                expressions += 1;
            } else if line.starts_with("load") {
                loading = true;
                continue;
            } else if loading && !line.is_empty() && !line.starts_with('#') && !line.contains("@st") {
                parse_series(line).unwrap_or_else(|e| panic!("{}: {line}: {e}", path.display()));
                series += 1;
            }
            loading &= !line.is_empty() && !line.starts_with("eval");
        }
    }
    assert!(expressions > 2000 && series > 500, "{expressions} expressions, {series} series");
}
