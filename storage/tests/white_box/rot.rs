//! One flipped bit: in each page of each file, and in each byte of headers, directories and footers.

use super::{MemoryFs, bytes_of, files, filled, image, judge, panics, put, sampled};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

const PAGE: usize = 4096;
/// Headers and footers: bytes of each file that are flipped one by one.
const EDGE: usize = 400;

/// The bytes of a file in which a bit is flipped.
fn places(len: usize) -> Vec<usize> {
    let pages = (0..len).step_by(PAGE).map(|at| (at + (at / PAGE * 1_237) % PAGE).min(len - 1));
    let edges = (0..len.min(EDGE)).chain(len.saturating_sub(EDGE)..len);
    let mut places: Vec<usize> = pages.chain(edges).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// The share of a file: what is flipped in pages of samples may cost 2 % of the series, an index all of a block's.
fn is_samples(path: &Path, at: usize, len: usize) -> bool {
    path.extension().is_some_and(|e| e == "block") && at > EDGE && at < len / 2
}

#[test]
fn one_flipped_bit_is_never_silent() {
    let before = panics().load(Ordering::SeqCst);
    let is_full = super::percent() > 20;
    let (fs, expected) = if is_full { filled(3_000, 40) } else { filled(200, 30) };
    let all: Vec<(PathBuf, usize)> = files(&fs)
        .into_iter()
        .filter(|path| !path.ends_with("LOCK"))
        .flat_map(|path| {
            let len = bytes_of(&fs, &path).len();
            places(len).into_iter().map(move |at| (path.clone(), at))
        })
        .collect();
    let (mut flips, mut seen, mut served) = (0, 0, 100.0_f64);
    for number in sampled(all.len()) {
        let (path, at) = &all[number];
        let damaged: MemoryFs = image(&fs);
        let mut bytes = bytes_of(&fs, path);
        bytes[*at] ^= 1 << (number % 8);
        put(&damaged, path, &bytes);
        let verdict = judge(&damaged, &expected)
            .unwrap_or_else(|e| panic!("a bit at {at} of {}: the start is refused: {e}", path.display()));
        assert!(!verdict.is_silent(), "a bit at {at} of {}: {verdict:?}", path.display());
        if is_samples(path, *at, bytes.len()) {
            served = served.min(verdict.served);
        }
        flips += 1;
        seen += usize::from(verdict.told);
    }
    let panics = panics().load(Ordering::SeqCst) - before;
    println!(
        "rot_wb files={} flips={flips} told={seen} silent=0 refused=0 panics={panics} served_pct_min={served:.1}",
        files(&fs).len()
    );
    assert_eq!(panics, 0);
    assert!(!is_full || served >= 95.0, "a page of samples costs {}% of the series", 100.0 - served);
}
