//! Columns and the small codecs below them: floats, times, histograms, start times, compression, dictionaries, postings.

use crate::input::{Input, seed};
use crate::store;
use kymo_storage::chunk::{
    HistogramDecoder, HistogramEncoder, ValueDecoder, ValueEncoder, decode_one_histogram, decode_starts,
    decode_timestamps, encode_one_histogram, encode_starts, encode_timestamps, hash_one_histogram,
    is_one_histogram,
};
use kymo_storage::codec::compress::{lz4_decode, lz4_encode, zstd_decode, zstd_encode};
use kymo_storage::index::dictionary::{Dictionary, write_dictionary};
use kymo_storage::index::postings::{Postings, PostingsBuilder, write_postings};
use kymo_storage::model::{AnyHistogram, Labels};
use roaring::RoaringBitmap;

/// The most samples that a caller asks for; a chunk has 1,920.
const ROWS_MAX: u16 = 4096;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 12 {
        0 => {
            let count = usize::from(input.u16() % ROWS_MAX);
            let mut values = Vec::new();
            if ValueDecoder::new().decode_into(input.0, count, &mut values).is_ok() {
                assert_eq!(values.len(), count);
                floats(&values);
            }
        }
        1 => floats(&numbers(input)),
        2 => {
            let count = usize::from(input.u16() % ROWS_MAX);
            let mut times = Vec::new();
            if decode_timestamps(input.0, count, &mut times).is_ok() {
                assert_eq!(times.len(), count);
                timestamps(&times);
            }
        }
        3 => timestamps(&times(input)),
        4 => start_times(input),
        5 => histograms(input),
        6 => one_histogram(input.0),
        7 => compressed(input),
        8 => dictionary(input),
        9 => postings(input),
        10 => lists(input),
        _ => labels(input.0),
    }
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Floats of the shapes that encoders know: any bits, decimals, whole numbers, steps.
fn numbers(mut input: Input<'_>) -> Vec<f64> {
    let shape = input.u8();
    let mut values = Vec::new();
    let mut before = 0i64;
    while !input.is_empty() && values.len() < usize::from(ROWS_MAX) {
        values.push(match shape % 6 {
            0 => f64::from_bits(input.u64()),
            1 => f64::from(i16::from_le_bytes([input.u8(), input.u8()])) / 100.0,
            2 => f64::from(input.u8()),
            3 => {
                before += i64::from(input.u8() as i8);
                before as f64 * 10f64.powi(i32::from(shape / 6) - 20)
            }
            4 => f64::from_bits(1.5f64.to_bits().wrapping_add(u64::from(input.u8()))),
            _ => [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, 5e-324, 0.1]
                [usize::from(input.u8() % 8)],
        });
    }
    values
}

/// What is encoded comes back bit by bit.
fn floats(values: &[f64]) {
    if values.is_empty() {
        return;
    }
    for verified in [true, false] {
        let (mut encoder, mut out, mut again) = (ValueEncoder::new(), Vec::new(), Vec::new());
        if verified {
            encoder.encode_verified(values, &mut out);
        } else {
            encoder.encode_passing(values, &mut out);
        }
        assert_eq!(encoder.fallbacks(), 0, "an encoding that does not decode: {values:?}");
        ValueDecoder::new().decode_into(&out, values.len(), &mut again).unwrap();
        assert_eq!(bits(&again), bits(values));
    }
}

fn times(mut input: Input<'_>) -> Vec<i64> {
    let shape = input.u8();
    let (mut times, mut last) = (Vec::new(), 0i64);
    while !input.is_empty() && times.len() < usize::from(ROWS_MAX) {
        last = match shape % 3 {
            0 => input.u64().cast_signed(),
            1 => last.wrapping_add(i64::from(input.u8())),
            _ => last.wrapping_add(15_000 + i64::from(input.u8() as i8)),
        };
        times.push(last);
    }
    times
}

fn timestamps(times: &[i64]) {
    if times.is_empty() {
        return;
    }
    let (mut out, mut again) = (Vec::new(), Vec::new());
    encode_timestamps(times, &mut out);
    decode_timestamps(&out, times.len(), &mut again).unwrap();
    assert_eq!(again, times);
}

