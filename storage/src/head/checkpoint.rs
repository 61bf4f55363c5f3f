//! The registry checkpoint: labels, hashes and newest samples of all series, so that a start reads no old log.
//!
//! ```text
//! magic "KYMOREG1":8
//! 7 × section { length:u64 crc32:u32 payload }
//!   1 seed:2×u64  series:u32  symbols:u32  shapes:u32
//!   2 symbols     each: length:varint bytes
//!   3 shapes      each: count:varint symbol:varint…
//!   4 series      each: 0 (the number stands for nothing), or 1 + shape:varint and a value symbol:varint for each name of the shape
//!   5 hashes      each: low:u64 high:u64
//!   6 newest      each: time:i64 value bits:u64 (of a histogram: its mark, see `last.rs`)
//!   7 metadata    count:varint, each: type:u8, family, unit, help: length:varint bytes
//! ```
//! Integers are little endian. A file that fails any check is refused as a whole.

use super::catalog::{Catalog, Numbers};
use super::hash::{HashKey, LabelsHash};
use super::last::{GONE, Last, LastSamples, NEVER};
use super::paged::{put_varint, take_varint};
use super::registry::Registry;
use crate::env::Fs;
use crate::error::{Error, Result};
use crate::model::{Metadata, MetricType};
use crate::options::Limits;
use std::path::Path;

const MAGIC: &[u8; 8] = b"KYMOREG1";
const SECTIONS: usize = 7;
/// No checkpoint is larger: 4 GiB of symbols, 4 GiB of records, and 32 bytes a series.
const FILE_BYTES_MAX: u64 = 16 << 30;

/// What a checkpoint gives back.
pub(crate) struct Loaded {
    pub(crate) registry: Registry,
    pub(crate) last: LastSamples,
    pub(crate) metadata: Vec<(String, Metadata)>,
}

/// Writes the state of the first `last.len()` series to `path`, a file that does not exist, and syncs it.
///
/// # Errors
/// The disk refusing.
pub(crate) fn write(
    fs: &dyn Fs,
    path: &Path,
    registry: &Registry,
    last: &LastSamples,
    metadata: &[(String, Metadata)],
) -> Result<()> {
    let io = |what: &str| {
        let text = format!("{what} {}", path.display());
        move |e| Error::io(text, e)
    };
    let file = fs.create(path).map_err(io("create"))?;
    file.write_all_at(MAGIC, 0).map_err(io("write"))?;
    let mut at = MAGIC.len() as u64;
    let numbers = registry.catalog().numbers();
    for section in 1..=SECTIONS {
        let payload = encode_section(section, registry, &numbers, last, metadata);
        let mut header = Vec::with_capacity(12);
        header.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        header.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        file.write_all_at(&header, at).map_err(io("write"))?;
        file.write_all_at(&payload, at + 12).map_err(io("write"))?;
        at += 12 + payload.len() as u64;
    }
    file.sync_data().map_err(io("sync"))
}

