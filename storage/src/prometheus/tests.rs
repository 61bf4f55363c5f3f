//! Every chunk format: round trips, known bytes, and hostile bytes.

use super::*;
use crate::model::{Buckets, CUSTOM_SCHEMA, FloatHistogram, IntHistogram, ResetHint, Timestamp, stale_nan};
use proptest::prelude::*;

/// Timestamps: scrapes with a little jitter, or anything.
fn any_times() -> impl Strategy<Value = Vec<Timestamp>> {
    let regular = (
        1_600_000_000_000_i64..1_800_000_000_000,
        1_000..60_000_i64,
        proptest::collection::vec(-30..30_i64, 0..50),
    );
    let regular = regular.prop_map(|(start, step, jitter)| {
        jitter.iter().enumerate().map(|(i, j)| start + i as i64 * step + j).collect()
    });
    let wild = proptest::collection::btree_set(any::<i64>(), 0..20).prop_map(|set| set.into_iter().collect());
    prop_oneof![3 => regular, 1 => wild]
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => (-1_000..1_000_i32).prop_map(|v| f64::from(v) / 8.0),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(stale_nan()),
        1 => Just(1.0),
    ]
}

fn write_floats(samples: &[(Timestamp, f64)]) -> Vec<u8> {
    let mut chunk = FloatChunkWriter::new();
    samples.iter().for_each(|(t, v)| assert!(chunk.push(*t, *v)));
    assert_eq!(chunk.len(), samples.len());
    chunk.finish()
}

/// A histogram of whole numbers; `base` numbers are added to by `more`.
fn int_histogram(kind: u8, counts: &[u64]) -> IntHistogram {
    let custom = kind == 2;
    let total = counts.iter().sum();
    let (positive, negative) = counts.split_at(if custom { counts.len() } else { counts.len() / 2 });
    IntHistogram {
        schema: if custom { CUSTOM_SCHEMA } else { 3 },
        zero_threshold: if custom {
            0.0
        } else if kind == 0 {
            2_f64.powi(-128)
        } else {
            0.001
        },
        count: total,
        sum: total as f64 * 1.5,
        positive: Buckets::run(if custom { 0 } else { -7 }, positive.to_vec()).unwrap(),
        negative: Buckets::run(3, negative.to_vec()).unwrap(),
        custom_bounds: if custom {
            (0..counts.len()).map(|i| i as f64 * 0.7 - 0.5).collect()
        } else {
            [].into()
        },
        ..IntHistogram::default()
    }
}

/// Histograms that count on from one to the next, now and then with a staleness marker or a reset.
fn any_histograms() -> impl Strategy<Value = Vec<IntHistogram>> {
    let step = (0..8_u8, proptest::collection::vec(0..40_u64, 6));
    (0..3_u8, any::<bool>(), proptest::collection::vec(step, 1..30)).prop_map(|(kind, gauge, steps)| {
        let mut counts = vec![1; 6];
        let mut out = Vec::new();
        for (what, more) in steps {
            match what {
                0 => counts = more,
                1 => {
                    out.push(IntHistogram::stale());
                    continue;
                }
                _ => counts.iter_mut().zip(&more).for_each(|(c, m)| *c += m),
            }
            let hint = if gauge { ResetHint::Gauge } else { ResetHint::Unknown };
            out.push(IntHistogram { hint, ..int_histogram(kind, &counts) });
        }
        out
    })
}

/// Writes histograms into as many chunks as they take, and gives what the chunks hold.
fn through_chunks(histograms: &[IntHistogram]) -> (Vec<(Timestamp, IntHistogram)>, Vec<usize>) {
    let mut chunks: Vec<HistogramChunkWriter> = Vec::new();
    for (i, histogram) in histograms.iter().enumerate() {
        let time = 1_000 * i as i64;
        if !chunks.last_mut().is_some_and(|chunk| chunk.push(time, histogram)) {
            chunks.push(HistogramChunkWriter::new(time, histogram));
        }
    }
    let lengths = chunks.iter().map(HistogramChunkWriter::samples).collect();
    let read = chunks.into_iter().flat_map(|chunk| {
        let bytes = chunk.finish();
        HistogramChunkReader::new(&bytes).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    });
    (read.collect(), lengths)
}

