//! The storage engine of Kymo: an append-only WAL, a compressed head, immutable blocks under an inverted label index.
//!
//! Knows no HTTP and no PromQL. Floors, lowest first: [`model`] and [`error`]; [`api`], [`env`](mod@env), `codec`; `chunk`, [`prometheus`]; `wal`,
//! `index`; `block`, `head`; `read`; `maintain`; `db`.

#![deny(unsafe_code)]

pub mod api;
pub mod block;
pub mod chunk;
pub mod codec;
pub mod db;
pub mod env;
pub mod error;
mod head;
pub mod index;
mod maintain;
pub mod model;
pub mod options;
pub mod prometheus;
mod read;
pub mod stats;
mod sync;
pub mod wal;

pub use db::{Storage, verify};
pub use error::{Error, ErrorKind, Result};

#[cfg(test)]
mod tests {
    use proptest::prelude::ProptestConfig;

    /// So many cases of a property, at most `PROPTEST_CASES`; a few in an interpreter that is a thousand times as slow.
    pub(crate) fn cases(cases: u32) -> ProptestConfig {
        let most = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(u32::MAX);
        let cases = if cfg!(miri) { 4 } else { cases.min(most) };
        ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
    }

    /// Also in releases: what overflows is a bug that must not become a wrong value.
    #[test]
    #[should_panic(expected = "overflow")]
    fn arithmetic_is_checked_in_every_profile() {
        let most = std::hint::black_box(u64::MAX);
        assert_ne!(most + std::hint::black_box(1), 0, "it wrapped");
    }
}
