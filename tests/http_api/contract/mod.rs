//! The contract: one file of cases an endpoint in `tests/testdata/http_api`, each answer checked against the published
//! description, and everything that is described met by a case.

mod case;
pub(crate) mod description;
mod page;
mod starting;

use super::{Fresh, now_ms};
use case::{Endpoint, Met};
use description::Description;
use kymo_server::http::router::rows;
use kymo_tests::http::Response;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The configuration file of a server, beside its data.
const CONFIG: &str = "kymo.yml";
/// Answers that no file of cases can bring about.
const ELSEWHERE: [(&str, &str, u16); 1] = [
    // It takes a query that runs: `budget::running_queries_are_listed_and_can_be_ended`.
    ("/api/v1/status/active_queries/{id}/cancel", "post", 200),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/testdata/http_api")
}

fn endpoint(file: &Path) -> Endpoint {
    let now = now_ms();
    let text = std::fs::read_to_string(file).unwrap();
    let text = text.replace("@NOW_MS@", &now.to_string()).replace("@NOW@", &(now / 1_000).to_string());
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// Every file of cases, by its name.
fn endpoints() -> Vec<(String, Endpoint)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    files.iter().map(|f| (f.file_stem().unwrap().to_string_lossy().into_owned(), endpoint(f))).collect()
}

/// A server for the cases of a file. Samples of any age are kept: the times in the files do not move.
fn server(endpoint: &Endpoint, dir: tempfile::TempDir) -> Fresh {
    let mut flags = vec!["--retention=36500d".to_owned()];
    flags.extend(endpoint.flags.iter().cloned());
    if let Some(text) = &endpoint.config {
        let file = dir.path().join(CONFIG);
        std::fs::write(&file, text).unwrap();
        flags.push(format!("--config={}", file.display()));
    }
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let fresh = Fresh::start_in(dir, &flags);
    if !endpoint.empty {
        let doors = [
            ("/api/v1/import/prometheus", "application/openmetrics-text", "fixture.om"),
            ("/api/v1/import", "application/stream+json", "fixture.jsonl"),
        ];
        for (door, media, file) in doors {
            let body = std::fs::read(folder().join(file)).unwrap();
            let answer = fresh.client().request("POST", door, &[("Content-Type", media)], &body).unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (204, ""), "{file}");
        }
    }
    fresh
}

#[test]
fn every_endpoint_answers_as_its_file_says() {
    let description = Description::published();
    let files = endpoints();
    let only = std::env::var("KYMO_CONTRACT").ok();
    let queue: Mutex<Vec<&(String, Endpoint)>> =
        Mutex::new(files.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)).collect());
    let (met, failures) = (Mutex::new(Met::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((name, endpoint)) = queue.lock().unwrap().pop() else { return };
                    let dir = tempfile::tempdir().unwrap();
                    let config = dir.path().join(CONFIG);
                    let fresh = server(endpoint, dir);
                    let mut own = Met::default();
                    let wrong = endpoint.run(&mut fresh.client(), &config, &description, &mut own);
                    failures.lock().unwrap().extend(wrong.iter().map(|why| format!("{name}: {why}")));
                    if fresh.server.output().contains("panicked") {
                        failures.lock().unwrap().push(format!("{name}: {}", fresh.server.output()));
                    }
                    let mut met = met.lock().unwrap();
                    met.answers.extend(own.answers);
                    met.parameters.extend(own.parameters);
                    met.requests += own.requests;
                }
            });
        }
    });
    let (met, mut failures) = (met.into_inner().unwrap(), failures.into_inner().unwrap());
    println!("contract files={} requests={} failures={}", files.len(), met.requests, failures.len());
    if only.is_none() {
        failures.extend(unmet(&description, &met));
    }
    failures.sort();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// What is described and met by no case.
fn unmet(description: &Description, met: &Met) -> Vec<String> {
    let mut missing = Vec::new();
    for (path, method) in description.operations() {
        for status in description.statuses(&path, &method) {
            let elsewhere = ELSEWHERE.contains(&(&path, &method, status));
            if !elsewhere && !met.answers.contains(&(path.clone(), method.clone(), status)) {
                missing.push(format!("no case for {method} {path} with status {status}"));
            }
        }
        for name in description.parameters(&path, &method) {
            if !met.parameters.contains(&(path.clone(), name.clone())) {
                missing.push(format!("no case for the parameter {name} of {path}"));
            }
        }
    }
    missing
}

