//! Blocks from outside: what was written is read, damage is named, never a wrong value.

#![allow(clippy::unwrap_used, reason = "functions beside the tests unwrap as those do")]

use kymo_storage::ErrorKind;
use kymo_storage::api::Samples;
use kymo_storage::block::{
    Block, BlockMeta, BlockReader, BlockSpec, BlockWriter, Manifest, NO_VALUE, new_uuid,
};
use kymo_storage::env::{DiskFs, Fs, MemoryFs};
use kymo_storage::model::{
    AnyHistogram, Buckets, FloatHistogram, IntHistogram, Labels, MatchOp, Matcher, TimeRange, stale_nan,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

type Pairs = Vec<(String, String)>;
type Series = Vec<(i64, f64)>;
type Model = BTreeMap<Labels, Series>;

const SPEC: BlockSpec = BlockSpec { uuid: *b"0123456789abcdef", sequence: 7, level: 0 };

fn memory() -> Arc<dyn Fs> {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::default());
    fs.create_dir_all(Path::new("/blocks")).unwrap();
    fs
}

fn write(fs: &Arc<dyn Fs>, path: &Path, model: &Model, spec: BlockSpec) -> BlockMeta {
    let mut writer = BlockWriter::create(fs, path, spec).unwrap();
    for (labels, samples) in model {
        let (timestamps, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
        let half = samples.len() / 2;
        let pieces = [(&timestamps[..half], &values[..half]), (&timestamps[half..], &values[half..])];
        writer.add_series(labels, &pieces, (&[], &[])).unwrap();
    }
    assert_eq!(writer.codec_fallbacks(), 0);
    writer.finish().unwrap()
}

fn bits(samples: &[(i64, f64)], range: TimeRange) -> Vec<(i64, u64)> {
    samples.iter().filter(|s| range.contains(s.0)).map(|s| (s.0, s.1.to_bits())).collect()
}

fn read_bits(out: &Samples) -> Vec<(i64, u64)> {
    assert_eq!(out.timestamps.len(), out.values.len());
    out.timestamps.iter().zip(&out.values).map(|(t, v)| (*t, v.to_bits())).collect()
}

/// Three metrics over three instances: shared and private timestamps, constants, exceptions, missing labels.
fn small_model() -> Model {
    let mut model = Model::new();
    for (m, metric) in ["http_requests_total", "up", "temperature_celsius"].iter().enumerate() {
        for instance in 0..3_i64 {
            let mut pairs = vec![
                ("__name__".to_owned(), (*metric).to_owned()),
                ("instance".to_owned(), format!("host-{instance}")),
            ];
            if instance == 1 {
                pairs.push(("zone".to_owned(), "b".to_owned()));
            }
            let samples = (0..40_i64).map(|i| {
                let t = 1_000_000 + instance + i * 15_000;
                let v = match m {
                    0 => (i * 17 + instance) as f64,
                    1 => 1.0,
                    _ if i == 30 => stale_nan(),
                    _ => 20.0 + ((i * 7919 + instance) % 40) as f64 / 10.0,
                };
                (t, v)
            });
            model.insert(Labels::from_pairs(pairs), samples.collect());
        }
    }
    model
}

fn check(block: &Block, model: &Model, range: TimeRange) {
    let mut reader = BlockReader::new();
    let mut out = Samples::new();
    for (number, (labels, samples)) in model.iter().enumerate() {
        assert_eq!(block.series_labels(number as u32).unwrap(), *labels);
        block.read_series(number as u32, range, &mut reader, &mut out).unwrap();
        assert_eq!(read_bits(&out), bits(samples, range), "{labels}");
    }
}

#[test]
fn a_block_is_read_as_it_was_written() {
    let fs = memory();
    let path = Path::new("/blocks/00000007.block");
    let model = small_model();
    let meta = write(&fs, path, &model, SPEC);
    assert_eq!((meta.series, meta.samples, meta.sequence), (9, 360, 7));
    assert_eq!((meta.min_time, meta.max_time), (1_000_000, 1_000_002 + 39 * 15_000));
    assert_eq!(fs.list(Path::new("/blocks")).unwrap(), [path], "no temporary file is left");
    let block = Block::open(&fs, path).unwrap();
    assert_eq!(*block.meta(), meta);
    block.verify().unwrap();
    check(&block, &model, TimeRange::ALL);
    check(&block, &model, TimeRange::new(1_100_000, 1_300_001));
    check(&block, &model, TimeRange::new(5, 6));
    assert_eq!(block.label_names().unwrap(), ["__name__", "instance", "zone"]);
    assert_eq!(block.label_values("instance").unwrap(), ["host-0", "host-1", "host-2"]);
    assert_eq!(block.label_values("nothing").unwrap(), [""; 0]);
    let zones = block.label_value_ids("zone").unwrap();
    assert_eq!(zones.iter().filter(|z| **z != NO_VALUE).count(), 3);
    assert_eq!(block.label_value("zone", 0).unwrap().as_deref(), Some("b"));
    assert_eq!(block.label_value("zone", 1).unwrap(), None);
    let missing = block.read_series(9, TimeRange::ALL, &mut BlockReader::new(), &mut Samples::new());
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn shared_timestamps_are_decoded_once() {
    let fs = memory();
    let path = Path::new("/blocks/1.block");
    write(&fs, path, &small_model(), SPEC);
    let block = Block::open(&fs, path).unwrap();
    let (mut reader, mut out) = (BlockReader::new(), Samples::new());
    let versions: Vec<u64> = [0, 3, 6, 1, 4]
        .into_iter()
        .map(|series| {
            block.read_series(series, TimeRange::ALL, &mut reader, &mut out).unwrap();
            out.timestamps_version
        })
        .collect();
    // Series 0, 3 and 6 are of one host, 1 and 4 of another.
    assert_eq!(versions[0], versions[1]);
    assert_eq!(versions[0], versions[2]);
    assert_ne!(versions[2], versions[3]);
    assert_eq!(versions[3], versions[4]);
    out.clear();
    block.read_series(4, TimeRange::ALL, &mut reader, &mut out).unwrap();
    assert_eq!(out.timestamps.len(), 40, "a buffer that was cleared is filled again");
    let mut other = Samples::new();
    other.timestamps_version = out.timestamps_version;
    block.read_series(4, TimeRange::ALL, &mut reader, &mut other).unwrap();
    assert_eq!(other.timestamps, out.timestamps, "another buffer is filled as well");
}

#[test]
fn selection_agrees_with_matching_labels() {
    let fs = memory();
    let path = Path::new("/blocks/1.block");
    let model = small_model();
    write(&fs, path, &model, SPEC);
    let block = Block::open(&fs, path).unwrap();
    let values = ["", "up", "host-1", "host-.*", ".*", ".+", "b|c", "host-[02]", "temp.*|up", "|b"];
    let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
    let mut matchers = Vec::new();
    for name in ["__name__", "instance", "zone", "nothing"] {
        for value in values {
            matchers.extend(ops.iter().map(|op| Matcher::new(*op, name, value).unwrap()));
        }
    }
    for pair in
        matchers.iter().zip(matchers.iter().rev()).chain(matchers.iter().zip(matchers.iter().skip(41)))
    {
        let both = [pair.0.clone(), pair.1.clone()];
        let expected: Vec<u32> = model
            .keys()
            .enumerate()
            .filter(|(_, labels)| both.iter().all(|m| m.matches(labels.value(m.name()))))
            .map(|(i, _)| i as u32)
            .collect();
        assert_eq!(block.postings(&both).unwrap().iter().collect::<Vec<u32>>(), expected, "{both:?}");
    }
}

#[test]
fn refusals_of_the_writer_leave_nothing_behind() {
    let fs = memory();
    let path = Path::new("/blocks/1.block");
    let (a, b) = (Labels::from_pairs([("a", "1")]), Labels::from_pairs([("b", "1")]));
    let mut writer = BlockWriter::create(&fs, path, SPEC).unwrap();
    writer.add_series(&b, &[(&[1, 2], &[0.0, 1.0])], (&[], &[])).unwrap();
    writer.add_series(&Labels::from_pairs([("c", "1")]), &[], (&[], &[])).unwrap();
    for (labels, timestamps) in
        [(&a, vec![1, 2]), (&b, vec![1, 2]), (&Labels::from_pairs([("d", "1")]), vec![2, 2])]
    {
        let refused = writer.add_series(labels, &[(&timestamps, &[0.0, 1.0])], (&[], &[])).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Internal);
    }
    assert_eq!(writer.len(), (1, 2));
    drop(writer);
    assert_eq!(fs.list(Path::new("/blocks")).unwrap().len(), 0);
}

#[test]
fn many_series_and_long_ones() {
    let fs = memory();
    let path = Path::new("/blocks/1.block");
    let mut model = Model::new();
    for series in 0..700_i64 {
        let labels = Labels::from_pairs([
            ("__name__", format!("metric_{:02}", series % 7)),
            ("pod", format!("pod-{series:05}")),
            ("job", "j".to_owned()),
        ]);
        let long = if series % 100 == 0 { 9_000 } else { 60 };
        let noise =
            |i: i64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64).wrapping_add(series % 13)) as f64;
        model.insert(labels, (0..long).map(|i| (i * 1000 + i % 3, noise(i))).collect());
    }
    let meta = write(&fs, path, &model, SPEC);
    assert_eq!(meta.series, 700);
    let block = Block::open(&fs, path).unwrap();
    block.verify().unwrap();
    check(&block, &model, TimeRange::ALL);
    check(&block, &model, TimeRange::new(1_921_000, 4_000_000));
    let ids = block.label_value_ids("pod").unwrap();
    assert_eq!(ids.len(), 700);
    let pods = block.label_values("pod").unwrap();
    assert!(model.keys().zip(ids.iter()).all(|(labels, id)| pods[*id as usize] == labels.value("pod")));
}

