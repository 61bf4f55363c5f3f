//! Churn without end: targets are replaced at random, day after day; index and memory stay bounded.
//!
//! ```text
//! cargo test -p kymo-storage --test soak                     5,000 series for two simulated days, a sample every 10 minutes
//! MIMALLOC_PURGE_DELAY=1 KYMO_SOAK=100000x10d@15s cargo test --release -p kymo-storage --test soak -- --nocapture
//! ```
//! A minute replaces 1 % of the series, a target of 100 at a time, so a series lives for 100 minutes on the average. What the
//! index takes of a series does not depend on how many samples it has, so its share is judged at 15 s, the interval of most,
//! and its bytes a series always.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a failed expectation is a failed test; what is measured is printed"
)]

use kymo_storage::Storage;
use kymo_storage::block::Block;
use kymo_storage::env::{DiskFs, Fs, SimClock};
use kymo_storage::model::Labels;
use kymo_storage::options::{Durability, Options};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: i64 = 1_700_000_000_000;
const DAY_MINUTES: i64 = 24 * 60;
const TARGET_SERIES: usize = 100;

/// What is run.
struct Load {
    series: usize,
    /// A day, or a part of one.
    period_minutes: i64,
    periods: i64,
    /// Between two samples of a series.
    interval_seconds: i64,
}

impl Load {
    /// As `KYMO_SOAK` says: `SERIESxDAYSd@SECONDSs`, or `SERIESxHOURSh@SECONDSs`.
    fn chosen() -> Self {
        let Ok(text) = std::env::var("KYMO_SOAK") else {
            return Self { series: 5000, period_minutes: 12 * 60, periods: 4, interval_seconds: 10 * 60 };
        };
        let (size, interval) = text.split_once('@').unwrap();
        let (series, time) = size.split_once('x').unwrap();
        let (periods, unit) = time.split_at(time.len() - 1);
        Self {
            series: series.parse().unwrap(),
            period_minutes: if unit == "h" { 60 } else { DAY_MINUTES },
            periods: periods.parse().unwrap(),
            interval_seconds: interval.trim_end_matches('s').parse().unwrap(),
        }
    }
}

/// A small generator of numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A process with its series: most constant, some counters, some gauges.
struct Target {
    labels: Vec<Labels>,
    values: Vec<f64>,
}

impl Target {
    fn new(number: usize) -> Self {
        let pod = format!("service-{:x}-{:05x}", number % 300, number.wrapping_mul(2_654_435_761) & 0xf_ffff);
        let instance = format!("10.{}.{}.{}:9100", number >> 16 & 255, number >> 8 & 255, number & 255);
        let labels = (0..TARGET_SERIES).map(|i| {
            Labels::from_pairs([
                ("__name__", format!("container_metric_{}_total", i / 4)),
                ("job", format!("job-{}", number % 20)),
                ("instance", instance.clone()),
                ("namespace", format!("team-{}", number % 50)),
                ("pod", pod.clone()),
                ("mode", ["user", "system", "idle", "iowait"][i % 4].to_owned()),
            ])
        });
        Self { labels: labels.collect(), values: vec![0.0; TARGET_SERIES] }
    }

    fn scrape(&mut self, random: &mut Random) {
        for (i, value) in self.values.iter_mut().enumerate() {
            match i % 20 {
                0..=11 => *value = (i % 7) as f64,
                12..=16 => *value += random.below(1 + (i as u64 * 37) % 2000) as f64,
                _ => *value = random.below(100_000) as f64 / 1000.0,
            }
        }
    }
}

/// Anonymous memory of the process in bytes.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Bytes of samples and of everything else in the blocks of `dir`.
fn data_and_index(store: &Storage, dir: &Path) -> (u64, u64) {
    let fs: Arc<dyn Fs> = Arc::new(DiskFs);
    let (mut data, mut all) = (0, 0);
    for block in store.blocks() {
        let block = Block::open(&fs, &dir.join("blocks").join(&block.file)).unwrap();
        let parts = block.part_bytes();
        data += parts.iter().filter(|p| ["DATA", "TSCOL"].contains(&p.0)).map(|p| p.1).sum::<u64>();
        all += block.file_bytes();
    }
    (data, all - data)
}

