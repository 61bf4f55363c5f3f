//! What the operator sets: flags and their environment twins.

pub mod duration;
pub mod flags;