#[test]
fn every_route_has_its_file() {
    let files = endpoints();
    let mut with_file: Vec<&str> = files.iter().filter_map(|(_, e)| e.route.as_deref()).collect();
    with_file.sort_unstable();
    let mut routes: Vec<&str> = rows().iter().map(|row| row.path).collect();
    routes.sort_unstable();
    assert_eq!(with_file, routes);
}

#[test]
fn methods_are_those_of_the_description() {
    let fresh = Fresh::start(&["--web-enable-admin-api", "--web-enable-lifecycle"]);
    let mut client = fresh.client();
    let description = Description::published();
    let described: BTreeSet<(String, String)> = description.operations().into_iter().collect();
    let mut cells = 0;
    for row in rows() {
        let path = row.path.replace("{name}", "job").replace("{id}", "1");
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NOPE"] {
            let entry = if method == "HEAD" { "get".to_owned() } else { method.to_ascii_lowercase() };
            let is_described = described.contains(&(row.path.to_owned(), entry.clone()));
            if is_described && row.path == "/-/quit" {
                continue;
            }
            let answer = client.request(method, &path, &[], b"").unwrap();
            let at = format!("{method} {path}: {} {}", answer.status, answer.text());
            assert_eq!(is_described, answer.status != 405, "{at}");
            if is_described {
                description
                    .check(row.path, &method.to_ascii_lowercase(), &answer)
                    .unwrap_or_else(|why| panic!("{at}: {why}"));
            } else if method != "HEAD" {
                let says = if ["/-/reload", "/-/quit"].contains(&row.path) {
                    "Only POST or PUT requests allowed"
                } else {
                    "Method Not Allowed\n"
                };
                assert_eq!(answer.text(), says, "{at}");
            }
            cells += 1;
        }
    }
    println!("methods cells={cells}");
}

/// Names that lead out of a folder, if somebody makes a path of them.
const TRAVERSAL: [&str; 16] = [
    "..",
    "../../../../etc/passwd",
    "/etc/passwd",
    "%2e%2e%2fetc%2fpasswd",
    "..\\..\\etc",
    "....//....//etc/passwd",
    "C:\\windows",
    "file:///etc/passwd",
    "\0",
    "../\0",
    "~root/.ssh",
    "$(id)",
    "`id`",
    "a\r\nX-Evil: 1",
    "\u{202e}..",
    "．．／",
];

#[test]
fn traversal_in_every_parameter() {
    let fresh = Fresh::start(&["--web-enable-admin-api", "--web-enable-lifecycle"]);
    let beside = || listed(fresh.server.data().parent().unwrap());
    let before = beside();
    let mut client = fresh.client();
    let description = Description::published();
    let mut requests = 0;
    let mut judge = |answer: &Response, at: &str| {
        assert!(answer.status < 500, "{at}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains("root:x:"), "{at}");
        assert_eq!(answer.header("x-evil"), None, "{at}");
        requests += 1;
    };
    for (path, method) in description.operations() {
        if path == "/-/quit" {
            continue;
        }
        let upper = method.to_ascii_uppercase();
        let body: &[u8] = if path.ends_with("write") { b"cpu value=1" } else { b"" };
        for string in TRAVERSAL {
            let escaped = kymo_tests::http::escape(string);
            for name in description.parameters(&path, &method) {
                let target = format!("{}?{}={escaped}", at_job(&path), kymo_tests::http::escape(&name));
                judge(&client.request(&upper, &target, &[], body).unwrap(), &target);
            }
            if path.contains('{') {
                let target = path.replace("{name}", &escaped).replace("{id}", &escaped);
                judge(&client.request(&upper, &target, &[], body).unwrap(), &target);
            }
        }
    }
    println!("traversal requests={requests}");
    assert_eq!(beside(), before, "files beside the data directory");
    assert!(!fresh.server.output().contains("panicked"));
}

fn at_job(path: &str) -> String {
    path.replace("{name}", "job").replace("{id}", "1")
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    names
}

#[test]
fn the_roles_of_the_table_are_those_of_the_description() {
    use kymo_server::access::Access;
    let description = Description::published();
    for row in rows() {
        let role = match row.access {
            Access::Anyone => "anyone",
            Access::Needs(role) => role.name(),
        };
        assert_eq!(description.role(row.path), role, "{}", row.path);
    }
}
