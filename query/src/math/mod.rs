//! Pure numeric kernels on slices: no I/O, no labels.
//!
//! A kernel for windows gets the samples of one series and, for each step, which of them are in the window
//! ([`window::Windows`]); it writes one column ([`crate::column::Column`]) over all steps.

pub(crate) mod classic_histogram;
pub(crate) mod datetime;
pub(crate) mod elementwise;
pub(crate) mod extended;
pub(crate) mod extrema;
pub(crate) mod histogram_arith;
pub(crate) mod histogram_binary;
pub(crate) mod histogram_note;
pub(crate) mod histogram_quantile;
pub(crate) mod histogram_rate;
pub(crate) mod histogram_sum;
pub(crate) mod histogram_trim;
pub(crate) mod kahan;
pub(crate) mod over_time;
pub(crate) mod quantile;
pub(crate) mod rate;
pub(crate) mod regression;
pub(crate) mod start_time;
pub(crate) mod window;
