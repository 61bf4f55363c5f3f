//! Measures the head: memory a series, CPU a sample, flush and restart, on a load like a Kubernetes cluster's.
//!
//! `cargo run --release -p kymo-storage --example head_load -- SERIES SCRAPES DIR`

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
use std::time::Instant;

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
    let args: Vec<String> = std::env::args().collect();
    let (series, scrapes) = (args[1].parse::<usize>().unwrap(), args[2].parse::<i64>().unwrap());
    let dir = Path::new(&args[3]);
    let options = Options {
        durability: Durability::Os,
        flush_bytes: 8 << 30,
        flush_wal_bytes: 64 << 30,
        retention: None,
        ..Options::default()
    };
    let store = Storage::open(dir, options.clone()).unwrap();
    let wires: Vec<Labels> = (0..series).map(labels).collect();
    let mut values = vec![0.0f64; series];
    let mut random = 88_172_645_463_325_252_u64;
    let start = 1_700_000_000_000;
    let (mut cpu_before, resident_before) = usage();
    for scrape in 0..scrapes {
        for (i, value) in values.iter_mut().enumerate() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            match i % 20 {
                0..=11 => *value = (i % 7) as f64,
                12..=16 => *value += (random % (1 + (i as u64 * 37) % 2000)) as f64,
                _ => *value = (random % 100_000) as f64 / 1000.0,
            }
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
    timed("close", || store.close().unwrap());
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