fn scrape(store: &Storage, targets: &mut [Target], random: &mut Random, time: i64) {
    for part in targets.chunks_mut(20) {
        let mut batch = store.batch();
        for target in part {
            target.scrape(random);
            for (labels, value) in target.labels.iter().zip(&target.values) {
                let series = batch.series(labels.as_bytes()).unwrap();
                batch.sample(series, time, *value);
            }
        }
        assert_eq!(store.append(batch).unwrap().refused_total, 0);
    }
}

/// What is seen at the end of a period.
#[derive(Debug)]
struct Seen {
    index_share: f64,
    /// For each series there ever was.
    index_bytes: f64,
    /// The most that was held at the end of an hour.
    held: u64,
    resident: u64,
}

fn soak(load: &Load, dir: &Path) -> Vec<Seen> {
    let clock = SimClock::new(NOW);
    let options = Options {
        durability: Durability::Os,
        retention: None,
        compaction_percent: 0,
        maintenance_interval: Duration::from_secs(3600),
        free_space_min: Some(0),
        reserve_bytes: 0,
        ..Options::default()
    };
    let store = Storage::open_with(Arc::new(DiskFs), Arc::new(clock.clone()), dir, options).unwrap();
    let mut random = Random(88_172_645_463_325_252);
    let mut next = load.series / TARGET_SERIES;
    let mut targets: Vec<Target> = (0..next).map(Target::new).collect();
    let (mut seen, mut held, mut resident) = (Vec::new(), 0, 0);
    let started = Instant::now();
    for minute in 1..=load.periods * load.period_minutes {
        clock.advance(Duration::from_secs(60));
        // One in a hundred; of fewer targets one now and then.
        let replaced = targets.len() / 100 + usize::from((random.below(100) as usize) < targets.len() % 100);
        for _ in 0..replaced {
            let at = random.below(targets.len() as u64) as usize;
            targets[at] = Target::new(next);
            next += 1;
        }
        for second in (minute * 60 - 59..=minute * 60).filter(|s| s % load.interval_seconds == 0) {
            scrape(&store, &mut targets, &mut random, NOW + second * 1000);
        }
        if minute % 5 == 0 {
            store.maintain().unwrap();
        }
        if minute % 60 == 0 {
            store.compact().unwrap();
            let stats = store.stats();
            held = held.max(stats.registry_bytes + stats.head_bytes);
            resident = resident.max(anonymous_bytes());
        }
        if minute % load.period_minutes == 0 {
            let ((data, index), stats) = (data_and_index(&store, dir), store.stats());
            println!(
                "day {:.1}: {} series in memory, {} dropped, {} targets so far; labels {} KiB, head {} KiB, anonymous memory {} MiB; {} blocks of \
                 {} samples: data {} KiB, index {} KiB ({:.1} %), {:.3} B a sample; {:.0} s",
                minute as f64 / DAY_MINUTES as f64,
                stats.series,
                stats.series_dropped,
                next,
                stats.registry_bytes >> 10,
                stats.head_bytes >> 10,
                resident >> 20,
                stats.blocks,
                stats.block_samples,
                data >> 10,
                index >> 10,
                100.0 * index as f64 / data as f64,
                (data + index) as f64 / stats.block_samples as f64,
                started.elapsed().as_secs_f64(),
            );
            seen.push(Seen {
                index_share: index as f64 / data as f64,
                index_bytes: index as f64 / (next * TARGET_SERIES) as f64,
                held,
                resident,
            });
            (held, resident) = (0, 0);
        }
    }
    store.close().unwrap();
    seen
}

#[test]
fn index_and_memory_stay_bounded_under_churn() {
    // As the server does it: what many series take is not to be counted in pieces of 2 MiB that nobody uses.
    #[cfg(target_os = "linux")]
    if std::env::var_os("KYMO_SOAK").is_some() {
        let _ = rustix::thread::disable_transparent_huge_pages(true);
    }
    let load = Load::chosen();
    let base = std::env::var_os("KYMO_SOAK_DIR").unwrap_or_else(|| std::env::temp_dir().into());
    let dir = tempfile::tempdir_in(base).unwrap();
    let seen = soak(&load, dir.path());
    let (second, last) = (&seen[1.min(seen.len() - 1)], seen.last().unwrap());
    println!("{seen:?}");
    assert!(last.held * 10 <= second.held * 11, "{seen:?}");
    assert!(last.resident * 10 <= second.resident * 11, "{seen:?}");
    assert!(last.index_bytes <= 20.0, "{seen:?}");
    assert!(load.interval_seconds > 15 || last.index_share <= 0.2, "{seen:?}");
}
