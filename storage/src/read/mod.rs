//! Reading: one view over the generations of the head and the blocks.

mod entries;
mod exemplars;
mod keep;
mod laid_out;
mod merge;
mod querier;
mod series_set;
mod warnings;

pub(crate) use keep::KeepRules;
pub(crate) use querier::StoreQuerier;
pub(crate) use warnings::Missing;
