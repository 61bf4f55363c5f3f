//! The head: labels of all series, samples not yet in blocks, and the one thread that commits.

pub(crate) mod append;
pub(crate) mod catalog;
pub(crate) mod checkpoint;
pub(crate) mod commit;
pub(crate) mod exemplars;
pub(crate) mod generation;
pub(crate) mod hash;
pub(crate) mod histograms;
pub(crate) mod lanes;
pub(crate) mod last;
pub(crate) mod membership;
pub(crate) mod order;
pub(crate) mod page;
pub(crate) mod paged;
pub(crate) mod refusal;
pub(crate) mod registry;
pub(crate) mod replay;
pub(crate) mod retire;
pub(crate) mod retired;
pub(crate) mod runs;
pub(crate) mod sealed;
pub(crate) mod starts;
pub(crate) mod symbols;
pub(crate) mod tokens;
pub(crate) mod view;
