//! Block files: as they come, and with wrong contents under right checksums.

use crate::input::{Input, seed};
use crate::store::{fractional, whole};
use kymo_storage::api::Samples;
use kymo_storage::block::{
    Block, BlockReader, BlockSpec, BlockWriter, Deletions, ExactReader, ExactSamples, SeriesContent,
    Tombstone,
};
use kymo_storage::codec::compress::{zstd_decode, zstd_encode};
use kymo_storage::codec::crc::crc32;
use kymo_storage::env::{Fs, MemoryFs};
use kymo_storage::model::{AnyHistogram, Exemplar, Labels, MatchOp, Matcher, TimeRange};
use kymo_storage::{ErrorKind, Result};
use roaring::RoaringBitmap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

const SERIES: u32 = 150;
const HEADER: usize = 64;
const META: usize = 60;
const ENTRY: usize = 24;
const END: usize = 16;
/// DATA_PAGES and SERIES_PAGES in the table of sections.
const DIRECTORIES: [usize; 2] = [2, 3];

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.u8();
    let base = sound();
    let bytes = match choice % 24 {
        // A section whole, or changed in places.
        part @ 0..=7 => with_section(base, usize::from(part), |bytes| *bytes = input.0.to_vec()),
        part @ 8..=15 => with_section(base, usize::from(part - 8), |bytes| input.edit(bytes)),
        part @ 16..=19 => {
            let page = u32::from(input.u8());
            let (directory, whole) = (DIRECTORIES[usize::from(part % 2)], part >= 18);
            with_page(base, directory, page, |bytes| {
                if whole { *bytes = input.0.to_vec() } else { input.edit(bytes) }
            })
        }
        // What the block says about itself; which version it is of.
        20 => with_meta(base, |meta| input.edit(meta)),
        21 => with_version(base, input),
        22 => input.0.to_vec(),
        _ => {
            let mut bytes = base.to_vec();
            input.edit(&mut bytes);
            bytes
        }
    };
    use_all(&bytes);
}

fn sound() -> &'static [u8] {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    SOUND.get_or_init(|| {
        let fs: Arc<dyn Fs> = Arc::new(MemoryFs::unrecorded());
        fs.create_dir_all(Path::new("/b")).unwrap();
        let path = Path::new("/b/1.block");
        let spec = BlockSpec { uuid: [1; 16], sequence: 1, level: 0 };
        let mut writer = BlockWriter::create(&fs, path, spec).unwrap();
        for series in 0..i64::from(SERIES) {
            let labels = Labels::from_pairs([
                ("pod", format!("pod-{series:03}")),
                ("zone", format!("j{}", series % 3)),
            ]);
            let split = if series % 5 == 2 { 30 } else { 40 };
            let times: Vec<i64> = (0..40).map(|i| i * 1000 + i % (2 + series % 2)).collect();
            let values: Vec<f64> = (0..split).map(|i| ((i * series * 31) % 97) as f64 / 4.0).collect();
            let histograms: Vec<AnyHistogram> = (split..40)
                .map(|i| match series % 2 {
                    0 => AnyHistogram::Int(whole(i.cast_unsigned())),
                    _ => AnyHistogram::Float(fractional(i.cast_unsigned())),
                })
                .collect();
            let split = split as usize;
            let starts = vec![-5; if series % 7 == 0 { split } else { 0 }];
            let exemplars: Vec<Exemplar> = (0..series % 3)
                .map(|i| Exemplar {
                    labels: Labels::from_pairs([("trace_id", format!("{series:04}{i}"))]),
                    value: 0.25,
                    timestamp: i * 2000,
                })
                .collect();
            let content = SeriesContent {
                floats: &[(&times[..split], &values)],
                float_starts: &starts,
                histograms: (&times[split..], &histograms),
                exemplars: &exemplars,
                ..SeriesContent::default()
            };
            writer.add(&labels, &content).unwrap();
        }
        writer.finish().unwrap();
        fs.map(path).unwrap().to_vec()
    })
}

