//! Cases as data: a request, and what the answer must be.

use super::description::Description;
use flate2::Compression;
use flate2::write::GzEncoder;
use kymo_server::access::Access;
use kymo_server::http::router::rows;
use kymo_storage::model::Regex;
use kymo_tests::http::{Client, Response, escape};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

/// A file: the cases of one endpoint, in order, against a server of their own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoint {
    /// The path as the table of the server has it; none for requests of all kinds.
    pub(crate) route: Option<String>,
    /// Flags of the server.
    #[serde(default)]
    pub(crate) flags: Vec<String>,
    /// The text of a configuration file, if there is to be one.
    pub(crate) config: Option<String>,
    /// The store is empty at first; else it holds `fixture.om` and `fixture.jsonl`.
    #[serde(default)]
    pub(crate) empty: bool,
    /// How each case is sent that does not say it itself.
    #[serde(default = "get")]
    methods: Vec<String>,
    pub(crate) cases: Vec<Case>,
}

fn get() -> Vec<String> {
    vec!["GET".to_owned()]
}

/// One case. `query` goes into the URL always; `params` for a GET, and into a form else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What it shows.
    what: String,
    methods: Option<Vec<String>>,
    path: Option<String>,
    #[serde(default)]
    query: BTreeMap<String, Value>,
    params: Option<BTreeMap<String, Value>>,
    /// The same as it stands, where escapes themselves are the matter.
    raw: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    /// A body by its bytes, in hexadecimal.
    hex: Option<String>,
    /// How many times the body comes.
    repeat: Option<usize>,
    /// What the configuration file is before the request is sent.
    config: Option<String>,
    /// How the body is compressed.
    pack: Option<String>,

    status: u16,
    /// The body, as JSON.
    json: Option<Value>,
    /// What is in the body, as JSON: of objects these members, of arrays these elements. A text that begins with `~` is a regular
    /// expression.
    has: Option<Value>,
    /// `errorType` and `error` of the envelope.
    error: Option<[String; 2]>,
    /// The body, or with `~` a regular expression over it.
    text: Option<String>,
    /// Headers of the answer; `null` for one that must not be there.
    #[serde(default)]
    answers: BTreeMap<String, Option<String>>,
}

/// What all cases together have met.
#[derive(Debug, Default)]
pub(crate) struct Met {
    /// Path, method (in lower case) and status.
    pub(crate) answers: BTreeSet<(String, String, u16)>,
    /// Path and parameter.
    pub(crate) parameters: BTreeSet<(String, String)>,
    /// Requests sent.
    pub(crate) requests: usize,
}

/// Pairs as a query string or form.
fn encoded(pairs: &BTreeMap<String, Value>) -> String {
    let one = |name: &str, value: &Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{}={}", escape(name), escape(&text))
    };
    let all = pairs.iter().flat_map(|(name, value)| match value.as_array() {
        Some(many) => many.iter().map(|value| one(name, value)).collect::<Vec<_>>(),
        None => vec![one(name, value)],
    });
    all.collect::<Vec<_>>().join("&")
}

impl Endpoint {
    /// Sends all cases and gives what was wrong with their answers. `config` is where the configuration file is.
    pub(crate) fn run(
        &self,
        client: &mut Client,
        config: &Path,
        description: &Description,
        met: &mut Met,
    ) -> Vec<String> {
        let mut failures = Vec::new();
        for case in &self.cases {
            if let Some(text) = &case.config {
                std::fs::write(config, text).unwrap();
            }
            for method in case.methods.as_ref().unwrap_or(&self.methods) {
                let target = case.target(self.route.as_deref().unwrap_or_default(), method);
                let judged = case.send(client, method, &target).and_then(|answer| {
                    let judged = case.judge(&answer).and_then(|()| safe(&answer));
                    judged
                        .and_then(|()| self.described(case, method, &target, &answer, description, met))
                        .map_err(|why| format!("{why}\n    {} {}", answer.status, answer.text()))
                });
                met.requests += 1;
                failures.extend(judged.err().map(|why| format!("{}: {method} {target}: {why}", case.what)));
            }
        }
        failures
    }

    /// Whether the description has this answer; if so it is met.
    fn described(
        &self,
        case: &Case,
        method: &str,
        target: &str,
        answer: &Response,
        description: &Description,
        met: &mut Met,
    ) -> Result<(), String> {
        let path = target.split('?').next().unwrap_or_default();
        let Some(route) = description.route(path) else { return Ok(()) };
        let method = method.to_ascii_lowercase();
        description.check(&route, &method, answer)?;
        met.answers.insert((route.clone(), method, answer.status));
        let raw = case.raw.iter().flat_map(|raw| raw.split('&')).filter_map(|p| p.split('=').next());
        let named = case.query.keys().chain(case.params.iter().flatten().map(|(n, _)| n));
        met.parameters
            .extend(named.map(String::as_str).chain(raw).map(|name| (route.clone(), name.to_owned())));
        Ok(())
    }
}

