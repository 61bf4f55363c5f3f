//! Which module of a crate stands on which floor: a module imports only from floors below its own.

use super::source::Source;
use std::collections::{BTreeMap, BTreeSet};

/// A crate and its floors, the lowest first. A folder is one module here.
pub(crate) struct House {
    /// Where its files lie.
    folder: &'static str,
    /// The modules of each floor.
    floors: &'static [&'static [&'static str]],
}

/// The crates. A new module is entered here, on the lowest floor that it can stand on.
pub(crate) const HOUSES: &[House] = &[
    House {
        folder: "storage/src/",
        floors: &[
            &["error", "model", "sync"],
            &["api", "codec", "env", "options", "stats"],
            &["chunk", "prometheus"],
            &["index", "wal"],
            &["block"],
            &["head"],
            &["read"],
            &["maintain"],
            &["db"],
        ],
    },
    House {
        folder: "query/src/",
        floors: &[
            &["clock", "column", "format", "span", "sync", "value_type"],
            &["catalog", "error", "value"],
            &["ast", "histogram_json"],
            &["failure"],
            &["limits"],
            &["budget"],
            &["math"],
            &["annotations", "print", "syntax"],
            &["check", "pretty"],
            &["plan"],
            &["exec"],
            &["engine"],
        ],
    },
    House {
        folder: "src/",
        floors: &[
            &["error"],
            &["ack", "query_options"],
            &["options"],
            &["db"],
            &["admin", "append", "blocks", "cardinality", "promql", "read"],
            &["arrow"],
        ],
    },
    House {
        folder: "server/src/",
        floors: &[
            &["allocator", "config", "error", "telemetry"],
            &["access", "wire"],
            &["ingest"],
            &["http"],
            &["run", "tsdb"],
        ],
    },
];

fn module<'a>(source: &'a Source, folder: &str) -> Option<&'a str> {
    let rest = source.path.strip_prefix(folder)?;
    Some(rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs"))
}

/// Imports that go up or sideways, and modules that have no floor.
pub(crate) fn violations(house: &House, sources: &[Source]) -> Vec<String> {
    let floor = |name: &str| house.floors.iter().position(|floor| floor.contains(&name));
    let mut found = Vec::new();
    for source in sources {
        let Some(own) = module(source, house.folder) else { continue };
        if own == "lib" || own == "main" || own == "bin" {
            continue;
        }
        let Some(height) = floor(own) else {
            found.push(format!("{}: module {own} has no floor", source.path));
            continue;
        };
        for other in source.references("crate") {
            // What the crate's front page exports again (`crate::Error`) is looked up where it is written: names of
            // items begin with a capital letter.
            let item = other.starts_with(|c: char| c.is_uppercase());
            let Some(target) = floor(&other) else { continue };
            if other != own && !item && target >= height {
                found.push(format!("{} (floor {height}) imports {other} (floor {target})", source.path));
            }
        }
    }
    found
}

/// Rings of imports between the files of one folder.
pub(crate) fn rings(sources: &[Source]) -> Vec<String> {
    let mut folders: BTreeMap<&str, BTreeMap<&str, &Source>> = BTreeMap::new();
    for source in sources {
        if let Some((folder, file)) = source.path.rsplit_once('/') {
            let name = file.trim_end_matches(".rs");
            if folder.contains("/src/") && name != "mod" && name != "tests" {
                folders.entry(folder).or_default().insert(name, source);
            }
        }
    }
    let mut found = Vec::new();
    for (folder, files) in folders {
        let inside = folder.split_once("/src/").map_or("", |(_, inside)| inside).replace('/', "::");
        let edges: BTreeMap<&str, BTreeSet<String>> = files
            .iter()
            .map(|(name, source)| {
                let mut to: BTreeSet<String> = source.references("super").into_iter().collect();
                to.extend(source.references(&format!("crate::{inside}")));
                to.retain(|t| t != name && files.contains_key(t.as_str()));
                (*name, to)
            })
            .collect();
        found.extend(edges.keys().filter_map(|start| ring(start, &edges)).map(|r| format!("{folder}: {r}")));
    }
    found
}

/// The way from `start` back to it, if there is one; told once a ring, from its first file in the alphabet.
fn ring(start: &str, edges: &BTreeMap<&str, BTreeSet<String>>) -> Option<String> {
    let mut open = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = open.pop() {
        let last = way.last()?;
        for next in edges.get(last.as_str()).into_iter().flatten() {
            if next == start {
                return way
                    .iter()
                    .all(|w| start <= w.as_str())
                    .then(|| format!("{} -> {start}", way.join(" -> ")));
            }
            if seen.insert(next.clone()) {
                open.push([&way[..], std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}
