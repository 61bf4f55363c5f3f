//! Measures the head: memory a series, CPU a sample, flush and restart, on a load like a Kubernetes cluster's.
//!
//! `cargo run --release -p kymo-storage --example head_load -- SERIES SCRAPES DIR [CAPTURES]`
//!
//! Without CAPTURES the values are synthetic (60 % constant, 25 % counters, 15 % noise). With the folder of captured scrapes
//! they are those of real exporters: every 13th frame, each instance with a phase of its own, counters never going back.
//! The store is killed in between (dropped with its log), so that the start after it replays everything.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measuring program"
)]

use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Samples};
use kymo_storage::model::{Labels, Matcher, TimeRange};
use kymo_storage::options::{Durability, Options};
use std::path::Path;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// User and system CPU seconds of the process, and its resident bytes.
fn usage() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let fields: Vec<f64> = after.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    ((fields[11] + fields[12]) / 100.0, fields[21] * 4096.0)
}

fn labels(i: usize) -> Labels {
    let (target, metric) = (i / 500, i % 500);
    Labels::from_pairs([
        ("__name__", format!("container_metric_{}_total", metric / 4)),
        ("job", format!("job-{}", target % 20)),
        ("instance", format!("10.{}.{}.{}:9100", target >> 16, target >> 8 & 255, target & 255)),
        ("cluster", "prod-eu-west-1".to_owned()),
        ("namespace", format!("team-{}", target % 50)),
        ("pod", format!("service-{:x}-{:x}", target % 300, target.wrapping_mul(2_654_435_761) & 0xff_ffff)),
        ("mode", ["user", "system", "idle", "iowait"][metric % 4].to_owned()),
    ])
}

fn main() {
    // As the server does it: what a thread takes is not to be rounded up to 2 MiB. `MIMALLOC_PURGE_DELAY=1` is the rest of it.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let args: Vec<String> = std::env::args().collect();
    let (series, scrapes) = (args[1].parse::<usize>().unwrap(), args[2].parse::<i64>().unwrap());
    let dir = Path::new(&args[3]);
    let options = Options {
        durability: Durability::Os,
        flush_bytes: 8 << 30,
        flush_wal_bytes: 64 << 30,
        flush_wal_bytes_per_series: u64::MAX,
        retention: None,
        ..Options::default()
    };
    let store = Storage::open(dir, options.clone()).unwrap();
    let wires: Vec<Labels> = (0..series).map(labels).collect();
    let captured = args.get(4).map(|dir| Captured::read(Path::new(dir)));
    let mut values = vec![0.0f64; series];
    let mut random = 88_172_645_463_325_252_u64;
    let start = 1_700_000_000_000;
    // What reading the captures took is to be back with the system, or it would hide what the store takes.
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(300));
        drop(std::hint::black_box(vec![0u8; 1 << 20]));
    }
    let (mut cpu_before, resident_before) = usage();
    for scrape in 0..scrapes {
        match &captured {
            Some(captured) => captured.scrape(scrape as usize, &mut values),
            None => synthetic(&mut random, &mut values),
        }
        let (generated, _) = usage();
        for part in (0..series).step_by(2000) {
            let mut batch = store.batch();
            for i in part..series.min(part + 2000) {
                let id = batch.series(wires[i].as_bytes()).unwrap();
                batch.sample(id, start + scrape * 15_000, values[i]);
            }
            assert_eq!(store.append(batch).unwrap().refused_total, 0);
        }
        let (cpu, resident) = usage();
        if scrape == 0 || scrape == 1 || (scrape + 1) % 60 == 0 || scrape + 1 == scrapes {
            let stats = store.stats();
            println!(
                "scrape {scrape}: {:.0} ns CPU a sample; resident {:.0} B a series, registry {:.0}, head {:.0}",
                (cpu - generated) * 1e9 / series as f64,
                (resident - resident_before) / series as f64,
                stats.registry_bytes as f64 / series as f64,
                stats.head_bytes as f64 / series as f64,
            );
        }
        cpu_before = cpu;
    }
    let _ = cpu_before;
    drop(wires);
    query(&store, series);
    let log_bytes = store.stats().wal_bytes as f64 / (series as f64 * scrapes as f64);
    println!("{log_bytes:.2} B a sample in the log");
    drop(store);
    let store = timed("open with replay", || Storage::open(dir, options.clone()).unwrap());
    timed("flush", || store.flush().unwrap());
    let stats = store.stats();
    println!("{:.3} B a sample in blocks", stats.block_bytes as f64 / stats.block_samples as f64);
    query(&store, series);
    drop(store);
    let store = timed("open from checkpoint", || Storage::open(dir, options).unwrap());
    query(&store, series);
}

