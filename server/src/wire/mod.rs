//! Bytes to values and back: the only modules that read what a stranger sent. No I/O.

pub mod base64;
pub mod body;
pub mod exposition;
pub mod inflow;
pub mod influx;
pub mod json;
pub mod json_lines;
pub mod label_bytes;
pub mod otlp;
pub mod protobuf;
pub mod protobuf_writer;
pub mod regex_room;
pub mod remote_read;
pub mod remote_write_histogram;
pub mod remote_write_limits;
pub mod remote_write_v1;
pub mod remote_write_v2;
pub mod syntax_tree;
pub mod text_format;
