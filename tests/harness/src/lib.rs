//! What Kymo's integration tests share: processes, HTTP, remote write, load, oracle, the PromQL script language.
//!
//! A test target whose subject is the `kymo` binary is declared in `server/Cargo.toml` (so that Cargo builds the binary
//! and names it in `CARGO_BIN_EXE_kymo`); one that links the crates is declared in the root `Cargo.toml`. Both use this
//! crate. Nothing here is published.
// This crate is only ever linked into tests: a failed expectation is a failed test, files and clocks are the real ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::redundant_clone,
    clippy::disallowed_methods,
    reason = "parts of tests: a failed expectation is a failed test, and they work on the real disk and clock"
)]

pub mod answer;
pub mod captures;
pub mod change_calls;
pub mod clock_preload;
pub mod compare;
pub mod flips;
pub mod hard_times;
pub mod hostile;
pub mod http;
pub mod http2;
pub mod kill_calls;
pub mod kill_nine;
pub mod load;
pub mod loop_disk;
pub mod memory_cap;
pub mod mixed;
pub mod oracle;
pub mod peers;
mod preload;
pub mod process;
pub mod prometheus_messages;
pub mod promqltest;
pub mod remote_write;
pub mod remote_write_v2;
pub mod rng;
pub mod series_list;
pub mod server;
pub mod steady;
pub mod strace;
pub mod tls;
