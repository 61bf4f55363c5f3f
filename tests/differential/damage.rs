//! Random damage to the text of an expression: what people mistype, and what they never would.

use kymo_tests::rng::Rng;

const PIECES: &[&str] = &[
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "'",
    "`",
    "=",
    "=~",
    "!",
    "#",
    "@",
    "5m",
    "1",
    "by",
    "on",
    "bool",
    "offset",
    "group_left",
    "sum",
    "rate",
    "and",
    "-",
    "+",
    "^",
    "==",
    ":",
    "foo",
    "é",
    "\\",
    ".",
    "%",
    "start()",
    "fill(",
    "~",
    "<",
    "without",
    "NaN",
    "job",
    "0x",
    "1h1d",
    "$",
    "\n",
    "anchored",
    "smoothed",
    ";",
];

/// A text that differs from `text` in one to three places.
pub(crate) fn damage(text: &str, rng: &mut Rng) -> String {
    let mut out = text.to_owned();
    for _ in 0..1 + rng.below(2) * rng.below(3) {
        out = once(&out, rng);
    }
    out
}

/// Names and numbers stay whole, everything else is a token by itself.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut start = 0;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut before: Option<char> = None;
    for (at, c) in text.char_indices() {
        if let Some(b) = before
            && !(word(b) && word(c))
        {
            tokens.push(&text[start..at]);
            start = at;
        }
        before = Some(c);
    }
    tokens.push(&text[start..]);
    tokens
}

fn once(text: &str, rng: &mut Rng) -> String {
    let mut tokens: Vec<String> = tokens(text).into_iter().map(str::to_owned).collect();
    let at = rng.below(tokens.len() as u64) as usize;
    let other = rng.below(tokens.len() as u64) as usize;
    let piece = PIECES[rng.below(PIECES.len() as u64) as usize].to_owned();
    match rng.below(9) {
        0 | 1 => {
            tokens.remove(at);
        }
        2 => {
            let copy = tokens[at].clone();
            tokens.insert(at, copy);
        }
        3 => tokens.swap(at, other),
        4 => tokens.insert(at, piece),
        5 => tokens[at] = piece,
        6 => tokens[at] = tokens[other].clone(),
        7 => tokens.truncate(at),
        _ => {
            let mut characters: Vec<char> = text.chars().collect();
            if !characters.is_empty() {
                let at = rng.below(characters.len() as u64) as usize;
                characters.remove(at);
            }
            return characters.into_iter().collect();
        }
    }
    tokens.concat()
}

#[test]
fn tokens_are_words_and_single_signs() {
    assert_eq!(tokens("rate(a_b[5m])"), ["rate", "(", "a_b", "[", "5m", "]", ")"]);
    let mut rng = Rng::new(3);
    assert!((0..50).filter(|_| damage("sum by (a) (b)", &mut rng) != "sum by (a) (b)").count() > 40);
}
