//! Who may call what: every route for every kind of caller, and what a caller learns from being turned away.

use crate::{Fresh, now_ms};
use kymo_server::access::{Access, Role};
use kymo_server::http::router::rows;
use kymo_tests::http::Response;
use kymo_tests::remote_write::{Request, TimeSeries};
use std::time::Duration;

/// bcrypt of `secret-of-NAME` at the least cost: the tests are about who, not about how dear.
fn users() -> String {
    let mut text = String::from("basic_auth_users:\n");
    for name in ["reader", "writer", "both", "boss", "plain"] {
        let hash = bcrypt::hash(format!("secret-of-{name}"), 4).unwrap();
        text.push_str(&format!("  {name}: {hash}\n"));
    }
    text.push_str(
        "basic_auth_roles:\n  reader: [read]\n  writer: [write]\n  both: [read, write]\n  boss: [admin]\n",
    );
    text
}

fn closed(more: &str, arguments: &[&str]) -> Fresh {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "file-token\n").unwrap();
    // printf letmein | sha256sum
    let tokens = concat!(
        "bearer_tokens:\n",
        "  - {name: grafana, roles: [read], token_sha256: 1c8bfe8f801d79745c4631d09fff36c82aa37fc4cce4fc946683d7b336b63032}\n",
        "  - {name: sender, roles: [write], token_file: token}\n",
    );
    let path = dir.path().join("web.yml");
    std::fs::write(&path, format!("{}{tokens}{more}", users())).unwrap();
    let file = format!("--web-config-file={}", path.display());
    let mut all = vec![file.as_str()];
    all.extend(arguments);
    Fresh::start_in(dir, &all)
}

fn basic(name: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = format!("{name}:{password}");
    let mut out = String::from("Basic ");
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().enumerate().fold(0u32, |bits, (i, b)| bits | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * i) & 63) as usize]);
            out.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

/// Who calls, what it says of itself, and what it may do; `None` if nobody knows it.
type Caller = (&'static str, Option<String>, Option<Vec<Role>>);

fn callers() -> Vec<Caller> {
    use Role::{Admin, Read, Write};
    let known = |name: &str| Some(basic(name, &format!("secret-of-{name}")));
    vec![
        ("nobody", None, None),
        ("reader", known("reader"), Some(vec![Read])),
        ("writer", known("writer"), Some(vec![Write])),
        ("both", known("both"), Some(vec![Read, Write])),
        ("boss", known("boss"), Some(vec![Admin])),
        ("a user without roles, as in a file of Prometheus", known("plain"), Some(vec![Admin])),
        ("a token by its hash", Some("Bearer letmein".into()), Some(vec![Read])),
        ("a token of a file", Some("Bearer file-token".into()), Some(vec![Write])),
        ("a wrong password", Some(basic("boss", "secret-of-reader")), None),
        ("an empty password", Some(basic("boss", "")), None),
        ("an unknown user", known("mallory"), None),
        ("a wrong token", Some("Bearer letmein2".into()), None),
        ("a token as password", Some(basic("grafana", "letmein")), None),
        (
            "the hash of a token",
            Some("Bearer 1c8bfe8f801d79745c4631d09fff36c82aa37fc4cce4fc946683d7b336b63032".into()),
            None,
        ),
        ("another scheme", Some("Digest username=boss".into()), None),
        ("nonsense", Some("Basic !!!!".into()), None),
    ]
}

/// What every answer carries, those to strangers too.
fn guarded(response: &Response, at: &str) {
    let headers = [
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'self'"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
    ];
    for (name, value) in headers {
        assert_eq!(response.header(name), Some(value), "{at}");
    }
    assert_eq!(response.header("access-control-allow-origin"), None, "{at}");
}

#[test]
fn every_route_for_every_caller() {
    let fresh = closed("", &["--web-enable-lifecycle", "--web-enable-admin-api"]);
    let mut client = fresh.client();
    let mut cells = 0;
    for row in rows() {
        // Leaving or reloading would change the server under test; its answer to others is what matters here.
        let path = row.path.replace("{name}", "job").replace("{id}", "1");
        for (who, authorization, roles) in callers() {
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
                let may = roles.as_ref().is_some_and(|roles| match row.access {
                    Access::Anyone => true,
                    Access::Needs(role) => roles.contains(&role) || roles.contains(&Role::Admin),
                });
                if may && path == "/-/quit" {
                    continue;
                }
                let headers: Vec<(&str, &str)> =
                    authorization.iter().map(|a| ("Authorization", a.as_str())).collect();
                let response = client.request(method, &path, &headers, b"").unwrap();
                let (status, text) = (response.status, response.text());
                let at = format!("{method} {path} by {who}: {status} {text}");
                guarded(&response, &at);
                match (&roles, may) {
                    (None, _) => {
                        let says = if method == "HEAD" { "" } else { "Unauthorized\n" };
                        assert_eq!((status, text.as_str()), (401, says), "{at}");
                        assert!(response.header("www-authenticate").is_some(), "{at}");
                    }
                    (Some(_), false) => assert_eq!(status, 403, "{at}"),
                    (Some(_), true) => assert!(![401, 403, 500].contains(&status), "{at}"),
                }
                cells += 1;
            }
        }
    }
    // What is no route is no secret to those who are known, and nothing to the others.
    let known = basic("reader", "secret-of-reader");
    let response = client.request("GET", "/nope", &[("Authorization", &known)], b"").unwrap();
    assert_eq!((response.status, response.text().as_str()), (404, "404 page not found\n"));
    assert_eq!(client.get("/nope").unwrap().status, 401);
    assert!(!fresh.server.output().contains("secret-of"), "no password in the log");
    println!("auth cells={cells} wrong=0");
}

