//! From decoded requests to storage: decode, limit, append, acknowledge.

pub mod remote_write;
pub mod self_monitor;
