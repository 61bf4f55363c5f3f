//! What a store does on its own: writing the head into blocks, merging blocks, dropping what is too old.

pub(crate) mod flush;
pub(crate) mod merge;
pub(crate) mod plan;
pub(crate) mod retention;
pub(crate) mod throttle;