/// What a reader sees of a block, or the damage it met.
fn everything(block: &Block, series: u32) -> Vec<Result<String, ErrorKind>> {
    let kind = |e: kymo_storage::Error| e.kind();
    let mut seen = vec![
        block.label_names().map(|n| format!("{n:?}")).map_err(kind),
        block.label_values("instance").map(|n| format!("{n:?}")).map_err(kind),
        block.postings(&[Matcher::equal("zone", "b")]).map(|n| format!("{n:?}")).map_err(kind),
        block
            .postings(&[Matcher::new(MatchOp::Regex, "instance", ".*-2").unwrap()])
            .map(|n| format!("{n:?}"))
            .map_err(kind),
        block.label_value_ids("instance").map(|n| format!("{n:?}")).map_err(kind),
    ];
    let (mut reader, mut out) = (BlockReader::new(), Samples::new());
    for number in 0..series {
        seen.push(block.series_labels(number).map(|l| l.to_string()).map_err(kind));
        let read = block.read_series(number, TimeRange::ALL, &mut reader, &mut out);
        seen.push(read.map(|()| format!("{:?}", read_bits(&out))).map_err(kind));
    }
    seen
}

#[test]
fn damage_at_any_byte_is_told_or_harmless() {
    let fs = memory();
    let path = Path::new("/blocks/1.block");
    let model = small_model();
    let meta = write(&fs, path, &model, SPEC);
    let whole = fs.map(path).unwrap().to_vec();
    let truth = everything(&Block::open(&fs, path).unwrap(), 9);
    assert!(truth.iter().all(Result::is_ok));
    let bad = Path::new("/blocks/bad.block");
    let mut silent = 0;
    for at in 0..whole.len() {
        for mask in [0x01, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            let _ = fs.remove(bad);
            fs.create(bad).unwrap().write_all_at(&bytes, 0).unwrap();
            let block = match Block::open(&fs, bad) {
                Ok(block) => block,
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Corrupt);
                    assert!(e.to_string().contains("/blocks/bad.block"), "{e}");
                    continue;
                }
            };
            assert_eq!(*block.meta(), meta);
            let seen = everything(&block, 9);
            for (seen, truth) in seen.iter().zip(&truth) {
                assert!(
                    seen == truth || *seen == Err(ErrorKind::Corrupt),
                    "byte {at}: {seen:?} instead of {truth:?}"
                );
            }
            let told = seen.iter().any(Result::is_err);
            assert!(!told || block.verify().is_err());
            silent += usize::from(block.verify().is_ok());
        }
    }
    assert_eq!(silent, 0, "verify notices every damaged byte");
    for cut in 0..whole.len() {
        let _ = fs.remove(bad);
        fs.create(bad).unwrap().write_all_at(&whole[..cut], 0).unwrap();
        assert_eq!(Block::open(&fs, bad).unwrap_err().kind(), ErrorKind::Corrupt, "cut at {cut}");
    }
}

