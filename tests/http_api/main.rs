//! The HTTP API from outside: a running `kymo`, requests over a socket, answers byte for byte where clients depend on them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]
#![allow(clippy::disallowed_methods, reason = "tests write files and measure time from outside the store")]

mod abuse;
mod access;
mod admin;
mod bad_bodies;
mod budget;
mod contract;
mod federate;
mod full_disk;
mod hostile;
mod http2;
mod imports;
mod otlp;
mod protocol;
mod queries;
mod reload;
mod remote_read;
mod remote_write;
mod remote_write_v2;
mod slow_readers;
mod status;
mod syntax;
mod tls;

use kymo_tests::http::Client;
use kymo_tests::remote_write::{Request, TimeSeries, send};
use kymo_tests::server::Server;
use std::time::{SystemTime, UNIX_EPOCH};

/// A server with an empty store. The directory lives as long as this does.
struct Fresh {
    server: Server,
    _dir: tempfile::TempDir,
}

impl Fresh {
    /// Starts it with more flags.
    fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    /// Starts it beside files that its flags name.
    fn start_in(dir: tempfile::TempDir, arguments: &[&str]) -> Self {
        let server = Server::start(env!("CARGO_BIN_EXE_kymo"), &dir.path().join("data"), arguments);
        Self { server, _dir: dir }
    }

    /// A client of it.
    fn client(&self) -> Client {
        self.server.client()
    }
}

/// Now, in whole seconds, in milliseconds.
fn now_ms() -> i64 {
    #[allow(clippy::disallowed_methods, reason = "the clock of the test is the real one")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs() as i64 * 1_000
}

/// Writes series and expects that all are stored.
fn store(client: &mut Client, series: &[TimeSeries]) {
    let response = send(client, &Request::of(series).compress()).unwrap();
    assert_eq!(response.status, 204, "{}", response.text());
}

/// The `data.result` of an instant query at `time_ms`.
fn ask(client: &mut Client, query: &str, time_ms: i64) -> serde_json::Value {
    let time = format!("{:.3}", time_ms as f64 / 1000.0);
    let response = client.post_form("/api/v1/query", &[("query", query), ("time", &time)]).unwrap();
    assert_eq!(response.status, 200, "{query}: {}", response.text());
    response.json().unwrap()["data"]["result"].clone()
}

/// How many series `query` finds.
fn count(client: &mut Client, query: &str, time_ms: i64) -> usize {
    ask(client, query, time_ms).as_array().unwrap().len()
}
