//! Verify and scrub: whole stores are whole, and every flipped byte is found and named.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use kymo_storage::Storage;
use kymo_storage::env::{Clock, CrashChoice, Fs, MemoryFs, SimClock};
use kymo_storage::model::{AnyHistogram, Buckets, Histogram, IntHistogram, Labels, Matcher, TimeRange};
use kymo_storage::options::Options;
use kymo_storage::verify::verify;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 1_700_000_000_000;

fn options() -> Options {
    Options {
        retention: None,
        wal_segment_bytes: 4096,
        free_space_min: Some(0),
        // A file of zeros in which nothing is to be found.
        reserve_bytes: 0,
        ..Options::default()
    }
}

/// A store with blocks, a delete, a checkpoint and a log.
fn filled(fs: &MemoryFs) {
    let clock: Arc<dyn Clock> = Arc::new(SimClock::new(NOW));
    let store = Storage::open_with(Arc::new(fs.clone()), clock, Path::new("/data"), options()).unwrap();
    for step in 0..30_i64 {
        let mut batch = store.batch();
        for i in 0..5 {
            let id =
                batch.series_labels(&Labels::from_pairs([("__name__", "m"), ("i", &i.to_string())])).unwrap();
            batch.sample(id, NOW + step, (step * step % 17) as f64 * 0.123);
        }
        let id = batch.series_labels(&Labels::from_pairs([("__name__", "h")])).unwrap();
        let histogram = IntHistogram {
            schema: 1,
            count: 3 * step as u64,
            sum: step as f64,
            positive: Buckets::run(1, vec![step as u64, 2 * step as u64]).unwrap(),
            ..Histogram::default()
        };
        batch.histogram(id, NOW + step, AnyHistogram::Int(histogram)).unwrap();
        store.append(batch).unwrap();
        if step == 20 {
            store.delete(TimeRange::ALL, &[vec![Matcher::equal("i", "3")]]).unwrap();
        }
    }
    store.close().unwrap();
}

fn files(fs: &MemoryFs) -> Vec<PathBuf> {
    let folders = ["/data", "/data/blocks", "/data/head", "/data/wal"];
    let all = folders.iter().flat_map(|dir| fs.list(Path::new(dir)).unwrap());
    all.filter(|path| fs.open(path).is_ok()).collect()
}

#[test]
fn a_whole_store_is_whole_and_left_as_it_is() {
    let fs = MemoryFs::new();
    filled(&fs);
    let operations = fs.log_len();
    let report = verify(&(Arc::new(fs.clone()) as Arc<dyn Fs>), Path::new("/data")).unwrap();
    assert!(report.is_whole(), "{:?}", report.findings);
    assert_eq!((report.blocks, report.series, report.block_samples, report.wal_samples), (1, 6, 126, 54));
    assert!(report.files >= 5 && report.bytes > 1000, "{report:?}");
    assert_eq!(fs.log_len(), operations, "nothing is written");
    assert!(verify(&(Arc::new(fs) as Arc<dyn Fs>), Path::new("/nowhere")).is_err());
}

