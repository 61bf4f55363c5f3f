//! What a store keeps of its promises under every damage and every failure that can be counted through: each test prints one
//! line of figures. `KYMO_WHITE_BOX` is how much is tried, in percent of everything (5 if not given).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a failed expectation is a failed test; each prints its figures"
)]

mod errnos;
mod formats;
mod log;
mod points;
mod rot;
mod structure;

use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Samples};
use kymo_storage::codec::frame::{FrameReader, HEADER_BYTES as FRAME_HEADER, Piece};
use kymo_storage::env::{CrashChoice, Fs, MemoryFs, SimClock};
use kymo_storage::model::{AnyHistogram, Buckets, IntHistogram, Labels, Matcher, TimeRange};
use kymo_storage::options::Options;
use kymo_storage::wal::segment::{HEADER_BYTES as SEGMENT_HEADER, Header, read_header, sequence_of};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;
const DATA: &str = "/data";

/// How much of everything is tried, in percent.
fn percent() -> usize {
    std::env::var("KYMO_WHITE_BOX").ok().and_then(|n| n.parse().ok()).map_or(5, |n: usize| n.clamp(1, 100))
}

/// Every so many-th of the numbers below `count` that [`percent`] asks for; always the first and the last.
fn sampled(count: usize) -> impl Iterator<Item = usize> {
    let step = 100_usize.div_ceil(percent());
    (0..count).filter(move |i| i % step == 0 || i + 1 == count)
}

/// Counts the panics of all threads from now on.
fn panics() -> &'static AtomicUsize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            hook(info);
        }));
    });
    &PANICS
}

fn options() -> Options {
    Options {
        retention: None,
        wal_segment_bytes: 4096,
        maintenance_interval: Duration::from_secs(3600),
        compaction_percent: 0,
        scrub_bytes_per_second: 0,
        free_space_min: Some(0),
        // Laid down beside everything else, it would be another call each time.
        reserve_bytes: 0,
        ..Options::default()
    }
}

fn try_open(fs: Arc<dyn Fs>) -> kymo_storage::Result<Storage> {
    Storage::open_with(fs, Arc::new(SimClock::new(NOW)), Path::new(DATA), options())
}

fn open(fs: &MemoryFs) -> Storage {
    try_open(Arc::new(fs.clone())).unwrap()
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", format!("{i:05}"))])
}

/// Number `step` of series `i`: bits that do not compress away.
fn value(i: usize, step: i64) -> f64 {
    let mixed = (i as u64 ^ step.cast_unsigned() << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    f64::from_bits(0x3ff0_0000_0000_0000 | mixed >> 12)
}

fn histogram(step: i64) -> AnyHistogram {
    let counts = vec![step.cast_unsigned(), 2, 3];
    let (count, sum) = (counts.iter().sum(), step as f64);
    let positive = Buckets::run(1, counts).unwrap();
    AnyHistogram::Int(IntHistogram { count, sum, positive, ..IntHistogram::default() })
}

/// One sample of each of `series` series at `time`, and one histogram.
fn write(store: &Storage, series: usize, time: i64) -> kymo_storage::Result<()> {
    let mut batch = store.batch();
    for i in 0..series {
        let id = batch.series_labels(&labels(i)).unwrap();
        batch.sample(id, time, value(i, time));
    }
    let id = batch.series_labels(&Labels::from_pairs([("__name__", "h")])).unwrap();
    batch.histogram(id, time, histogram(time % 1000)).unwrap();
    store.append(batch).map(|report| assert_eq!(report.refused, []))
}

/// What each series has at which time: the bits of a float, or what a histogram says.
type Answers = BTreeMap<Labels, BTreeMap<i64, String>>;

/// All answers, and whether any came with a warning or not at all.
fn answers(store: &Storage) -> (Answers, bool) {
    let mut out = Answers::new();
    let querier = store.querier(TimeRange::ALL).unwrap();
    let Ok(set) = querier.select(TimeRange::ALL, &[]) else { return (out, true) };
    let (mut samples, mut warned) = (Samples::new(), false);
    for index in 0..set.len() {
        let of_series = out.entry(set.labels(index)).or_default();
        if set.read(index, TimeRange::ALL, &mut samples).is_err() {
            warned = true;
            continue;
        }
        for (time, value) in samples.timestamps.iter().zip(&samples.values) {
            assert!(of_series.insert(*time, format!("{:x}", value.to_bits())).is_none(), "doubled");
        }
        for h in &samples.histograms {
            let said = format!("{:?} {:?}", h.histogram.count, h.histogram.positive.counts());
            assert!(of_series.insert(h.timestamp, said).is_none(), "doubled");
        }
    }
    out.retain(|_, samples| !samples.is_empty());
    (out, warned || !set.warnings().is_empty())
}

/// A copy of all files.
fn image(fs: &MemoryFs) -> MemoryFs {
    fs.crash_image(fs.log_len(), CrashChoice::Everything)
}

/// All files below the data directory.
fn files(fs: &MemoryFs) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::from(DATA)]);
    while let Some(folder) = folders.pop() {
        for path in fs.list(&folder).unwrap() {
            if fs.open(&path).is_ok() { found.push(path) } else { folders.push(path) }
        }
    }
    found.sort();
    found
}