fn start_times(mut input: Input<'_>) {
    let step = i64::from(input.u16());
    let count = i64::from(input.u16() % 512) + 1;
    let times: Vec<i64> = (0..count).map(|i| i * step).collect();
    let mut starts = Vec::new();
    if decode_starts(input.0, &times, &mut starts).is_some() {
        assert_eq!(starts.len(), times.len());
        let (mut out, mut again) = (Vec::new(), Vec::new());
        encode_starts(&times, &starts, &mut out);
        decode_starts(&out, &times, &mut again).expect("what was encoded is decoded");
        assert_eq!(again, starts);
    }
}

fn histograms(mut input: Input<'_>) {
    let rows = usize::from(input.u16() % 512);
    let payload = input.0;
    let (mut found, mut as_floats, mut totals) = (Vec::new(), Vec::new(), Vec::new());
    let mut decoder = HistogramDecoder::new();
    let whole = decoder.decode(payload, rows, &mut found);
    assert_eq!(decoder.decode_floats(payload, rows, &mut as_floats).is_ok(), whole.is_ok());
    let totals_read = decoder.decode_totals(payload, rows, &mut totals);
    if whole.is_err() {
        return;
    }
    totals_read.unwrap();
    assert_eq!((found.len(), as_floats.len(), totals.len()), (rows, rows, rows));
    for (any, (float, total)) in found.iter().zip(as_floats.iter().zip(&totals)) {
        if !any.is_stale() {
            assert_eq!(total.sum.to_bits(), float.sum.to_bits());
            assert_eq!(total.count.to_bits(), float.count.to_bits());
        }
    }
    // Those that could have been accepted come back as they are.
    let sound = |any: &&AnyHistogram| any.is_stale() || is_accepted(any);
    let sound: Vec<AnyHistogram> = found.iter().take_while(sound).cloned().collect();
    let (mut payload, mut again) = (Vec::new(), Vec::new());
    let taken = HistogramEncoder::new().encode(&sound, &mut payload);
    if taken > 0 {
        decoder.decode(&payload, taken, &mut again).unwrap();
        let one = |h: &AnyHistogram| {
            let mut out = Vec::new();
            encode_one_histogram(h, &mut out);
            out
        };
        assert!(again.iter().map(one).eq(sound.iter().take(taken).map(one)), "{again:?} {sound:?}");
    }
}

fn is_accepted(any: &AnyHistogram) -> bool {
    match any {
        AnyHistogram::Int(h) => h.validate().is_ok(),
        AnyHistogram::Float(h) => h.validate().is_ok(),
    }
}

fn one_histogram(bytes: &[u8]) {
    let Some(histogram) = decode_one_histogram(bytes) else {
        assert!(!is_one_histogram(bytes));
        return;
    };
    let _ = hash_one_histogram(bytes);
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    encode_one_histogram(&histogram, &mut once);
    let again = decode_one_histogram(&once).expect("what was encoded is decoded");
    encode_one_histogram(&again, &mut twice);
    assert_eq!(once, twice);
    if is_one_histogram(bytes) {
        assert!(is_one_histogram(&once));
        // Whatever was accepted can be changed into each of its forms.
        let _ = format!("{histogram:?}");
        if let AnyHistogram::Int(h) = &histogram {
            assert!(histogram.is_stale() || h.to_float().validate().is_ok(), "{h:?}");
        }
    }
}

fn compressed(mut input: Input<'_>) {
    let (kind, limit) = (input.u8(), usize::from(input.u16()) << 4);
    let (mut out, mut packed) = (Vec::new(), Vec::new());
    let is_read = if kind.is_multiple_of(2) {
        lz4_decode(input.0, limit, &mut out).is_ok()
    } else {
        zstd_decode(input.0, limit, &mut out).is_ok()
    };
    assert!(!is_read || out.len() <= limit, "{} bytes of at most {limit}", out.len());
    out.clear();
    if kind.is_multiple_of(2) {
        lz4_encode(input.0, &mut packed).unwrap();
        lz4_decode(&packed, input.0.len(), &mut out).unwrap();
    } else {
        zstd_encode(input.0, 1, &mut packed).unwrap();
        zstd_decode(&packed, input.0.len(), &mut out).unwrap();
    }
    assert_eq!(out, input.0);
}