#[test]
fn a_lost_manifest_is_rebuilt_from_the_blocks() {
    let fs = memory();
    let dir = Path::new("/blocks");
    let meta = write(&fs, &dir.join("00000007.block"), &small_model(), SPEC);
    write(
        &fs,
        &dir.join("00000009.block"),
        &small_model(),
        BlockSpec { uuid: new_uuid(), sequence: 9, level: 1 },
    );
    fs.create(&dir.join("00000010.block")).unwrap().write_all_at(b"torn", 0).unwrap();
    fs.create(&dir.join("00000011.block.tmp")).unwrap().write_all_at(b"torn", 0).unwrap();
    let (manifest, unsound) = Manifest::rebuild(&fs, dir).unwrap();
    assert_eq!(manifest.next_sequence, 10);
    assert_eq!(manifest.blocks.len(), 2);
    assert_eq!((manifest.blocks[0].file.as_str(), manifest.blocks[0].meta), ("00000007.block", meta));
    assert_eq!(unsound.len(), 1);
    assert_eq!(unsound[0].0, dir.join("00000010.block"));
}

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testdata/formats");

/// Blocks of every released format stay readable. The file was written by `write_the_fixture` of its time.
#[test]
fn the_fixture_of_version_1_is_readable() {
    let fs: Arc<dyn Fs> = Arc::new(DiskFs);
    let block = Block::open(&fs, &Path::new(FIXTURES).join("block-v1.block")).unwrap();
    block.verify().unwrap();
    assert_eq!((block.meta().uuid, block.meta().sequence), (SPEC.uuid, 7));
    check(&block, &small_model(), TimeRange::ALL);
}

