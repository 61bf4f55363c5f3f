//! Blocks whose checksums are right and whose contents are not: every parser must stand on its own.

use super::format::{self, Extent, PAGE_ENTRY_BYTES, PageEntry, Section, TAIL_BYTES_MAX};
use super::{Block, BlockReader, BlockSpec, BlockWriter};
use crate::api::Samples;
use crate::codec::compress::{zstd_decode, zstd_encode};
use crate::codec::crc::crc32;
use crate::env::{Fs, MemoryFs};
use crate::model::{AnyHistogram, Buckets, IntHistogram, Labels, MatchOp, Matcher, TimeRange};
use crate::{ErrorKind, Result};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

const SERIES: u32 = 40;

fn histogram(i: usize) -> AnyHistogram {
    let counts: Vec<u64> = (0..5).map(|bucket| (i * bucket) as u64 + 1).collect();
    let count = counts.iter().sum();
    let positive = Buckets::run(i as i32 % 3, counts).unwrap();
    AnyHistogram::Int(IntHistogram { count, sum: i as f64, positive, ..IntHistogram::default() })
}

fn sound_block() -> Vec<u8> {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::default());
    fs.create_dir_all(Path::new("/b")).unwrap();
    let path = Path::new("/b/1.block");
    let spec = BlockSpec { uuid: [1; 16], sequence: 1, level: 0 };
    let mut writer = BlockWriter::create(&fs, path, spec).unwrap();
    for series in 0..i64::from(SERIES) {
        let labels =
            Labels::from_pairs([("pod", format!("pod-{series:03}")), ("zone", format!("j{}", series % 3))]);
        let timestamps: Vec<i64> = (0..100).map(|i| i * 1000 + i % (2 + series % 2)).collect();
        let values: Vec<f64> = (0..100).map(|i| ((i * series * 31) % 97) as f64 / 4.0).collect();
        let split = if series % 5 == 2 { 40 } else { 100 };
        let histograms: Vec<AnyHistogram> = (split..100).map(histogram).collect();
        let floats = (&timestamps[..split], &values[..split]);
        writer.add_series(&labels, &[floats], (&timestamps[split..], &histograms)).unwrap();
    }
    writer.finish().unwrap();
    fs.map(path).unwrap().to_vec()
}

/// Applies `edit` to a section and makes the checksums right again.
fn reseal(whole: &[u8], section: Section, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (mut sections, meta) =
        format::read_footer(&whole[whole.len() - TAIL_BYTES_MAX.min(whole.len())..], whole.len() as u64)
            .unwrap();
    let bytes_of = |e: &Extent| whole[e.offset as usize..(e.offset + e.length) as usize].to_vec();
    let mut parts: Vec<Vec<u8>> = sections.iter().map(bytes_of).collect();
    edit(&mut parts[section.index()]);
    let mut out = format::write_header(&meta.uuid);
    for (index, (extent, bytes)) in sections.iter_mut().zip(&parts).enumerate() {
        let crc = if index == Section::Pages.index() { 0 } else { crc32(0, bytes) };
        *extent = Extent { crc, offset: out.len() as u64, length: bytes.len() as u64 };
        out.extend_from_slice(bytes);
    }
    out.extend_from_slice(&format::write_footer(&sections, &meta));
    out
}

