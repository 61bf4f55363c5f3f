//! Access and face: who may call what, what a name may lead to, what a browser is told.

use super::measure::{Subject, is_well, now_ms, seconds, start};
use super::{Check, Figures, Place, Way};
use kymo_tests::hostile::TRAVERSALS;
use kymo_tests::http::{Client, Response, escape};
use kymo_tests::process::find_program;
use kymo_tests::remote_write::{Request, TimeSeries, label_bytes, send};
use kymo_tests::server::Server;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[
    Check {
        number: "R44",
        name: "auth",
        what: "every route for every kind of caller; two authorizations; times that tell of users",
        way: Way::Suite(&["-p", "kymo-server", "--test", "http_api", "access::"]),
    },
    Check {
        number: "R45",
        name: "traversal",
        what: "strings that lead out of a folder, in every path, parameter and header, with each file opened watched",
        way: Way::Server(traversal),
    },
    Check {
        number: "R46",
        name: "secrets",
        what: "planted secrets in every answer and in the log at debug",
        way: Way::Suite(&["-p", "kymo-server", "--test", "http_api", "access::secrets"]),
    },
    Check {
        number: "R47",
        name: "xss",
        what: "markup in names, values, help, errors and paths; every answer read as a browser would",
        way: Way::Server(xss),
    },
    Check {
        number: "R48",
        name: "cors",
        what: "pages of other origins on every route; changes by GET and by forms of other pages",
        way: Way::Server(cors),
    },
    Check {
        number: "R49",
        name: "debug",
        what: "routes of debuggers and consoles, as others have them",
        way: Way::Server(debug),
    },
    Check {
        number: "R50",
        name: "ssrf",
        what: "URLs in every parameter and header, with each connection of the server watched",
        way: Way::Server(ssrf),
    },
    Check {
        number: "R51",
        name: "tls",
        what: "versions, client certificates, new certificates while clients call",
        way: Way::Suite(&["-p", "kymo-server", "--test", "http_api", "tls::"]),
    },
];

/// A route of the server's own description.
#[derive(Debug, Clone)]
struct Route {
    path: String,
    role: String,
}

impl Route {
    fn changes(&self) -> bool {
        ["write", "admin"].contains(&self.role.as_str())
    }

    /// With something in the place of names.
    fn with(&self, name: &str) -> String {
        self.path.replace("{name}", name).replace("{id}", name)
    }
}

/// Every route that the server describes; tests see to it that it describes every one.
fn routes(client: &mut Client) -> Result<Vec<Route>, String> {
    let text = client.get("/api/v1/openapi.yaml").map_err(|e| e.to_string())?.text();
    let mut routes: Vec<Route> = Vec::new();
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("  /") {
            routes.push(Route { path: format!("/{}", path.trim_end_matches(':')), role: String::new() });
        } else if let (Some(role), Some(last)) = (line.strip_prefix("      x-role: "), routes.last_mut()) {
            role.clone_into(&mut last.role);
        }
    }
    if routes.len() < 30 { Err(format!("only {} routes are described", routes.len())) } else { Ok(routes) }
}

/// `strace` on a server: what it does with names of files, and whom it calls.
struct Trace {
    child: Child,
    log: std::path::PathBuf,
}

