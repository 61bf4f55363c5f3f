//! Tests of `record`: diagrams, round trips, hostile bytes.

use super::*;
use crate::chunk::encode_one_histogram;
use crate::model::{AnyHistogram, Buckets, IntHistogram};
use proptest::prelude::*;

fn samples_bytes(ids: &[u32], timestamps: &[i64], values: &[f64], compressed: bool) -> Vec<u8> {
    let mut out = Vec::new();
    encode_samples(SamplesRecord { ids, timestamps, values, starts: &[] }, compressed, &mut out);
    out
}

#[test]
fn the_diagrams_are_true() {
    let bytes = samples_bytes(&[5, 6, 7, 2], &[10, 10, 10, 9], &[1.0, -1.0, 0.5, -0.0], false);
    let expected: &[u8] = &[
        3, 4, // SAMPLES, n
        10, 3, 11, 1, // ids: 5,6,7; then 2 = 8 − 6
        20, 3, 1, 1, // timestamps: 10 ×3, then −1
        4, 2, 13, 0xe0, 0x3f, 15, 0x80, // 1; −1; 0.5 = 3fe0…; −0.0 = 80…
    ];
    assert_eq!(bytes, expected);
    let mut out = Vec::new();
    encode_series(&[(3, b"ab"), (4, b"")], &mut out);
    assert_eq!(out, [2, 2, 6, 2, b'a', b'b', 0, 0]);
    out.clear();
    let metadata = Metadata { metric_type: MetricType::Gauge, unit: "s".into(), help: "h".into() };
    encode_metadata(&[("up", &metadata)], &mut out);
    assert_eq!(out, [6, 1, 2, b'u', b'p', 2, 1, b's', 1, b'h']);
    let mut scratch = Scratch::default();
    let Some(Record::Batch(batch)) = decode(&out, &mut scratch) else { panic!("metadata") };
    assert_eq!(batch.metadata, [("up", metadata)]);
}

fn histogram_bytes(count: u64) -> Vec<u8> {
    let positive = Buckets::run(3, vec![count, count + 1]).unwrap();
    let histogram = IntHistogram { count: 2 * count + 1, sum: 1.5, positive, ..IntHistogram::default() };
    let mut out = Vec::new();
    encode_one_histogram(&AnyHistogram::Int(histogram), &mut out);
    out
}