fn through_float_chunks(histograms: &[FloatHistogram]) -> (Vec<(Timestamp, FloatHistogram)>, Vec<usize>) {
    let mut chunks: Vec<FloatHistogramChunkWriter> = Vec::new();
    for (i, histogram) in histograms.iter().enumerate() {
        let time = 1_000 * i as i64;
        if !chunks.last_mut().is_some_and(|chunk| chunk.push(time, histogram)) {
            chunks.push(FloatHistogramChunkWriter::new(time, histogram));
        }
    }
    let lengths = chunks.iter().map(FloatHistogramChunkWriter::samples).collect();
    let read = chunks.into_iter().flat_map(|chunk| {
        let bytes = chunk.finish();
        FloatHistogramChunkReader::new(&bytes).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    });
    (read.collect(), lengths)
}

proptest! {
    #[test]
    fn floats_come_back(times in any_times(), values in proptest::collection::vec(any_value(), 50)) {
        let samples: Vec<(Timestamp, f64)> = times.into_iter().zip(values).collect();
        let bytes = write_floats(&samples);
        let read: Vec<_> = FloatChunkReader::new(&bytes).unwrap().map(Result::unwrap).collect();
        let bits = |s: &[(Timestamp, f64)]| s.iter().map(|s| (s.0, s.1.to_bits())).collect::<Vec<_>>();
        prop_assert_eq!(bits(&read), bits(&samples));
    }

    #[test]
    fn histograms_come_back(histograms in any_histograms()) {
        let (read, lengths) = through_chunks(&histograms);
        prop_assert_eq!(read.len(), histograms.len());
        for ((i, (time, read)), sent) in read.iter().enumerate().zip(&histograms) {
            prop_assert_eq!(*time, 1_000 * i as i64);
            prop_assert!(read.is_same_data(sent), "{:?} {:?}", read, sent);
        }
        let floats: Vec<FloatHistogram> = histograms.iter().map(IntHistogram::to_float).collect();
        let (read, float_lengths) = through_float_chunks(&floats);
        prop_assert_eq!(lengths, float_lengths);
        prop_assert!(read.iter().zip(&floats).all(|((_, a), b)| a.is_same_data(b)));
    }

    /// No chunk hides a reset: what follows the first histogram of a chunk is marked as counting on, and does.
    #[test]
    fn a_chunk_holds_no_reset(histograms in any_histograms()) {
        let (read, _) = through_chunks(&histograms);
        for pair in read.windows(2) {
            let (before, after) = (pair[0].1.to_float(), pair[1].1.to_float());
            if after.hint == ResetHint::NotReset && !after.is_stale() {
                prop_assert!(!after.has_fallen_from(&before), "{:?} {:?}", before, after);
            }
        }
    }

    #[test]
    fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let count = |n: Result<usize, ChunkError>| assert!(n.unwrap_or(0) <= CHUNK_SAMPLES_MAX);
        count(FloatChunkReader::new(&bytes).map(Iterator::count));
        count(HistogramChunkReader::new(&bytes).map(Iterator::count));
        count(FloatHistogramChunkReader::new(&bytes).map(Iterator::count));
    }

    #[test]
    fn damaged_chunks_end_in_an_answer(histograms in any_histograms(), at in any::<u16>(), flip in 1..=255_u8) {
        let mut chunk = HistogramChunkWriter::new(0, &histograms[0]);
        histograms[1..].iter().enumerate().for_each(|(i, h)| _ = chunk.push(i as i64, h));
        let mut bytes = chunk.finish();
        let at = usize::from(at) % bytes.len();
        bytes[at] ^= flip;
        for reader in HistogramChunkReader::new(&bytes).unwrap() {
            if reader.is_err() { break }
        }
        bytes.truncate(at);
        if let Ok(reader) = HistogramChunkReader::new(&bytes) {
            let samples = reader.samples();
            prop_assert!(samples == 0 || reader.last().is_none_or(|last| last.is_err() || at > 0));
        }
    }
}