/// What every answer carries, whatever was asked.
fn safe(answer: &Response) -> Result<(), String> {
    let always = [
        ("x-content-type-options", Some("nosniff")),
        ("content-security-policy", Some("default-src 'self'")),
        ("x-frame-options", Some("DENY")),
        ("referrer-policy", Some("no-referrer")),
        // Other origins are closed out.
        ("access-control-allow-origin", None),
    ];
    for (name, expected) in always {
        if answer.header(name) != expected {
            return Err(format!("{name}: {:?}, expected {expected:?}", answer.header(name)));
        }
    }
    Ok(())
}

/// Whether a target is of a route that changes something.
fn changes(target: &str) -> bool {
    let path: Vec<&str> = target.split('?').next().unwrap_or_default().split('/').collect();
    let fits = |pattern: &str| {
        let pattern: Vec<&str> = pattern.split('/').collect();
        pattern.len() == path.len() && pattern.iter().zip(&path).all(|(a, b)| a == b || a.starts_with('{'))
    };
    rows().iter().any(|row| [Access::WRITE, Access::ADMIN].contains(&row.access) && fits(row.path))
}

impl Case {
    fn target(&self, route: &str, method: &str) -> String {
        let mut parts = vec![encoded(&self.query)];
        if method == "GET" || method == "HEAD" {
            parts.extend(self.params.as_ref().map(encoded));
            parts.extend(self.raw.clone());
        }
        parts.retain(|part| !part.is_empty());
        let path = self.path.as_deref().unwrap_or(route);
        if parts.is_empty() { path.to_owned() } else { format!("{path}?{}", parts.join("&")) }
    }

    fn send(&self, client: &mut Client, method: &str, target: &str) -> Result<Response, String> {
        let mut headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        if !self.headers.contains_key("Origin") && !changes(target) {
            // No page of another origin may read an answer, so that one asks always; it may change nothing at all.
            headers.push(("Origin", "https://elsewhere.example"));
        }
        let mut body = self.body.clone().unwrap_or_default().into_bytes();
        if let Some(hex) = &self.hex {
            let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
            body = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
        }
        body = body.repeat(self.repeat.unwrap_or(1));
        if method != "GET" && method != "HEAD" && (self.params.is_some() || self.raw.is_some()) {
            let raw = self.raw.clone();
            body = raw.unwrap_or_else(|| encoded(self.params.as_ref().unwrap())).into_bytes();
            if !self.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
                headers.push(("Content-Type", "application/x-www-form-urlencoded"));
            }
        }
        body = match self.pack.as_deref() {
            None => body,
            Some("snappy") => snap::raw::Encoder::new().compress_vec(&body).unwrap(),
            Some("zstd") => zstd::encode_all(body.as_slice(), 1).unwrap(),
            Some("gzip") => {
                let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
                gzip.write_all(&body).unwrap();
                gzip.finish().unwrap()
            }
            Some(other) => return Err(format!("no packing {other:?}")),
        };
        client.request(method, target, &headers, &body).map_err(|e| e.to_string())
    }

    fn judge(&self, answer: &Response) -> Result<(), String> {
        if answer.status != self.status {
            return Err(format!("status {}, expected {}", answer.status, self.status));
        }
        for (name, expected) in &self.answers {
            let found = answer.header(&name.to_ascii_lowercase());
            let fits = match (found, expected.as_deref()) {
                (Some(found), Some(expected)) => fits(found, expected),
                (found, expected) => found == expected,
            };
            if !fits {
                return Err(format!("header {name}: {found:?}, expected {expected:?}"));
            }
        }
        if let Some(expected) = &self.text
            && !fits(&answer.text(), expected)
        {
            return Err(format!("expected {expected:?}"));
        }
        if let Some(expected) = &self.json
            && answer.json()? != *expected
        {
            return Err(format!("expected {expected}"));
        }
        if let Some(expected) = &self.has {
            within(expected, &answer.json()?, "$")?;
        }
        if let Some([kind, text]) = &self.error {
            let body = answer.json()?;
            let found = [&body["status"], &body["errorType"]];
            let message = body["error"].as_str().unwrap_or_default();
            if found != ["error", kind] || !fits(message, text) {
                return Err(format!("expected the error {kind}: {text}"));
            }
        }
        Ok(())
    }
}

/// Whether a text is the expected one, or with `~` matches that regular expression as a whole.
fn fits(found: &str, expected: &str) -> bool {
    match expected.strip_prefix('~') {
        Some(pattern) => Regex::new(&format!("(?s:{})", pattern.trim())).unwrap().is_match(found),
        None => found == expected,
    }
}

fn within(expected: &Value, found: &Value, at: &str) -> Result<(), String> {
    let fits = match (expected, found) {
        (Value::Object(members), Value::Object(_)) => {
            return members
                .iter()
                .try_for_each(|(name, expected)| within(expected, &found[name], &format!("{at}.{name}")));
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            let mut pairs = expected.iter().zip(found).enumerate();
            return pairs
                .try_for_each(|(i, (expected, found))| within(expected, found, &format!("{at}[{i}]")));
        }
        (Value::String(expected), Value::String(found)) => fits(found, expected),
        (Value::String(expected), other) if expected.starts_with('~') => fits(&other.to_string(), expected),
        _ => expected == found,
    };
    if fits { Ok(()) } else { Err(format!("{at}: {found}, expected {expected}")) }
}