fn dictionary(mut input: Input<'_>) {
    let count = u32::from(input.u16());
    let Some(dictionary) = Dictionary::new(input.0, count) else { return };
    let (mut text, mut values) = (String::new(), Vec::new());
    for id in [0, 1, count / 2, count.saturating_sub(1), count, u32::MAX] {
        let _ = dictionary.value(id, &mut text);
    }
    for wanted in ["", "a", "host-03:9100", "\u{10ffff}"] {
        let _ = dictionary.find(wanted);
        let _ = dictionary.visit(wanted, |_, value| assert!(value.starts_with(wanted)));
    }
    if dictionary.visit("", |_, value| values.push(value.to_owned())).is_some()
        && values.windows(2).all(|w| w[0] < w[1])
        && values.len() == count as usize
    {
        texts(&values);
    }
}

fn texts(values: &[String]) {
    let mut out = Vec::new();
    write_dictionary(values.iter().map(String::as_str), &mut out);
    let dictionary = Dictionary::new(&out, values.len() as u32).unwrap();
    let mut text = String::new();
    for (id, value) in values.iter().enumerate() {
        assert_eq!(dictionary.value(id as u32, &mut text), Some(true));
        assert_eq!(&text, value);
        assert_eq!(dictionary.find(value), Some(Some(id as u32)));
    }
}

fn postings(mut input: Input<'_>) {
    let count = u32::from(input.u16() % 1024);
    let Some(postings) = Postings::new(input.0, count) else { return };
    let mut found = RoaringBitmap::new();
    let _ = postings.add(&[0, 1, count / 2, count, 17, 3], &mut found);
    let _ = postings.visit(|id, _| assert!(id < count));
}

/// Sorted texts and lists of numbers, as an index is written, come back.
fn lists(mut input: Input<'_>) {
    let mut values = Vec::new();
    let mut builders = Vec::new();
    let mut expected: Vec<Vec<u32>> = Vec::new();
    while !input.is_empty() && values.len() < 200 {
        let length = usize::from(input.u8() % 12).min(input.0.len());
        let (text, rest) = input.0.split_at(length);
        input.0 = rest;
        values.push(String::from_utf8_lossy(text).into_owned());
        let (mut builder, mut list, mut series) = (PostingsBuilder::default(), Vec::new(), 0u32);
        for _ in 0..=input.u8() % 40 {
            builder.push(series);
            list.push(series);
            let Some(next) = series.checked_add(1 + u32::from(input.u8())) else { break };
            series = next;
        }
        builders.push(builder);
        expected.push(list);
    }
    values.sort();
    values.dedup();
    texts(&values);
    let mut out = Vec::new();
    write_postings(builders.iter(), &mut out);
    let postings = Postings::new(&out, builders.len() as u32).unwrap();
    for (id, list) in expected.iter().enumerate() {
        let mut found = RoaringBitmap::new();
        postings.add(&[id as u32], &mut found).unwrap();
        assert!(found.iter().eq(list.iter().copied()));
    }
}

