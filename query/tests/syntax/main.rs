//! The language from outside: what it accepts, what it says to the rest, and that nothing upsets it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a failed expectation is a failed test; what is counted is printed, and cases are read from files"
)]

mod accepted;
mod broken;
mod corpus;
mod expressions;
mod hostile;
mod messages;
mod round_trip;
