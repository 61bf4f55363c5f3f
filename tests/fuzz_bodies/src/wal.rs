//! The write-ahead log: records, frames, segments, replay, and a whole store on top of a log.

use crate::input::{Input, piece, seed};
use crate::store;
use kymo_storage::Result;
use kymo_storage::codec::frame::{self, FrameReader, Piece};
use kymo_storage::env::{Fs, MemoryFs};
use kymo_storage::model::{Labels, Metadata};
use kymo_storage::wal::record::{
    BatchRecord, ExemplarRecord, HistogramsRecord, Record, SamplesRecord, Scratch, decode, encode_batch,
    encode_end, encode_series,
};
use kymo_storage::wal::segment::{DurabilityKind, Epoch, Header, path_of, read_header};
use kymo_storage::wal::{ReplayVisitor, Wal, WalOptions};
use std::path::Path;
use std::sync::Arc;

const LOG: &str = "/data/wal";
const SEED: u32 = 0x5eed;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 6 {
        0 => one_record(input.0),
        1 => frames(input),
        2 => replay(&segment(input)),
        3 => replay(input.0),
        4 => whole_store(&segment(input)),
        _ => header(input.0),
    }
}

/// What a record holds, in a form that can be compared.
fn held(record: Record<'_>) -> String {
    match record {
        Record::Series(series) => format!("{:?}", series.collect::<Vec<_>>()),
        Record::End => "end".to_owned(),
        Record::Batch(batch) => {
            let SamplesRecord { ids, timestamps, values, starts } = batch.samples;
            let values: Vec<u64> = values.iter().map(|v| v.to_bits()).collect();
            let exemplars: Vec<_> =
                batch.exemplars.iter().map(|e| (e.id, e.timestamp, e.value.to_bits(), e.labels)).collect();
            // A stored start of 0 and none are the same.
            let starts: Vec<i64> = starts.iter().copied().filter(|s| *s != 0).collect();
            format!(
                "{ids:?} {timestamps:?} {values:?} {starts:?} {:?} {exemplars:?} {:?}",
                batch.histograms(),
                batch.metadata
            )
        }
    }
}

/// A record that is taken is written again as a record that says the same.
fn one_record(bytes: &[u8]) {
    let mut scratch = Scratch::default();
    let Some(record) = decode(bytes, &mut scratch) else { return };
    let mut again = Vec::new();
    match &record {
        Record::Series(series) => encode_series(&series.clone().collect::<Vec<_>>(), &mut again),
        Record::End => encode_end(&mut again),
        Record::Batch(batch) => {
            let metadata: Vec<(&str, &Metadata)> = batch.metadata.iter().map(|(f, m)| (*f, m)).collect();
            let parts = BatchRecord {
                samples: batch.samples,
                histograms: batch.histograms(),
                exemplars: &batch.exemplars,
                metadata: &metadata,
            };
            encode_batch(&parts, bytes.len().is_multiple_of(2), &mut again);
            if again.is_empty() {
                return;
            }
        }
    }
    let mut scratch = Scratch::default();
    let read = decode(&again, &mut scratch).expect("what was written is read");
    assert_eq!(held(read), held(record));
}

/// Whole frames between noise: all are found, and the pieces cover every byte once.
fn frames(mut input: Input<'_>) {
    let (mut bytes, mut whole) = (Vec::new(), Vec::new());
    while !input.is_empty() {
        let kind = input.u8();
        let body = input.piece();
        if kind.is_multiple_of(4) {
            bytes.extend_from_slice(body);
            continue;
        }
        let start = frame::begin(&mut bytes);
        bytes.extend_from_slice(body);
        assert!(frame::finish(&mut bytes[start..], SEED));
        if kind % 4 == 1 && !body.is_empty() {
            // Damaged: a bit of its body.
            let at = start + frame::HEADER_BYTES + body.len() / 2;
            bytes[at] ^= 1 << (kind / 32);
        } else {
            whole.push((start, body));
        }
    }
    let (mut at, mut found) = (0, Vec::new());
    for piece in FrameReader::new(&bytes, 0, SEED) {
        match piece {
            Piece::Frame { offset, body } => {
                assert_eq!(offset, at);
                at += frame::HEADER_BYTES + body.len();
                found.push((offset, body));
            }
            Piece::Damage { offset, len } => {
                assert_eq!(offset, at);
                at += len;
            }
            Piece::Tail { offset, .. } => assert_eq!(offset, at),
        }
    }
    assert_eq!(found, whole);
}