fn labels(bytes: &[u8]) {
    let Ok(labels) = Labels::from_wire(bytes) else { return };
    let pairs: Vec<(&str, &str)> = labels.iter().collect();
    assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0), "{labels}");
    assert_eq!(Labels::from_wire(labels.as_bytes()).as_ref(), Ok(&labels));
    assert_eq!(labels.to_builder().build(), labels);
    assert_eq!(Labels::from_sorted_pairs(pairs.iter().copied()), labels);
    let _ = labels.to_string();
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let columns: [Vec<f64>; 6] = [
        vec![1.5; 9],
        (0..60).map(f64::from).collect(),
        (0..60).map(|i| f64::from(i * i % 97) / 10.0).collect(),
        (0..60).map(|i| f64::from(i).sqrt()).collect(),
        (0..60).map(|i| if i % 9 == 3 { f64::NAN } else { f64::from(i / 5) }).collect(),
        vec![0.1, 0.2, 0.1 + 0.2, -0.0, 5e-324, 1e300],
    ];
    for values in &columns {
        let mut out = Vec::new();
        ValueEncoder::new().encode_verified(values, &mut out);
        seeds.push(seed(&[&[0], &(values.len() as u16).to_le_bytes(), &out]));
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        seeds.push(seed(&[&[1, 0], &raw]));
    }
    for shape in 1..6 {
        seeds
            .push(seed(&[&[1, shape + 6 * 3], &(0..80u32).map(|i| (i * 7 % 50) as u8).collect::<Vec<u8>>()]));
    }
    for times in [
        (0..50).map(|i| i * 15_000).collect::<Vec<i64>>(),
        (0..50).map(|i| i * 15_000 + i * i % 13).collect(),
        vec![i64::MIN, -1, 0, 7, i64::MAX],
    ] {
        let mut out = Vec::new();
        encode_timestamps(&times, &mut out);
        seeds.push(seed(&[&[2], &(times.len() as u16).to_le_bytes(), &out]));
        let raw: Vec<u8> = times.iter().flat_map(|t| t.to_le_bytes()).collect();
        seeds.push(seed(&[&[3, 0], &raw]));
        let deltas: Vec<u8> = (0..50).collect();
        seeds.push(seed(&[&[3, 2], &deltas]));
    }
    let times: Vec<i64> = (0..20).map(|i| i * 1000).collect();
    for starts in [vec![500; 20], (0..20).map(|i| if i < 9 { 0 } else { i * 1000 - 3 }).collect()] {
        let mut out = Vec::new();
        encode_starts(&times, &starts, &mut out);
        seeds.push(seed(&[&[4], &1000u16.to_le_bytes(), &19u16.to_le_bytes(), &out]));
    }
    let whole: Vec<AnyHistogram> = (0..9).map(|i| AnyHistogram::Int(store::whole(i))).collect();
    let floats: Vec<AnyHistogram> = (0..9).map(|i| AnyHistogram::Float(store::fractional(i))).collect();
    for list in [&whole, &floats] {
        let mut out = Vec::new();
        let rows = HistogramEncoder::new().encode(list, &mut out) as u16;
        seeds.push(seed(&[&[5], &rows.to_le_bytes(), &out]));
        out.clear();
        encode_one_histogram(&list[3], &mut out);
        seeds.push(seed(&[&[6], &out]));
    }
    let text = b"some text, some text, some text, and some more of it";
    let (mut lz4, mut zstd) = (Vec::new(), Vec::new());
    lz4_encode(text, &mut lz4).unwrap();
    zstd_encode(text, 3, &mut zstd).unwrap();
    seeds.push(seed(&[&[7, 0], &200u16.to_le_bytes(), &lz4]));
    seeds.push(seed(&[&[7, 1], &200u16.to_le_bytes(), &zstd]));
    let values: Vec<String> = (0..40).map(|i| format!("host-{i:02}:9100")).collect();
    let mut out = Vec::new();
    write_dictionary(values.iter().map(String::as_str), &mut out);
    seeds.push(seed(&[&[8], &40u16.to_le_bytes(), &out]));
    let builders: Vec<PostingsBuilder> = (0..20u32)
        .map(|i| {
            let mut builder = PostingsBuilder::default();
            (0..=i * i).for_each(|series| builder.push(series * (1 + i % 3)));
            builder
        })
        .collect();
    out.clear();
    write_postings(builders.iter(), &mut out);
    seeds.push(seed(&[&[9], &20u16.to_le_bytes(), &out]));
    seeds.push(seed(&[&[10], &(0..120u32).map(|i| (i * 5 % 43) as u8).collect::<Vec<u8>>()]));
    let labels = Labels::from_pairs([("__name__", "up"), ("instance", "a:9100"), ("job", "node")]);
    seeds.push(seed(&[&[11], labels.as_bytes()]));
    seeds
}
