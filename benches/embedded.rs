//! How fast one thread appends to and scans the embedded library; prints samples a second.
//!
//! `cargo bench -p kymo --bench embedded [-- MILLIONS]`: so many million samples a row of the table (20 if nothing is said). The folder is made
//! below `KYMO_BENCH_DIR`, or the target folder: on a real disk, so that syncs cost what they cost.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, reads the clock, and stops at a failure"
)]

use kymo::{Ack, Db, Durability, Labels, Options, SeriesRef, TimeRange};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Series; a batch has one sample of each.
const SERIES: usize = 10_000;
/// Different rows of values, used in turn: what is measured is not how they are made.
const ROWS: usize = 256;
/// Between two samples of a series.
const STEP_MS: i64 = 15_000;
/// The first sample of all.
const START_MS: i64 = 1_700_000_000_000;

fn main() {
    let millions = std::env::args().skip(1).find_map(|word| word.parse::<usize>().ok()).unwrap_or(20);
    let rows = (millions * 1_000_000).div_ceil(SERIES);
    println!("{SERIES} series, batches of {SERIES}, {} samples a row\n", rows * SERIES);
    println!("{:<52} {:>9} {:>14}", "", "seconds", "samples/s");
    let interval = Durability::Interval(Duration::from_millis(200));
    for mix in [Mix::Exporters, Mix::Random] {
        let values = values(mix);
        for (name, durability) in [("Interval(200 ms)", interval), ("Sync", Durability::Sync)] {
            let folder = folder();
            let db = Db::open(folder.path(), options(durability)).unwrap();
            let series = series(&db);
            let seconds = append(&db, &series, &values, rows);
            report(&format!("{mix:?}: append by handle, {name}"), seconds, rows * SERIES);
            if durability == Durability::Sync {
                db.flush().unwrap();
                scans(&db, mix, rows);
            }
            db.close().unwrap();
        }
    }
}

fn options(durability: Durability) -> Options {
    Options::new().retention(None).durability(durability).memory_bytes(2 << 30)
}

fn folder() -> tempfile::TempDir {
    let place = std::env::var_os("KYMO_BENCH_DIR").map(PathBuf::from);
    let place = place.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    tempfile::tempdir_in(place).unwrap()
}

fn series(db: &Db) -> Vec<SeriesRef> {
    let mut appender = db.appender();
    let labels = |i: usize| {
        let (instance, cpu) = (format!("host-{:04}", i / 8), (i % 8).to_string());
        Labels::from_pairs([("__name__", "cpu_seconds_total"), ("instance", &instance), ("cpu", &cpu)])
    };
    (0..SERIES).map(|i| appender.series(&labels(i)).unwrap()).collect()
}

/// What the values are like.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mix {
    /// As in a scrape of exporters: of ten series six stand still, two count whole numbers up, two walk in hundredths.
    Exporters,
    /// Every series changes every time, at random: half count, half walk. The worst there is to compress.
    Random,
}

fn values(mix: Mix) -> Vec<Vec<f64>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut row = vec![0.0; SERIES];
    let mut rows = Vec::with_capacity(ROWS);
    for _ in 0..ROWS {
        for (i, value) in row.iter_mut().enumerate() {
            let step = (random() % 1000) as f64;
            *value += match (mix, i % 10) {
                (Mix::Exporters, 0..6) => 0.0,
                (Mix::Exporters, 6 | 7) => (step / 100.0).floor(),
                (Mix::Exporters, _) => ((step - 500.0) / 10.0).floor() / 100.0,
                (Mix::Random, kind) if kind % 2 == 0 => step,
                (Mix::Random, _) => (step - 500.0) / 100.0,
            };
        }
        rows.push(row.clone());
    }
    rows
}

/// Appends sample by sample and waits for every receipt, those of the last at the end. Answers the seconds it took.
fn append(db: &Db, series: &[SeriesRef], values: &[Vec<f64>], rows: usize) -> f64 {
    let mut appender = db.appender();
    let mut receipts: VecDeque<Ack> = VecDeque::new();
    let mut stored = 0;
    let began = Instant::now();
    for row in 0..rows {
        let time = START_MS + row as i64 * STEP_MS;
        for (series, value) in series.iter().zip(&values[row % ROWS]) {
            appender.append(*series, time, *value);
        }
        receipts.push_back(appender.commit().unwrap());
        while receipts.front().is_some_and(Ack::is_done) {
            stored += receipts.pop_front().unwrap().wait().unwrap().accepted;
        }
    }
    for receipt in receipts {
        stored += receipt.wait().unwrap().accepted;
    }
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(stored, (rows * SERIES) as u64);
    seconds
}

fn scans(db: &Db, mix: Mix, rows: usize) {
    let began = Instant::now();
    let (mut count, mut sum) = (0, 0.0);
    let mut found = db.select(&[], TimeRange::ALL).unwrap();
    while let Some(series) = found.next_series() {
        while let Some(batch) = series.next_batch().unwrap() {
            count += batch.values.len();
            sum += batch.values.iter().sum::<f64>();
        }
    }
    report(&format!("{mix:?}: scan of blocks, borrowed batches"), began.elapsed().as_secs_f64(), count);
    assert_eq!(count, rows * SERIES);

    let began = Instant::now();
    let (mut timestamps, mut values) = (vec![0; 4096], vec![0.0; 4096]);
    let (mut again, mut total) = (0.0, 0);
    let mut found = db.select(&[], TimeRange::ALL).unwrap();
    while let Some(series) = found.next_series() {
        loop {
            let read = series.read(&mut timestamps, &mut values).unwrap();
            if read == 0 {
                break;
            }
            total += read;
            // In the order of the sums above, which are by batches: so only about the same.
            again += values[..read].iter().sum::<f64>();
        }
    }
    report(&format!("{mix:?}: scan of blocks, into slices of 4096"), began.elapsed().as_secs_f64(), total);
    assert!(total == count && (again - sum).abs() <= sum.abs() * 1e-9, "{total} {again} {sum}");
}

fn report(name: &str, seconds: f64, samples: usize) {
    println!("{name:<52} {seconds:>9.3} {:>14.0}", samples as f64 / seconds);
}
