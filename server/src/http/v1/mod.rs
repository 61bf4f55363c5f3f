//! `/api/v1`: one file an endpoint family.

pub mod admin;
pub mod answer;
pub mod cardinality;
pub mod exemplars;
pub mod export;
pub mod import;
pub mod metadata;
pub mod otlp;
pub mod queries;
pub mod query;
pub mod read;
pub mod rules;
pub mod self_metrics;
pub mod series;
pub mod server;
pub mod status;
pub mod syntax;
pub mod targets;
pub mod write;
