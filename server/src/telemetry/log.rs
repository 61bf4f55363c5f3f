//! Log set-up: lines on standard error, for eyes or as JSON.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging for the whole process.
///
/// # Errors
/// `filter` is not a filter, or logging was started before.
pub fn start(filter: &str, json: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|e| format!("--log: {e}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let started = if json { builder.json().try_init() } else { builder.try_init() };
    started.map_err(|e| format!("start logging: {e}"))
}
