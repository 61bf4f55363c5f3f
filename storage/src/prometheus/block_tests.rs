//! Blocks written and read back; blocks with flipped and missing bytes.

use super::{BlockReader, BlockSample, BlockWriter, Meta, Ulid};
use crate::ErrorKind;
use crate::api::{HistogramSample, Samples};
use crate::env::{Fs, MemoryFs};
use crate::model::{
    AnyHistogram, Buckets, FloatHistogram, Labels, ResetHint, Span, TimeRange, Timestamp, stale_nan,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const HOUR_MS: i64 = 3_600_000;

/// What is expected of a series: times, and floats by their bits or histograms.
type Expected = BTreeMap<Labels, Vec<(Timestamp, Result<u64, FloatHistogram>)>>;

fn histogram(count: f64) -> FloatHistogram {
    FloatHistogram {
        hint: ResetHint::Unknown,
        schema: 1,
        zero_threshold: 0.001,
        zero_count: count,
        count: 3.0 * count,
        sum: count * 1.25,
        positive: Buckets::new(vec![Span { offset: 2, length: 2 }], vec![count, count]).unwrap(),
        negative: Buckets::default(),
        custom_bounds: Arc::new([]),
    }
}

/// The samples of one series: each a step after the one before, of a value or a histogram.
fn samples(parts: &[(i64, f64, bool)]) -> Samples {
    let (mut samples, mut time) = (Samples::new(), 0);
    for (step, value, is_histogram) in parts {
        time += step;
        if *is_histogram {
            let histogram = Arc::new(histogram(value.abs().min(1e9)));
            samples.histograms.push(HistogramSample { timestamp: time, start_timestamp: 0, histogram });
        } else {
            samples.push(time, *value);
        }
    }
    samples
}

fn expected(samples: &Samples) -> Vec<(Timestamp, Result<u64, FloatHistogram>)> {
    let floats = samples.timestamps.iter().zip(&samples.values).map(|(t, v)| (*t, Ok(v.to_bits())));
    let histograms = samples.histograms.iter().map(|h| (h.timestamp, Err((*h.histogram).clone())));
    let mut all: Vec<_> = floats.chain(histograms).collect();
    all.sort_by_key(|s| s.0);
    all
}

fn write(fs: &Arc<dyn Fs>, series: &BTreeMap<Labels, Samples>, segment_bytes: u64) -> PathBuf {
    let ulid = Ulid::new(1_700_000_000_000, [7; 16]);
    let texts = series
        .keys()
        .flat_map(|l| l.iter().flat_map(|(n, v)| [n.to_owned(), v.to_owned()]).collect::<Vec<_>>());
    let symbols: BTreeSet<String> = texts.collect();
    let range = TimeRange::new(0, 2000 * HOUR_MS);
    let mut writer =
        BlockWriter::create_with(fs, Path::new("/out"), ulid, range, symbols, segment_bytes).unwrap();
    for (labels, samples) in series {
        writer.add(labels, samples).unwrap();
    }
    let meta = writer.finish().unwrap().unwrap();
    let dir = Path::new("/out").join(&meta.ulid);
    assert_eq!(Meta::read(fs, &dir).unwrap(), meta);
    dir
}

fn read(fs: &Arc<dyn Fs>, dir: &Path) -> crate::Result<Expected> {
    let block = BlockReader::open(fs, dir)?;
    let mut found = Expected::new();
    for number in 0..block.series_count() {
        let mut one = Vec::new();
        let mut of = Labels::empty();
        block.read(
            number,
            |labels| {
                of = labels.clone();
                Ok(())
            },
            |(), time, sample| {
                one.push(match sample {
                    BlockSample::Float(value) => (time, Ok(value.to_bits())),
                    BlockSample::Histogram(AnyHistogram::Int(h)) => (time, Err(h.to_float())),
                    BlockSample::Histogram(AnyHistogram::Float(h)) => (time, Err(h)),
                });
                Ok(())
            },
        )?;
        found.insert(of, one);
    }
    Ok(found)
}

fn without_hints(mut all: Expected) -> Expected {
    for (_, sample) in all.values_mut().flatten() {
        if let Err(histogram) = sample {
            histogram.hint = ResetHint::Unknown;
        }
    }
    all
}

fn sample_series() -> BTreeMap<Labels, Samples> {
    let floats: Vec<_> = (0..300).map(|i| (15_000, f64::from(i) * 0.1, false)).collect();
    let mixed: Vec<_> = (0..50).map(|i| (1_000, f64::from(i), i % 7 > 3)).collect();
    let stale = [(1, -0.0, false), (5, stale_nan(), false), (1, f64::INFINITY, false), (1, 0.5, true)];
    let labels =
        |name: &str, job: &str| Labels::from_pairs([("__name__", name), ("job", job), ("text", "größe")]);
    BTreeMap::from([
        (labels("a", "x"), samples(&floats)),
        (labels("a", "y"), samples(&mixed)),
        (labels("b", "x"), samples(&stale)),
        (Labels::from_pairs([("only", "label")]), samples(&floats[..1])),
    ])
}

fn memory() -> Arc<dyn Fs> {
    Arc::new(MemoryFs::new())
}

#[test]
fn an_empty_block_leaves_nothing_behind() {
    let fs = memory();
    let ulid = Ulid::new(0, [0; 16]);
    let writer =
        BlockWriter::create(&fs, Path::new("/out"), ulid, TimeRange::new(0, 1), BTreeSet::new()).unwrap();
    assert_eq!(writer.finish().unwrap(), None);
    assert_eq!(fs.list(Path::new("/out")).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn chunks_go_into_as_many_files_as_it_takes() {
    let fs = memory();
    let series = sample_series();
    let dir = write(&fs, &series, 700);
    assert!(fs.list(&dir.join("chunks")).unwrap().len() > 2);
    let wanted: Expected = series.iter().map(|(l, s)| (l.clone(), expected(s))).collect();
    assert_eq!(without_hints(read(&fs, &dir).unwrap()), wanted);
    // References count the files, so a missing one is not passed over.
    fs.remove(&dir.join("chunks/000001")).unwrap();
    let error = read(&fs, &dir).unwrap_err();
    assert!(error.to_string().contains("000001 is missing"), "{error}");
}

#[test]
fn deleted_samples_are_left_out() {
    let fs = memory();
    let series = BTreeMap::from([(Labels::from_pairs([("a", "b")]), samples(&[(1, 1.0, false); 9]))]);
    let dir = write(&fs, &series, 1 << 20);
    let path = dir.join("tombstones");
    fs.remove(&path).unwrap();
    let block = BlockReader::open(&fs, &dir).unwrap();
    assert_eq!(block.series_count(), 1);
    let reference =
        u8::try_from(super::index_reader::IndexReader::open(&fs, &dir).unwrap().series()[0]).unwrap();
    // From 3 to 5, both inside; numbers of either sign have their sign in the lowest bit.
    let body = [reference, 6, 10];
    let mut bytes = vec![0x01, 0x30, 0xba, 0x30, 1];
    bytes.extend(body);
    bytes.extend(super::crc32c(&body).to_be_bytes());
    fs.create(&path).unwrap().write_all_at(&bytes, 0).unwrap();
    let times: Vec<i64> = read(&fs, &dir).unwrap().into_values().flatten().map(|s| s.0).collect();
    assert_eq!(times, [1, 2, 6, 7, 8, 9]);
}

fn files(fs: &Arc<dyn Fs>, dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = ["meta.json", "index", "tombstones"].iter().map(|f| dir.join(f)).collect();
    files.extend(fs.list(&dir.join("chunks")).unwrap());
    files
}

/// A block whose file `which` has other bytes; gives what reading it answers.
fn damaged(which: usize, change: impl FnOnce(&mut Vec<u8>)) -> (PathBuf, crate::Result<Expected>) {
    let fs = memory();
    let dir = write(&fs, &sample_series(), 1 << 20);
    let all = files(&fs, &dir);
    let path = all[which % all.len()].clone();
    let file = fs.open(&path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    change(&mut bytes);
    fs.remove(&path).unwrap();
    fs.create(&path).unwrap().write_all_at(&bytes, 0).unwrap();
    (path, read(&fs, &dir))
}

proptest! {
    #![proptest_config(crate::tests::cases(200))]

    #[test]
    fn what_is_written_is_read(
        parts in prop::collection::vec(
            prop::collection::vec((1i64..100_000, any::<f64>(), any::<bool>()), 1..300), 1..6),
        segment_bytes in 200u64..5_000,
    ) {
        let fs = memory();
        let series: BTreeMap<Labels, Samples> = parts
            .iter()
            .enumerate()
            .map(|(i, p)| {
                let finite: Vec<_> =
                    p.iter().map(|s| (s.0, if s.2 && !s.1.is_finite() { 1.0 } else { s.1 }, s.2)).collect();
                (Labels::from_pairs([("i", i.to_string())]), samples(&finite))
            })
            .collect();
        let dir = write(&fs, &series, segment_bytes);
        let wanted: Expected = series.iter().map(|(l, s)| (l.clone(), expected(s))).collect();
        prop_assert_eq!(without_hints(read(&fs, &dir).unwrap()), wanted);
    }

    /// Padding and what nobody reads may change; samples never do without an error that names the file.
    #[test]
    fn flips_never_change_a_sample(which in 1usize..4, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let whole: Expected = sample_series().iter().map(|(l, s)| (l.clone(), expected(s))).collect();
        let (path, answer) = damaged(which, |bytes| {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        });
        match answer {
            Ok(found) => prop_assert_eq!(without_hints(found), whole),
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
                prop_assert!(error.to_string().contains(&path.display().to_string()), "{}", error);
            }
        }
    }

    #[test]
    fn cut_files_are_named(which in 0usize..4, left in any::<prop::sample::Index>()) {
        let (path, answer) = damaged(which, |bytes| bytes.truncate(left.index(bytes.len() - 1)));
        let error = answer.unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        prop_assert!(error.to_string().contains(&path.display().to_string()), "{}", error);
    }

    /// Nothing that begins well makes the reader fall.
    #[test]
    fn any_bytes_end_in_an_answer(which in 0usize..4, tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let (_, _answer) = damaged(which, |bytes| {
            bytes.truncate(5);
            bytes.extend(&tail);
        });
    }
}