fn synthetic(random: &mut u64, values: &mut [f64]) {
    for (i, value) in values.iter_mut().enumerate() {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        match i % 20 {
            0..=11 => *value = (i % 7) as f64,
            12..=16 => *value += (*random % (1 + (i as u64 * 37) % 2000)) as f64,
            _ => *value = (*random % 100_000) as f64 / 1000.0,
        }
    }
}

/// Real exporters: the values of each series that was there nearly all the time, in the order of the frames.
struct Captured {
    /// The values, and whether it is a counter.
    series: Vec<(Vec<f64>, bool)>,
}

/// Frames are a second apart; so many make a scrape interval, and 480 scrapes fit without repetition.
const FRAMES_PER_SCRAPE: usize = 13;

impl Captured {
    fn read(dir: &Path) -> Self {
        let mut series = Vec::new();
        for name in ["process", "vm"] {
            let unpack = |file: String| {
                let mut decoder =
                    zstd::stream::read::Decoder::new(std::fs::File::open(dir.join(file)).unwrap()).unwrap();
                decoder.window_log_max(27).unwrap();
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut decoder, &mut bytes).unwrap();
                bytes
            };
            let text = String::from_utf8(unpack(format!("{name}.series.zst"))).unwrap();
            let is_counter = |line: &str| {
                let metric = line.split('{').next().unwrap_or_default();
                ["_total", "_count", "_sum", "_bucket"].iter().any(|end| metric.ends_with(end))
            };
            let mut found: Vec<(Vec<f64>, bool)> =
                text.lines().map(|line| (Vec::new(), is_counter(line))).collect();
            let bytes = unpack(format!("{name}.bin.zst"));
            let (mut rest, mut frames) = (&bytes[..], 0);
            while let Some((head, tail)) = rest.split_at_checked(12) {
                let count = u32::from_le_bytes(head[8..].try_into().unwrap()) as usize;
                let (samples, tail) = tail.split_at(count * 12);
                for sample in samples.chunks_exact(12) {
                    let number = u32::from_le_bytes(sample[..4].try_into().unwrap()) as usize;
                    let value = f64::from_le_bytes(sample[4..].try_into().unwrap());
                    let before = found[number].0.last().copied().unwrap_or(value);
                    found[number].0.resize(frames, before);
                    found[number].0.push(value);
                }
                (rest, frames) = (tail, frames + 1);
            }
            series.extend(found.into_iter().filter(|s| s.0.len() * 10 > frames * 9));
        }
        Self { series }
    }

    fn scrape(&self, scrape: usize, values: &mut [f64]) {
        for (i, value) in values.iter_mut().enumerate() {
            let (instance, number) = (i / self.series.len(), i % self.series.len());
            let (column, is_counter) = &self.series[number];
            let at = instance * 997 + scrape * FRAMES_PER_SCRAPE;
            let now = column[at % column.len()];
            let before = column[(at + column.len() - FRAMES_PER_SCRAPE) % column.len()];
            match *is_counter && scrape > 0 {
                true if now >= before => *value += now - before,
                true => *value += now.max(0.0),
                false => *value = now,
            }
        }
    }
}

fn query(store: &Storage, series: usize) {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let one = [Matcher::equal("__name__", "container_metric_3_total")];
    let set = timed("select one metric", || querier.select(TimeRange::ALL, &one).unwrap());
    println!("  {} series", set.len());
    let set = timed("select all", || querier.select(TimeRange::ALL, &[]).unwrap());
    let set_again = timed("select all again", || querier.select(TimeRange::ALL, &[]).unwrap());
    assert_eq!((set.len(), set_again.len()), (series, series));
    let (before, _) = usage();
    let (mut samples, mut count) = (Samples::new(), 0);
    for index in 0..set.len() {
        set.read(index, TimeRange::ALL, &mut samples).unwrap();
        count += samples.values.len();
    }
    println!("  read: {:.1} ns a sample", (usage().0 - before) * 1e9 / count as f64);
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let (cpu, _) = usage();
    let begin = Instant::now();
    let out = run();
    println!("  {what}: {:.3} s wall, {:.3} s CPU", begin.elapsed().as_secs_f64(), usage().0 - cpu);
    out
}
