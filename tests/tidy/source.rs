//! The files of the workspace, and what can be seen in them without a compiler.

use std::path::{Path, PathBuf};

/// A Rust file.
pub(crate) struct Source {
    /// From the root of the workspace, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

/// The workspace.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn walk(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "kymo-data" && !name.starts_with('.') {
            walk(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// All Rust files, sorted.
pub(crate) fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root(), "rs", &mut found);
    found.sort();
    let read = |path: PathBuf| Source {
        path: path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/"),
        text: std::fs::read_to_string(path).unwrap(),
    };
    found.into_iter().map(read).collect()
}

/// All documents.
pub(crate) fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(&root(), "md", &mut found);
    found
}

/// All manifests.
pub(crate) fn manifests() -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(&root(), "toml", &mut found);
    found.retain(|path| path.file_name().is_some_and(|name| name == "Cargo.toml"));
    found
}

/// The targets of `[text](target)`, outside code blocks.
pub(crate) fn links(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    let tails = prose.split("](").skip(1);
    tails.filter_map(|tail| tail.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

impl Source {
    /// Numbered lines before the file's tests, without those that are only comments.
    pub(crate) fn code_lines(&self) -> Vec<(usize, &str)> {
        let code = |l: &(usize, &str)| !l.1.trim_start().starts_with("//");
        let tests = self.text.lines().position(|l| l.trim() == "#[cfg(test)]").unwrap_or(usize::MAX);
        self.text.lines().enumerate().take(tests).map(|(i, l)| (i + 1, l)).filter(code).collect()
    }

    /// Every name that follows `prefix::`, also in `use prefix::{a, b::c}`, each once.
    pub(crate) fn references(&self, prefix: &str) -> Vec<String> {
        let code: String = self.code_lines().into_iter().flat_map(|(_, l)| [l, "\n"]).collect();
        let mut names = Vec::new();
        let start = format!("{prefix}::");
        let mut rest = code.as_str();
        while let Some(at) = rest.find(&start) {
            let before = rest[..at].chars().next_back();
            rest = &rest[at + start.len()..];
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            match rest.strip_prefix('{') {
                Some(list) => names.extend(listed(list)),
                None => names.push(identifier(rest)),
            }
        }
        names.retain(|n| !n.is_empty());
        names.sort();
        names.dedup();
        names
    }
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first names of a list such as `{a, b::{c, d}, e}`, whose first brace has been taken off.
fn listed(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut fresh) = (0, Vec::new(), true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                names.push(identifier(&list[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn references_are_seen() {
    let text = "use crate::a::b;\nuse crate::{\n  c::{d, e},\n  f,\n};\n// crate::g\nlet x = crate::h::y();\nlet n = mycrate::z;\n#[cfg(test)]\nuse crate::t;\n";
    let source = Source { path: String::new(), text: text.to_owned() };
    assert_eq!(source.references("crate"), ["a", "c", "f", "h"]);
    assert_eq!(links("[a](b.md) `x` ```\n[c](d)\n``` [e](f#g)"), ["b.md", "f#g"]);
}