fn epoch(sequence: u64) -> Epoch {
    Epoch { durability: DurabilityKind::Sync, uuid: [7; 16], sequence, previous: 0, previous_frames: 0 }
}

/// A segment with a sound header and frames whose checksums are right, of records as they come.
fn segment(mut input: Input<'_>) -> Vec<u8> {
    let epoch = epoch(1);
    let mut bytes = epoch.encode().to_vec();
    let mut index = 0u32;
    while !input.is_empty() {
        let flags = input.u8();
        let record = input.piece();
        let start = frame::begin(&mut bytes);
        bytes.extend_from_slice(&index.to_le_bytes());
        let durable = if flags & 4 == 0 { index } else { u32::from(flags) };
        bytes.extend_from_slice(&durable.to_le_bytes());
        bytes.extend_from_slice(record);
        assert!(frame::finish(&mut bytes[start..], epoch.seed()));
        index = index.wrapping_add(u32::from(flags & 3) + 1 - u32::from(flags & 3 == 3) * 4);
        if flags & 8 != 0 {
            bytes.push(flags);
        }
    }
    bytes
}

#[derive(Default)]
struct Counted {
    series: Vec<u32>,
    samples: usize,
    last: Option<(u32, i64)>,
}

impl ReplayVisitor for Counted {
    fn series(&mut self, id: u32, labels: &[u8]) -> Result<()> {
        let _ = Labels::from_wire(labels);
        self.series.push(id);
        Ok(())
    }

    fn samples(&mut self, samples: SamplesRecord<'_>) -> Result<()> {
        assert_eq!(samples.ids.len(), samples.timestamps.len());
        assert_eq!(samples.ids.len(), samples.values.len());
        self.samples += samples.ids.len();
        self.last = samples.ids.last().copied().zip(samples.timestamps.last().copied());
        Ok(())
    }

    fn histograms(&mut self, histograms: HistogramsRecord<'_>) -> Result<()> {
        assert_eq!(histograms.ids.len(), histograms.histograms.len());
        Ok(())
    }

