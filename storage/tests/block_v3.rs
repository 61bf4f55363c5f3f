//! What blocks have from version 3 on: start timestamps and exemplars, read as they were written.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use kymo_storage::ErrorKind;
use kymo_storage::api::Samples;
use kymo_storage::block::{Block, BlockMeta, BlockReader, BlockSpec, BlockWriter, SeriesContent};
use kymo_storage::env::{DiskFs, Fs, MemoryFs};
use kymo_storage::model::{AnyHistogram, Buckets, Exemplar, IntHistogram, Labels, TimeRange};
use roaring::RoaringBitmap;
use std::path::Path;
use std::sync::Arc;

const SPEC: BlockSpec = BlockSpec { uuid: *b"0123456789abcdef", sequence: 7, level: 0 };
const SERIES: i64 = 12;
const SAMPLES: i64 = 2500;

fn labels(series: i64) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("series", format!("{series:02}"))])
}

fn time(i: i64) -> i64 {
    1_700_000_000_000 + i * 15_000
}

/// By series: nothing, a counter with resets, deltas, a start known for some, and starts of no order.
fn start(series: i64, i: i64) -> i64 {
    match series % 5 {
        1 => time(i / 800 * 800) - 123,
        2 => time(i - 1),
        3 if i % 1000 > 900 => time(0),
        4 => time(0) - (i * 7919) % 100_000,
        _ => 0,
    }
}

fn histogram(i: i64) -> AnyHistogram {
    let positive = Buckets::run(0, vec![i as u64 + 1]).unwrap();
    AnyHistogram::Int(IntHistogram { count: i as u64 + 1, sum: 0.5, positive, ..IntHistogram::default() })
}

fn exemplars(series: i64) -> Vec<Exemplar> {
    let count = if series % 4 == 1 { 900 } else { series % 4 };
    let labels = |i: i64| Labels::from_pairs([("trace_id", format!("{:0100}", i * series))]);
    (0..count)
        .map(|i| Exemplar { labels: labels(i), value: i as f64 / 8.0, timestamp: time(i) + 1 })
        .collect()
}

/// Even series are floats, the others histograms; the last has exemplars only.
fn write(fs: &Arc<dyn Fs>, path: &Path) -> BlockMeta {
    let mut writer = BlockWriter::create(fs, path, SPEC).unwrap();
    for series in 0..SERIES {
        let count = if series + 1 == SERIES { 0 } else { SAMPLES };
        let times: Vec<i64> = (0..count).map(time).collect();
        let starts: Vec<i64> = (0..count).map(|i| start(series, i)).collect();
        let values: Vec<f64> = (0..count).map(|i| (i * 31 % 97) as f64).collect();
        let histograms: Vec<AnyHistogram> = (0..count).map(histogram).collect();
        let exemplars = exemplars(series);
        let floats = [(&times[..], &values[..])];
        let content = if series % 2 == 0 {
            SeriesContent { floats: &floats, float_starts: &starts, ..SeriesContent::default() }
        } else {
            let histograms = (&times[..], &histograms[..]);
            SeriesContent { histograms, histogram_starts: &starts, ..SeriesContent::default() }
        };
        writer.add(&labels(series), &SeriesContent { exemplars: &exemplars, ..content }).unwrap();
    }
    writer.finish().unwrap()
}

fn check(block: &Block, range: TimeRange) {
    let (mut reader, mut out) = (BlockReader::new(), Samples::new());
    let inside: Vec<i64> = (0..SAMPLES).filter(|i| range.contains(time(*i))).collect();
    for series in 0..SERIES - 1 {
        block.read_series(series as u32, range, &mut reader, &mut out).unwrap();
        let expected: Vec<i64> = inside.iter().map(|i| start(series, *i)).collect();
        if series % 2 == 0 {
            assert_eq!(out.timestamps.len(), inside.len());
            let found: Vec<i64> = (0..inside.len()).map(|at| out.start_timestamp(at)).collect();
            assert_eq!(found, expected, "series {series}");
            assert_eq!(out.start_timestamps.is_empty(), expected.iter().all(|start| *start == 0));
        } else {
            let found: Vec<i64> = out.histograms.iter().map(|h| h.start_timestamp).collect();
            assert_eq!(found, expected, "series {series}");
        }
    }
    block.read_series(SERIES as u32 - 1, range, &mut reader, &mut out).unwrap();
    assert!(out.timestamps.is_empty() && out.histograms.is_empty());
    for wanted in [vec![], vec![1], vec![2, 5, 11], (0..SERIES as u32).collect::<Vec<_>>()] {
        let wanted: RoaringBitmap = wanted.into_iter().collect();
        let mut found = Vec::new();
        block.read_exemplars(&wanted, range, &mut |series, exemplar| found.push((series, exemplar))).unwrap();
        let of = |series: u32| exemplars(i64::from(series)).into_iter().map(move |e| (series, e));
        let expected: Vec<(u32, Exemplar)> =
            wanted.iter().flat_map(of).filter(|(_, e)| range.contains(e.timestamp)).collect();
        assert_eq!(found, expected);
    }
}