impl Trace {
    fn on(server: &Server, dir: &Path) -> Result<Self, String> {
        let strace = find_program("strace").ok_or("strace is not installed")?;
        let log = dir.join("trace");
        let mut command = Command::new(strace);
        command.args(["-f", "-qq", "-s", "4096", "-e", "trace=%file,connect", "-e", "signal=none", "-o"]);
        command.arg(&log).args(["-p", &server.id().to_string()]);
        let child = command.stderr(Stdio::null()).spawn().map_err(|e| format!("strace: {e}"))?;
        let trace = Self { child, log };
        // It watches when something that opens a file is written down.
        let began = Instant::now();
        while trace.lines().is_empty() {
            let _ = server.client().get("/metrics");
            if began.elapsed() > Duration::from_secs(20) {
                return Err("strace cannot watch the server here".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(trace)
    }

    fn lines(&self) -> Vec<String> {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }

    /// What was written down until now; the watch ends.
    fn end(mut self) -> Vec<String> {
        std::thread::sleep(Duration::from_millis(200));
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
        self.lines()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Parameters of any route, and some that others have.
const PARAMETERS: [&str; 18] = [
    "match[]",
    "query",
    "name",
    "db",
    "bucket",
    "precision",
    "extra_label",
    "timestamp",
    "start",
    "end",
    "id",
    "limit",
    "skip_head",
    "file",
    "path",
    "url",
    "target",
    "callback",
];

/// Headers that might name something.
const NAMING_HEADERS: [&str; 12] = [
    "Host",
    "Referer",
    "Cookie",
    "X-Scope-OrgID",
    "THANOS-TENANT",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Original-URL",
    "X-Prometheus-Remote-Write-Version",
    "Accept-Language",
    "If-None-Match",
    "Forwarded",
];

/// What is put into every place of every route, by GET and by POST; says how many requests that were, and which were answered in
/// a way that cannot be.
fn everywhere(server: &Server, values: &[String]) -> Result<(usize, Vec<String>), String> {
    let mut client = server.client();
    let routes = routes(&mut client)?;
    let (mut cases, mut odd) = (0, Vec::new());
    let mut judge = |at: String, answer: std::io::Result<Response>| {
        cases += 1;
        match answer {
            Ok(response) if response.status < 500 || response.status == 503 => {}
            Ok(response) => odd.push(format!("{at}: {}", response.status)),
            Err(_) => {}
        }
    };
    for route in routes.iter().filter(|route| route.path != "/-/quit") {
        for (number, value) in values.iter().enumerate() {
            // As it stands where a URL can hold it, and escaped.
            for text in [value.replace([' ', '\0'], ""), escape(value)] {
                let path = route.with(&text);
                let parameters: Vec<String> = PARAMETERS.iter().map(|p| format!("{p}={text}")).collect();
                // All at once for each value, and one alone in turn: the first that is wrong hides the others.
                let alone = &parameters[number % parameters.len()];
                for target in
                    [path.clone(), format!("{path}?{alone}"), format!("{path}?{}", parameters.join("&"))]
                {
                    let target = target.replace('#', "%23");
                    judge(format!("GET {target}"), client.request("GET", &target, &[], b""));
                }
                let media = [("Content-Type", "application/x-www-form-urlencoded")];
                judge(
                    format!("POST {} {alone}", route.path),
                    client.request("POST", &route.with("x"), &media, alone.as_bytes()),
                );
            }
            let plain = value.replace(['\0', '\r', '\n'], "");
            let header = [(NAMING_HEADERS[number % NAMING_HEADERS.len()], plain.as_str())];
            judge(
                format!("{} {header:?}", route.path),
                client.request("GET", &route.with("x"), &header, b""),
            );
        }
    }
    Ok((cases, odd))
}

/// The names of files in a line of `strace`.
pub(super) fn names(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

fn traversal(place: &Place<'_>) -> Result<Figures, String> {
    let flags = ["--web-enable-admin-api", "--web-enable-lifecycle"];
    let server = start(place, "traversal", &flags);
    let series = TimeSeries::new("m", &[("job", "x")], vec![(now_ms(), 1.0)]);
    send(&mut server.client(), &Request::of(&[series]).compress()).map_err(|e| e.to_string())?;
    // Its own figures are read from files that others must not name.
    let own = Trace::on(&server, place.dir)?.end();
    let own: BTreeSet<&str> = own.iter().flat_map(|line| names(line)).collect();
    let values: Vec<String> =
        TRAVERSALS.iter().map(|s| (*s).to_owned()).chain(["../".repeat(4_000)]).collect();
    let trace = Trace::on(&server, place.dir)?;
    let (cases, odd) = everywhere(&server, &values)?;
    // Where it was started from is asked for, not opened.
    let lines: Vec<String> = trace.end().into_iter().filter(|line| !line.contains(" getcwd(")).collect();
    let data = place.dir.join("traversal");
    // What the allocator and the count of cores look at, now and then.
    let system =
        ["/proc/self/", "/sys/fs/cgroup/", "/sys/devices/system/cpu", "/sys/kernel/mm/", "/proc/sys/vm/"];
    let is_inside = |name: &&str| {
        let path = Path::new(name);
        let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
        let is_system = system.iter().any(|known| name.starts_with(known)) && !name.contains("environ");
        !climbs && (path.starts_with(&data) || is_system) || own.contains(name)
    };
    let outside: BTreeSet<&str> =
        lines.iter().flat_map(|line| names(line)).filter(|n| !is_inside(n)).collect();
    let is_well = is_well(&server);
    let text = format!(
        "strings={} cases={cases} files_watched={} opened_outside={}{} odd={}{}",
        values.len(),
        lines.len(),
        outside.len(),
        outside.iter().map(|name| format!(" {name:?}")).take(5).collect::<String>(),
        odd.len(),
        odd.first().map(|one| format!(" first={one:.200}")).unwrap_or_default()
    );
    Ok(Figures::new(text, is_well && outside.is_empty() && odd.is_empty() && !lines.is_empty()))
}

fn ssrf(place: &Place<'_>) -> Result<Figures, String> {
    let server = start(place, "ssrf", &["--web-enable-admin-api", "--web-enable-lifecycle"]);
    let trap = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    trap.set_nonblocking(true).map_err(|e| e.to_string())?;
    let port = trap.local_addr().map_err(|e| e.to_string())?.port();
    let values: Vec<String> = [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/latest/meta-data"),
        format!("//127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("http://user:password@127.0.0.1:{port}/"),
        format!("gopher://127.0.0.1:{port}/_x"),
        format!("127.0.0.1:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://2130706433:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "ldap://127.0.0.1/x".to_owned(),
        "file:///etc/passwd".to_owned(),
        "\\\\127.0.0.1\\share".to_owned(),
        format!("${{jndi:ldap://127.0.0.1:{port}/x}}"),
    ]
    .to_vec();
    let trace = Trace::on(&server, place.dir)?;
    let (cases, odd) = everywhere(&server, &values)?;
    let lines = trace.end();
    let connects = lines.iter().filter(|line| line.contains(" connect(")).count();
    let trapped = usize::from(trap.accept().is_ok());
    let text = format!(
        "urls={} cases={cases} connects={connects} trapped={trapped} odd={}{}",
        values.len(),
        odd.len(),
        odd.first().map(|one| format!(" first={one:.200}")).unwrap_or_default()
    );
    let kept = connects == 0 && trapped == 0 && odd.is_empty() && is_well(&server) && !lines.is_empty();
    Ok(Figures::new(text, kept))
}

/// Markup that a page must not take for its own.
fn payloads() -> Vec<String> {
    let plain = [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "<iframe srcdoc='<script>alert(1)</script>'>",
        "<a href=javascript:alert(1)>x</a>",
        "<body onload=alert(1)>",
        "<details open ontoggle=alert(1)>",
        "<math><mi xlink:href=javascript:alert(1)>",
        "<style>@import 'http://evil.example'</style>",
        "<!--<script>alert(1)//-->",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
        "{{constructor.constructor('alert(1)')()}}<b>",
    ];
    let around: [fn(&str) -> String; 5] = [
        str::to_owned,
        |p| format!("\">{p}"),
        |p| format!("'>{p}"),
        |p| format!("</script>{p}"),
        |p| format!("]]>\u{2028}{p}"),
    ];
    plain.iter().flat_map(|p| around.map(|f| f(p))).collect()
}

/// Whether a browser is told to take nothing but what comes from here.
fn has_policy(response: &Response) -> bool {
    response.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'self'"))
}

/// What a browser could take for a page, or for a script: `None` if nothing.
fn sink(response: &Response, payload: &str) -> Option<&'static str> {
    let text = response.text();
    let media =
        response.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if response.header("x-content-type-options") != Some("nosniff") {
        return Some("no nosniff");
    }
    if !has_policy(response) {
        return Some("no policy");
    }
    match media {
        "application/json" | "application/stream+json" if text.contains('<') && text.contains("alert(1)") => {
            Some("markup as it is in JSON")
        }
        "" if response.body.is_empty() => None,
        "application/json" | "application/stream+json" | "text/plain" | "application/yaml" => None,
        "application/x-protobuf" | "application/openmetrics-text" => None,
        "text/html" if !text.contains(payload) => None,
        _ => Some("of a type that a browser may show"),
    }
}

fn xss(place: &Place<'_>) -> Result<Figures, String> {
    let server = start(place, "xss", &["--web-enable-admin-api"]);
    let mut client = server.client();
    let payloads = payloads();
    let t = now_ms();
    let mut request = Request::new();
    for (i, payload) in payloads.iter().enumerate() {
        let number = i.to_string();
        for labels in [
            vec![("__name__", payload.as_str()), ("i", number.as_str())],
            vec![("__name__", "m"), ("i", number.as_str()), ("v", payload.as_str())],
            vec![("__name__", "m"), ("i", number.as_str()), (payload.as_str(), "v")],
        ] {
            let mut labels = labels;
            labels.sort_unstable();
            request.push(&label_bytes(&labels), &[(t, 1.0)]);
        }
        request.push_metadata(&format!("m{i}"), 1, payload, payload);
    }
    let stored = send(&mut client, &request.compress()).map_err(|e| e.to_string())?;
    if stored.status != 204 {
        return Err(format!("the payloads were not stored: {} {}", stored.status, stored.text()));
    }
    let (mut answers, mut with_policy, mut sinks) = (0_usize, 0_usize, Vec::new());
    let routes = routes(&mut client)?;
    for route in routes.iter().filter(|route| !route.path.starts_with("/-/")) {
        for payload in &payloads {
            let text = escape(payload);
            let (all, time) = (escape("{__name__=~\".+\"}"), seconds(t));
            let targets = [
                route.with(&text),
                format!(
                    "{}?query={text}&match[]={text}&start={text}&time={text}&name={text}",
                    route.with(&text)
                ),
                format!(
                    "{}?query={all}&match[]={all}&time={time}&start={time}&end={time}&step=1",
                    route.with("v")
                ),
            ];
            for target in targets {
                for method in ["GET", "POST"] {
                    let Ok(response) = client.request(method, &target, &[], b"") else { continue };
                    answers += 1;
                    with_policy += usize::from(has_policy(&response));
                    if let Some(why) = sink(&response, payload) {
                        sinks.push(format!("{method} {target}: {why}"));
                    }
                }
            }
        }
    }
    for payload in &payloads {
        let response = client.get(&format!("/{}", escape(payload))).map_err(|e| e.to_string())?;
        answers += 1;
        with_policy += usize::from(has_policy(&response));
        sinks.extend(sink(&response, payload).map(|why| format!("404 of {payload}: {why}")));
    }
    let text = format!(
        "payloads={} answers={answers} csp={with_policy} sinks={}{}",
        payloads.len(),
        sinks.len(),
        sinks.first().map(|one| format!(" first={one:.200}")).unwrap_or_default()
    );
    let kept = sinks.is_empty() && with_policy == answers && answers > 0 && is_well(&server);
    Ok(Figures::new(text, kept))
}

fn cors(place: &Place<'_>) -> Result<Figures, String> {
    let server = start(place, "cors", &["--web-enable-admin-api", "--web-enable-lifecycle"]);
    let subject = Subject::from(&server);
    let mut client = subject.client();
    let routes = routes(&mut client)?;
    let own = format!("http://{}", subject.address);
    let (mut cells, mut allowed, mut by_get, mut by_form, mut own_refused) = (0, 0, 0, 0, 0);
    for route in &routes {
        for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
                let headers = [
                    ("Origin", origin),
                    ("Content-Type", "application/x-www-form-urlencoded"),
                    ("Access-Control-Request-Method", "POST"),
                ];
                // It would end the server, if it were let in.
                let path = route.with("1");
                let response =
                    client.request(method, &path, &headers, b"").map_err(|e| format!("{path}: {e}"))?;
                cells += 1;
                allowed += usize::from(response.header("access-control-allow-origin").is_some());
                let is_refused = [403, 405].contains(&response.status);
                if route.changes() && !is_refused {
                    match method {
                        "GET" | "HEAD" | "OPTIONS" => by_get += 1,
                        _ => by_form += 1,
                    }
                }
            }
        }
        // Its own pages, and programs that name no origin, are let in.
        if route.changes() && !route.path.starts_with("/-/") {
            for headers in [&[][..], &[("Origin", own.as_str())]] {
                let response =
                    client.request("POST", &route.with("1"), headers, b"").map_err(|e| e.to_string())?;
                own_refused += usize::from([403, 405].contains(&response.status));
            }
        }
    }
    let text = format!(
        "routes={} cells={cells} allowed={allowed} get_changes={by_get} form_changes={by_form} own_refused={own_refused}",
        routes.len()
    );
    let kept = allowed + by_get + by_form + own_refused == 0 && is_well(&server);
    Ok(Figures::new(text, kept))
}

/// Where other servers have what only their developers should see.
const DEBUG_ROUTES: [&str; 26] = [
    "/debug",
    "/debug/pprof",
    "/debug/pprof/",
    "/debug/pprof/cmdline",
    "/debug/pprof/heap",
    "/debug/pprof/profile",
    "/debug/pprof/trace",
    "/debug/vars",
    "/debug/requests",
    "/debug/events",
    "/debug/fgprof",
    "/flags",
    "/internal/resetRollupResultCache",
    "/internal/force_merge",
    "/internal/force_flush",
    "/snapshot/create",
    "/snapshot/list",
    "/snapshot/delete_all",
    "/config",
    "/service-discovery",
    "/actuator",
    "/console",
    "/consoles/prometheus.html",
    "/.git/config",
    "/.env",
    "/server-status",
];

fn debug(place: &Place<'_>) -> Result<Figures, String> {
    let server = start(place, "debug", &[]);
    let mut client = server.client();
    let (mut cells, mut open) = (0, Vec::new());
    for path in DEBUG_ROUTES {
        for method in ["GET", "POST", "HEAD"] {
            let response = client.request(method, path, &[], b"").map_err(|e| format!("{path}: {e}"))?;
            cells += 1;
            if response.status != 404 {
                open.push(format!("{method} {path}: {}", response.status));
            }
        }
    }
    // Orders are off unless a flag turns them on.
    for path in ["/-/reload", "/-/quit"] {
        let response = client.request("POST", path, &[], b"").map_err(|e| e.to_string())?;
        cells += 1;
        if response.status != 403 {
            open.push(format!("{path}: {}", response.status));
        }
    }
    for path in ["delete_series?match[]=m", "snapshot", "clean_tombstones"] {
        let target = format!("/api/v1/admin/tsdb/{path}");
        let response = client.request("POST", &target, &[], b"").map_err(|e| e.to_string())?;
        cells += 1;
        if !response.text().contains("admin APIs disabled") {
            open.push(format!("{target}: {}", response.status));
        }
    }
    let text = format!(
        "cells={cells} open={}{}",
        open.len(),
        open.first().map(|one| format!(" first={one:?}")).unwrap_or_default()
    );
    Ok(Figures::new(text, open.is_empty() && is_well(&server)))
}
