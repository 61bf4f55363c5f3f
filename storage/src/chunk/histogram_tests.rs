//! Tests of `histogram.rs`: sizes, cuts, round trips, damage.

use super::{HistogramDecoder, HistogramEncoder, SAMPLES_PER_CHUNK};
use crate::model::{
    AnyHistogram, Buckets, CUSTOM_SCHEMA, FloatHistogram, Histogram, IntHistogram, ResetHint, stale_nan,
};
use proptest::prelude::*;

/// Writes all samples and reads them back; the sizes of the chunks, in samples and bytes.
fn round_trip(samples: &[AnyHistogram]) -> Vec<(usize, usize)> {
    let (mut encoder, mut decoder) = (HistogramEncoder::new(), HistogramDecoder::new());
    let mut rest = samples;
    let mut sizes = Vec::new();
    let mut back = Vec::new();
    while !rest.is_empty() {
        let mut payload = Vec::new();
        let rows = encoder.encode(rest, &mut payload);
        assert!(rows > 0 && rows <= rest.len());
        decoder.decode(&payload, rows, &mut back).unwrap();
        let mut floats = Vec::new();
        decoder.decode_floats(&payload, rows, &mut floats).unwrap();
        assert!(floats.iter().zip(rest).all(|(f, s)| *f == s.to_float()));
        let mut totals = Vec::new();
        decoder.decode_totals(&payload, rows, &mut totals).unwrap();
        for (total, float) in totals.iter().zip(&floats) {
            let expected = (float.hint, float.count.to_bits(), float.sum.to_bits());
            assert_eq!((total.hint, total.count.to_bits(), total.sum.to_bits()), expected);
        }
        assert_eq!(totals.len(), rows);
        sizes.push((rows, payload.len()));
        rest = &rest[rows..];
    }
    assert_eq!(back, samples);
    sizes
}

fn int(schema: i32, offset: i32, counts: &[u64]) -> IntHistogram {
    let mut histogram = IntHistogram {
        schema,
        zero_threshold: 1e-128,
        zero_count: 1,
        count: counts.iter().sum::<u64>() + 1,
        sum: counts.len() as f64 * 1.5,
        positive: Buckets::run(offset, counts.to_vec()).unwrap(),
        ..Histogram::default()
    };
    histogram.compact();
    histogram
}

