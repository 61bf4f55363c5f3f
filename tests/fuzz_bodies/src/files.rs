//! A whole store with one of its files replaced: manifest, tombstones, registry checkpoint, notes of the quarantine, anything.

use crate::input::{Input, seed};
use crate::store;
use kymo_storage::codec::crc::crc32;
use kymo_storage::env::{Fs, MemoryFs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MANIFEST: &str = "/data/MANIFEST";
const TOMBSTONES: &str = "/data/TOMBSTONES";
/// Magic, version, length, checksum.
const SMALL_HEADER: usize = 20;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.u8();
    let memory = store::base();
    // Damage of which the checksums know must not keep a store from opening; files that were made on purpose may.
    let mut must_open = true;
    match choice % 10 {
        0 => {
            must_open = false;
            store::write(&memory, Path::new(MANIFEST), &small(b"KYMOMAN1", input.0));
        }
        1 => {
            must_open = false;
            edit_body(&memory, MANIFEST, b"KYMOMAN1", input);
        }
        2 => {
            must_open = false;
            store::write(&memory, Path::new(TOMBSTONES), &small(b"KYMOTMB1", input.0));
        }
        3 => {
            must_open = false;
            edit_body(&memory, TOMBSTONES, b"KYMOTMB1", input);
        }
        4 => {
            let section = input.u8();
            edit_checkpoint(&memory, section, |bytes| *bytes = input.0.to_vec());
        }
        5 => {
            let section = input.u8();
            edit_checkpoint(&memory, section, |bytes| input.edit(bytes));
        }
        6 => note(&memory, input),
        7 => {
            let path = any_file(&memory, input.u8());
            // A file of a later release is refused, and a raw manifest may say it is one.
            must_open = false;
            store::write(&memory, &path, input.0);
        }
        _ => {
            let path = any_file(&memory, input.u8());
            let mut bytes = store::read(&memory, &path);
            input.edit(&mut bytes);
            must_open = !path.ends_with("MANIFEST") && !path.ends_with("TOMBSTONES");
            store::write(&memory, &path, &bytes);
        }
    }
    let fs: Arc<dyn Fs> = Arc::new(memory);
    match choice / 10 % 4 {
        0 => {
            if let Ok(store) = store::open_read_only(&fs) {
                store::dump(&store);
            }
        }
        1 => {
            let _ = kymo_storage::verify::verify(&fs, Path::new(store::DATA));
        }
        depth => match store::open(&fs) {
            Ok(store) => {
                if depth == 3 {
                    store::fill(&store, store::NOW - 100_000);
                    let _ = store.flush();
                    let _ = store.compact_all();
                }
                store::survives_restart(&fs, store);
            }
            Err(error) => assert!(!must_open, "{error}"),
        },
    }
}

/// A small file with a right checksum.
fn small(magic: &[u8; 8], body: &[u8]) -> Vec<u8> {
    const VERSION: u32 = 1;
    let mut out = magic.to_vec();
    for number in [VERSION, body.len() as u32, crc32(VERSION, body)] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(body);
    out
}

fn edit_body(fs: &MemoryFs, path: &str, magic: &[u8; 8], input: Input<'_>) {
    let mut body = store::read(fs, Path::new(path)).split_off(SMALL_HEADER);
    input.edit(&mut body);
    store::write(fs, Path::new(path), &small(magic, &body));
}

fn checkpoint(fs: &MemoryFs) -> Option<PathBuf> {
    fs.list(Path::new("/data/head")).ok()?.into_iter().next()
}

/// The sections of a checkpoint.
fn sections(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut found) = (&bytes[8..], Vec::new());
    while rest.len() >= 12 {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        found.push(rest[12..12 + length].to_vec());
        rest = &rest[12 + length..];
    }
    found
}

fn edit_checkpoint(fs: &MemoryFs, section: u8, edit: impl FnOnce(&mut Vec<u8>)) {
    let path = checkpoint(fs).expect("a store that was flushed has a checkpoint");
    let bytes = store::read(fs, &path);
    let mut sections = sections(&bytes);
    let chosen = usize::from(section) % sections.len();
    edit(&mut sections[chosen]);
    let mut out = bytes[..8].to_vec();
    for payload in &sections {
        out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        out.extend_from_slice(&crc32(0, payload).to_le_bytes());
        out.extend_from_slice(payload);
    }
    store::write(fs, &path, &out);
}

/// A block in quarantine, and what is said about it.
fn note(fs: &MemoryFs, input: Input<'_>) {
    store::write(fs, Path::new("/data/quarantine/9.block"), b"nothing");
    store::write(fs, Path::new("/data/quarantine/9.block.reason"), input.0);
}

fn any_file(fs: &MemoryFs, number: u8) -> PathBuf {
    let files = store::files(fs);
    files[usize::from(number) % files.len()].clone()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let base = store::base();
    let mut seeds = Vec::new();
    for (choice, path) in [(0, MANIFEST), (2, TOMBSTONES)] {
        let body = store::read(&base, Path::new(path)).split_off(SMALL_HEADER);
        for depth in [0, 10, 20, 30] {
            seeds.push(seed(&[&[choice + depth], &body]));
            seeds.push(vec![choice + depth + 1, 9, 0, 1]);
        }
    }
    if let Some(path) = checkpoint(&base) {
        for (number, payload) in sections(&store::read(&base, &path)).iter().enumerate() {
            for depth in [0, 20] {
                seeds.push(seed(&[&[4 + depth, number as u8], payload]));
                seeds.push(vec![5 + depth, number as u8, 2, 0, 1]);
            }
        }
    }
    let times = "bad\nmilliseconds of the oldest and the newest sample: 5 900\n";
    seeds.push(seed(&[&[6], times.as_bytes()]));
    for (number, path) in store::files(&base).iter().enumerate() {
        let bytes = store::read(&base, path);
        if bytes.len() < 2_000 {
            seeds.push(seed(&[&[7, number as u8], &bytes]));
        }
        for depth in [0, 10, 20, 30] {
            seeds.push(vec![8 + depth, number as u8, 70, 0, 1]);
            seeds.push(vec![9 + depth, number as u8, 12]);
        }
    }
    seeds
}