/// Applies `edit` to the first page of a directory (after decompression) and makes the checksums right again.
fn reseal_page(whole: &[u8], directory: Section, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (sections, _) =
        format::read_footer(&whole[whole.len() - TAIL_BYTES_MAX.min(whole.len())..], whole.len() as u64)
            .unwrap();
    let at = sections[directory.index()].offset as usize;
    let mut entry = PageEntry::read(whole[at..at + PAGE_ENTRY_BYTES].try_into().unwrap()).unwrap();
    let stored = &whole[entry.offset as usize..entry.offset as usize + entry.stored as usize];
    let mut raw = stored.to_vec();
    let is_series = directory == Section::SeriesPages;
    if is_series {
        zstd_decode(stored, 1 << 20, &mut raw).unwrap();
    }
    edit(&mut raw);
    let mut stored = raw.clone();
    if is_series {
        stored.clear();
        zstd_encode(&raw, 3, &mut stored).unwrap();
    }
    // The page goes to the end of the pages; the old one is left behind.
    let pages_end = sections[Section::Pages.index()];
    entry.offset = pages_end.offset + pages_end.length;
    (entry.stored, entry.raw, entry.crc) = (stored.len() as u32, raw.len() as u32, crc32(0, &stored));
    let moved = reseal(whole, Section::Pages, |pages| pages.extend_from_slice(&stored));
    reseal(&moved, directory, |bytes| {
        let mut first = Vec::new();
        entry.write(&mut first);
        bytes[..PAGE_ENTRY_BYTES].copy_from_slice(&first);
    })
}

/// Uses everything a block offers; panics and errors other than damage fail the test.
fn use_all(bytes: &[u8]) {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::default());
    fs.create_dir_all(Path::new("/b")).unwrap();
    let path = Path::new("/b/1.block");
    fs.create(path).unwrap().write_all_at(bytes, 0).unwrap();
    fn judge<T>(result: Result<T>) {
        if let Err(e) = result {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
        }
    }
    let block = match Block::open(&fs, path) {
        Ok(block) => block,
        Err(e) => return assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}"),
    };
    judge(block.verify());
    judge(block.label_names());
    judge(block.label_values("pod"));
    judge(block.label_value_ids("zone"));
    judge(block.label_value("pod", 20));
    judge(block.postings(&[Matcher::equal("pod", "pod-017")]));
    judge(block.postings(&[Matcher::new(MatchOp::Regex, "zone", "j[12]").unwrap()]));
    let (mut reader, mut out) = (BlockReader::new(), Samples::new());
    for series in 0..SERIES {
        judge(block.series_labels(series));
        judge(block.read_series(series, TimeRange::new(3, 50_000), &mut reader, &mut out));
        assert_eq!(out.timestamps.len(), out.values.len());
        assert!(out.timestamps.windows(2).all(|w| w[0] < w[1]));
        assert!(out.histograms.windows(2).all(|w| w[0].timestamp < w[1].timestamp));
        assert!(out.histograms.iter().all(|h| !out.timestamps.contains(&h.timestamp)));
    }
}

#[test]
fn an_unedited_block_survives_resealing() {
    let whole = sound_block();
    assert_eq!(reseal(&whole, Section::Dict, |_| {}), whole);
    use_all(&reseal_page(&whole, Section::SeriesPages, |_| {}));
    use_all(&reseal_page(&whole, Section::DataPages, |_| {}));
}

proptest! {
    #![proptest_config(crate::tests::cases(2000))]

    #[test]
    fn wrong_contents_under_right_checksums_do_no_harm(
        part in 0_usize..8,
        edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<u16>()),
    ) {
        thread_local!(static WHOLE: Vec<u8> = sound_block());
        let edit = |bytes: &mut Vec<u8>| {
            for (at, byte) in &edits {
                let length = bytes.len().max(1);
                if let Some(slot) = bytes.get_mut(usize::from(*at) % length) {
                    *slot = *byte;
                }
            }
            if let Some(cut) = cut {
                bytes.truncate(bytes.len().saturating_sub(usize::from(cut) % 40));
            }
        };
        let sections = [
            Section::Tscol, Section::DataPages, Section::SeriesPages, Section::Names, Section::Dict, Section::Postings,
        ];
        let bytes = WHOLE.with(|whole| match sections.get(part) {
            Some(section) => reseal(whole, *section, edit),
            None if part == 6 => reseal_page(whole, Section::SeriesPages, edit),
            None => reseal_page(whole, Section::DataPages, edit),
        });
        use_all(&bytes);
    }
}