#[test]
fn one_authorization_is_enough_and_two_are_too_many() {
    let fresh = closed("", &[]);
    let right = basic("boss", "secret-of-boss");
    let headers = [("Authorization", right.as_str()), ("Authorization", right.as_str())];
    assert_eq!(fresh.client().request("GET", "/metrics", &headers, b"").unwrap().status, 401);
    // A body is not read before its sender is known.
    let mut client = fresh.client().with_timeout(Duration::from_secs(5));
    let body = Request::of(&[TimeSeries::new("m", &[], vec![(now_ms(), 1.0)])]).compress();
    assert_eq!(client.request("POST", "/api/v1/write", &[], &body).unwrap().status, 401);
    let writer = basic("writer", "secret-of-writer");
    assert_eq!(
        client.request("POST", "/api/v1/write", &[("Authorization", &writer)], &body).unwrap().status,
        204
    );
}

#[test]
fn times_do_not_tell_who_exists_and_right_passwords_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let hash = bcrypt::hash("right", 8).unwrap();
    let path = dir.path().join("web.yml");
    std::fs::write(&path, format!("basic_auth_users:\n  alice: {hash}\n")).unwrap();
    let fresh = Fresh::start_in(dir, &[&format!("--web-config-file={}", path.display())]);
    let mut client = fresh.client();
    // CPU time of the server: on a machine that does other work the clock on the wall tells of that.
    let mut cpu_of = |name: &str, password: &str, status: u16| {
        let headers = [("Authorization", &*basic(name, password))];
        let before = fresh.server.usage().cpu;
        for _ in 0..15 {
            assert_eq!(client.request("GET", "/-/healthy", &headers, b"").unwrap().status, status);
        }
        fresh.server.usage().cpu - before
    };
    let wrong = cpu_of("alice", "wrong", 401);
    let unknown = cpu_of("bob", "wrong", 401);
    let right = cpu_of("alice", "right", 200);
    let ratio = wrong.as_secs_f64() / unknown.as_secs_f64();
    println!("auth wrong_password_cpu_to_unknown_user_cpu={ratio:.2}");
    assert!((0.5..2.0).contains(&ratio), "wrong {wrong:?}, unknown {unknown:?}");
    assert!(right * 3 < wrong, "right {right:?}, wrong {wrong:?}");
}

