//! Which files a compiler ever sees: those that are roots of a target, and those that a `mod` of one of them names.

use super::source::{Source, manifests, root};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Files no target reaches.
pub(crate) fn orphans(sources: &[Source]) -> Vec<String> {
    let texts: BTreeMap<&str, &str> = sources.iter().map(|s| (&*s.path, &*s.text)).collect();
    let mut open: Vec<(String, bool)> = roots(&texts).into_iter().map(|path| (path, true)).collect();
    let mut reached: BTreeSet<String> = BTreeSet::new();
    while let Some((path, is_root)) = open.pop() {
        let Some(text) = texts.get(&*path) else { continue };
        if reached.insert(path.clone()) {
            open.extend(named(&path, is_root, text, &texts).into_iter().map(|path| (path, false)));
        }
    }
    let is_orphan = |source: &&Source| !reached.contains(&source.path);
    sources.iter().filter(is_orphan).map(|s| format!("{}: no `mod` names it", s.path)).collect()
}

/// The files that are targets: by their place, as cargo finds them, or named by a manifest.
fn roots(texts: &BTreeMap<&str, &str>) -> Vec<String> {
    let mut found = Vec::new();
    for manifest in manifests() {
        let text = std::fs::read_to_string(&manifest).unwrap();
        let folder = manifest.parent().unwrap().strip_prefix(root()).unwrap().to_owned();
        for path in text.lines().filter_map(|line| line.strip_prefix("path = \"")?.strip_suffix('"')) {
            found.push(plain(&folder.join(path)));
        }
        found.extend(["src/lib.rs", "src/main.rs", "build.rs"].map(|file| plain(&folder.join(file))));
        let places = [
            ("src/bin", "autobins"),
            ("tests", "autotests"),
            ("benches", "autobenches"),
            ("examples", "autoexamples"),
        ];
        for (place, switch) in places {
            if text.contains(&format!("{switch} = false")) {
                continue;
            }
            let place = format!("{}/", plain(&folder.join(place)));
            let is_found = |path: &&&str| {
                path.strip_prefix(&place).is_some_and(|rest| match rest.split_once('/') {
                    None => true,
                    Some((_, file)) => file == "main.rs",
                })
            };
            found.extend(texts.keys().filter(is_found).map(|path| (*path).to_owned()));
        }
    }
    found
}

/// The files that the `mod` lines of a file name.
fn named(path: &str, is_root: bool, text: &str, texts: &BTreeMap<&str, &str>) -> Vec<String> {
    let path = Path::new(path);
    let folder = path.parent().unwrap_or(Path::new(""));
    let is_front = is_root || path.file_name().is_some_and(|name| name == "mod.rs");
    let inside = if is_front { folder.to_owned() } else { path.with_extension("") };
    let (mut found, mut place) = (Vec::new(), None);
    for line in text.lines().map(str::trim) {
        if let Some(told) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            place = Some(told);
            continue;
        }
        let Some(name) = module(line) else { continue };
        let candidates = match place.take() {
            Some(told) => vec![folder.join(told)],
            None => vec![inside.join(format!("{name}.rs")), inside.join(name).join("mod.rs")],
        };
        found.extend(candidates.iter().map(|path| plain(path)).filter(|path| texts.contains_key(&**path)));
    }
    found
}

/// The name in `mod name;`, whatever says who sees it.
fn module(line: &str) -> Option<&str> {
    let rest = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.trim_start(),
        None => line,
    };
    rest.strip_prefix("mod ")?.strip_suffix(';')
}

/// A path without `..`, with `/`.
fn plain(path: &Path) -> String {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            part => out.push(part),
        }
    }
    out.to_string_lossy().replace('\\', "/")
}

#[test]
fn a_file_that_nothing_names_is_seen() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let sources = [
        source("storage/src/lib.rs", "pub mod a;\npub(crate) mod b;\n"),
        source("storage/src/a.rs", "mod c;\n#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\n"),
        source("storage/src/a_tests.rs", ""),
        source("storage/src/a/c.rs", ""),
        source("storage/src/a/d.rs", ""),
        source("storage/src/b/mod.rs", "    mod e;\n"),
        source("storage/src/b/e.rs", ""),
        source("storage/src/e.rs", ""),
        source("storage/tests/one.rs", ""),
        source("storage/tests/many/main.rs", ""),
        source("storage/tests/many/part.rs", ""),
    ];
    let found = orphans(&sources);
    let expected = ["storage/src/a/d.rs", "storage/src/e.rs", "storage/tests/many/part.rs"];
    assert_eq!(found, expected.map(|path| format!("{path}: no `mod` names it")));
}