#[test]
fn the_fixture_of_version_2_is_readable() {
    let fs: Arc<dyn Fs> = Arc::new(DiskFs);
    let block = Block::open(&fs, &Path::new(FIXTURES).join("block-v2.block")).unwrap();
    block.verify().unwrap();
    assert_eq!((block.meta().uuid, block.meta().sequence, block.meta().samples), (SPEC.uuid, 7, 360 + 900));
    check_histograms(&block, TimeRange::ALL);
}

/// A histogram that grows; every 100th is another kind, to part chunks.
fn histogram(series: i64, i: i64) -> AnyHistogram {
    let counts = vec![i as u64, (i * series) as u64, 3];
    let int = IntHistogram {
        schema: 2,
        count: counts.iter().sum(),
        sum: i as f64 / 4.0,
        positive: Buckets::run(series as i32, counts).unwrap(),
        ..IntHistogram::default()
    };
    let mut histogram = match i % 100 {
        7 => AnyHistogram::Float(int.to_float()),
        8 => AnyHistogram::Int(IntHistogram::stale()),
        _ => AnyHistogram::Int(int),
    };
    histogram.accept().unwrap();
    histogram
}

/// The small model with histograms: one series goes on with them, one has them between its floats, one has nothing else.
fn histogram_times(number: usize) -> Vec<i64> {
    match number {
        2 => (0..300).map(|i| 2_000_000 + i * 15_000).collect(),
        5 => (0..300).map(|i| 1_000_007 + i * 15_000).collect(),
        9 => (0..300).map(|i| 1_000_000 + i * 15_000).collect(),
        _ => Vec::new(),
    }
}