#[test]
fn chunks_are_cut_where_the_layout_must_change() {
    let int = |schema, offset, counts: &[u64]| AnyHistogram::Int(int(schema, offset, counts));
    let stale = || AnyHistogram::Int(Histogram::stale());
    let gauge = |mut h: AnyHistogram| {
        h.set_hint(ResetHint::Gauge);
        h
    };
    let float = |h: AnyHistogram| AnyHistogram::Float(h.to_float());
    let custom = |bounds: &[f64]| {
        AnyHistogram::Int(IntHistogram {
            schema: CUSTOM_SCHEMA,
            custom_bounds: bounds.into(),
            count: 2,
            positive: Buckets::run(bounds.len() as i32, vec![2]).unwrap(),
            ..Histogram::default()
        })
    };
    let cases: [(&str, Vec<AnyHistogram>, &[usize]); 8] = [
        ("none", vec![], &[]),
        ("new buckets", vec![int(0, 0, &[1]), int(0, -2, &[1, 0, 2, 0, 5]), int(0, 9, &[1])], &[3]),
        ("schema", vec![int(0, 0, &[1]), int(1, 0, &[1]), int(0, 0, &[1])], &[1, 1, 1]),
        (
            "stale",
            vec![stale(), int(0, 0, &[1]), stale(), int(0, 0, &[2]), stale(), int(1, 0, &[2])],
            &[5, 1],
        ),
        ("only stale", vec![stale(), stale()], &[2]),
        ("hints", vec![int(0, 0, &[1]), gauge(int(0, 0, &[1])), gauge(stale())], &[3]),
        ("kind", vec![int(0, 0, &[1]), float(int(0, 0, &[1])), float(stale())], &[1, 2]),
        ("bounds", vec![custom(&[1.0, 2.5]), custom(&[1.0, 2.5]), custom(&[1.0]), custom(&[])], &[2, 1, 1]),
    ];
    for (name, samples, expected) in cases {
        let sizes: Vec<_> = round_trip(&samples).iter().map(|s| s.0).collect();
        assert_eq!(sizes, expected, "{name}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter; smaller chunks take the same ways")]
fn a_steady_counter_takes_little_more_than_its_changes() {
    let mut counts = [0_u64; 24];
    let samples: Vec<_> = (0..480_u64)
        .map(|i| {
            // Most buckets get their usual share, with some noise.
            for (at, count) in counts.iter_mut().enumerate() {
                *count += at as u64 % 7 + (i * 31 + at as u64 * 17) % 3;
            }
            let mut histogram = int(3, 10, &counts);
            histogram.sum = (histogram.count * 7) as f64 / 1000.0;
            AnyHistogram::Int(histogram)
        })
        .collect();
    let sizes = round_trip(&samples);
    assert_eq!(sizes.len(), 1);
    let per_sample = sizes[0].1 as f64 / 480.0;
    assert!(per_sample < 12.0, "{per_sample} bytes a sample of 24 buckets");
    let floats: Vec<_> = samples.iter().map(|s| AnyHistogram::Float(s.to_float())).collect();
    assert!(round_trip(&floats)[0].1 as f64 / 480.0 < 12.0);
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter; smaller chunks take the same ways")]
fn long_and_wide_series_are_cut() {
    let narrow: Vec<_> =
        (0..SAMPLES_PER_CHUNK as u64 + 3).map(|i| AnyHistogram::Int(int(0, 0, &[i + 1]))).collect();
    assert_eq!(round_trip(&narrow).iter().map(|s| s.0).collect::<Vec<_>>(), [SAMPLES_PER_CHUNK, 3]);
    let wide = vec![AnyHistogram::Int(int(8, 0, &[1; 60_000])); 40];
    assert_eq!(round_trip(&wide).iter().map(|s| s.0).collect::<Vec<_>>(), [34, 6]);
}

pub(super) fn any_sample() -> impl Strategy<Value = AnyHistogram> {
    let count = prop_oneof![4 => 0_u64..9, 1 => any::<u64>()];
    let side = || (-6_i32..6, proptest::collection::vec(count.clone(), 0..6));
    let hint = (0_u64..4).prop_map(ResetHint::from_number);
    let value =
        || prop_oneof![3 => (-9_i32..9).prop_map(f64::from), 1 => any::<f64>(), 1 => Just(stale_nan())];
    let frame = (prop_oneof![4 => Just(0_i32), 1 => -4_i32..=8, 1 => Just(CUSTOM_SCHEMA)], 0_usize..3);
    (frame, any::<bool>(), hint, side(), side(), value(), value(), count.clone()).prop_map(
        |((schema, variant), float, hint, positive, negative, sum, scale, total)| {
            let custom = schema == CUSTOM_SCHEMA;
            let positive = Buckets::run(if custom { 0 } else { positive.0 }, positive.1).unwrap();
            let mut histogram = IntHistogram {
                hint,
                schema,
                zero_threshold: if custom { 0.0 } else { [0.0, 0.001, 1.0][variant] },
                zero_count: if custom { 0 } else { total / 3 },
                count: total,
                sum,
                custom_bounds: (0..if custom { positive.len() } else { 0 })
                    .map(|i| (i + variant) as f64)
                    .collect(),
                positive,
                negative: if custom {
                    Buckets::default()
                } else {
                    Buckets::run(negative.0, negative.1).unwrap()
                },
            };
            histogram.normalize();
            if float {
                let mut histogram = histogram.to_float();
                if scale.is_normal() {
                    histogram.positive.counts_mut().iter_mut().for_each(|c| *c *= scale);
                    histogram.count /= scale;
                }
                histogram.normalize();
                AnyHistogram::Float(histogram)
            } else {
                AnyHistogram::Int(histogram)
            }
        },
    )
}

/// Fewer than so many at once.
const SAMPLES: usize = if cfg!(miri) { 4 } else { 30 };

proptest! {
    #![proptest_config(crate::tests::cases(2_000))]

    #[test]
    fn any_samples_come_back(samples in proptest::collection::vec(any_sample(), 0..SAMPLES)) {
        round_trip(&samples);
    }

    #[test]
    fn damaged_bytes_are_refused_or_read(
        samples in proptest::collection::vec(any_sample(), 1..SAMPLES.min(12)),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        rows in 0_usize..40,
    ) {
        let mut payload = Vec::new();
        HistogramEncoder::new().encode(&samples, &mut payload);
        for (at, byte) in &damage {
            let at = at.index(payload.len());
            payload[at] = *byte;
        }
        let mut decoder = HistogramDecoder::new();
        for payload in [&payload[..], &payload[..cut.index(payload.len())]] {
            let (mut any, mut floats, mut totals) = (Vec::new(), Vec::<FloatHistogram>::new(), Vec::new());
            let read = decoder.decode(payload, rows, &mut any);
            prop_assert_eq!(any.len(), if read.is_ok() { rows } else { 0 });
            prop_assert_eq!(decoder.decode_floats(payload, rows, &mut floats).is_ok(), read.is_ok());
            let _ = decoder.decode_totals(payload, rows, &mut totals);
            prop_assert!(floats.iter().all(|f| f.all_buckets().count() <= 131_073));
        }
    }

    #[test]
    fn random_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..80), rows in 0_usize..3000) {
        let mut out = Vec::new();
        let read = HistogramDecoder::new().decode(&bytes, rows, &mut out);
        prop_assert_eq!(out.len(), if read.is_ok() { rows } else { 0 });
    }
}
