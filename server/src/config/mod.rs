//! What the operator sets: flags and their environment twins, and the configuration file.

pub mod duration;
pub mod file;
pub mod flags;
pub mod otlp;
pub mod settings;
pub mod tsdb_flags;
