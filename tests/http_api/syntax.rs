//! What is asked about a query's text: its syntax tree and its layout, as tables in `tests/testdata/api`.

use crate::Fresh;
use kymo_tests::http::escape;
use serde_json::{Value, json};
use std::path::Path;

fn table(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/testdata/api").join(name);
    #[allow(clippy::disallowed_methods, reason = "the cases are in a file")]
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// The whole answer that a row of a table stands for.
fn expected(row: &Value) -> (u16, Value) {
    let Some(errors) = row.get("errors") else {
        return (200, json!({ "status": "success", "data": row["data"] }));
    };
    let first = &errors[0];
    let place = match (first["line"].as_u64(), first["column"].as_u64()) {
        (Some(line), Some(column)) => format!("{line}:{column}"),
        _ => "unknown position".to_owned(),
    };
    let message = first["message"].as_str().unwrap();
    let text = format!("invalid parameter \"query\": {place}: parse error: {message}");
    let data = json!({ "errors": errors });
    (400, json!({ "status": "error", "data": data, "errorType": "bad_data", "error": text }))
}

fn check(endpoint: &str, name: &str) {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let mut wrong = Vec::new();
    for (index, row) in table(name).iter().enumerate() {
        let query = row["query"].as_str().unwrap();
        // Both ways to ask take turns.
        let response = if index % 2 == 0 {
            client.get(&format!("/api/v1/{endpoint}?query={}", escape(query))).unwrap()
        } else {
            client.post_form(&format!("/api/v1/{endpoint}"), &[("query", query)]).unwrap()
        };
        let got = (response.status, response.json().unwrap());
        let wanted = expected(row);
        if got != wanted {
            wrong.push(format!("{query}\n  expected {wanted:?}\n  got      {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn trees_of_every_kind_of_node() {
    check("parse_query", "parse_query.json");
}

#[test]
fn texts_laid_out() {
    check("format_query", "format_query.json");
}

#[test]
fn long_and_deep_texts_end_in_an_answer() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let texts = [
        "1+".repeat(120) + "1",
        "(".repeat(120) + "1" + &")".repeat(120),
        "-".repeat(60_000) + "1",
        "sum(".repeat(10_000),
        format!("a{{b=\"{}\"}}", "\u{1}".repeat(30_000)),
        "a+".repeat(30_000) + "a",
        "x".repeat(70_000),
    ];
    for text in texts {
        for endpoint in ["parse_query", "format_query"] {
            let response = client.post_form(&format!("/api/v1/{endpoint}"), &[("query", &text)]).unwrap();
            assert!([200, 400].contains(&response.status), "{endpoint}: {}", response.status);
        }
    }
}
