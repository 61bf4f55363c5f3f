//! Files of every released format are read; those of a later one are refused by name, before anything is written.

use super::{MemoryFs, answers, bytes_of, files, filled, image, open, put, try_open};
use kymo_storage::block::Block;
use kymo_storage::codec::crc::{crc32, seed_of};
use kymo_storage::codec::frame;
use kymo_storage::env::{DiskFs, Fs};
use kymo_storage::model::TimeRange;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testdata/formats");

/// A small file that says it is of format `version`, with a right checksum.
fn of_version(fs: &MemoryFs, path: &Path, version: u32) -> Vec<u8> {
    let mut bytes = bytes_of(fs, path);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let crc = crc32(version, &bytes[20..]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The block, with a header that says it is of format `version`.
fn block_of_version(fs: &MemoryFs, path: &Path, version: u32) -> Vec<u8> {
    let mut bytes = bytes_of(fs, path);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let crc = crc32(0, &bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The segment, with a header that says it is of format `version`.
fn segment_of_version(fs: &MemoryFs, path: &Path, version: u32) -> Vec<u8> {
    let mut bytes = bytes_of(fs, path);
    let sequence: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let mut identity = *b"kymo wal segment........";
    identity[16..].copy_from_slice(&sequence.to_le_bytes());
    for copy in bytes[..1024].chunks_exact_mut(512) {
        let mut header = Vec::new();
        let start = frame::begin(&mut header);
        header.extend_from_slice(&copy[frame::HEADER_BYTES..frame::HEADER_BYTES + 39]);
        assert_eq!(header[start + frame::HEADER_BYTES], 9, "a header is there");
        header[start + frame::HEADER_BYTES + 1] = version as u8;
        assert!(frame::finish(&mut header[start..], seed_of(&identity)));
        copy[..header.len()].copy_from_slice(&header);
    }
    bytes
}

/// The first file of a store in `folder` whose name ends so.
fn first_of(fs: &MemoryFs, folder: &str, ending: &str) -> PathBuf {
    let folder = Path::new(super::DATA).join(folder);
    let mut found = files(fs);
    found.retain(|path| path.starts_with(&folder) && path.to_string_lossy().ends_with(ending));
    found.into_iter().next().unwrap_or_else(|| panic!("no {ending} in {}", folder.display()))
}

#[test]
fn old_formats_are_read_and_newer_ones_refused() {
    let disk: Arc<dyn Fs> = Arc::new(DiskFs);
    let mut opened = 0;
    for path in disk.list(Path::new(FIXTURES)).unwrap() {
        let block = Block::open(&disk, &path).unwrap();
        assert!(block.check().is_empty(), "{}", path.display());
        // Among the files of a store whose manifest is lost it is served too.
        let fs = MemoryFs::new();
        put(&fs, Path::new("/data/blocks/00000007.block"), &std::fs::read(&path).unwrap());
        let (found, warned) = answers(&open(&fs));
        let samples: usize = found.values().map(|s| s.len()).sum();
        assert_eq!((samples as u64, warned), (block.meta().samples, false), "{}", path.display());
        assert!(block.meta().range() != TimeRange::new(0, 0));
        opened += 1;
    }
    let (fs, _) = filled(5, 5);
    let data = Path::new(super::DATA);
    type Maker = fn(&MemoryFs, &Path, u32) -> Vec<u8>;
    let later: [(PathBuf, Maker); 4] = [
        (data.join("MANIFEST"), of_version),
        (data.join("TOMBSTONES"), of_version),
        (first_of(&fs, "blocks", ".block"), block_of_version),
        (first_of(&fs, "wal", ".wal"), segment_of_version),
    ];
    let refused = later.len();
    for (path, make) in later {
        let name = path.file_name().unwrap().to_str().unwrap();
        let newer = image(&fs);
        put(&newer, &path, &make(&fs, &path, 99));
        let contents = |fs: &MemoryFs| files(fs).iter().map(|path| bytes_of(fs, path)).collect::<Vec<_>>();
        let before = contents(&newer);
        let error =
            try_open(Arc::new(newer.clone())).err().unwrap_or_else(|| panic!("{name} of format 99 is taken"));
        assert!(error.to_string().contains("99") && error.to_string().contains(name), "{error}");
        assert!(contents(&newer) == before, "{name}: written before the version was known");
    }
    println!("formats opened={opened} refused_newer={refused}");
    assert!(opened >= 3);
}