fn memory() -> Arc<dyn Fs> {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::default());
    fs.create_dir_all(Path::new("/b")).unwrap();
    fs
}

#[test]
fn starts_and_exemplars_are_read_as_they_were_written() {
    let (fs, path) = (memory(), Path::new("/b/1.block"));
    let meta = write(&fs, path);
    assert_eq!((meta.series, meta.samples), (12, 11 * 2500));
    let block = Block::open(&fs, path).unwrap();
    block.verify().unwrap();
    assert!(block.has_exemplars());
    check(&block, TimeRange::ALL);
    check(&block, TimeRange::closed(time(1500), time(2000)));
    check(&block, TimeRange::closed(time(1919), time(1921)));
    check(&block, TimeRange::new(5, 6));
}

#[test]
fn starts_that_hardly_change_take_next_to_nothing() {
    let size = |kind: fn(i64) -> i64| {
        let (fs, path) = (memory(), Path::new("/b/1.block"));
        let mut writer = BlockWriter::create(&fs, path, SPEC).unwrap();
        let times: Vec<i64> = (0..SAMPLES).map(time).collect();
        let values: Vec<f64> = (0..SAMPLES).map(|i| (i * i % 1013) as f64).collect();
        let starts: Vec<i64> = (0..SAMPLES).map(kind).collect();
        for series in 0..100 {
            let floats = [(&times[..], &values[..])];
            let content =
                SeriesContent { floats: &floats, float_starts: &starts, ..SeriesContent::default() };
            writer.add(&labels(series), &content).unwrap();
        }
        writer.finish().unwrap();
        fs.open(path).unwrap().len().unwrap()
    };
    let none = size(|_| 0);
    for (name, kind) in [("a counter", (|i| start(1, i)) as fn(i64) -> i64), ("deltas", |i| start(2, i))] {
        let more = size(kind) - none;
        assert!(more < 100 * 8, "{name}: {more} bytes for 100 series of two chunks");
    }
}

#[test]
fn damage_of_exemplars_is_named_and_confined() {
    let (fs, path) = (memory(), Path::new("/b/1.block"));
    write(&fs, path);
    let bytes = fs.map(path).unwrap().to_vec();
    let block = Block::open(&fs, path).unwrap();
    let all: RoaringBitmap = (0..SERIES as u32).collect();
    let sound = |block: &Block| block.read_exemplars(&all, TimeRange::ALL, &mut |_, _| {});
    let (mut damaged, mut readable) = (0, 0);
    for at in (64..bytes.len()).step_by(bytes.len() / 200) {
        let copy = memory();
        let mut changed = bytes.clone();
        changed[at] ^= 0x20;
        copy.create(path).unwrap().write_all_at(&changed, 0).unwrap();
        let Ok(block) = Block::open(&copy, path) else { continue };
        match sound(&block) {
            Ok(()) => readable += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                let text = error.to_string();
                assert!(text.contains("/b/1.block") && text.contains("EXEMPLARS"), "{text}");
                damaged += 1;
                let (mut reader, mut out) = (BlockReader::new(), Samples::new());
                block.read_series(0, TimeRange::ALL, &mut reader, &mut out).unwrap();
                assert_eq!(out.values.len(), SAMPLES as usize);
            }
        }
    }
    assert!(damaged > 3 && readable > 3, "{damaged} {readable}");
    assert!(sound(&block).is_ok());
}

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testdata/formats/block-v3.block");

#[test]
fn the_fixture_of_version_3_is_readable() {
    let fs: Arc<dyn Fs> = Arc::new(DiskFs);
    let block = Block::open(&fs, Path::new(FIXTURE)).unwrap();
    block.verify().unwrap();
    assert_eq!((block.meta().uuid, block.meta().sequence), (SPEC.uuid, 7));
    check(&block, TimeRange::ALL);
}

#[test]
#[ignore = "writes the fixture of the current format version"]
fn write_the_fixture() {
    let fs: Arc<dyn Fs> = Arc::new(DiskFs);
    // What is there is replaced.
    let _ = fs.remove(Path::new(FIXTURE));
    write(&fs, Path::new(FIXTURE));
}