/// What Prometheus writes for these samples, from its format by hand.
#[test]
fn a_chunk_bit_by_bit() {
    let bytes = write_floats(&[(10, 1.0), (20, 1.0), (30, 2.0), (8_222, 2.0)]);
    let mut bits = String::new();
    bits += "00000000 00000100"; // four samples
    bits += "00010100"; // 10, zigzag
    bits += "00111111 11110000"; // 1.0
    bits += &"00000000".repeat(6);
    bits += "00001010"; // 10 later
    bits += "0"; // the same value
    bits += "0"; // at the same distance
    // 1.0 xor 2.0 = 7ff0…: one zero in front, 52 behind, 11 between
    bits += "11 00001 001011 11111111111";
    bits += "10 01111111110110"; // the distance grows from 10 to 8192: by 8182
    bits += "0";
    let bits: Vec<u8> = bits.bytes().filter(|b| *b != b' ').map(|b| b - b'0').collect();
    let expected: Vec<u8> = bits
        .chunks(8)
        .map(|byte| byte.iter().enumerate().fold(0, |sum, (i, bit)| sum | bit << (7 - i)))
        .collect();
    assert_eq!(bytes, expected);
}

#[test]
fn changes_of_distance_at_the_edges_of_each_width() {
    for change in [
        0,
        8_192,
        -8_191,
        8_193,
        -8_192,
        65_536,
        -65_535,
        65_537,
        524_288,
        -524_287,
        524_289,
        -524_288,
        1 << 40,
    ] {
        let samples = [(0, 0.0), (1 << 41, 0.0), ((1 << 42) + change, 0.0)];
        let bytes = write_floats(&samples);
        let read: Vec<_> = FloatChunkReader::new(&bytes).unwrap().map(|s| s.unwrap().0).collect();
        assert_eq!(read, samples.map(|s| s.0), "{change}");
    }
}

#[test]
fn lies_about_lengths_cost_no_memory() {
    // Behind the header: no zero threshold, schema 0 (one bit), then numbers of variable length.
    let spans = [&[0, 1, 0, 0, 0x7f, 0x7f][..], &[0xff; 7]].concat();
    let error = HistogramChunkReader::new(&spans).unwrap().next().unwrap().unwrap_err();
    assert_eq!(error, ChunkError::Layout { what: "spans", met: (1 << 56) - 1 });
    // One span (10 001) of 2^25 - 1 buckets (1111110 and 25 ones).
    let buckets = [&[0, 1, 0, 0, 0b0100_0111, 0b1111_0111][..], &[0xff; 20]].concat();
    let error = FloatHistogramChunkReader::new(&buckets).unwrap().next().unwrap().unwrap_err();
    assert_eq!(error, ChunkError::Layout { what: "buckets", met: (1 << 25) - 1 });
    assert_eq!(FloatChunkReader::new(&[1]).unwrap_err(), ChunkError::NoHeader(1));
    let short = FloatChunkReader::new(&[0, 9, 1]).unwrap().next().unwrap();
    assert_eq!(short, Err(ChunkError::Truncated { sample: 1, samples: 9 }));
}

#[test]
fn a_series_of_all_kinds_in_chunks() {
    let mut samples = crate::api::Samples::new();
    samples.clear();
    (0..300).for_each(|i| samples.push(i, f64::from(i as u32)));
    let histogram = |timestamp, histogram: FloatHistogram| crate::api::HistogramSample {
        timestamp,
        start_timestamp: 0,
        histogram: std::sync::Arc::new(histogram),
    };
    let whole = int_histogram(0, &[1, 2, 3, 4]).to_float();
    let mut broken = whole.clone();
    broken.sum = 0.5;
    broken.count = 10.5;
    samples.histograms = vec![
        histogram(-2, whole.clone()),
        histogram(-1, FloatHistogram::stale()),
        histogram(400, broken),
        histogram(401, whole),
    ];
    let mut chunks = Vec::new();
    chunks_of(&samples, |chunk| -> Result<(), ()> {
        chunks.push((chunk.kind, chunk.first, chunk.last, chunk.samples));
        Ok(())
    })
    .unwrap();
    let expected = [
        (ChunkKind::Histogram, -2, -1, 2),
        (ChunkKind::Float, 0, 119, 120),
        (ChunkKind::Float, 120, 239, 120),
        (ChunkKind::Float, 240, 299, 60),
        (ChunkKind::FloatHistogram, 400, 400, 1),
        (ChunkKind::Histogram, 401, 401, 1),
    ];
    assert_eq!(chunks, expected);
    let stopped = chunks_of(&samples, |chunk| if chunk.first < 120 { Ok(()) } else { Err(chunk.first) });
    assert_eq!(stopped, Err(120));
}
