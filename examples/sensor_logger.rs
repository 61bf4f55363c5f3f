//! A logger of sensor readings that survives power cuts: a reading it has printed is on the disk, and it goes on where it was.
//!
//! `cargo run --example sensor_logger -- FOLDER [READINGS]`, with a folder that is there; stop it however you like, and start it again.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use kymo::{Db, Durability, Labels, Options, Result, TimeRange, parse_selector};
use std::path::{Path, PathBuf};

/// Between two readings of the made-up sensor, in milliseconds.
const EVERY_MS: i64 = 1_000;

pub(crate) fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let scratch = tempfile::tempdir().ok();
    let folder = words.next().map(PathBuf::from).filter(|folder| folder.is_dir());
    let folder = folder.or_else(|| scratch.as_ref().map(|dir| dir.path().to_owned()));
    let readings = words.next().and_then(|word| word.parse().ok()).unwrap_or(5);
    log_readings(&folder.unwrap_or_default(), readings, &mut |number| println!("stored {number}"))
}

/// Takes `readings` more readings; `stored` hears of each after it is durable.
pub(crate) fn log_readings(folder: &Path, readings: i64, stored: &mut dyn FnMut(i64)) -> Result<()> {
    // The default waits for the disk at each commit. It is named because it is the point of this program.
    let db = Db::open(folder, Options::new().retention(None).durability(Durability::Sync))?;
    let next = next_number(&db)?;
    let mut appender = db.appender();
    let celsius = appender.series(&Labels::from_pairs([("__name__", "celsius"), ("sensor", "roof")]))?;
    for number in next..next + readings {
        appender.append(celsius, number * EVERY_MS, measure(number));
        // Who takes many readings at once commits them together: they share one sync.
        let report = appender.commit()?.wait()?;
        assert_eq!(report.accepted, 1, "{:?}", report.refused);
        stored(number);
    }
    db.close()
}

/// The number of the reading after the last that is stored.
pub(crate) fn next_number(db: &Db) -> Result<i64> {
    let mut found = db.select(&parse_selector("celsius{sensor=\"roof\"}")?, TimeRange::ALL)?;
    let mut next = 0;
    while let Some(series) = found.next_series() {
        while let Some(batch) = series.next_batch()? {
            next = batch.timestamps.last().map_or(next, |time| time / EVERY_MS + 1);
        }
    }
    Ok(next)
}

fn measure(number: i64) -> f64 {
    20.0 + (number as f64 / 60.0).sin() * 5.0
}
