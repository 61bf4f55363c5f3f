//! Replay of Prometheus' blocks: they are read into a database, and then told again in the order in which things happened.
//!
//! `cargo run --example replay_blocks -- /var/lib/prometheus [SELECTOR]`. Without a folder it makes a block of its own.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use kymo::{Db, Labels, Result, SeriesReader, TimeRange, parse_selector};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;

pub(crate) fn main() -> Result<()> {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let scratch = tempfile::tempdir().ok();
    let made = scratch.as_ref().map(|dir| dir.path().to_owned()).unwrap_or_default();
    let folder = match words.next() {
        Some(folder) if Path::new(&folder).is_dir() => folder.into(),
        _ => {
            make_block(&made)?;
            made
        }
    };
    let selector = words.next().unwrap_or_else(|| "{__name__!=\"\"}".to_owned());
    let mut told = 0;
    replay(&folder, &selector, &mut |time, labels, value| {
        if told < 6 {
            println!("{time} {labels} {value}");
        }
        told += 1;
    })?;
    println!("{told} samples");
    Ok(())
}

/// Tells every sample of the blocks in `folder` that `selector` matches, in the order of time.
pub(crate) fn replay(folder: &Path, selector: &str, tell: &mut dyn FnMut(i64, &Labels, f64)) -> Result<()> {
    let db = Db::in_memory()?;
    let report = db.import_blocks(folder)?;
    println!("{} blocks, {} samples, {} refused", report.blocks, report.samples, report.refused_total);
    let found = db.select(&parse_selector(selector)?, TimeRange::ALL)?;
    // One reader a series, all open at once: each decodes a piece at a time.
    let mut all: Vec<Row> = (0..found.len()).filter_map(|index| found.series(index)).map(Row::new).collect();
    let mut next = BinaryHeap::new();
    for (index, row) in all.iter_mut().enumerate() {
        next.extend(row.pull()?.map(|(time, value)| Reverse((time, index, value.to_bits()))));
    }
    while let Some(Reverse((time, index, bits))) = next.pop() {
        let Some(row) = all.get_mut(index) else { continue };
        tell(time, &row.labels, f64::from_bits(bits));
        next.extend(row.pull()?.map(|(time, value)| Reverse((time, index, value.to_bits()))));
    }
    Ok(())
}

/// A series and what of it was decoded and not told yet.
struct Row {
    labels: Labels,
    reader: SeriesReader,
    timestamps: [i64; 128],
    values: [f64; 128],
    at: usize,
    count: usize,
}

impl Row {
    fn new(reader: SeriesReader) -> Self {
        let labels = reader.labels();
        Self { labels, reader, timestamps: [0; 128], values: [0.0; 128], at: 0, count: 0 }
    }

    fn pull(&mut self) -> Result<Option<(i64, f64)>> {
        if self.at == self.count {
            (self.at, self.count) = (0, self.reader.read(&mut self.timestamps, &mut self.values)?);
        }
        let sample = self.timestamps[..self.count].get(self.at).map(|time| (*time, self.values[self.at]));
        self.at += usize::from(sample.is_some());
        Ok(sample)
    }
}

/// Writes a block as a Prometheus would: two series, ten minutes.
pub(crate) fn make_block(folder: &Path) -> Result<()> {
    let db = Db::in_memory()?;
    let mut appender = db.appender();
    for (room, base) in [("attic", 25.0), ("cellar", 12.0)] {
        let series = appender.series(&Labels::from_pairs([("__name__", "celsius"), ("room", room)]))?;
        (0..40).for_each(|i| appender.append(series, i * 15_000, base + i as f64 / 10.0));
    }
    appender.commit()?.wait()?;
    db.export_blocks(folder, TimeRange::ALL).map(drop)
}