    fn exemplars(&mut self, _exemplars: &[ExemplarRecord<'_>]) -> Result<()> {
        Ok(())
    }

    fn metadata(&mut self, _family: &str, _metadata: &Metadata) -> Result<()> {
        Ok(())
    }
}

/// Whatever lies in the log, it opens; what is written then is there at the next start, with all that was there before.
fn replay(file: &[u8]) {
    let memory: Arc<dyn Fs> = Arc::new(MemoryFs::unrecorded());
    store::write(memory.as_ref(), &path_of(Path::new(LOG), 1), file);
    let options = || WalOptions {
        segment_bytes: 4096,
        prepare_in_background: false,
        nonce: 5,
        ..WalOptions::default()
    };
    let open = |visitor: &mut Counted| {
        Wal::open(Arc::clone(&memory), store::clock(), Path::new(LOG), options(), 0, visitor).unwrap()
    };
    let mut before = Counted::default();
    let (mut wal, _) = open(&mut before);
    let samples = SamplesRecord { ids: &[77], timestamps: &[-5], values: &[1.5], starts: &[] };
    wal.push_samples(samples).unwrap();
    wal.commit().unwrap();
    drop(wal);
    let mut after = Counted::default();
    open(&mut after);
    assert_eq!((after.series.len(), after.samples), (before.series.len(), before.samples + 1));
    assert_eq!(after.last, Some((77, -5)));
}

/// A store over that log opens, takes writes, and gives the same answers after a restart.
fn whole_store(file: &[u8]) {
    let memory: Arc<dyn Fs> = Arc::new(MemoryFs::unrecorded());
    store::write(memory.as_ref(), &path_of(Path::new(LOG), 1), file);
    let store = store::open(&memory).unwrap();
    let mut batch = store.batch();
    let series = batch.series_labels(&Labels::from_pairs([("__name__", "after")])).unwrap();
    batch.sample(series, store::NOW, 1.0);
    store.append(batch).unwrap();
    store::survives_restart(&memory, store);
}

fn header(bytes: &[u8]) {
    if let Header::Ours(epoch) = read_header(bytes, 1) {
        assert_eq!(epoch.sequence, 1);
        assert_eq!(read_header(&epoch.encode(), 1), Header::Ours(epoch));
    }
}

/// The records of a log of a real store, in the order in which they were written.
fn records() -> Vec<Vec<u8>> {
    let memory = store::base();
    let mut found = Vec::new();
    for path in store::files(&memory) {
        if path.extension().is_none_or(|e| e != "wal") {
            continue;
        }
        let bytes = store::read(&memory, &path);
        let sequence = kymo_storage::wal::segment::sequence_of(&path).unwrap_or(0);
        let Header::Ours(epoch) = read_header(&bytes, sequence) else { continue };
        let start = kymo_storage::wal::segment::HEADER_BYTES;
        for piece in FrameReader::new(&bytes, start, epoch.seed()) {
            if let Piece::Frame { body, .. } = piece {
                found.push(body[8..].to_vec());
            }
        }
    }
    found
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let records = records();
    let labels = Labels::from_pairs([("__name__", "m"), ("a", "b")]);
    let mut small = Vec::new();
    encode_series(&[(0, labels.as_bytes()), (3, labels.as_bytes())], &mut small);
    let other = Labels::from_pairs([("__name__", "m"), ("a", "c")]);
    let mut far = Vec::new();
    encode_series(&[(1 << 26, labels.as_bytes()), (u32::MAX, other.as_bytes())], &mut far);
    let mut floats = Vec::new();
    let samples = SamplesRecord {
        ids: &[0, 3, 0],
        timestamps: &[10, 10, 25],
        values: &[1.0, -0.0, f64::NAN],
        starts: &[5, 0, 5],
    };
    let exemplar = ExemplarRecord { id: 3, timestamp: 9, value: 0.5, labels: labels.as_bytes() };
    let metadata = Metadata { help: "help".to_owned(), ..Metadata::default() };
    let batch = BatchRecord {
        samples,
        exemplars: &[exemplar],
        metadata: &[("m", &metadata)],
        ..BatchRecord::default()
    };
    encode_batch(&batch, false, &mut floats);
    let mut ints = Vec::new();
    let many: Vec<u32> = (0..64).collect();
    let times = vec![1_000; 64];
    let values: Vec<f64> = (0..64).map(f64::from).collect();
    let samples = SamplesRecord { ids: &many, timestamps: &times, values: &values, starts: &[] };
    encode_batch(&BatchRecord { samples, ..BatchRecord::default() }, true, &mut ints);
    for record in records.iter().map(Vec::as_slice).chain([&*small, &*floats, &*ints, &[10]]) {
        seeds.push(seed(&[&[0], record]));
    }
    for kind in [1, 2, 4] {
        let mut both = vec![kind];
        for record in [&small, &floats, &ints, &far, &floats] {
            both.extend_from_slice(&seed(&[&[2], &piece(record)]));
        }
        seeds.push(both);
        let mut log = vec![kind];
        for record in records.iter().filter(|r| r.len() < 2_000) {
            log.extend_from_slice(&seed(&[&[0], &piece(record)]));
        }
        seeds.push(log);
    }
    seeds.push(seed(&[&[1], &[0], &piece(b"noise"), &[1], &piece(b"body"), &[2], &piece(b"whole")]));
    let segment = segment(Input(&seed(&[&[0], &piece(&small), &[0], &piece(&floats)])));
    seeds.push(seed(&[&[3], &segment]));
    seeds.push(seed(&[&[5], &segment[..1024]]));
    seeds
}
