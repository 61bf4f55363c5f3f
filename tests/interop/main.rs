//! Real clients talk to Kymo: Prometheus as sender, reader and scraper, its `promtool`, and libraries of other languages.
//!
//! Each test starts what it needs on free ports and ends it. A client that is not installed skips its tests with a line that says
//! so; with `KYMO_REQUIRE_PEERS=1` that is a failure. `KYMO_PROMETHEUS` and `KYMO_PROMTOOL` name programs of version 3 to be tested
//! after those of the system, which may be older.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]
#![allow(clippy::print_stdout, reason = "a test says what it saw")]
#![allow(clippy::disallowed_methods, reason = "tests write files and measure time from outside the store")]

mod answers;
mod exposed;
mod federated;
mod influx;
mod opentelemetry;
mod program;
mod promtool;
mod scraped;