/// The parts of a block whose footer can be read, by the description in `kymo_storage::block`.
struct Parts {
    header: Vec<u8>,
    kinds: Vec<u32>,
    sections: Vec<Vec<u8>>,
    meta: Vec<u8>,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

fn take_apart(whole: &[u8]) -> Parts {
    let end = whole.len() - END;
    let length = u32::from_le_bytes(number(whole, end + 4)) as usize;
    let footer = &whole[end - length..end];
    let (table, meta) = footer.split_at(length - META);
    let (mut kinds, mut sections) = (Vec::new(), Vec::new());
    for entry in table.chunks_exact(ENTRY) {
        let offset = u64::from_le_bytes(number(entry, 8)) as usize;
        let length = u64::from_le_bytes(number(entry, 16)) as usize;
        kinds.push(u32::from_le_bytes(number(entry, 0)));
        sections.push(whole[offset..offset + length].to_vec());
    }
    Parts { header: whole[..HEADER].to_vec(), kinds, sections, meta: meta.to_vec() }
}

/// A block of these parts with right checksums.
fn put_together(parts: &Parts) -> Vec<u8> {
    let mut out = parts.header[..HEADER - 4].to_vec();
    out.extend_from_slice(&crc32(0, &out).to_le_bytes());
    let mut table = Vec::new();
    for (kind, bytes) in parts.kinds.iter().zip(&parts.sections) {
        let crc = if *kind == 1 { 0 } else { crc32(0, bytes) };
        table.extend_from_slice(&kind.to_le_bytes());
        table.extend_from_slice(&crc.to_le_bytes());
        table.extend_from_slice(&(out.len() as u64).to_le_bytes());
        table.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
    }
    table.extend_from_slice(&parts.meta);
    out.extend_from_slice(&table);
    out.extend_from_slice(&crc32(0, &table).to_le_bytes());
    out.extend_from_slice(&(table.len() as u32).to_le_bytes());
    out.extend_from_slice(b"KYMOEND1");
    out
}

fn with_section(whole: &[u8], section: usize, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut parts = take_apart(whole);
    edit(&mut parts.sections[section]);
    put_together(&parts)
}

fn with_meta(whole: &[u8], edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut parts = take_apart(whole);
    edit(&mut parts.meta);
    parts.meta.resize(META, 0);
    put_together(&parts)
}

fn with_version(whole: &[u8], mut input: Input<'_>) -> Vec<u8> {
    let mut parts = take_apart(whole);
    parts.header[8] = input.u8() % 5;
    let section = usize::from(input.u8()) % parts.sections.len();
    input.edit(&mut parts.sections[section]);
    put_together(&parts)
}

/// Changes a page (as it is when decompressed); it goes to the end of the pages.
fn with_page(whole: &[u8], directory: usize, page: u32, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    const ENTRY: usize = 20;
    let mut parts = take_apart(whole);
    let entries = (parts.sections[directory].len() / ENTRY).max(1);
    let at = page as usize % entries * ENTRY;
    let entry = parts.sections[directory][at..at + ENTRY].to_vec();
    let offset = u64::from_le_bytes(number(&entry, 0)) as usize;
    let stored = u32::from_le_bytes(number(&entry, 8)) as usize;
    let mut raw = whole[offset..offset + stored].to_vec();
    let is_series = directory == DIRECTORIES[1];
    if is_series {
        let stored = std::mem::take(&mut raw);
        zstd_decode(&stored, 1 << 20, &mut raw).unwrap();
    }
    edit(&mut raw);
    let mut stored = raw.clone();
    if is_series {
        stored.clear();
        zstd_encode(&raw, 1, &mut stored).unwrap();
    }
    let offset = (HEADER + parts.sections[0].len()) as u64;
    parts.sections[0].extend_from_slice(&stored);
    let mut entry = offset.to_le_bytes().to_vec();
    for field in [stored.len() as u32, raw.len() as u32, crc32(0, &stored)] {
        entry.extend_from_slice(&field.to_le_bytes());
    }
    parts.sections[directory][at..at + ENTRY].copy_from_slice(&entry);
    put_together(&parts)
}

fn judge<T>(result: Result<T>) {
    if let Err(error) = result {
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound), "{error}");
    }
}

