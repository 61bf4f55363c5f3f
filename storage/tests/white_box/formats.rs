//! Files of every released format are read; those of a later one are refused by name, before anything is written.

use super::{MemoryFs, answers, bytes_of, files, filled, image, open, put, try_open};
use kymo_storage::block::Block;
use kymo_storage::codec::crc::crc32;
use kymo_storage::env::{DiskFs, Fs};
use kymo_storage::model::TimeRange;
use std::path::Path;
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
    let mut refused = 0;
    for name in ["MANIFEST", "TOMBSTONES"] {
        let path = Path::new(super::DATA).join(name);
        let newer = image(&fs);
        put(&newer, &path, &of_version(&fs, &path, 99));
        let contents = |fs: &MemoryFs| files(fs).iter().map(|path| bytes_of(fs, path)).collect::<Vec<_>>();
        let before = contents(&newer);
        let error =
            try_open(Arc::new(newer.clone())).err().unwrap_or_else(|| panic!("{name} of format 99 is taken"));
        assert!(error.to_string().contains("99") && error.to_string().contains(name), "{error}");
        assert!(contents(&newer) == before, "{name}: written before the version was known");
        refused += 1;
    }
    println!("formats opened={opened} refused_newer={refused}");
    assert!(opened >= 3);
}
