//! Bytes to values and back: the only modules that read what a stranger sent. No I/O.

pub mod body;
pub mod json;
pub mod protobuf;
pub mod remote_write_histogram;
pub mod remote_write_limits;
pub mod remote_write_v1;
pub mod remote_write_v2;
pub mod syntax_tree;