/// Uses everything a block offers: sound answers, or damage.
fn use_all(bytes: &[u8]) {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::unrecorded());
    let path = Path::new("/b/1.block");
    crate::store::write(fs.as_ref(), path, bytes);
    let block = match Block::open(&fs, path) {
        Ok(block) => block,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
    };
    judge(block.verify());
    let is_whole = block.check().is_empty();
    let _ = block.part_bytes();
    judge(block.label_names());
    judge(block.label_values("pod"));
    judge(block.label_value_ids("zone"));
    judge(block.label_value("pod", 20));
    let regex = Matcher::new(MatchOp::Regex, "zone", "j[12]").unwrap();
    judge(block.postings(&[Matcher::equal("pod", "pod-017")]));
    judge(block.postings(&[regex.clone(), Matcher::new(MatchOp::NotEqual, "pod", "").unwrap()]));
    let tombstone = Tombstone {
        sequence: u64::MAX,
        range: TimeRange::closed(3, 9_000),
        created: 0,
        matcher_sets: vec![vec![regex]],
    };
    let deletions = Deletions::resolve(&block, &[Arc::new(tombstone)]);
    let mut some = RoaringBitmap::new();
    some.insert_range(0..200);
    judge(block.read_exemplars(&some, TimeRange::ALL, &mut |_, _| {}));
    let (mut reader, mut out) = (BlockReader::new(), Samples::new());
    let (mut exact, mut all) = (ExactReader::default(), ExactSamples::default());
    for series in (0..block.series_count().min(260)).filter(|s| *s < 8 || s % 16 == 9) {
        judge(block.series_labels(series));
        judge(block.read_series(series, TimeRange::new(3, 50_000), &mut reader, &mut out));
        if let Ok(deletions) = &deletions {
            deletions.hide(series, &mut out);
        }
        assert_eq!(out.timestamps.len(), out.values.len());
        assert!(out.timestamps.windows(2).all(|w| w[0] < w[1]));
        assert!(out.histograms.windows(2).all(|w| w[0].timestamp < w[1].timestamp));
        let read = exact.read(&block, series, &mut all);
        assert!(read.is_ok() || !is_whole);
        // Directories may lie under right checksums; a block of which a check finds nothing wrong does not.
        if is_whole {
            let mut samples = Samples::new();
            let range = TimeRange::ALL;
            if block.read_series(series, range, &mut BlockReader::new(), &mut samples).is_ok() {
                // `TimeRange::ALL` ends before the last instant there is.
                let inside = |t: &&i64| range.contains(**t);
                assert!(all.times.iter().filter(inside).eq(samples.timestamps.iter()));
            }
        }
        judge(read);
    }
    judge(deletions);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let parts = take_apart(sound());
    let mut seeds: Vec<Vec<u8>> = (1..8u8)
        .filter(|part| parts.sections[usize::from(*part)].len() < 16_000)
        .map(|part| seed(&[&[part], &parts.sections[usize::from(part)]]))
        .collect();
    seeds.extend((8..16u8).map(|part| vec![part, 9, 0, 200, 33, 0, 7]));
    seeds.extend((8..16u8).map(|part| vec![part, 5]));
    seeds.extend([16, 17].map(|part| vec![part, 0, 3, 0, 1]));
    let mut pages = Vec::new();
    for directory in DIRECTORIES {
        with_page(sound(), directory, 1, |raw| pages.push(raw.clone()));
    }
    seeds.push(seed(&[&[18, 1], &pages[0]]));
    seeds.push(seed(&[&[19, 1], &pages[1]]));
    seeds.push(vec![20, 40, 0, 1]);
    seeds.extend((0..4).map(|version| vec![21, version, 3, 1, 0, 1]));
    seeds.push(vec![23, 7, 1, 1]);
    // A block small enough to be given whole.
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::unrecorded());
    fs.create_dir_all(Path::new("/b")).unwrap();
    let path = Path::new("/b/1.block");
    let spec = BlockSpec { uuid: [2; 16], sequence: 1, level: 0 };
    let mut writer = BlockWriter::create(&fs, path, spec).unwrap();
    let labels = Labels::from_pairs([("__name__", "up")]);
    writer.add_series(&labels, &[(&[1, 2, 9], &[1.0, 0.0, 0.5])], (&[], &[])).unwrap();
    writer.finish().unwrap();
    seeds.push(seed(&[&[22], &fs.map(path).unwrap()]));
    seeds
}
