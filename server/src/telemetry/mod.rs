//! What Kymo says about itself: metrics and logs.

pub mod log;
pub mod metrics;
pub mod process;
pub mod registry;
pub mod render;

pub use metrics::{ActiveWatch, Metrics};
