//! From decoded requests to storage: decode, limit, append, acknowledge.

mod put;
mod receiver;
pub mod refusals;
pub mod remote_write;
mod remote_write_v1;
mod remote_write_v2;
pub mod self_monitor;
