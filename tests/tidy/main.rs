//! The laws of the house that no compiler checks: floors, opening sentences, names, sizes, links, where `unsafe` may stand.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a failed expectation is a failed test; the tests read the sources"
)]

mod floors;
mod mechanisms;
mod reached;
mod source;

use source::{Source, root, sources};
use std::path::Path;

/// Fails with all complaints at once.
fn require_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn complaints(check: impl Fn(&Source) -> Option<String>) -> Vec<String> {
    sources().iter().filter_map(|s| check(s).map(|c| format!("{}: {c}", s.path))).collect()
}

#[test]
fn imports_go_down() {
    let all = sources();
    let mut found = Vec::new();
    for house in floors::HOUSES {
        found.extend(floors::violations(house, &all));
    }
    require_none(&found);
}

#[test]
fn no_ring_of_files_in_a_folder() {
    require_none(&floors::rings(&sources()));
}

#[test]
fn every_file_is_compiled() {
    require_none(&reached::orphans(&sources()));
}

#[test]
fn query_sees_storage_through_its_interface_only() {
    let allowed = ["api", "error", "model"];
    require_none(&complaints(|s| {
        let inside = s.path.starts_with("query/src/");
        let other = s.references("kymo_storage").into_iter().find(|m| !allowed.contains(&m.as_str()));
        inside.then_some(other)?.map(|m| format!("uses kymo_storage::{m}"))
    }));
}

#[test]
fn storage_and_query_are_synchronous() {
    for manifest in ["storage/Cargo.toml", "query/Cargo.toml", "Cargo.toml"] {
        let text = std::fs::read_to_string(root().join(manifest)).unwrap();
        let own = text.split("[workspace.dependencies]").next().unwrap_or_default().to_owned()
            + text.split("[package]").nth(1).unwrap_or_default();
        for name in ["tokio", "axum", "hyper", "futures"] {
            assert!(!own.lines().any(|l| l.starts_with(name)), "{manifest} depends on {name}");
        }
    }
}

#[test]
fn every_file_opens_with_a_sentence() {
    require_none(&complaints(|s| {
        let first = s.text.lines().next().unwrap_or_default();
        let sentence = first.strip_prefix("//! ").is_some_and(|rest| !rest.trim().is_empty());
        (!sentence).then(|| format!("opens with {first:?}"))
    }));
}

#[test]
fn no_file_is_a_drawer() {
    let forbidden = ["util", "utils", "common", "helper", "helpers", "misc", "types", "core", "manager"];
    require_none(&complaints(|s| {
        let parts = s.path.trim_end_matches(".rs").split('/');
        parts.into_iter().find(|p| forbidden.contains(p)).map(|bad| format!("is named {bad}"))
    }));
}

#[test]
fn files_stay_readable() {
    const LINES_MAX: usize = 600;
    const WIDTH_MAX: usize = 160;
    require_none(&complaints(|s| {
        let count = s.text.lines().count();
        // Tables of numbers are made by a program and read by nobody.
        let table = s.path.ends_with("tables.rs");
        if count > LINES_MAX && !table {
            return Some(format!("{count} lines; the most is {LINES_MAX}"));
        }
        let wide = s.text.lines().position(|l| l.chars().count() > WIDTH_MAX && !l.contains('"'))?;
        Some(format!("line {} is wider than {WIDTH_MAX}", wide + 1))
    }));
}

#[test]
fn unsafe_has_three_rooms() {
    require_none(&complaints(|s| {
        const ROOMS: [&str; 3] =
            ["storage/src/env/mmap.rs", "server/src/allocator.rs", "tests/fuzz_bodies/src/allocations.rs"];
        let allowed = ROOMS.contains(&&*s.path);
        let line = s.code_lines().into_iter().find(|l| {
            ["{", "fn", "impl", "trait"].iter().any(|u| l.1.contains(&[concat!("un", "safe "), u].concat()))
        })?;
        (!allowed).then(|| format!("unsafe in line {}", line.0))
    }));
}

#[test]
fn nothing_is_left_undone() {
    require_none(&complaints(|s| {
        // Spelled apart so that this file does not find itself.
        let marks = [
            concat!("to", "do!("),
            concat!("unimple", "mented!("),
            concat!("FIX", "ME"),
            concat!("TO", "DO"),
        ];
        let line = s.text.lines().position(|l| marks.iter().any(|m| l.contains(m)))?;
        Some(format!("line {} is not done", line + 1))
    }));
}

#[test]
fn a_test_that_is_left_out_says_why() {
    require_none(&complaints(|s| {
        let line = s.text.lines().position(|l| l.trim() == concat!("#[ign", "ore]"))?;
        Some(format!("line {} leaves a test out without a reason", line + 1))
    }));
}

#[test]
fn the_map_of_mechanisms_is_true() {
    require_none(&mechanisms::missing());
}

#[test]
fn releases_check_arithmetic_and_unwind() {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for package in ["kymo-storage", "kymo-query"] {
        let section =
            text.split(&format!("[profile.release.package.{package}]\n")).nth(1).unwrap_or_default();
        assert!(
            section.starts_with("overflow-checks = true\n"),
            "{package} checks no arithmetic in releases"
        );
    }
    assert!(
        !text.contains("panic = \"abort\""),
        "a release that aborts loses the other queries with the one that has a bug"
    );
}

#[test]
fn links_lead_somewhere() {
    let mut found = Vec::new();
    for document in source::documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        for link in source::links(&text) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !Path::new(folder).join(target).exists() {
                found.push(format!("{}: {link}", document.display()));
            }
        }
    }
    require_none(&found);
}
