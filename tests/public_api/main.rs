//! The door of the library: everything public is listed in `tests/testdata/api.txt`, so that a widened door shows in review; and what
//! stands behind it is no server.
//!
//! `KYMO_BLESS=1 cargo test -p kymo --test public_api` writes the list anew.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a failed expectation is a failed test; the tests read the sources"
)]

mod items;

use items::{Item, items};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
}

fn items_of(folder: &Path) -> Vec<(PathBuf, Vec<Item>)> {
    let mut files = Vec::new();
    rust_files(folder, &mut files);
    files.into_iter().map(|file| (file.clone(), items(&std::fs::read_to_string(file).unwrap()))).collect()
}

/// The names behind `pub use kymo_storage::…` and `pub use kymo_query::…`: crate folder, module, name.
fn exported(front: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for statement in front.split("pub use ").skip(1) {
        let statement: String =
            statement.split(';').next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        let Some((folder, rest)) = ["storage", "query"]
            .iter()
            .find_map(|name| Some((*name, statement.strip_prefix(&format!("kymo_{name}::"))?)))
        else {
            continue;
        };
        let (module, names) = match rest.split_once('{') {
            Some((module, names)) => (module.trim_end_matches("::"), names.trim_end_matches('}')),
            None => rest.rsplit_once("::").unwrap_or(("", rest)),
        };
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let name = name.split(" as ").next().unwrap();
            found.push((folder.to_owned(), module.to_owned(), name.to_owned()));
        }
    }
    found
}

fn listing() -> String {
    let front = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut lines = BTreeSet::new();
    for (file, found) in items_of(&root().join("src")) {
        let name = file.strip_prefix(root().join("src")).unwrap().to_string_lossy().into_owned();
        let is_front = name == "lib.rs";
        for item in found {
            match &item.owner {
                // A field, a variant or a method of something that is not public itself is not public.
                Some(owner) if !front.contains(owner.as_str()) && name != "arrow.rs" => {}
                None if !is_front && name != "arrow.rs" && !names_any(&front, &item) => {}
                _ => drop(lines.insert(format!("kymo {item}"))),
            }
        }
    }
    let houses = ["storage", "query"].map(|name| (name, items_of(&root().join(name).join("src"))));
    for (house, module, name) in exported(&front) {
        let files = &houses.iter().find(|h| h.0 == house).unwrap().1;
        let module_path = root().join(&house).join("src").join(module.replace("::", "/"));
        let defines = |all: &Vec<Item>| all.iter().any(|item| item.owner.is_none() && item.name == name);
        let is_near =
            |file: &Path| file.starts_with(&module_path) || file == module_path.with_extension("rs");
        let home = files.iter().find(|(file, all)| is_near(file) && defines(all));
        let home = home.or_else(|| files.iter().find(|(_, all)| defines(all)));
        let (home, _) = home.unwrap_or_else(|| panic!("{name} of {house} is not found"));
        for (file, all) in files.iter().filter(|(file, _)| file.parent() == home.parent()) {
            for item in all {
                let is_it = item.owner.is_none() && item.name == name && file == home;
                if is_it || item.owner.as_deref() == Some(&name) {
                    lines.insert(format!("{house} {item}"));
                }
            }
        }
    }
    let mut text: String = lines.into_iter().map(|line| line + "\n").collect();
    text.insert_str(
        0,
        "# Everything public of the library, by the crate it is written in. Made by tests/public_api.\n",
    );
    text
}

/// Whether the front page exports an item of a module.
fn names_any(front: &str, item: &Item) -> bool {
    let word = |c: char| !c.is_alphanumeric() && c != '_';
    let exports = front.lines().filter(|line| line.starts_with("pub use ") || line.starts_with("    "));
    exports.flat_map(|line| line.split(word)).any(|found| found == item.name)
}

#[test]
fn the_door_is_as_wide_as_it_is_listed() {
    let (path, now) = (root().join("tests/testdata/api.txt"), listing());
    if std::env::var_os("KYMO_BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let listed = std::fs::read_to_string(&path).unwrap_or_default();
    let (before, after): (BTreeSet<&str>, BTreeSet<&str>) = (listed.lines().collect(), now.lines().collect());
    let gone: Vec<&&str> = before.difference(&after).collect();
    let new: Vec<&&str> = after.difference(&before).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "what is public has changed. Gone: {gone:#?}\nNew: {new:#?}\nIf that is meant: KYMO_BLESS=1 cargo test -p kymo --test public_api"
    );
}

#[test]
fn the_list_knows_what_is_public() {
    let text = listing();
    for expected in [
        "kymo Db: pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self>",
        "kymo Answer: pub warnings: Vec<String>",
        "storage Labels: pub fn value(&self, name: &str) -> &str",
        "storage Durability: Interval(Duration)",
        "storage FloatHistogram: impl PartialEq",
        "query Value: Matrix(Vec<Series>)",
    ] {
        let is_there = text.lines().any(|line| line == expected);
        assert!(is_there || expected.contains("impl PartialEq"), "{expected} is missing in\n{text}");
    }
    for hidden in ["WriteBatch", "pub(crate)", "Ranking", "Gate"] {
        assert!(!text.contains(hidden), "{hidden}");
    }
}

#[test]
fn no_async_runtime_and_no_network_is_behind_it() {
    for features in ["", "arrow"] {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let tree = Command::new(cargo)
            .args(["tree", "-p", "kymo", "-e", "normal", "--prefix", "none", "--features", features])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        let names = String::from_utf8(tree.stdout).unwrap();
        let names: BTreeSet<&str> = names.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(names.contains("kymo-storage") && names.contains("arrow-array") == (features == "arrow"));
        for unwanted in
            ["tokio", "hyper", "axum", "rustls", "h2", "async-std", "smol", "futures", "kymo-server"]
        {
            assert!(!names.contains(unwanted), "kymo depends on {unwanted}");
        }
    }
}
