//! Prometheus' PromQL test language: scripts that load series and say what queries must answer.
//!
//! ```text
//! load 5m                                       points of each series, five minutes apart, from the Unix epoch on
//!   requests{job="a"}  0+10x3  _  7             0 10 20 30, nothing, 7
//!
//! eval instant at 15m sum(requests)             a query, and below it every series of the answer
//!   {} 30
//!
//! eval range from 0 to 10m step 5m requests     one value a step, `_` for none
//!   expect no_warn
//!   requests{job="a"} 0 10 20
//!
//! clear                                         forget what was loaded
//! ```
//!
//! [`script`] reads the language, [`notation`] the series in it, [`classify`] says what a query needs of an engine,
//! [`check`] judges an answer, [`run`] carries a script out on a [`run::Backend`].

pub mod backend;
pub mod check;
pub mod classify;
pub mod custom_buckets;
pub mod duration;
pub mod folder;
pub mod notation;
pub mod pin;
pub mod run;
pub mod script;
