//! The PromQL scripts over HTTP: series come in by remote write, answers are read back from JSON. (Their folders: `tests/promql`.)
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

use clap::Parser;
use kymo_query::Engine;
use kymo_server::access::gatekeeper::Gatekeeper;
use kymo_server::config::file::ConfigFile;
use kymo_server::config::flags::CommandLine;
use kymo_server::config::settings::Settings;
use kymo_server::http::app::{App, Made};
use kymo_server::http::lifecycle::Lifecycle;
use kymo_server::http::listen::{ListenOptions, serve};
use kymo_server::http::router::router;
use kymo_server::telemetry::Metrics;
use kymo_storage::Storage;
use kymo_storage::env::SystemClock;
use kymo_tests::answer::{Outcome, SampleValue};
use kymo_tests::http::Client;
use kymo_tests::promqltest::backend::{append, engine_options, memory_store};
use kymo_tests::promqltest::folder::{own_scripts, prometheus_scripts, require_all, run_all};
use kymo_tests::promqltest::notation::Stored;
use kymo_tests::promqltest::run::Backend;
use kymo_tests::promqltest::script::When;
use kymo_tests::remote_write::{Request, label_bytes, send};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

/// The threads that all servers of this process share.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

/// A server with a store of its own in memory, behind a socket; both are new after every `clear`.
struct OverHttp {
    client: Client,
    storage: Storage,
    stop: watch::Sender<bool>,
}

impl OverHttp {
    fn new() -> Self {
        let flags = CommandLine::parse_from(["kymo", "--self-monitor=false"]).into_serve();
        let metrics = Arc::new(Metrics::default());
        let engine = Engine::new(engine_options(2));
        let settings = Settings::resolve(&flags, ConfigFile::default());
        let (reload, _) = mpsc::channel(1);
        let made = Made {
            settings,
            gatekeeper: Arc::new(Gatekeeper::open(None).unwrap()),
            lifecycle: Lifecycle { reload, quit: watch::channel(false).0 },
            engine,
            metrics: metrics.clone(),
            clock: Arc::new(SystemClock::new()),
        };
        let app = App::new(flags, made).unwrap();
        let storage = memory_store();
        app.set_storage(storage.clone()).unwrap();
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let client = Client::new(listener.local_addr().unwrap());
        let (stop, stopped) = watch::channel(false);
        let options =
            ListenOptions { connections_max: 64, drain: Duration::from_secs(1), ..ListenOptions::default() };
        runtime().spawn(serve(listener, router(app), options, metrics, stopped));
        Self { client, storage, stop }
    }
}

impl Drop for OverHttp {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        let _ = self.storage.close();
    }
}

/// Seconds as the API takes them.
fn seconds(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    format!("{sign}{}.{:03}", ms / 1_000, ms % 1_000)
}

/// The series of a script; where floats and histograms take turns each run is a series of the request.
fn request(series: &[Stored]) -> Request {
    let mut request = Request::new();
    for Stored { labels, points, .. } in series {
        let pairs: Vec<_> = labels.iter().filter(|(_, value)| !value.is_empty()).collect();
        let labels = label_bytes(&pairs);
        for run in points.chunk_by(|a, b| a.1.float().is_some() == b.1.float().is_some()) {
            let floats: Vec<_> = run.iter().filter_map(|p| Some((p.0, p.1.float()?))).collect();
            if floats.is_empty() {
                let histogram = |p: &'_ (i64, SampleValue)| match &p.1 {
                    SampleValue::Histogram(histogram) => (p.0, Arc::clone(histogram)),
                    other => panic!("not to be stored: {other:?}"),
                };
                let histograms: Vec<_> = run.iter().map(histogram).collect();
                let histograms: Vec<_> = histograms.iter().map(|h| (h.0, &*h.1)).collect();
                request.push_histograms(&labels, &histograms);
            } else {
                request.push(&labels, &floats);
            }
        }
    }
    request
}

impl Backend for OverHttp {
    fn clear(&mut self) -> Result<(), String> {
        *self = Self::new();
        Ok(())
    }

    fn load(&mut self, series: &[Stored]) -> Result<(), String> {
        // Remote write 1.0 knows no start timestamps.
        if series.iter().any(|s| !s.starts.is_empty()) {
            return append(&self.storage, series);
        }
        let body = request(series).compress();
        let response = send(&mut self.client, &body).map_err(|e| e.to_string())?;
        match response.status {
            204 => Ok(()),
            status => Err(format!("{status}: {}", response.text())),
        }
    }

    fn ask(&mut self, query: &str, when: When) -> Outcome {
        let response = match when {
            When::Instant { at_ms } => {
                let fields = [("query", query), ("time", &seconds(at_ms))];
                self.client.post_form("/api/v1/query", &fields)
            }
            When::Range { start_ms, end_ms, step_ms } => {
                let fields = [
                    ("query", query),
                    ("start", &seconds(start_ms)),
                    ("end", &seconds(end_ms)),
                    ("step", &seconds(step_ms)),
                ];
                self.client.post_form("/api/v1/query_range", &fields)
            }
        };
        let read = response.map_err(|e| e.to_string()).and_then(|r| r.json());
        let mut outcome = match read.and_then(|json| Outcome::from_json(&json)) {
            Ok(outcome) => outcome,
            Err(error) => panic!("{query}: {error}"),
        };
        // Scripts know the errors without the prefix of the API.
        if let Err(text) = &mut outcome.result
            && let Some(rest) = text.strip_prefix("invalid parameter \"query\": ")
        {
            *text = rest.to_owned();
        }
        outcome
    }
}

#[test]
fn own_scripts_over_http() {
    require_all(&run_all(&own_scripts(), "all (HTTP)", OverHttp::new));
}

#[test]
fn prometheus_scripts_over_http() {
    prometheus_scripts("all (HTTP)", OverHttp::new);
}
