//! The embedded library through its public door.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod appending;
mod asking;
mod handles;
mod life;
mod looking_after;
mod reading;

use kymo::{Db, Labels, Options};

/// A series of one metric with one label.
fn labels(name: &str, i: usize) -> Labels {
    Labels::from_pairs([("__name__", name), ("i", &i.to_string())])
}

fn options() -> Options {
    Options::new().retention(None).memory_bytes(64 << 20).free_space_min(Some(0))
}

/// Stores the value `t` at each of `times`, in each of `series` series.
fn fill(db: &Db, name: &str, series: usize, times: impl Iterator<Item = i64>) {
    let times: Vec<i64> = times.collect();
    let mut appender = db.appender();
    for i in 0..series {
        let handle = appender.series(&labels(name, i)).unwrap();
        times.iter().for_each(|t| appender.append(handle, *t, *t as f64));
    }
    let report = appender.commit().unwrap().wait().unwrap();
    assert_eq!(report.refused_total, 0, "{:?}", report.refused);
}

/// How many floats a selection holds.
fn count(db: &Db, selector: &str) -> usize {
    let mut found = db.select(&kymo::parse_selector(selector).unwrap(), kymo::TimeRange::ALL).unwrap();
    let mut count = 0;
    while let Some(series) = found.next_series() {
        while let Some(batch) = series.next_batch().unwrap() {
            count += batch.values.len();
        }
    }
    assert!(found.warnings().is_empty(), "{:?}", found.warnings());
    count
}
