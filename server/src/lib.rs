//! The Kymo server: Prometheus remote write in, PromQL over the Prometheus HTTP API out.
//!
//! The only asynchronous crate of the house. Floors, lowest first: [`config`], [`telemetry`], [`error`]; [`access`], [`wire`];
//! [`ingest`]; [`http`]; [`run`](mod@run), [`tsdb`].

#![deny(unsafe_code)]

pub mod access;
pub mod config;
pub mod error;
pub mod http;
pub mod ingest;
pub mod run;
pub mod telemetry;
pub mod tsdb;
pub mod wire;
