//! The page of the interface (`server/docs/api.md`): every route stands there with an example, and every example is run.

use super::description::Description;
use crate::{Fresh, ask, now_ms};
use kymo_server::http::router::rows;
use kymo_tests::http::Response;
use kymo_tests::peers;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Where the examples say that the server is.
const SERVER: &str = "http://127.0.0.1:5966";

/// A fenced block of a page.
#[derive(Debug)]
struct Block {
    /// The route of the heading above it; empty if there is none.
    route: String,
    language: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page)).unwrap();
    let (mut route, mut blocks, mut open) = (String::new(), Vec::new(), None::<Block>);
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                let language = language.to_owned();
                open = Some(Block { route: route.clone(), language, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text.extend([line, "\n"]),
            (None, None) if line.starts_with('#') => {
                route = line
                    .split('`')
                    .nth(1)
                    .filter(|name| name.starts_with('/'))
                    .unwrap_or_default()
                    .to_owned();
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block is not closed");
    blocks
}

/// The path and the method of the request that the last `curl` of an example makes.
fn request_of(example: &str) -> (String, String) {
    let last = example.rsplit("curl ").next().unwrap();
    let path = last.split(SERVER).nth(1).unwrap_or_else(|| panic!("no address in {example}"));
    let path = path.split(|c: char| c.is_whitespace() || "?'\"".contains(c)).next().unwrap();
    let words: Vec<&str> = last.split_whitespace().collect();
    let method = match words.iter().position(|word| *word == "-X") {
        Some(at) => words[at + 1],
        None if words.contains(&"-G") || !last.contains("--data") => "GET",
        None => "POST",
    };
    let path = if path.is_empty() { "/" } else { path };
    (path.to_owned(), method.to_ascii_lowercase())
}

/// Runs the lines of an example as a shell does, and gives what the last `curl` got.
fn run(example: &str, dir: &Path, address: &str) -> Response {
    let script = example.replace(SERVER, address);
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
    let output =
        Command::new("sh").args(["-euc", &script]).env("PATH", path).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{example}{}", String::from_utf8_lossy(&output.stderr));
    let head = std::fs::read_to_string(dir.join("head")).unwrap();
    // Of several answers (`100 Continue`) the last one counts.
    let last = head.trim_end().rsplit("\r\n\r\n").next().unwrap();
    let mut lines = last.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header =
        |line: &str| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
    Response { status, headers: lines.filter_map(header).collect(), body: output.stdout }
}

/// Whether two values are of the same shape: the same members, elements as those shown, values of the same types.
fn same_shape(shown: &Value, found: &Value) -> bool {
    match (shown, found) {
        (Value::Object(shown), Value::Object(found)) => {
            shown.len() == found.len()
                && shown.iter().all(|(name, value)| found.get(name).is_some_and(|f| same_shape(value, f)))
        }
        (Value::Array(shown), Value::Array(found)) if shown.len() == found.len() => {
            shown.iter().zip(found).all(|(shown, found)| same_shape(shown, found))
        }
        (Value::Number(_), Value::Number(_)) => true,
        (Value::String(shown), Value::String(found)) => same_text(shown, found),
        _ => shown == found,
    }
}

/// Whether two texts differ in their numbers only.
fn same_text(shown: &str, found: &str) -> bool {
    let plain = |text: &str| {
        let mut out = String::new();
        for c in text.chars() {
            let c = if c.is_ascii_digit() { '0' } else { c };
            if c != '0' || !out.ends_with('0') {
                out.push(c);
            }
        }
        out
    };
    plain(shown.trim_end()) == plain(found.trim_end())
}

#[test]
fn every_route_stands_on_the_page() {
    let description = Description::published();
    let blocks = blocks("server/docs/api.md");
    for row in rows() {
        let examples = blocks.iter().filter(|b| b.route == row.path && b.language == "sh");
        let mut paths = examples.map(|b| request_of(&b.text).0);
        let is_shown = paths.any(|path| description.route(&path).as_deref() == Some(row.path));
        assert!(is_shown, "no example of {}", row.path);
    }
    for block in &blocks {
        let known = block.route.is_empty() || rows().iter().any(|row| row.path == block.route);
        assert!(known, "{} is no route", block.route);
    }
}

#[test]
fn every_example_of_the_pages_works() {
    let Some(curl) = peers::require("curl") else { return };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_owned();
    // The `curl` of the examples, telling the head of the answer too.
    let wrapper = folder.join("curl");
    let text = format!("#!/bin/sh\nexec {} -sS -D {}/head \"$@\"\n", curl.display(), folder.display());
    std::fs::write(&wrapper, text).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let flags = ["--self-monitor=true", "--web-enable-admin-api", "--web-enable-lifecycle"];
    let fresh = Fresh::start_in(dir, &flags);
    // What the server says of itself is there a moment after its start.
    while ask(&mut fresh.client(), "up", now_ms() + 1_000).as_array().unwrap().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let description = Description::published();
    let mut examples = 0;
    for page in ["README.md", "server/docs/api.md"] {
        let blocks = blocks(page);
        for (i, block) in blocks.iter().enumerate() {
            if block.language != "sh" || !block.text.contains(SERVER) {
                continue;
            }
            let (path, method) = request_of(&block.text);
            let answer = run(&block.text, &folder, &fresh.server.url(""));
            let at = format!("{page}: {}{} {}", block.text, answer.status, answer.text());
            let route = description.route(&path).unwrap_or_else(|| panic!("no route: {at}"));
            description.check(&route, &method, &answer).unwrap_or_else(|why| panic!("{why}: {at}"));
            let shown = blocks.get(i + 1).filter(|next| ["json", "text"].contains(&next.language.as_str()));
            let fails = shown.is_some_and(|shown| shown.text.contains("\"status\":\"error\""));
            assert_eq!(answer.status >= 400, fails, "{at}");
            match shown {
                Some(shown) if shown.language == "json" => {
                    let expected: Value = serde_json::from_str(&shown.text).unwrap();
                    let found = answer.json().unwrap();
                    assert!(same_shape(&expected, &found), "{at}\nshown: {expected}");
                }
                Some(shown) => assert!(same_text(&shown.text, &answer.text()), "{at}\nshown: {}", shown.text),
                None => {}
            }
            examples += 1;
        }
    }
    println!("examples run={examples}");
    assert!(!fresh.server.output().contains("panicked"));
}
