//! From decoded requests to storage: decode, limit, append, acknowledge.

pub mod import;
mod import_text;
mod import_work;
pub mod otlp;
mod put;
pub mod receiver;
pub mod refusals;
pub mod remote_write;
mod remote_write_v1;
mod remote_write_v2;
pub mod self_monitor;