#[test]
fn every_flipped_byte_is_found_in_the_file_it_is_in() {
    let fs = MemoryFs::new();
    filled(&fs);
    for path in files(&fs) {
        let len = fs.open(&path).unwrap().len().unwrap();
        let is_log = path.starts_with("/data/wal");
        let is_block = path.starts_with("/data/blocks");
        for at in (0..len).step_by(if is_block { 7 } else { 29 }) {
            let image = fs.crash_image(fs.log_len(), CrashChoice::Everything);
            let file = image.open_write(&path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
            let report = verify(&(Arc::new(image) as Arc<dyn Fs>), Path::new("/data")).unwrap();
            let is_named = report.findings.iter().any(|finding| finding.file == path);
            // The end of a log and what is behind it may look like a crash.
            assert!(
                is_named || is_log || path.ends_with("LOCK"),
                "{} at {at}: {:?}",
                path.display(),
                report.findings
            );
        }
    }
}

#[test]
fn a_damaged_page_names_its_series() {
    let fs = MemoryFs::new();
    filled(&fs);
    let path = fs.list(Path::new("/data/blocks")).unwrap().remove(0);
    fs.open_write(&path).unwrap().write_all_at(&[0x55; 3], 70).unwrap();
    let report = verify(&(Arc::new(fs) as Arc<dyn Fs>), Path::new("/data")).unwrap();
    let texts: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert!(texts.iter().any(|t| t.contains(" at 64") && t.contains("DATA page 0")), "{texts:?}");
    assert!(texts.iter().any(|t| t.contains("__name__=\"m\"") || t.contains("m{")), "{texts:?}");
}

#[test]
fn the_scrub_finds_rot_within_its_budget() {
    let fs = MemoryFs::new();
    filled(&fs);
    let clock = SimClock::new(NOW);
    let fast = Options { maintenance_interval: Duration::from_millis(5), ..options() };
    let store =
        Storage::open_with(Arc::new(fs.clone()), Arc::new(clock.clone()), Path::new("/data"), fast).unwrap();
    let wait = |until: &dyn Fn() -> bool| {
        for _ in 0..2000 {
            clock.advance(Duration::from_millis(100));
            if until() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    };
    assert!(wait(&|| store.stats().scrub_rounds > 0));
    assert_eq!(store.stats().blocks_damaged, 0);
    let path = fs.list(Path::new("/data/blocks")).unwrap().remove(0);
    fs.open_write(&path).unwrap().write_all_at(&[0x55; 3], 70).unwrap();
    assert!(wait(&|| store.stats().blocks_damaged == 1), "{:?}", store.stats());
    assert!(store.stats().scrub_bytes > 0);
}

/// A store that was killed: its log has all of it. Each step is a record of its own.
fn with_log(steps: i64) -> MemoryFs {
    let fs = MemoryFs::new();
    let clock: Arc<dyn Clock> = Arc::new(SimClock::new(NOW));
    let store = Storage::open_with(Arc::new(fs.clone()), clock, Path::new("/data"), options()).unwrap();
    for step in 0..steps {
        let mut batch = store.batch();
        for i in 0..20 {
            // A new series now and then: its labels are in a record of their own.
            let name = format!("{}", if i == 0 { step / 10 } else { i });
            let id = batch.series_labels(&Labels::from_pairs([("__name__", "log"), ("i", &name)])).unwrap();
            batch.sample(id, NOW + step, step as f64 * 0.37 + i as f64);
        }
        store.append(batch).unwrap();
    }
    let image = fs.crash_image(fs.log_len(), CrashChoice::Everything);
    drop(store);
    image
}

fn findings(fs: &MemoryFs) -> Vec<kymo_storage::verify::Finding> {
    verify(&(Arc::new(fs.clone()) as Arc<dyn Fs>), Path::new("/data")).unwrap().findings
}

/// The used segments of the log.
fn segments(fs: &MemoryFs) -> Vec<PathBuf> {
    let mut all = fs.list(Path::new("/data/wal")).unwrap();
    all.sort();
    all
}

fn flip(fs: &MemoryFs, path: &Path, at: u64) {
    let file = fs.open_write(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

#[test]
fn a_damaged_record_of_the_log_is_named_by_file_and_offset() {
    let whole = with_log(120);
    assert_eq!(findings(&whole), []);
    let files = segments(&whole);
    assert!(files.len() > 3, "{files:?}");
    // In each segment but the last, whose end may look like a crash.
    let mut lost = 0;
    for path in &files[..files.len() - 1] {
        let len = whole.open(path).unwrap().len().unwrap();
        for at in (0..len).step_by(83) {
            let fs = whole.crash_image(whole.log_len(), CrashChoice::Everything);
            flip(&fs, path, at);
            for finding in findings(&fs) {
                let (text, offset) = (finding.to_string(), finding.offset.unwrap());
                // Names of series are there twice.
                assert!(!finding.what.contains("whose labels"), "{text}: flipped at {at}");
                lost += 1;
                assert_eq!(finding.file, *path, "{text}");
                let is_header = finding.what.contains("header");
                let is_lost = finding.what.contains("1 acknowledged records are lost");
                assert!(
                    is_header && offset == 0 && at < 100 || is_lost && offset <= at,
                    "{text}: flipped at {at}"
                );
                // The offset is the beginning of the record that was hit.
                assert!(at - offset < 1000, "{text}: flipped at {at}");
            }
        }
    }
    assert!(lost > 30, "{lost}");
}

#[test]
fn a_missing_segment_of_the_log_is_named() {
    let fs = with_log(120);
    let files = segments(&fs);
    fs.remove(&files[1]).unwrap();
    let found = findings(&fs);
    assert!(
        found.iter().any(|f| f.file == files[1] && f.offset == Some(0) && f.what.contains("missing")),
        "{found:?}"
    );
}

#[test]
fn header_and_footer_of_a_block_are_told_apart() {
    let fs = MemoryFs::new();
    filled(&fs);
    let path = fs.list(Path::new("/data/blocks")).unwrap().remove(0);
    let len = fs.open(&path).unwrap().len().unwrap();
    for (at, offset) in [(3, 0), (40, 0), (len - 3, len - 16), (len - 30, len - 16)] {
        let image = fs.crash_image(fs.log_len(), CrashChoice::Everything);
        flip(&image, &path, at);
        let found = findings(&image);
        assert!(found.iter().any(|f| f.file == path && f.offset == Some(offset)), "{at}: {found:?}");
    }
}

#[test]
fn other_files_are_named_too() {
    let fs = MemoryFs::new();
    filled(&fs);
    for path in files(&fs)
        .iter()
        .filter(|p| !p.starts_with("/data/blocks") && !p.starts_with("/data/wal") && !p.ends_with("LOCK"))
    {
        let image = fs.crash_image(fs.log_len(), CrashChoice::Everything);
        flip(&image, path, 20);
        let found = findings(&image);
        assert!(found.iter().any(|f| f.file == *path && f.offset.is_some()), "{}: {found:?}", path.display());
    }
}