#[test]
fn the_diagram_of_histograms_is_true() {
    let (one, stale) = (histogram_bytes(1), vec![32]);
    let histograms = [one.as_slice(), &stale];
    let record =
        HistogramsRecord { ids: &[5, 6], timestamps: &[10, 10], histograms: &histograms, starts: &[] };
    let mut out = Vec::new();
    encode_histograms(record, &mut out);
    let expected = [&[4, 2, 10, 2, 20, 2][..], &[one.len() as u8], &one, &[1, 32]].concat();
    assert_eq!(out, expected);
    let mut scratch = Scratch::default();
    let Some(Record::Batch(batch)) = decode(&out, &mut scratch) else { panic!("histograms") };
    let found = batch.histograms();
    assert_eq!((found.ids, found.timestamps), (&[5, 6][..], &[10, 10][..]));
    assert_eq!(found.histograms, histograms);
    for at in 0..out.len() {
        assert!(decode(&out[..at], &mut scratch).is_none());
    }
    // Whole as a record, but the histogram counts one observation and holds none.
    assert!(
        decode(&[4, 1, 0, 1, 0, 1, 14, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &mut scratch).is_none()
    );
    let many: Vec<Vec<u8>> = (0..100).map(histogram_bytes).collect();
    let histograms: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    let ids: Vec<u32> = (0..100).collect();
    out.clear();
    encode_histograms(
        HistogramsRecord { ids: &ids, timestamps: &[7; 100], histograms: &histograms, starts: &[] },
        &mut out,
    );
    assert_eq!(out[0], KIND_HISTOGRAMS | COMPRESSED);
    let Some(Record::Batch(batch)) = decode(&out, &mut scratch) else { panic!("histograms") };
    assert_eq!(batch.histograms().histograms, histograms);
}

#[test]
fn the_diagram_of_a_batch_is_true() {
    let (one, metadata) = (histogram_bytes(1), Metadata { help: "h".into(), ..Metadata::default() });
    let histograms = [one.as_slice()];
    let exemplars = [
        ExemplarRecord { id: 5, timestamp: 9, value: 1.0, labels: b"ab" },
        ExemplarRecord { id: 4, timestamp: 12, value: 0.5, labels: b"" },
    ];
    let batch = BatchRecord {
        samples: SamplesRecord { ids: &[5], timestamps: &[10], values: &[1.0], starts: &[7] },
        histograms: HistogramsRecord { ids: &[6], timestamps: &[11], histograms: &histograms, starts: &[11] },
        exemplars: &exemplars,
        metadata: &[("up", &metadata)],
    };
    let mut out = Vec::new();
    encode_batch(&batch, false, &mut out);
    let expected: Vec<u8> = [
        &[11][..],
        &[7, 3, 1, 10, 1, 20, 1, 4], // SAMPLES
        &[4, 5, 0, 2 + 5, 0],        // SAMPLE_STARTS: 7 = 10 − 3
        &[7 + one.len() as u8, 4, 1, 12, 1, 22, 1, one.len() as u8],
        &one,
        &[4, 7, 0, 2, 0],                                               // HISTOGRAM_STARTS
        &[14, 8, 2, 10, 18, 4, 2, b'a', b'b', 1, 6, 13, 0xe0, 0x3f, 0], // EXEMPLARS
        &[9, 6, 1, 2, b'u', b'p', 0, 0, 1, b'h'],                       // METADATA
    ]
    .concat();
    assert_eq!(out, expected);
    let mut scratch = Scratch::default();
    let Some(Record::Batch(found)) = decode(&out, &mut scratch) else { panic!("a batch") };
    assert_eq!((found.samples.ids, found.samples.starts), (&[5][..], &[7][..]));
    assert_eq!((found.histograms().ids, found.histograms().starts), (&[6][..], &[11][..]));
    assert_eq!((&found.exemplars[..], found.metadata.len()), (&exemplars[..], 1));
    let ends: Vec<usize> = [7, 4, 7 + one.len(), 4, 14, 9]
        .iter()
        .scan(1, |at, n| {
            *at += n + 1;
            Some(*at)
        })
        .collect();
    for cut in (1..out.len()).filter(|cut| *cut > 1 && !ends.contains(cut)) {
        assert!(decode(&out[..cut], &mut scratch).is_none(), "{cut}");
    }
    let twice = [&out[..], &out[1..9]].concat();
    assert!(decode(&twice, &mut scratch).is_none(), "a part comes twice");
    let starts_only = [&[11], &out[9..14]].concat();
    assert!(decode(&starts_only, &mut scratch).is_none(), "starts of nothing");
}

#[test]
fn a_scrape_takes_three_bytes_a_sample() {
    let n = 2000;
    let ids: Vec<u32> = (0..n).collect();
    let timestamps = vec![1_790_000_000_000; n as usize];
    let values: Vec<f64> = (0..n).map(|i| f64::from(i * 37 % 1000)).collect();
    let bytes = samples_bytes(&ids, &timestamps, &values, false);
    assert!(bytes.len() < 2 * n as usize + 30, "{}", bytes.len());
}

#[test]
fn hostile_counts_do_not_allocate() {
    let mut scratch = Scratch::default();
    let kinds = [
        KIND_SERIES,
        KIND_SAMPLES,
        KIND_HISTOGRAMS,
        KIND_EXEMPLARS,
        KIND_METADATA,
        KIND_SAMPLES | COMPRESSED,
    ];
    for kind in kinds {
        let mut bytes = vec![kind];
        put_uvarint(&mut bytes, 1 << 27);
        bytes.extend_from_slice(&[0; 8]);
        assert!(decode(&bytes, &mut scratch).is_none(), "kind {kind}");
    }
    // Runs of zero samples would never end; runs over the last id would wrap.
    assert!(decode(&[KIND_SAMPLES, 1, 0, 0, 0, 1, 0], &mut scratch).is_none());
    assert!(scratch.samples.ids.capacity() < 100 && scratch.raw.iter().all(|raw| raw.capacity() == 0));
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        any::<i64>().prop_map(|i| i as f64),
        (-1000i32..1000).prop_map(f64::from),
        (-1000i32..1000).prop_map(|i| f64::from(i) / 8.0),
        Just(f64::NAN),
        Just(crate::model::stale_nan()),
        Just(-0.0),
        Just(f64::INFINITY),
        Just(9_007_199_254_740_992.0),
    ]
}

proptest! {
    #[test]
    fn samples_come_back_bit_by_bit(
        samples in prop::collection::vec((prop_oneof![0u32..20, any::<u32>()], prop_oneof![0i64..3, any::<i64>()], value()), 0..200),
        compressed: bool,
    ) {
        let ids: Vec<u32> = samples.iter().map(|s| s.0).collect();
        let timestamps: Vec<i64> = samples.iter().map(|s| s.1).collect();
        let values: Vec<f64> = samples.iter().map(|s| s.2).collect();
        let bytes = samples_bytes(&ids, &timestamps, &values, compressed);
        let mut scratch = Scratch::default();
        let Some(Record::Batch(batch)) = decode(&bytes, &mut scratch) else { panic!("samples") };
        let got = batch.samples;
        prop_assert_eq!(got.ids, &ids[..]);
        prop_assert_eq!(got.timestamps, &timestamps[..]);
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(got.values), bits(&values));
        for cut in 0..bytes.len() {
            prop_assert!(decode(&bytes[..cut], &mut scratch).is_none());
        }
    }

    #[test]
    fn series_come_back(series in prop::collection::vec((any::<u32>(), prop::collection::vec(97u8..100, 0..60)), 0..40)) {
        let borrowed: Vec<(u32, &[u8])> = series.iter().map(|(id, l)| (*id, l.as_slice())).collect();
        let mut bytes = Vec::new();
        encode_series(&borrowed, &mut bytes);
        let mut scratch = Scratch::default();
        let Some(Record::Series(got)) = decode(&bytes, &mut scratch) else { panic!("series") };
        prop_assert_eq!(got.collect::<Vec<_>>(), borrowed);
    }

    #[test]
    fn any_bytes_are_refused_without_panic(kind: u8, bytes in prop::collection::vec(prop_oneof![0u8..6, any::<u8>()], 0..60)) {
        let mut scratch = Scratch::default();
        let bytes = [&[kind], &bytes[..]].concat();
        decode(&bytes, &mut scratch);
        for known in KIND_SERIES..=KIND_BATCH {
            decode(&[&[known], &bytes[..]].concat(), &mut scratch);
        }
    }
}