fn write_histograms(fs: &Arc<dyn Fs>, path: &Path) -> BlockMeta {
    let mut writer = BlockWriter::create(fs, path, SPEC).unwrap();
    let mut model = small_model();
    model.insert(Labels::from_pairs([("__name__", "z")]), Vec::new());
    for (number, (labels, samples)) in model.iter().enumerate() {
        let (timestamps, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
        let times = histogram_times(number);
        let histograms: Vec<_> = (0..times.len() as i64).map(|i| histogram(number as i64, i)).collect();
        writer.add_series(labels, &[(&timestamps, &values)], (&times, &histograms)).unwrap();
    }
    writer.finish().unwrap()
}

fn check_histograms(block: &Block, range: TimeRange) {
    let (mut reader, mut out) = (BlockReader::new(), Samples::new());
    let mut model = small_model();
    model.insert(Labels::from_pairs([("__name__", "z")]), Vec::new());
    for (number, (labels, samples)) in model.iter().enumerate() {
        assert_eq!(block.series_labels(number as u32).unwrap(), *labels);
        block.read_series(number as u32, range, &mut reader, &mut out).unwrap();
        assert_eq!(read_bits(&out), bits(samples, range), "{labels}");
        let times = histogram_times(number).into_iter().enumerate().filter(|t| range.contains(t.1));
        let expected: Vec<_> =
            times.map(|(i, t)| (t, histogram(number as i64, i as i64).to_float())).collect();
        assert_eq!(out.histograms.len(), expected.len());
        for (found, (time, histogram)) in out.histograms.iter().zip(&expected) {
            assert_eq!(found.timestamp, *time);
            assert!(found.histogram.is_same_data(histogram), "{labels} at {time}");
        }
    }
}

#[test]
fn histograms_are_read_as_they_were_written() {
    let fs = memory();
    let path = Path::new("/blocks/1.block");
    let meta = write_histograms(&fs, path);
    assert_eq!((meta.series, meta.samples), (10, 360 + 900));
    assert_eq!(meta.max_time, 2_000_000 + 299 * 15_000);
    let block = Block::open(&fs, path).unwrap();
    block.verify().unwrap();
    check_histograms(&block, TimeRange::ALL);
    check_histograms(&block, TimeRange::new(2_100_000, 2_300_001));
    check_histograms(&block, TimeRange::new(5, 6));
}

#[test]
fn wide_histograms_have_pages_of_their_own() {
    let fs = memory();
    let path = Path::new("/blocks/1.block");
    let mut writer = BlockWriter::create(&fs, path, SPEC).unwrap();
    let wide = |i: i64| {
        let counts: Vec<f64> =
            (0..30_000).map(|b| (b * 7919 % 1000) as f64 * 0.37 + i as f64 + 1.0).collect();
        let positive = Buckets::run(-15_000, counts).unwrap();
        AnyHistogram::Float(FloatHistogram { schema: 8, count: 1.0, positive, ..FloatHistogram::default() })
    };
    let times: Vec<i64> = (0..7).collect();
    let histograms: Vec<_> = times.iter().map(|i| wide(*i)).collect();
    for name in ["a", "b"] {
        let labels = Labels::from_pairs([("__name__", name)]);
        writer.add_series(&labels, &[(&[100, 101], &[1.0, 2.5])], (&times, &histograms)).unwrap();
    }
    writer.finish().unwrap();
    let block = Block::open(&fs, path).unwrap();
    block.verify().unwrap();
    let (mut reader, mut out) = (BlockReader::new(), Samples::new());
    for series in [0, 1, 0] {
        block.read_series(series, TimeRange::ALL, &mut reader, &mut out).unwrap();
        assert_eq!((out.timestamps.len(), out.histograms.len()), (2, 7));
        for (found, sent) in out.histograms.iter().zip(&histograms) {
            assert!(found.histogram.is_same_data(&sent.to_float()));
        }
    }
}

/// A capture of real scrapes (see its README), every `keep`th frame: labels and samples. `None` if it is not here.
fn capture(name: &str, keep: usize) -> Option<Vec<(Labels, Series)>> {
    let home = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/captures");
    let home = std::env::var("KYMO_CAPTURES").unwrap_or_else(|_| home.to_owned());
    let fs = DiskFs;
    let unpack = |ending: &str| -> Option<Vec<u8>> {
        let packed = fs.map(&Path::new(&home).join(format!("{name}.{ending}.zst"))).ok()?;
        let mut decoder = zstd::stream::Decoder::new(&packed[..]).unwrap();
        decoder.window_log_max(27).unwrap();
        let mut out = Vec::new();
        std::io::Read::read_to_end(&mut decoder, &mut out).unwrap();
        Some(out)
    };
    let text = String::from_utf8(unpack("series")?).unwrap();
    let mut all: Vec<(Labels, Series)> = text.lines().map(|line| (parse_series(line), Vec::new())).collect();
    let bytes = unpack("bin")?;
    let mut rest = &bytes[..];
    for frame in 0.. {
        let Some((header, after)) = rest.split_first_chunk::<12>() else { break };
        let count = u32::from_le_bytes(header[8..].try_into().unwrap()) as usize;
        let (body, after) = after.split_at(count * 12);
        rest = after;
        if frame % keep == 0 {
            let t = i64::from_le_bytes(header[..8].try_into().unwrap());
            for sample in body.as_chunks::<12>().0 {
                let series = u32::from_le_bytes(sample[..4].try_into().unwrap());
                all[series as usize].1.push((t, f64::from_le_bytes(sample[4..].try_into().unwrap())));
            }
        }
    }
    all.retain(|series| !series.1.is_empty());
    Some(all)
}

/// `metric{label="value",...}`
fn parse_series(line: &str) -> Labels {
    let (metric, rest) = line.split_once('{').unwrap_or((line, "}"));
    let mut pairs = vec![("__name__".to_owned(), metric.to_owned())];
    let mut rest = rest;
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c => c,
                }),
                (_, c) => value.push(c),
            }
        };
        pairs.push((name.trim_start_matches(',').to_owned(), value));
        rest = &after[end..];
    }
    Labels::from_pairs(pairs)
}

