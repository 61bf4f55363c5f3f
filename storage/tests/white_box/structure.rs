//! A manifest that is gone, torn or old, and sectors that were written to the wrong place or not at all.

use super::{
    Answers, HOUR, MemoryFs, NOW, answers, bytes_of, end_of_log, files, filled, image, judge, open, put,
    sampled, write,
};
use kymo_storage::env::Fs;
use std::path::{Path, PathBuf};

const SECTOR: usize = 512;

/// A store, and every manifest it ever had.
fn with_history() -> (MemoryFs, Answers, Vec<Vec<u8>>) {
    let fs = MemoryFs::new();
    let store = open(&fs);
    let path = Path::new("/data/MANIFEST");
    let mut manifests = Vec::new();
    for round in 0..5 {
        for step in 0..4 {
            write(&store, 10, NOW - HOUR + (round * 4 + step) * 1000).unwrap();
        }
        store.flush().unwrap();
        manifests.push(bytes_of(&fs, path));
        if round == 3 {
            store.compact_all().unwrap();
            manifests.push(bytes_of(&fs, path));
        }
    }
    write(&store, 10, NOW).unwrap();
    let (expected, _) = answers(&store);
    store.close().unwrap();
    drop(store);
    fs.settle();
    (fs, expected, manifests)
}

/// Lost, torn, or older than the blocks: it is made again from what the blocks say of themselves.
#[test]
fn a_manifest_can_be_done_without() {
    let (fs, expected, manifests) = with_history();
    let path = Path::new("/data/MANIFEST");
    let whole = bytes_of(&fs, path);
    let mut versions: Vec<(String, Option<Vec<u8>>)> = vec![("lost".to_owned(), None)];
    versions.extend(sampled(whole.len()).map(|at| (format!("cut at {at}"), Some(whole[..at].to_vec()))));
    versions.extend((SECTOR..whole.len()).step_by(SECTOR).map(|at| {
        let mut torn = whole.clone();
        torn[at..].fill(0);
        (format!("torn at {at}"), Some(torn))
    }));
    let older = manifests.into_iter().filter(|m| *m != whole).enumerate();
    versions.extend(older.map(|(number, bytes)| (format!("the older copy {number}"), Some(bytes))));
    for (what, bytes) in &versions {
        let damaged = image(&fs);
        match bytes {
            Some(bytes) => put(&damaged, path, bytes),
            None => damaged.remove(path).unwrap(),
        }
        let store = open(&damaged);
        let (found, warned) = answers(&store);
        assert!(found == expected && !warned, "{what}: {} series of {}", found.len(), expected.len());
    }
    println!("manifest cases={} equal=all", versions.len());
}

/// Sectors that hold what belongs elsewhere, or what was there before.
#[test]
fn misdirected_and_lost_writes_are_seen() {
    let (fs, expected) = filled(60, 30);
    let all: Vec<PathBuf> = files(&fs).into_iter().filter(|path| !path.ends_with("LOCK")).collect();
    let mut changes = Vec::new();
    for path in &all {
        let len = bytes_of(&fs, path).len();
        let is_twin =
            |p: &&PathBuf| *p != path && p.parent() == path.parent() && p.extension() == path.extension();
        let twin = all.iter().rfind(is_twin);
        for at in (0..len).step_by(SECTOR) {
            changes.push((path, at, None));
            if let Some(twin) = twin {
                changes.push((path, at, Some(twin)));
            }
        }
    }
    let newest = end_of_log(&fs);
    let (mut tried, mut told) = (0, 0);
    for number in sampled(changes.len()) {
        let (path, at, twin) = changes[number];
        let mut bytes = bytes_of(&fs, path);
        let before = bytes.clone();
        let end = (at + SECTOR).min(bytes.len());
        match twin {
            // Lost: what the disk had there was blank.
            None => bytes[at..end].fill(0),
            // Misdirected: a sector of another file of the kind.
            Some(twin) => {
                let other = bytes_of(&fs, twin);
                let other = other.get(at..end).unwrap_or(&[0xaa; SECTOR][..end - at]);
                bytes[at..end].copy_from_slice(other);
            }
        }
        if bytes == before {
            continue;
        }
        let damaged = image(&fs);
        put(&damaged, path, &bytes);
        let verdict = judge(&damaged, &expected)
            .unwrap_or_else(|e| panic!("sector {at} of {}: the start is refused: {e}", path.display()));
        let is_torn = *path == newest.0 && end >= newest.1 && verdict.invented == 0;
        assert!(!verdict.is_silent() || is_torn, "sector {at} of {} {twin:?}: {verdict:?}", path.display());
        tried += 1;
        told += usize::from(verdict.told);
    }
    println!("misdirect cases={tried} told={told} silent=0");
}
