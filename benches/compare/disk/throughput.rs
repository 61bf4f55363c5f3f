//! How fast blocks are merged: the fleet is written into a store of its own in four parts, each a block, and they become one.

use crate::suite::feed::{Fleet, INTERVAL_MS};
use kymo_storage::Storage;
use kymo_storage::model::Labels;
use kymo_storage::options::{Durability, Options};
use kymo_tests::captures::Member;
use kymo_tests::process::{Usage, directory_bytes};
use std::path::Path;
use std::time::{Duration, Instant};

/// No more instances than these: the speed does not depend on how many there are.
const INSTANCES: usize = 16;
/// Blocks to merge.
const BLOCKS: usize = 4;

/// Prints the speed of flushes and of a merge.
pub(crate) fn print(fleet: &Fleet, dir: &Path) {
    let _ = std::fs::remove_dir_all(dir);
    let options = Options {
        retention: None,
        compaction_percent: 0,
        scrub_bytes_per_second: 0,
        durability: Durability::Os,
        // Blocks that lie on both sides of a border of days are merged all the same.
        compaction_widths: vec![Duration::from_secs(1000 * 24 * 3600)],
        ..Options::default()
    };
    let store = Storage::open(dir, options).expect("open a store");
    let mut members: Vec<Member> = (0..fleet.instances.min(INSTANCES))
        .map(|i| Member::new(&fleet.kinds[i % 2], i, fleet.instances, INTERVAL_MS))
        .collect();
    let labels: Vec<Vec<Labels>> = members
        .iter()
        .map(|m| m.labels.iter().map(|bytes| Labels::from_wire(bytes).expect("labels")).collect())
        .collect();
    let mut flushing = Duration::ZERO;
    for step in 0..fleet.scrapes {
        for (member, labels) in members.iter_mut().zip(&labels) {
            let (time, samples) = member.scrape(step, INTERVAL_MS);
            let mut batch = store.batch();
            for (series, value) in samples {
                let series = batch.series_labels(&labels[series as usize]).expect("a series");
                batch.sample(series, fleet.start_ms + time, value);
            }
            assert_eq!(store.append(batch).expect("an append").refused_total, 0);
        }
        if (step + 1) * BLOCKS / fleet.scrapes > step * BLOCKS / fleet.scrapes {
            flushing += cpu_of(|| store.flush().expect("flush"));
        }
    }
    let before = directory_bytes(&dir.join("blocks")).0;
    let samples = store.stats().block_samples as f64 / 1e6;
    let start = Instant::now();
    let merging = cpu_of(|| store.compact_all().expect("merge"));
    let wall = start.elapsed();
    let after = directory_bytes(&dir.join("blocks")).0;
    let second = |time: Duration| time.as_secs_f64().max(0.001);
    println!(
        "merging {BLOCKS} blocks of {samples:.1} M samples: {:.1} M samples a CPU second, {:.1} MB/s of blocks in {:.2} s; \
         {:.3} B/sample become {:.3}; their flushes: {:.1} M samples a CPU second",
        samples / second(merging),
        before as f64 / 1e6 / second(wall),
        wall.as_secs_f64(),
        before as f64 / 1e6 / samples,
        after as f64 / 1e6 / samples,
        samples / second(flushing),
    );
    store.close().expect("close the store");
    let _ = std::fs::remove_dir_all(dir);
}

fn cpu_of(work: impl FnOnce()) -> Duration {
    let before = Usage::of(std::process::id()).cpu;
    work();
    Usage::of(std::process::id()).cpu.saturating_sub(before)
}
