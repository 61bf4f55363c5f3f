//! What is public in a source file: a small reader of Rust that knows how rustfmt lays code out.

use std::fmt;

/// Something public.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// What it is a field, variant or method of.
    pub(crate) owner: Option<String>,
    /// Its own name.
    pub(crate) name: String,
    /// What is written of it, up to the body.
    text: String,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{owner}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// What the lines belong to.
enum Place {
    Top,
    /// In the braces of a public struct: its public fields count.
    Struct(String),
    /// In the braces of a public enum or trait: all in it counts.
    Open(String),
    /// In an `impl` of a type: what is marked public counts.
    Impl(String),
    /// In something that is not public, or in a test.
    Closed,
}

/// The public items of a file, in its order.
pub(crate) fn items(source: &str) -> Vec<Item> {
    let (mut found, mut place, mut attributes) = (Vec::new(), Place::Top, String::new());
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        let trimmed = line.trim();
        let indent = line.len() - line.trim_start().len();
        if trimmed.starts_with("//") || trimmed.is_empty() {
            continue;
        }
        if line.starts_with('}') || line.starts_with(')') {
            place = Place::Top;
            continue;
        }
        if trimmed.starts_with("#[") {
            if indent == 0 && ["#[non_exhaustive]", "#[cfg(test)]"].contains(&trimmed) {
                attributes.push_str(trimmed);
                attributes.push(' ');
            } else if indent == 4 && trimmed == "#[default]" {
                continue;
            }
            continue;
        }
        if indent == 0 {
            let head = statement(line, &mut lines);
            place = top(&head, &attributes, &mut found);
            attributes.clear();
        } else if indent == 4 {
            let (owner, all) = match &place {
                Place::Struct(owner) | Place::Impl(owner) => (owner.clone(), false),
                Place::Open(owner) => (owner.clone(), true),
                Place::Top | Place::Closed => continue,
            };
            if (all && !trimmed.starts_with('}')) || trimmed.starts_with("pub ") {
                let text = statement(trimmed, &mut lines);
                let name = name_of(&text);
                found.push(Item { owner: Some(owner), name, text });
            }
        }
    }
    found
}

/// A statement up to its body or end, in one line.
fn statement<'a>(first: &str, lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> String {
    let mut text = first.trim().to_owned();
    let is_whole = |text: &str| {
        let open = text.chars().filter(|c| "([".contains(*c)).count();
        let closed = text.chars().filter(|c| ")]".contains(*c)).count();
        let is_export = text.starts_with("pub use ") || text.starts_with("use ");
        open == closed
            && if is_export { text.ends_with(';') } else { text.ends_with([';', '{', ',', '}', ')']) }
    };
    while !is_whole(&text) {
        let Some(line) = lines.next() else { break };
        if !text.ends_with(['(', '[']) && !line.trim().starts_with([')', ']']) {
            text.push(' ');
        }
        text.push_str(line.trim());
    }
    let text =
        if text.starts_with("pub use ") { text.as_str() } else { text.split(" {").next().unwrap_or("") };
    let text = text.trim_end_matches([';', ',', '{']).trim_end();
    let text = text.split(" = ").next().unwrap_or(text);
    text.replace(",)", ")").replace(", )", ")")
}

fn top(head: &str, attributes: &str, found: &mut Vec<Item>) -> Place {
    if attributes.contains("cfg(test)") {
        return Place::Closed;
    }
    let non_exhaustive = if attributes.contains("non_exhaustive") { "#[non_exhaustive] " } else { "" };
    if let Some(rest) = head.strip_prefix("impl") {
        let rest = match rest.strip_prefix('<') {
            Some(generics) => generics.split_once("> ").map_or(rest, |(_, rest)| rest),
            None => rest.trim_start(),
        };
        let Some((behaviour, owner)) = rest.split_once(" for ") else { return Place::Impl(bare(rest)) };
        let (name, text) = (behaviour.to_owned(), format!("impl {behaviour}"));
        found.push(Item { owner: Some(bare(owner)), name, text });
        return Place::Closed;
    }
    if !head.starts_with("pub ") {
        return Place::Closed;
    }
    let (name, text) = (name_of(head), format!("{non_exhaustive}{head}"));
    let place = match head.split(' ').nth(1) {
        Some("struct") => Place::Struct(name.clone()),
        Some("enum" | "trait") => Place::Open(name.clone()),
        _ => Place::Closed,
    };
    found.push(Item { owner: None, name, text });
    place
}

/// A type without parameters and reference.
fn bare(text: &str) -> String {
    text.trim_start_matches('&').split(['<', ' ']).next().unwrap_or_default().to_owned()
}

/// The name an item gives: the word after its keyword.
fn name_of(text: &str) -> String {
    let skip = ["pub", "fn", "struct", "enum", "trait", "type", "const", "static", "mod", "use", "async"];
    let mut words = text.split([' ', '(', '<', ':', ',', ';', '{', '=']).filter(|word| !word.is_empty());
    words.find(|word| !skip.contains(word)).unwrap_or_default().to_owned()
}

#[test]
fn reads_what_is_public() {
    let source = "\
//! A file.
#[derive(Debug)]
#[non_exhaustive]
pub struct A<'a> {
    /// Said.
    pub x: u32,
    y: u32,
}
impl A<'_> {
    pub fn f(
        &self,
        x: u32,
    ) -> u32 {
        pub_not(x)
    }
    fn g() {}
}
impl fmt::Debug for A<'_> {
    fn fmt() {}
}
pub enum E {
    /// One.
    One,
    Two(u32),
}
pub(crate) fn hidden() {}
pub const K: u32 = 5;
#[cfg(test)]
mod tests {
    pub fn no() {}
}
";
    let texts: Vec<String> = items(source).iter().map(ToString::to_string).collect();
    let expected = [
        "#[non_exhaustive] pub struct A<'a>",
        "A: pub x: u32",
        "A: pub fn f(&self, x: u32) -> u32",
        "A: impl fmt::Debug",
        "pub enum E",
        "E: One",
        "E: Two(u32)",
        "pub const K: u32",
    ];
    assert_eq!(texts, expected);
}
