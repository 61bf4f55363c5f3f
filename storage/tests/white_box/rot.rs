//! One flipped bit: in each page of each file, and in each byte of headers, directories and footers.

use super::{
    Answers, MemoryFs, NOW, answers, bytes_of, files, filled, image, judge, labels, open, panics, put,
    sampled,
};
use kymo_storage::block::Block;
use kymo_storage::env::Fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const PAGE: usize = 4096;
/// Headers and footers: bytes of each file that are flipped one by one.
const EDGE: usize = 400;
/// Bytes of a block before its pages.
const HEADER: usize = 64;

/// The bytes of a file in which a bit is flipped.
fn places(len: usize) -> Vec<usize> {
    let pages = (0..len).step_by(PAGE).map(|at| (at + (at / PAGE * 1_237) % PAGE).min(len - 1));
    let edges = (0..len.min(EDGE)).chain(len.saturating_sub(EDGE)..len);
    let mut places: Vec<usize> = pages.chain(edges).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// What one flipped bit after the other came to.
#[derive(Debug)]
struct Tally {
    files: usize,
    flips: usize,
    told: usize,
    /// The least share of the series that was served whole, in percent.
    served: f64,
}

/// Flips a bit in each of these places of these files, each in a copy of the store.
fn flip(fs: &MemoryFs, expected: &Answers, all: &[(PathBuf, usize)]) -> Tally {
    let mut tally = Tally { files: files(fs).len(), flips: 0, told: 0, served: 100.0 };
    for number in sampled(all.len()) {
        let (path, at) = &all[number];
        let damaged: MemoryFs = image(fs);
        let mut bytes = bytes_of(fs, path);
        bytes[*at] ^= 1 << (number % 8);
        put(&damaged, path, &bytes);
        let verdict = judge(&damaged, expected)
            .unwrap_or_else(|e| panic!("a bit at {at} of {}: the start is refused: {e}", path.display()));
        assert!(!verdict.is_silent(), "a bit at {at} of {}: {verdict:?}", path.display());
        tally.served = tally.served.min(verdict.served);
        tally.flips += 1;
        tally.told += usize::from(verdict.told);
    }
    tally
}

#[test]
fn one_flipped_bit_is_never_silent() {
    let before = panics().load(Ordering::SeqCst);
    let (fs, expected) = filled(200, 30);
    let all: Vec<(PathBuf, usize)> = files(&fs)
        .into_iter()
        .filter(|path| !path.ends_with("LOCK"))
        .flat_map(|path| {
            let len = bytes_of(&fs, &path).len();
            places(len).into_iter().map(move |at| (path.clone(), at))
        })
        .collect();
    let mut tally = flip(&fs, &expected, &all);
    let mut served = String::new();
    // Takes minutes.
    if super::percent() > 20 {
        let of_samples = flip_in_samples();
        tally.files += of_samples.files;
        tally.flips += of_samples.flips;
        tally.told += of_samples.told;
        served = format!(" served_pct_min={:.1}", of_samples.served);
    }
    let panics = panics().load(Ordering::SeqCst) - before;
    let Tally { files, flips, told, .. } = tally;
    println!("rot_wb files={files} flips={flips} told={told} silent=0 refused=0 panics={panics}{served}");
    assert_eq!(panics, 0);
}

/// One bit in each 4 KiB of the samples of a block of more than fifty pages: what one page costs is less than 2 % of its series.
fn flip_in_samples() -> Tally {
    const SERIES: usize = 3_000;
    let fs = MemoryFs::new();
    let store = open(&fs);
    // Digits without a pattern, so that nothing makes them shorter.
    let mut digits = 0x9e37_79b9_7f4a_7c15_u64;
    for step in 0..200 {
        let mut batch = store.batch();
        for i in 0..SERIES {
            let id = batch.series_labels(&labels(i)).unwrap();
            digits ^= digits << 13;
            digits ^= digits >> 7;
            digits ^= digits << 17;
            batch.sample(id, NOW + step * 1000, f64::from_bits(0x3ff << 52 | digits >> 12));
        }
        assert_eq!(store.append(batch).unwrap().refused, []);
    }
    store.flush().unwrap();
    let (expected, warned) = answers(&store);
    store.close().unwrap();
    drop(store);
    fs.settle();
    let blocks: Vec<PathBuf> =
        files(&fs).into_iter().filter(|path| path.extension().is_some_and(|e| e == "block")).collect();
    assert!(!warned && blocks.len() == 1, "{blocks:?}");
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let (part, bytes) = Block::open(&shared, &blocks[0]).unwrap().part_bytes()[0];
    assert!(bytes > 50 * (64 << 10), "{part} {bytes}");
    // Pages lie behind the header, one after the other; edges are looked at in the other store.
    let all: Vec<(PathBuf, usize)> = (HEADER..HEADER + bytes as usize)
        .step_by(PAGE)
        .enumerate()
        .map(|(number, at)| (blocks[0].clone(), at + number * 1_237 % PAGE))
        .filter(|(_, at)| *at < HEADER + bytes as usize)
        .collect();
    let tally = flip(&fs, &expected, &all);
    assert_eq!(tally.told, tally.flips, "every byte of samples is under a checksum");
    assert!(tally.served >= 98.0, "a page of samples costs {}% of the series", 100.0 - tally.served);
    tally
}