fn encode_section(
    section: usize,
    registry: &Registry,
    numbers: &Numbers,
    last: &LastSamples,
    metadata: &[(String, Metadata)],
) -> Vec<u8> {
    let mut out = Vec::new();
    let series = last.len().min(registry.len());
    match section {
        1 => {
            registry.key().seed().iter().for_each(|seed| out.extend_from_slice(&seed.to_le_bytes()));
            for count in [series, numbers.symbol_count, numbers.shape_count] {
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
        2 => registry.catalog().encode_symbols(numbers, &mut out),
        3 => registry.catalog().encode_shapes(numbers, &mut out),
        4 => registry.catalog().encode_records(series, numbers, &mut out),
        5 => {
            for id in 0..series {
                let hash = registry.hash_of(id).unwrap_or(LabelsHash::NONE);
                out.extend_from_slice(&hash.low.to_le_bytes());
                out.extend_from_slice(&hash.high.to_le_bytes());
            }
        }
        6 => {
            for id in 0..series {
                let Last { time, value } =
                    Some(last.get(id)).filter(|l| l.time != GONE.time).unwrap_or(NEVER);
                out.extend_from_slice(&time.to_le_bytes());
                out.extend_from_slice(&value.to_bits().to_le_bytes());
            }
        }
        _ => {
            put_varint(&mut out, metadata.len() as u64);
            for (family, metadata) in metadata {
                out.push(metadata.metric_type as u8);
                for text in [family, &metadata.unit, &metadata.help] {
                    put_varint(&mut out, text.len() as u64);
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
    }
    out
}

/// Reads the checkpoint at `path`.
///
/// # Errors
/// The disk refusing, or `Corrupt`.
pub(crate) fn load(fs: &dyn Fs, path: &Path, limits: Limits) -> Result<Loaded> {
    let io = |e| Error::io(format!("read {}", path.display()), e);
    let corrupt = |what: &str| Error::corrupt(format!("{}: {what}", path.display()));
    let file = fs.open(path).map_err(io)?;
    let len = file.len().map_err(io)?;
    let len = usize::try_from(len.min(FILE_BYTES_MAX)).map_err(|_| corrupt("too large"))?;
    let mut bytes = Vec::new();
    let short = |_| Error::internal(format!("no memory for the {len} bytes of {}", path.display()));
    bytes.try_reserve_exact(len).map_err(short)?;
    bytes.resize(len, 0);
    file.read_exact_at(&mut bytes, 0).map_err(io)?;
    let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(|| corrupt("not a registry checkpoint"))?;
    let mut sections = [&[][..]; SECTIONS];
    for (number, section) in sections.iter_mut().enumerate() {
        *section = take_section(&mut rest)
            .ok_or_else(|| corrupt(&format!("section {} fails its check", number + 1)))?;
    }
    decode(&sections, limits).ok_or_else(|| corrupt("the sections do not fit together"))
}

fn take_section<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<8>()?;
    let (crc, after) = after.split_first_chunk::<4>()?;
    let (payload, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
    *rest = after;
    (crc32fast::hash(payload) == u32::from_le_bytes(*crc)).then_some(payload)
}

fn decode(sections: &[&[u8]; SECTIONS], limits: Limits) -> Option<Loaded> {
    let [mut head, symbols, shapes, records, hashes, newest, metadata] = *sections;
    let mut seed = [0; 2];
    for word in &mut seed {
        let (bytes, rest) = head.split_first_chunk::<8>()?;
        (*word, head) = (u64::from_le_bytes(*bytes), rest);
    }
    let mut counts = [0; 3];
    for count in &mut counts {
        let (bytes, rest) = head.split_first_chunk::<4>()?;
        (*count, head) = (u32::from_le_bytes(*bytes), rest);
    }
    let [series, symbol_count, shape_count] = counts;
    let mut catalog = Catalog::default();
    catalog.decode_symbols(symbols, symbol_count)?;
    catalog.decode_shapes(shapes, shape_count)?;
    catalog.decode_records(records, series)?;
    let hashes = hashes.chunks_exact(16).map(|pair| {
        let half = |part: &[u8]| part.try_into().map_or(0, u64::from_le_bytes);
        LabelsHash { low: half(&pair[..8]), high: half(&pair[8..]) }
    });
    let registry = Registry::from_parts(HashKey::from_seed(seed), limits, catalog, hashes)?;
    let mut last = LastSamples::default();
    last.grow(series);
    for (id, entry) in (0..series).zip(newest.chunks_exact(16)) {
        let time = i64::from_le_bytes(entry[..8].try_into().ok()?);
        let value = f64::from_bits(u64::from_le_bytes(entry[8..].try_into().ok()?));
        last.set(id, if time == NEVER.time { NEVER } else { Last { time, value } });
    }
    Some(Loaded { registry, last, metadata: decode_metadata(metadata)? })
}

fn decode_metadata(mut bytes: &[u8]) -> Option<Vec<(String, Metadata)>> {
    let count = take_varint(&mut bytes)?;
    let mut out = Vec::new();
    for _ in 0..count {
        let (kind, rest) = bytes.split_first()?;
        bytes = rest;
        let mut text = || {
            let len = usize::try_from(take_varint(&mut bytes)?).ok()?;
            let (text, rest) = bytes.split_at_checked(len)?;
            bytes = rest;
            String::from_utf8(text.to_vec()).ok()
        };
        let (family, unit, help) = (text()?, text()?, text()?);
        let metric_type = MetricType::from_number(u64::from(*kind));
        out.push((family, Metadata { metric_type, unit, help }));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::MemoryFs;
    use crate::head::registry::Position;
    use crate::model::Labels;

    fn labels(i: u32) -> Labels {
        Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string()), ("mod", (i % 7).to_string())])
    }

    #[test]
    fn a_checkpoint_gives_everything_back_and_damage_is_refused() {
        let fs = MemoryFs::new();
        fs.create_dir_all(Path::new("/d")).unwrap();
        let path = Path::new("/d/registry.ckpt");
        let registry = Registry::new(HashKey::from_seed([3, 4]), Limits::default());
        let mut last = LastSamples::default();
        registry.restore(2, &labels(2), None);
        let mut position = Position::default();
        for i in 3..500 {
            registry.resolve(labels(i).as_bytes(), &mut position).unwrap();
        }
        last.grow(registry.len());
        last.set(7, Last { time: 99, value: f64::from_bits(0x7ff0_0000_0000_0002) });
        let about = Metadata { metric_type: MetricType::Counter, unit: "s".into(), help: "h\"".into() };
        write(&fs, path, &registry, &last, &[("m".to_owned(), about.clone())]).unwrap();

        let loaded = load(&fs, path, Limits::default()).unwrap();
        assert_eq!(loaded.metadata, [("m".to_owned(), about)]);
        assert_eq!(loaded.registry.len(), 500);
        assert!(loaded.registry.labels(1).is_empty());
        for i in 3..500 {
            assert_eq!(loaded.registry.labels(i), labels(i));
            let found = loaded.registry.resolve(labels(i).as_bytes(), &mut Position::default()).unwrap();
            assert_eq!(found.number, i);
        }
        assert_eq!((loaded.last.get(7).time, loaded.last.get(8).time), (99, i64::MIN));
        assert_eq!(loaded.last.get(7).value.to_bits(), 0x7ff0_0000_0000_0002);

        let file = fs.open_write(path).unwrap();
        let len = file.len().unwrap();
        for at in (0..len).step_by(97) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
            assert!(load(&fs, path, Limits::default()).is_err(), "byte {at}");
            file.write_all_at(&byte, at).unwrap();
        }
        assert!(load(&fs, path, Limits::default()).is_ok());
    }

    #[test]
    fn a_series_on_its_way_out_is_not_known_again() {
        let registry = Registry::new(HashKey::from_seed([1, 2]), Limits::default());
        let labels = Labels::from_pairs([("__name__", "m")]);
        let resolve = || registry.resolve(labels.as_bytes(), &mut Position::default()).unwrap().number;
        let first = resolve();
        let gone = registry.mark(&[first].into_iter().collect());
        registry.unlink(&gone, |_| false, |_| ());
        let second = resolve();
        assert_ne!(first, second);
        let (fs, path) = (MemoryFs::new(), Path::new("out.ckpt"));
        let mut last = LastSamples::default();
        last.grow(registry.len());
        write(&fs, path, &registry, &last, &[]).unwrap();
        let loaded = load(&fs, path, Limits::default()).unwrap().registry;
        assert_eq!((loaded.find(&labels), loaded.series_count()), (Some(second), 1));
        assert!(loaded.labels(first).is_empty());
    }
}
