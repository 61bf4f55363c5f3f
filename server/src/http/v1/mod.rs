//! `/api/v1`: one file an endpoint family.

pub mod answer;
pub mod exemplars;
pub mod metadata;
pub mod otlp;
pub mod queries;
pub mod query;
pub mod read;
pub mod series;
pub mod server;
pub mod status;
pub mod syntax;
pub mod write;