#[test]
fn origins_are_closed_out_unless_named() {
    let evil = [("Origin", "https://evil.example")];
    let good = [("Origin", "https://good.example")];
    let preflight = [("Origin", "https://good.example"), ("Access-Control-Request-Method", "POST")];
    let fresh = closed("", &["--web.cors.origin=https://(good|better)\\.example"]);
    let mut client = fresh.client();
    let response = client.request("OPTIONS", "/api/v1/query", &preflight, b"").unwrap();
    assert_eq!(
        (response.status, response.header("access-control-allow-origin")),
        (204, Some("https://good.example"))
    );
    let response = client.request("GET", "/api/v1/query", &good, b"").unwrap();
    assert_eq!(
        (response.status, response.header("access-control-allow-origin")),
        (401, Some("https://good.example"))
    );
    assert_eq!(response.header("vary"), Some("Origin"));
    let response = client.request("GET", "/api/v1/query", &evil, b"").unwrap();
    assert_eq!(response.header("access-control-allow-origin"), None);
}

#[test]
fn pages_of_others_change_nothing() {
    let fresh = Fresh::start(&["--web-enable-admin-api", "--web.cors.origin=https://good\\.example"]);
    let mut client = fresh.client();
    let own = format!("http://{}", fresh.server.address());
    // What a browser says of where the request comes from, and whether it may change something.
    let cases: [(&[(&str, &str)], bool); 9] = [
        (&[], true),
        (&[("Origin", &own)], true),
        (&[("Origin", "https://good.example")], true),
        (&[("Origin", "https://evil.example")], false),
        (&[("Origin", "http://127.0.0.1:1")], false),
        (&[("Origin", "null")], false),
        (&[("Origin", &own), ("Sec-Fetch-Site", "same-origin")], true),
        (&[("Sec-Fetch-Site", "cross-site")], false),
        (&[("Sec-Fetch-Site", "none")], true),
    ];
    for (headers, may) in cases {
        for (path, body) in
            [("/api/v1/import/prometheus", "m 1\n"), ("/api/v1/admin/tsdb/clean_tombstones", "")]
        {
            let response = client.request("POST", path, headers, body.as_bytes()).unwrap();
            let at = format!("{path} {headers:?}: {} {}", response.status, response.text());
            assert_eq!(response.status, if may { 204 } else { 403 }, "{at}");
        }
        // Questions are answered; without its consent the page cannot read the answer.
        assert_eq!(client.request("POST", "/api/v1/query?query=1", headers, b"").unwrap().status, 200);
    }
}

#[test]
fn headers_and_rate_as_the_file_says() {
    let more = "http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=60\n    X-Frame-Options: sameorigin\nrate_limit:\n  interval: 1h\n  burst: 100\n";
    let fresh = closed(more, &[]);
    let mut client = fresh.client();
    let mut statuses = Vec::new();
    for _ in 0..110 {
        let response = client.get("/-/healthy").unwrap();
        assert_eq!(response.header("strict-transport-security"), Some("max-age=60"));
        assert_eq!(response.header("x-frame-options"), Some("sameorigin"));
        statuses.push(response.status);
    }
    // The start of the test has used some of the hundred, the more the busier the machine.
    let let_in = statuses.iter().take_while(|s| **s == 401).count();
    assert!((1..100).contains(&let_in) && statuses[let_in..].iter().all(|s| *s == 429), "{statuses:?}");
}

#[test]
fn secrets_are_shown_nowhere() {
    let fresh = closed("", &["--log=debug", "--web-enable-lifecycle"]);
    let boss = basic("boss", "secret-of-boss");
    let headers = [("Authorization", boss.as_str())];
    let mut client = fresh.client();
    let mut all = String::new();
    for row in rows() {
        let path = row.path.replace("{name}", "job");
        all.push_str(&client.request("GET", &path, &headers, b"").unwrap().text());
    }
    all.push_str(&client.request("POST", "/-/reload", &headers, b"").unwrap().text());
    all.push_str(&fresh.server.output());
    let planted =
        ["$2b$", "$2y$", "secret-of", "letmein", "1c8bfe8f", "file-token", boss.split(' ').nth(1).unwrap()];
    let seen: Vec<_> = planted.iter().filter(|secret| all.contains(**secret)).collect();
    assert!(seen.is_empty(), "{seen:?}");
    println!("secrets planted={} seen=0", planted.len());
}
