//! The map of what keeps the promises: each place that it names is there.

use super::source::root;

/// The document with the map.
const MAP: &str = "storage/docs/reliability.md";

/// Places of the map that are gone. A place is `file::item` between backquotes, with `/` or a dot in the file.
pub(crate) fn missing() -> Vec<String> {
    let map = std::fs::read_to_string(root().join(MAP)).unwrap();
    let places = places(&map);
    assert!(places.len() > 40, "{MAP} names {} places", places.len());
    places
        .into_iter()
        .filter(|(file, item)| !is_there(file, item))
        .map(|(f, i)| format!("{MAP}: {f}::{i}"))
        .collect()
}

fn places(map: &str) -> Vec<(&str, &str)> {
    // Commands in blocks name targets of cargo, not places.
    let prose = map.split("```").step_by(2);
    let spans = prose.flat_map(|part| part.lines().flat_map(|line| line.split('`').skip(1).step_by(2)));
    let is_place =
        |(file, item): &(&str, &str)| file.contains('.') && !item.is_empty() && !file.contains(' ');
    spans.filter_map(|span| span.split_once("::")).filter(is_place).collect()
}

fn is_there(file: &str, item: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(root().join(file)) else { return false };
    if !file.ends_with(".rs") {
        return text.lines().any(|line| line.trim_start().starts_with(item));
    }
    let is_item = |line: &str| {
        let words: Vec<&str> =
            line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
        let kinds = ["fn", "struct", "enum", "trait", "const", "static", "type", "mod"];
        words.windows(2).any(|pair| kinds.contains(&pair[0]) && pair[1] == item)
    };
    let field = format!("{item}:");
    text.lines().map(str::trim_start).any(|line| {
        !line.starts_with("//") && (is_item(line) || line.trim_start_matches("pub ").starts_with(&field))
    })
}

#[test]
fn places_are_found_and_missed() {
    let map = "`a/b.rs::c` and `d`\n```\n`e.rs::f`\n```\n`Type::method`, `.clippy.toml::x-y`";
    assert_eq!(places(map), [("a/b.rs", "c"), (".clippy.toml", "x-y")]);
    assert!(is_there("tests/tidy/mechanisms.rs", "MAP") && is_there("tests/tidy/mechanisms.rs", "is_there"));
    assert!(is_there("tests/tidy/source.rs", "path"), "a field");
    assert!(!is_there("tests/tidy/mechanisms.rs", "is_not_there") && !is_there("tests/no.rs", "MAP"));
}
