//! A memory budget: the head is flushed early, and cardinality without end ends in refusals, not in the death of the process.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use kymo_storage::env::{MemoryFs, SimClock};
use kymo_storage::model::Labels;
use kymo_storage::options::Options;
use kymo_storage::{ErrorKind, Storage};
use std::path::Path;
use std::sync::Arc;

const NOW: i64 = 1_700_000_000_000;
const BUDGET: usize = 16 << 20;

fn labels(i: u32) -> Labels {
    Labels::from_pairs([("__name__", "flood".to_owned()), ("id", format!("{i:032}"))])
}

#[test]
fn a_flood_of_series_ends_in_refusals_and_the_known_go_on() {
    let fs = MemoryFs::unrecorded();
    let options = Options { memory_budget: Some(BUDGET), retention: None, ..Options::default() };
    let open = || {
        let clock = Arc::new(SimClock::new(NOW));
        Storage::open_with(Arc::new(fs.clone()), clock, Path::new("/data"), options.clone()).unwrap()
    };
    let store = open();
    let (mut known, mut refused) = (0, None);
    for part in 0..70u32 {
        let mut batch = store.batch();
        for i in part * 1000..(part + 1) * 1000 {
            match batch.series_labels(&labels(i)) {
                Ok(series) => {
                    known += 1;
                    batch.sample(series, NOW, f64::from(i));
                }
                Err(refusal) => refused = Some(refusal),
            }
        }
        store.append(batch).unwrap();
        let stats = store.stats();
        let held = stats.registry_bytes + stats.head_bytes;
        assert!(held <= BUDGET as u64, "{held} bytes with {} series", stats.series);
    }
    let refusal = refused.unwrap();
    assert_eq!(refusal.kind, ErrorKind::LimitExceeded);
    assert!(refusal.reason.contains("memory") && refusal.reason.contains(&(BUDGET / 2).to_string()));
    assert!(store.is_full() && (10_000..100_000).contains(&known), "{known} series");

    // A value that changes at each scrape takes memory until it is flushed.
    for scrape in 1..13i64 {
        for part in (0..known).step_by(1000) {
            let send = || {
                let mut batch = store.batch();
                for i in part..known.min(part + 1000) {
                    let series = batch.series_labels(&labels(i)).unwrap();
                    batch.sample(series, NOW + scrape * 1000, f64::from(i) * 0.37 + scrape as f64 / 7.0);
                }
                store.append(batch)
            };
            // Whoever is faster than the disk is told to wait.
            let report = loop {
                match send() {
                    Ok(report) => break report,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
                }
                std::thread::yield_now();
            };
            assert_eq!(report.refused_total, 0);
        }
        let stats = store.stats();
        let held = stats.registry_bytes + stats.head_bytes;
        assert!(held <= BUDGET as u64, "{held} bytes at scrape {scrape}: {stats:?}");
    }
    assert!(store.stats().flushes > 2, "{:?}", store.stats());
    drop(store);
    let again = open();
    let mut batch = again.batch();
    assert!(batch.series_labels(&labels(0)).is_ok());
    assert!(batch.series_labels(&labels(1_000_000)).is_err(), "full is full after a restart, too");
}
