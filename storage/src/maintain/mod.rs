//! What a store does on its own: writing the head into blocks, dropping what is too old.

pub(crate) mod flush;
pub(crate) mod retention;
