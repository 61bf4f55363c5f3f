//! Prometheus' chunks and blocks, as an import meets them.

use crate::input::{Input, seed};
use crate::store::{fractional, whole, write};
use kymo_storage::ErrorKind;
use kymo_storage::api::{HistogramSample, Samples};
use kymo_storage::env::{Fs, MemoryFs};
use kymo_storage::model::{Labels, TimeRange};
use kymo_storage::prometheus::{
    BlockReader, BlockWriter, FloatChunkReader, FloatChunkWriter, FloatHistogramChunkReader,
    FloatHistogramChunkWriter, HistogramChunkReader, HistogramChunkWriter, Ulid, crc32c,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Samples that are looked at.
const SAMPLES_MAX: usize = 300_000;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 8 {
        0 => float_chunk(input.0),
        1 => histogram_chunk(input.0),
        2 => float_histogram_chunk(input.0),
        3 => {
            let _ = Ulid::parse(&String::from_utf8_lossy(input.0));
        }
        choice => block(choice, input),
    }
}

fn float_chunk(bytes: &[u8]) {
    let Ok(reader) = FloatChunkReader::new(bytes) else { return };
    let samples: Vec<(i64, f64)> = reader.map_while(Result::ok).collect();
    let mut writer = FloatChunkWriter::new();
    let taken = samples.iter().take_while(|(t, v)| writer.push(*t, *v)).count();
    let written = writer.finish();
    let again: Vec<(i64, f64)> = FloatChunkReader::new(&written).unwrap().collect::<Result<_, _>>().unwrap();
    let bits = |s: &[(i64, f64)]| s.iter().map(|(t, v)| (*t, v.to_bits())).collect::<Vec<_>>();
    assert_eq!(bits(&again), bits(&samples[..taken]));
}

fn histogram_chunk(bytes: &[u8]) {
    let Ok(reader) = HistogramChunkReader::new(bytes) else { return };
    let samples: Vec<_> = reader.map_while(Result::ok).take_while(|(_, h)| h.validate().is_ok()).collect();
    let Some(((time, first), rest)) = samples.split_first() else { return };
    let mut writer = HistogramChunkWriter::new(*time, first);
    let taken = 1 + rest.iter().take_while(|(t, h)| writer.push(*t, h)).count();
    let written = writer.finish();
    let again: Vec<_> = HistogramChunkReader::new(&written).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(again.len(), taken);
    for ((t, a), (u, b)) in again.iter().zip(&samples) {
        assert_eq!((t, a.count, a.sum.to_bits(), a.zero_count), (u, b.count, b.sum.to_bits(), b.zero_count));
        assert_eq!(a.to_float().positive.iter().collect::<Vec<_>>().len(), a.positive.iter().count());
    }
}

fn float_histogram_chunk(bytes: &[u8]) {
    let Ok(reader) = FloatHistogramChunkReader::new(bytes) else { return };
    let samples: Vec<_> = reader.map_while(Result::ok).take_while(|(_, h)| h.validate().is_ok()).collect();
    let Some(((time, first), rest)) = samples.split_first() else { return };
    let mut writer = FloatHistogramChunkWriter::new(*time, first);
    let taken = 1 + rest.iter().take_while(|(t, h)| writer.push(*t, h)).count();
    let written = writer.finish();
    let again: Vec<_> = FloatHistogramChunkReader::new(&written).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(again.len(), taken);
    for ((t, a), (u, b)) in again.iter().zip(&samples) {
        assert_eq!((t, a.count.to_bits(), a.sum.to_bits()), (u, b.count.to_bits(), b.sum.to_bits()));
    }
}

/// The files of a sound block: folder-relative names and bytes.
fn sound() -> &'static [(PathBuf, Vec<u8>)] {
    static SOUND: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    SOUND.get_or_init(|| {
        let memory = MemoryFs::unrecorded();
        let fs: Arc<dyn Fs> = Arc::new(memory.clone());
        let out = Path::new("/data");
        fs.create_dir_all(out).unwrap();
        let all: Vec<Labels> = (0..20)
            .map(|i| Labels::from_pairs([("__name__", "m".to_owned()), ("i", format!("{i:02}"))]))
            .collect();
        let texts = all.iter().flat_map(|l| l.iter()).flat_map(|(n, v)| [n.to_owned(), v.to_owned()]);
        let symbols: BTreeSet<String> = texts.collect();
        let ulid = Ulid::new(1_700_000_000_000, [3; 16]);
        let range = TimeRange::new(0, 1_000_000);
        let mut writer = BlockWriter::create(&fs, out, ulid, range, symbols).unwrap();
        for (i, labels) in all.iter().enumerate() {
            let mut samples = Samples::new();
            for step in 0..20 {
                match i % 3 {
                    0 => samples.push(step * 1000, (step * i as i64) as f64 / 8.0),
                    kind => samples.histograms.push(HistogramSample {
                        timestamp: step * 1000,
                        start_timestamp: 0,
                        histogram: Arc::new(if kind == 1 {
                            whole(step.cast_unsigned()).to_float()
                        } else {
                            fractional(step.cast_unsigned())
                        }),
                    }),
                }
            }
            writer.add(labels, &samples).unwrap();
        }
        writer.finish().unwrap();
        let files = crate::store::files(&memory);
        let block = files[0].ancestors().find(|p| p.parent() == Some(out)).unwrap().to_owned();
        files
            .iter()
            .map(|path| (path.strip_prefix(&block).unwrap().to_owned(), crate::store::read(&memory, path)))
            .collect()
    })
}