/// Two hours of a database's own metrics, scraped every 15 s with the jitter of real scrapes.
#[test]
fn bytes_a_sample_of_a_real_capture() {
    let Some(capture) = capture("vm", 15) else {
        println!("skipped: no captures here");
        return;
    };
    let mut model = Model::new();
    for (labels, samples) in capture {
        let labels = labels.to_builder().set("job", "db").set("instance", "db-0:8428").build();
        model.insert(labels, samples);
    }
    let fs = memory();
    let path = Path::new("/blocks/1.block");
    let meta = write(&fs, path, &model, SPEC);
    let block = Block::open(&fs, path).unwrap();
    let per_sample = |bytes: u64| bytes as f64 / meta.samples as f64;
    println!("{} series, {} samples, {} bytes", meta.series, meta.samples, block.file_bytes());
    for (part, bytes) in block.part_bytes() {
        println!("{part:>12} {bytes:>8} bytes, {:.4} a sample", per_sample(bytes));
    }
    println!("{:>12} {:.4} bytes a sample", "in all", per_sample(block.file_bytes()));
    check(&block, &model, TimeRange::ALL);
    assert!(per_sample(block.file_bytes()) < 0.35);
}

fn any_series() -> impl Strategy<Value = (Pairs, Series)> {
    let labels = proptest::collection::vec(("[a-d]", "[a-cäx]{1,3}"), 0..4);
    let step = prop_oneof![8 => Just(15_000_i64), 2 => 1_i64..40_000, 1 => 1_i64..1_000_000_000_000];
    let value = prop_oneof![4 => (0_i64..50).prop_map(|i| i as f64 / 4.0), 1 => any::<u64>().prop_map(f64::from_bits)];
    let start = prop_oneof![4 => Just(1_700_000_000_000_i64), 1 => -5_i64..5, 1 => Just(i64::MIN)];
    let samples = (start, proptest::collection::vec((step, value), 1..80)).prop_map(|(start, steps)| {
        let mut t = start;
        steps
            .into_iter()
            .map(|(step, v)| {
                t += step;
                (t, v)
            })
            .collect::<Series>()
    });
    (labels, samples)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_block_is_read_as_it_was_written(
        series in proptest::collection::vec(any_series(), 0..30),
        from in 1_700_000_000_000_i64..1_700_001_000_000,
        length in 0_i64..1_000_000,
        op in 0_usize..4,
        name in "[a-e]",
        pattern in "[a-c.*|]{0,3}",
    ) {
        let model: Model = series.into_iter().map(|(l, s)| (Labels::from_pairs(l), s)).collect();
        let fs = memory();
        let path = Path::new("/blocks/1.block");
        write(&fs, path, &model, SPEC);
        let block = Block::open(&fs, path).unwrap();
        block.verify().unwrap();
        check(&block, &model, TimeRange::ALL);
        check(&block, &model, TimeRange::new(from, from + length));
        let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
        if let Ok(matcher) = Matcher::new(ops[op], &name, &pattern) {
            let expected: Vec<u32> = model.keys().enumerate()
                .filter(|(_, l)| matcher.matches(l.value(&name))).map(|(i, _)| i as u32).collect();
            prop_assert_eq!(block.postings(&[matcher]).unwrap().iter().collect::<Vec<u32>>(), expected);
        }
    }
}

#[test]
fn what_cannot_be_read_of_an_open_block_does_not_end_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, path) = (Arc::new(DiskFs) as Arc<dyn Fs>, dir.path().join("1.block"));
    let series = |i: i64| {
        let pairs = [("__name__".to_owned(), "m".to_owned()), ("i".to_owned(), (i * 7919).to_string())];
        (Labels::from_pairs(pairs), vec![(i, (i as f64).sqrt())])
    };
    write(&fs, &path, &(0..5000).map(series).collect(), SPEC);
    let block = Arc::new(Block::open(&fs, &path).unwrap());
    // As from a device that does not read, to touch a map behind the end of its file would be SIGBUS.
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    assert!(file.metadata().unwrap().len() > 3 * 4096);
    file.set_len(4096).unwrap();
    assert!(block.verify().is_err());
    assert!(!block.check().is_empty());
    assert!(block.label_names().is_err());
}
