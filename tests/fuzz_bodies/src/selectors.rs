//! Matchers: regular expressions against their plain meaning, and selections of series against a look at each one.

use crate::input::{Input, seed};
use crate::store;
use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Room};
use kymo_storage::env::Fs;
use kymo_storage::model::{Labels, MatchOp, Matcher, Regex, TimeRange};
use regex_automata::meta;
use std::sync::{Arc, OnceLock};

const OPS: [MatchOp; 4] = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
const NAMES: [&str; 5] = ["__name__", "instance", "zone", "missing", ""];

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 3 {
        0 => {
            let Ok(pattern) = std::str::from_utf8(input.piece()) else { return };
            one(pattern, &String::from_utf8_lossy(input.0));
        }
        1 => selection(input, false),
        _ => selection(input, true),
    }
}

fn one(pattern: &str, text: &str) {
    let regex = match Regex::new(pattern) {
        Ok(regex) => regex,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let oracle = oracle(pattern);
    let mut texts = vec![text.to_owned(), pattern.to_owned(), String::new(), regex.prefix().to_owned()];
    texts.extend(text.split('|').map(str::to_owned));
    if let Some(literals) = regex.literals() {
        assert!(literals.windows(2).all(|w| w[0] < w[1]));
        for literal in literals.iter().take(20) {
            assert!(regex.is_match(literal), "{pattern} {literal}");
        }
        texts.extend(literals.iter().take(5).cloned());
    }
    for text in &texts {
        let is_match = regex.is_match(text);
        if is_match {
            assert!(text.starts_with(regex.prefix()), "{pattern} {text}");
            if let Some(literals) = regex.literals() {
                assert!(literals.contains(text), "{pattern} {text}");
            }
        }
        if let Some(oracle) = &oracle {
            assert_eq!(is_match, oracle.is_match(text), "{pattern:?} on {text:?}");
        }
        for (op, expected) in [(MatchOp::Regex, is_match), (MatchOp::NotRegex, !is_match)] {
            assert_eq!(Matcher::new(op, "a", pattern).unwrap().matches(text), expected);
        }
    }
}

/// The same expression as the library reads it, for patterns whose meaning no dialect disputes.
fn oracle(pattern: &str) -> Option<meta::Regex> {
    let is_plain = |c: char| c.is_alphanumeric() || " .|*+?()^$-_:/,".contains(c);
    if pattern.len() > 200 || !pattern.chars().all(is_plain) || pattern.contains("(?") {
        return None;
    }
    let config = meta::Config::new().nfa_size_limit(Some(1 << 20));
    meta::Builder::new().configure(config).build(&format!("^(?s:{pattern})$")).ok()
}

fn data() -> &'static (Storage, Vec<Labels>) {
    static DATA: OnceLock<(Storage, Vec<Labels>)> = OnceLock::new();
    DATA.get_or_init(|| {
        let fs: Arc<dyn Fs> = Arc::new(store::base());
        let store = store::open_read_only(&fs).unwrap();
        let all = select(&store, &[]);
        assert!(all.len() > 10);
        (store, all)
    })
}

fn select(store: &Storage, matchers: &[Matcher]) -> Vec<Labels> {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, matchers).unwrap();
    (0..set.len()).map(|i| set.labels(i)).collect()
}

/// An index finds what a look at every series finds.
fn selection(mut input: Input<'_>, with_names: bool) {
    let mut matchers = Vec::new();
    while !input.is_empty() && matchers.len() < 6 {
        let kind = input.u8();
        let op = OPS[usize::from(kind % 4)];
        let name = NAMES[usize::from(kind / 4) % NAMES.len()];
        let Ok(value) = std::str::from_utf8(input.piece()) else { return };
        let Ok(matcher) = Matcher::new(op, name, value) else { return };
        matchers.push(matcher);
    }
    let (store, all) = data();
    let fits = |labels: &&Labels| matchers.iter().all(|m| m.matches(labels.value(m.name())));
    let expected: Vec<Labels> = all.iter().filter(fits).cloned().collect();
    assert_eq!(select(store, &matchers), expected, "{matchers:?}");
    if !with_names {
        return;
    }
    let querier = store.querier(TimeRange::ALL).unwrap();
    for name in NAMES {
        let mut ask = |_| Ok(());
        let sets = [matchers.clone()];
        let values = querier.label_values(name, &sets, &mut Room::new(&mut ask)).unwrap().names;
        let mut wanted: Vec<&str> = expected.iter().filter_map(|l| l.get(name)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        assert_eq!(values, wanted, "{name} {matchers:?}");
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let patterns = [
        "a|b|cd",
        "host-0[1-4].*",
        ".*",
        ".+",
        "",
        "^a$",
        "(?i)abc",
        "a{2,3}",
        "foo.*bar",
        ".*foo.*",
        "(a|b)+c?",
        "\\d+\\.x",
        "[[:alpha:]]+",
        "\\pL*",
        "a(b|c(d|e))f",
        "x|",
        "(|a)b",
        "z[0-2]",
        "\\Qa.b\\E",
        "[^a-c]x",
        "(?P<n>a)b",
        "é+",
    ];
    let mut seeds = Vec::new();
    for pattern in patterns {
        let pattern = crate::input::piece(pattern.as_bytes());
        seeds.push(seed(&[&[0], &pattern, b"abc|host-03:9100|b"]));
        seeds.push(seed(&[&[1, 4 + 2], &pattern, &[3], &pattern]));
        seeds.push(seed(&[&[2, 8 + 3], &pattern, &[12 + 2], &pattern]));
    }
    for kind in 0..20 {
        let value =
            crate::input::piece(["requests_total", "host-04:9100", "z1", "", "x"][kind / 4].as_bytes());
        seeds.push(seed(&[&[2, kind as u8], &value]));
    }
    seeds
}