fn block(choice: u8, mut input: Input<'_>) {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::unrecorded());
    let dir = Path::new("/block");
    let number = usize::from(input.u8()) % sound().len();
    for (i, (name, bytes)) in sound().iter().enumerate() {
        let mut bytes = bytes.clone();
        if i == number {
            match choice {
                4 => bytes = input.0.to_vec(),
                5 => input.edit(&mut bytes),
                6 => {
                    bytes = input.0.to_vec();
                    reseal(name, &mut bytes);
                }
                _ => {
                    input.edit(&mut bytes);
                    reseal(name, &mut bytes);
                }
            }
        }
        write(fs.as_ref(), &dir.join(name), &bytes);
    }
    let is_damage = |error: &kymo_storage::Error| {
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound), "{error}");
    };
    let reader = match BlockReader::open(&fs, dir) {
        Ok(reader) => reader,
        Err(error) => return is_damage(&error),
    };
    let mut left = SAMPLES_MAX;
    for number in 0..reader.series_count().min(200) {
        let read = reader.read(
            number,
            |labels| Ok(labels.clone()),
            |_, time, _| {
                assert!(reader.meta().range().contains(time));
                left = left.saturating_sub(1);
                Ok(())
            },
        );
        if let Err(error) = read {
            is_damage(&error);
        }
        if left == 0 {
            return;
        }
    }
}

/// Makes the checksums of a file right, as far as its structure can be followed.
fn reseal(name: &Path, bytes: &mut [u8]) {
    match name.to_str() {
        Some("index") => reseal_index(bytes),
        Some("tombstones") if bytes.len() > 9 => {
            let (content, crc) = bytes.split_at_mut(bytes.len() - 4);
            crc.copy_from_slice(&crc32c(&content[5..]).to_be_bytes());
        }
        Some(name) if name.starts_with("chunks") => {
            let mut at = 8;
            while let Some((length, used)) = uvarint(bytes.get(at..).unwrap_or_default()) {
                let start = at + used;
                let Some(end) = (length as usize).checked_add(start + 1) else { return };
                if !seal(bytes, start, end) {
                    return;
                }
                at = end + 4;
            }
        }
        _ => {}
    }
}

fn uvarint(bytes: &[u8]) -> Option<(u64, usize)> {
    let (mut value, mut used) = (0u64, 0);
    for byte in bytes.iter().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * used);
        used += 1;
        if byte & 0x80 == 0 {
            return Some((value, used));
        }
    }
    None
}

/// Writes the checksum of `bytes[start..end]` behind them.
fn seal(bytes: &mut [u8], start: usize, end: usize) -> bool {
    let Some(content) = bytes.get(start..end) else { return false };
    let crc = crc32c(content).to_be_bytes();
    match bytes.get_mut(end..end + 4) {
        Some(place) => place.copy_from_slice(&crc),
        None => return false,
    }
    true
}

fn reseal_index(bytes: &mut [u8]) {
    let Some(toc) = bytes.len().checked_sub(52) else { return };
    seal(bytes, toc, toc + 48);
    let offset = |bytes: &[u8], i: usize| {
        let field = bytes.get(toc + 8 * i..toc + 8 * i + 8)?;
        usize::try_from(u64::from_be_bytes(field.try_into().ok()?)).ok().filter(|at| *at < bytes.len())
    };
    let offsets: [Option<usize>; 6] = std::array::from_fn(|i| offset(bytes, i));
    let length_at =
        |bytes: &[u8], at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    for start in [offsets[0], offsets[5]].into_iter().flatten() {
        if let Some(length) = length_at(bytes, start) {
            seal(bytes, start + 4, start + 4 + length);
        }
    }
    if let [_, Some(mut at), ..] = offsets {
        while let Some((length, used)) = uvarint(bytes.get(at..).unwrap_or_default()) {
            let start = at + used;
            let Some(end) = start.checked_add(length as usize) else { break };
            if length == 0 || !seal(bytes, start, end) {
                break;
            }
            at = (end + 4).next_multiple_of(16);
        }
    }
    if let [.., Some(mut at), _] = offsets {
        while let Some(length) = length_at(bytes, at) {
            if length == 0 || !seal(bytes, at + 4, at + 4 + length) {
                break;
            }
            at += 8 + length;
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut writer = FloatChunkWriter::new();
    assert!((0..40).all(|i| writer.push(i * 15_000 + i % 3, (i * i % 11) as f64 / 4.0)));
    seeds.push(seed(&[&[0], &writer.finish()]));
    let mut writer = HistogramChunkWriter::new(0, &whole(1));
    // A writer ends its chunk where a histogram cannot go on from the one before.
    let _ = (2..9).take_while(|i| writer.push(*i as i64 * 1000, &whole(3 * i))).count();
    seeds.push(seed(&[&[1], &writer.finish()]));
    let mut writer = FloatHistogramChunkWriter::new(0, &fractional(1));
    let _ = (2..9).take_while(|i| writer.push(*i as i64 * 1000, &fractional(*i))).count();
    seeds.push(seed(&[&[2], &writer.finish()]));
    seeds.push(seed(&[&[3], Ulid::new(1_700_000_000_000, [3; 16]).to_string().as_bytes()]));
    for (number, (_, bytes)) in sound().iter().enumerate() {
        for choice in [4, 6] {
            if bytes.len() < 8_000 {
                seeds.push(seed(&[&[choice, number as u8], bytes]));
            }
        }
        for choice in [5, 7] {
            seeds.push(vec![choice, number as u8, 20, 0, 3]);
            seeds.push(vec![choice, number as u8, 6]);
        }
    }
    seeds
}