fn bytes_of(fs: &MemoryFs, path: &Path) -> Vec<u8> {
    fs.map(path).unwrap().to_vec()
}

fn put(fs: &MemoryFs, path: &Path, bytes: &[u8]) {
    let _ = fs.remove(path);
    fs.create_dir_all(path.parent().unwrap()).unwrap();
    fs.create(path).unwrap().write_all_at(bytes, 0).unwrap();
}

/// What a damaged store did with the questions.
#[derive(Debug, Default, Clone, Copy)]
struct Verdict {
    /// Samples that were never written.
    invented: usize,
    /// Samples that are gone.
    missing: usize,
    /// Samples that were deleted and are back: that is what a lost list of deletes comes to.
    revived: usize,
    /// Whether anything was said about it: a warning, an error, a count, a file in quarantine.
    told: bool,
    /// Series that answer in full, in percent.
    served: f64,
}

impl Verdict {
    fn is_silent(&self) -> bool {
        self.invented > 0 || (self.missing + self.revived > 0 && !self.told)
    }
}

/// The end of the last record of the log; behind it a segment that was used before has bytes of its former use. Nobody can tell what is
/// missing there from what a crash would have left: a request that was under way.
fn end_of_log(fs: &MemoryFs) -> (PathBuf, usize) {
    let end = |path: &PathBuf| {
        let bytes = bytes_of(fs, path);
        let Header::Ours(epoch) = read_header(&bytes, sequence_of(path)?) else { return None };
        let ends = FrameReader::new(&bytes, SEGMENT_HEADER, epoch.seed()).filter_map(|piece| match piece {
            Piece::Frame { offset, body } => Some(offset + FRAME_HEADER + body.len()),
            Piece::Damage { .. } | Piece::Tail { .. } => None,
        });
        ends.last()
    };
    let newest = fs.list(Path::new("/data/wal")).unwrap().into_iter().rev();
    newest.map(|path| (end(&path), path)).find_map(|(end, path)| Some((path, end?))).unwrap()
}

/// Opens and asks; `Err` if it does not open.
fn judge(fs: &MemoryFs, expected: &Answers) -> Result<Verdict, String> {
    let store = try_open(Arc::new(fs.clone())).map_err(|e| e.to_string())?;
    let (found, warned) = answers(&store);
    let stats = store.stats();
    let mut verdict = Verdict {
        told: warned || stats.wal_lost_frames > 0 || stats.blocks_quarantined > 0 || stats.blocks_damaged > 0,
        ..Verdict::default()
    };
    let mut whole = 0;
    for (labels, samples) in expected {
        let got = found.get(labels);
        let missing =
            samples.iter().filter(|(time, value)| got.and_then(|g| g.get(time)) != Some(value)).count();
        verdict.missing += missing;
        whole += usize::from(missing == 0);
    }
    for (labels, samples) in &found {
        let wrote = expected.get(labels);
        for (time, said) in
            samples.iter().filter(|(time, said)| wrote.and_then(|w| w.get(time)) != Some(said))
        {
            let is_deleted =
                *labels == self::labels(1) && *said == format!("{:x}", value(1, *time).to_bits());
            verdict.revived += usize::from(is_deleted && *time <= NOW - 2 * HOUR + 1500);
            verdict.invented += usize::from(!is_deleted || *time > NOW - 2 * HOUR + 1500);
        }
    }
    verdict.served = 100.0 * whole as f64 / expected.len().max(1) as f64;
    store.close().map_err(|e| e.to_string())?;
    Ok(verdict)
}

/// A store that was closed: blocks of `series` series, deletes, a checkpoint, a log with what came last.
fn filled(series: usize, steps: i64) -> (MemoryFs, Answers) {
    filled_watched(series, steps, |_| {})
}

/// The same; `watch` is called with its files after each step.
fn filled_watched(series: usize, steps: i64, mut watch: impl FnMut(&MemoryFs)) -> (MemoryFs, Answers) {
    let fs = MemoryFs::new();
    let store = open(&fs);
    for half in 0..2 {
        for step in 0..steps {
            write(&store, series, NOW - 2 * HOUR + (half * steps + step) * 1000).unwrap();
            watch(&fs);
        }
        store.flush().unwrap();
        watch(&fs);
    }
    // Twice, so that there is an earlier list of deletes.
    for end in [500, 1500] {
        let range = TimeRange::closed(NOW - 2 * HOUR, NOW - 2 * HOUR + end);
        store.delete(range, &[vec![Matcher::equal("i", "00001")]]).unwrap();
        watch(&fs);
    }
    for step in 0..3 {
        write(&store, series, NOW + step * 1000).unwrap();
        watch(&fs);
    }
    let (expected, warned) = answers(&store);
    assert!(!warned);
    store.close().unwrap();
    drop(store);
    fs.settle();
    (fs, expected)
}
