//! Remote write 1.0 (`prometheus.WriteRequest`), decoded by hand without copying. Hot path.
//!
//! The labels of a series are not taken apart: every known sender writes them one after the other, so they are one slice
//! of the body, and storage hashes and compares that slice (its canonical form has the same bytes). Labels that are
//! scattered over a series' message are gathered into a buffer of their own.

use super::protobuf::{Field, ProtobufError, Reader};
use super::remote_write_histogram::{SentHistogram, decode_histogram};
use super::remote_write_limits::{
    DecodeError, EXEMPLARS_MAX, HISTOGRAM_NUMBERS_MAX, MESSAGE_V1, MESSAGE_V2, METADATA_MAX, Met,
};
use kymo_storage::model::{Metadata, MetricType, Sample, Timestamp};
use std::borrow::Cow;
use std::ops::Range;

/// One series of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Series<'a> {
    /// The encoding of `repeated Label labels = 1`, unchecked inside.
    pub labels: Cow<'a, [u8]>,
    /// Its samples in [`WriteRequest::samples`].
    pub samples: Range<usize>,
    /// Its native histograms in [`WriteRequest::histograms`].
    pub histograms: Range<usize>,
    /// Its exemplars in [`WriteRequest::exemplars`].
    pub exemplars: Range<usize>,
}

/// One exemplar of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct SentExemplar<'a> {
    /// The encoding of `repeated Label labels = 1`, unchecked inside.
    pub labels: Cow<'a, [u8]>,
    /// The value.
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Timestamp,
}

/// A decoded request; borrows from the body.
#[derive(Debug, Clone, Default)]
pub struct WriteRequest<'a> {
    /// In the order of the body.
    pub series: Vec<Series<'a>>,
    /// The samples of all series, in the order of the body.
    pub samples: Vec<Sample>,
    /// Metric family name and what is said of it.
    pub metadata: Vec<(Cow<'a, str>, Metadata)>,
    /// The exemplars of all series, in the order of the body.
    pub exemplars: Vec<SentExemplar<'a>>,
    /// The native histograms of all series, in the order of the body.
    pub histograms: Vec<SentHistogram>,
    /// How many numbers they list.
    histogram_numbers: usize,
}

/// The tag byte of field 1 as bytes: a series in the request, a label in a series.
const TAG_FIELD_1_BYTES: u8 = 0x0a;
/// What one series with one sample takes at least in real bodies; only sizes the first allocation.
const SERIES_BYTES_TYPICAL: usize = 160;
/// Decodes a request of at most `samples_max` samples and histograms.
///
/// # Errors
/// The body is not the message; nothing of it may then be used.
pub fn decode(body: &[u8], samples_max: usize) -> Result<WriteRequest<'_>, DecodeError> {
    let expected = body.len() / SERIES_BYTES_TYPICAL + 1;
    let mut request = WriteRequest {
        series: Vec::with_capacity(expected),
        samples: Vec::with_capacity(expected),
        ..WriteRequest::default()
    };
    let mut reader = Reader::new(body);
    loop {
        let offset = reader.position();
        let malformed = |cause| DecodeError::Malformed { offset, cause };
        let Some(field) = reader.next_field().map_err(malformed)? else { break };
        match field.number {
            1 => {
                let message = field.bytes().map_err(malformed)?;
                decode_series(message, samples_max, &mut request).map_err(malformed)?;
            }
            3 => {
                let metadata = decode_metadata(field.bytes().map_err(malformed)?).map_err(malformed)?;
                if request.metadata.len() == METADATA_MAX {
                    return Err(DecodeError::TooMuchMetadata(METADATA_MAX));
                }
                request.metadata.push(metadata);
            }
            // The symbols and the series of version 2.0. This message has no such fields, and nothing may be lost in silence.
            4 | 5 => return Err(DecodeError::OtherMessage { found: MESSAGE_V2, called: MESSAGE_V1 }),
            _ => {}
        }
        let met = Met {
            series: request.series.len(),
            samples: request.samples.len() + request.histograms.len(),
            exemplars: request.exemplars.len(),
            histogram_numbers: request.histogram_numbers,
        };
        met.check(samples_max)?;
    }
    Ok(request)
}

/// One series may hold the whole body; what exceeds a limit is only counted, and makes the request too large afterwards.
fn decode_series<'a>(
    message: &'a [u8],
    samples_max: usize,
    request: &mut WriteRequest<'a>,
) -> Result<(), ProtobufError> {
    let mut reader = Reader::new(message);
    while reader.peek() == Some(TAG_FIELD_1_BYTES) {
        reader.next_field()?;
    }
    let mut labels = Cow::Borrowed(reader.span(0, reader.position()));
    let first_sample = request.samples.len();
    let first_histogram = request.histograms.len();
    let first_exemplar = request.exemplars.len();
    loop {
        let field_start = reader.position();
        let Some(field) = reader.next_field()? else { break };
        match field.number {
            1 => {
                field.bytes()?;
                labels.to_mut().extend_from_slice(reader.span(field_start, reader.position()));
            }
            2 => {
                let sample = decode_sample(&field)?;
                if request.samples.len() <= samples_max {
                    request.samples.push(sample);
                }
            }
            3 => {
                let exemplar = decode_exemplar(field.bytes()?)?;
                if request.exemplars.len() <= EXEMPLARS_MAX {
                    request.exemplars.push(exemplar);
                }
            }
            4 => {
                let histogram = decode_histogram(field.bytes()?)?;
                request.histogram_numbers += histogram.numbers;
                if request.histogram_numbers <= HISTOGRAM_NUMBERS_MAX {
                    request.histograms.push(histogram);
                }
            }
            _ => {}
        }
    }
    request.series.push(Series {
        labels,
        samples: first_sample..request.samples.len(),
        histograms: first_histogram..request.histograms.len(),
        exemplars: first_exemplar..request.exemplars.len(),
    });
    Ok(())
}

fn decode_exemplar(message: &[u8]) -> Result<SentExemplar<'_>, ProtobufError> {
    let mut reader = Reader::new(message);
    while reader.peek() == Some(TAG_FIELD_1_BYTES) {
        reader.next_field()?;
    }
    let labels = Cow::Borrowed(reader.span(0, reader.position()));
    let mut exemplar = SentExemplar { labels, value: 0.0, timestamp: 0 };
    loop {
        let start = reader.position();
        let Some(field) = reader.next_field()? else { break };
        match field.number {
            1 => {
                field.bytes()?;
                exemplar.labels.to_mut().extend_from_slice(reader.span(start, reader.position()));
            }
            2 => exemplar.value = field.double()?,
            3 => exemplar.timestamp = field.varint()?.cast_signed(),
            _ => {}
        }
    }
    Ok(exemplar)
}

#[inline]
fn decode_sample(field: &Field<'_>) -> Result<Sample, ProtobufError> {
    let mut reader = Reader::new(field.bytes()?);
    let mut sample = Sample { timestamp: 0, value: 0.0 };
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => sample.value = field.double()?,
            // `int64` is two's complement in 64 bits.
            2 => sample.timestamp = field.varint()?.cast_signed(),
            _ => {}
        }
    }
    Ok(sample)
}

fn decode_metadata(message: &[u8]) -> Result<(Cow<'_, str>, Metadata), ProtobufError> {
    let mut reader = Reader::new(message);
    let mut family = Cow::Borrowed("");
    let mut metadata = Metadata::default();
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => metadata.metric_type = MetricType::from_number(field.varint()?),
            2 => family = String::from_utf8_lossy(field.bytes()?),
            4 => metadata.help = String::from_utf8_lossy(field.bytes()?).into_owned(),
            5 => metadata.unit = String::from_utf8_lossy(field.bytes()?).into_owned(),
            _ => {}
        }
    }
    Ok((family, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo_storage::model::{AnyHistogram, Buckets, Labels, ResetHint, counts_from_deltas};
    use kymo_tests::prometheus_messages as oracle;
    use proptest::prelude::*;
    use prost::Message;

    fn any_sample() -> impl Strategy<Value = oracle::Sample> {
        (any::<u64>(), any::<i64>())
            .prop_map(|(bits, timestamp)| oracle::Sample { value: f64::from_bits(bits), timestamp })
    }

    fn any_exemplar() -> impl Strategy<Value = oracle::Exemplar> {
        let label = ("[a-z]{1,5}", ".{1,9}").prop_map(|(name, value)| oracle::Label { name, value });
        (proptest::collection::vec(label, 0..3), any_sample()).prop_map(|(labels, sample)| oracle::Exemplar {
            labels,
            value: sample.value,
            timestamp: sample.timestamp,
        })
    }

    type AnySide = (Vec<oracle::Span>, Vec<i64>, Vec<f64>);

    /// A side that fits together, or one that does not.
    fn any_side() -> impl Strategy<Value = AnySide> {
        let span = (-5..9i32, 0..4u32).prop_map(|(offset, length)| oracle::Span { offset, length });
        let deltas = prop_oneof![4 => 0..9i64, 1 => any::<i64>()];
        let wild = (
            proptest::collection::vec(span, 0..3),
            proptest::collection::vec(deltas, 0..6),
            proptest::collection::vec(any::<u64>().prop_map(f64::from_bits), 0..6),
        );
        let fitting = (-5..9i32, proptest::collection::vec(0..9u8, 1..6)).prop_map(|(offset, counts)| {
            let spans = vec![oracle::Span { offset, length: counts.len() as u32 }];
            let deltas = (0..counts.len())
                .map(|i| i64::from(counts[i]) - if i == 0 { 0 } else { i64::from(counts[i - 1]) });
            (spans, deltas.collect(), counts.iter().map(|c| f64::from(*c)).collect())
        });
        prop_oneof![wild, fitting]
    }

    fn any_histogram() -> impl Strategy<Value = oracle::Histogram> {
        let count = prop_oneof![
            Just(None),
            any::<u64>().prop_map(|c| Some(oracle::Count::Int(c))),
            any::<f64>().prop_map(|c| Some(oracle::Count::Float(c))),
        ];
        let zero_count = prop_oneof![
            any::<u64>().prop_map(|c| Some(oracle::ZeroCount::Int(c))),
            any::<f64>().prop_map(|c| Some(oracle::ZeroCount::Float(c))),
        ];
        let numbers = (any::<u64>(), any::<i32>(), any::<f64>(), 0..5i32, any::<i64>());
        (count, zero_count, any_side(), any_side(), numbers, proptest::collection::vec(any::<f64>(), 0..3))
            .prop_map(|(count, zero_count, negative, positive, numbers, custom_values)| oracle::Histogram {
                count,
                sum: f64::from_bits(numbers.0),
                schema: numbers.1,
                zero_threshold: numbers.2,
                zero_count,
                negative_spans: negative.0,
                negative_deltas: negative.1,
                negative_counts: negative.2,
                positive_spans: positive.0,
                positive_deltas: positive.1,
                positive_counts: positive.2,
                reset_hint: numbers.3,
                timestamp: numbers.4,
                custom_values,
            })
    }

    /// What the message says, in other words: spans, then the counts or their differences.
    fn side_of<N: Copy>(side: &Buckets<N>) -> Vec<(i32, u32)> {
        side.spans().iter().map(|s| (s.offset, s.length)).collect()
    }

    fn assert_same_histogram(ours: &SentHistogram, theirs: &oracle::Histogram) {
        assert_eq!(ours.timestamp, theirs.timestamp);
        let spans = |s: &[oracle::Span]| s.iter().map(|s| (s.offset, s.length)).collect::<Vec<_>>();
        let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        // The oracle leaves out -0 as if it were the default.
        let sent = |v: f64| if v == 0.0 { 0 } else { v.to_bits() };
        let frame = (theirs.schema, sent(theirs.sum), sent(theirs.zero_threshold));
        match (&ours.histogram, theirs.count) {
            (Ok(AnyHistogram::Float(h)), Some(oracle::Count::Float(count))) => {
                assert_eq!((h.schema, h.sum.to_bits(), h.zero_threshold.to_bits()), frame);
                assert_eq!(h.count.to_bits(), count.to_bits());
                if let Some(oracle::ZeroCount::Float(count)) = theirs.zero_count {
                    assert_eq!(h.zero_count.to_bits(), count.to_bits());
                }
                assert_eq!(side_of(&h.positive), spans(&theirs.positive_spans));
                assert_eq!(side_of(&h.negative), spans(&theirs.negative_spans));
                assert_eq!(bits(h.positive.counts()), bits(&theirs.positive_counts));
                assert_eq!(bits(h.negative.counts()), bits(&theirs.negative_counts));
                assert_eq!(bits(&h.custom_bounds), bits(&theirs.custom_values));
                assert_eq!(h.hint, ResetHint::from_number(theirs.reset_hint as u64));
            }
            (Ok(AnyHistogram::Int(h)), count) => {
                assert_eq!((h.schema, h.sum.to_bits(), h.zero_threshold.to_bits()), frame);
                assert_eq!(Some(oracle::Count::Int(h.count)), count.or(Some(oracle::Count::Int(0))));
                if let Some(oracle::ZeroCount::Int(count)) = theirs.zero_count {
                    assert_eq!(h.zero_count, count);
                }
                assert_eq!(side_of(&h.positive), spans(&theirs.positive_spans));
                assert_eq!(side_of(&h.negative), spans(&theirs.negative_spans));
                assert_eq!(h.positive.counts(), counts_from_deltas(&theirs.positive_deltas).unwrap());
                assert_eq!(h.negative.counts(), counts_from_deltas(&theirs.negative_deltas).unwrap());
                assert_eq!(bits(&h.custom_bounds), bits(&theirs.custom_values));
            }
            (Err(_), count) => {
                let is_float = matches!(count, Some(oracle::Count::Float(_)));
                let is_sound = |spans: &[oracle::Span], deltas: &[i64], counts: &[f64]| {
                    let buckets: u32 = spans.iter().map(|s| s.length).sum();
                    let given = if is_float { counts.len() } else { deltas.len() };
                    let in_order = spans.iter().skip(1).all(|s| s.offset >= 0);
                    buckets as usize == given && in_order && (is_float || counts_from_deltas(deltas).is_ok())
                };
                let positive =
                    is_sound(&theirs.positive_spans, &theirs.positive_deltas, &theirs.positive_counts);
                let negative =
                    is_sound(&theirs.negative_spans, &theirs.negative_deltas, &theirs.negative_counts);
                assert!(!(positive && negative), "{ours:?} of {theirs:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    fn any_series() -> impl Strategy<Value = oracle::TimeSeries> {
        let label = ("[a-z]{1,5}", ".{1,200}").prop_map(|(name, value)| oracle::Label { name, value });
        (
            proptest::collection::vec(label, 0..6),
            proptest::collection::vec(any_sample(), 0..4),
            proptest::collection::vec(any_exemplar(), 0..2),
            proptest::collection::vec(any_histogram(), 0..3),
            any::<u32>(),
        )
            .prop_map(|(mut labels, samples, exemplars, histograms, from_the_future)| {
                labels.sort_by(|a, b| a.name.cmp(&b.name));
                labels.dedup_by(|a, b| a.name == b.name);
                oracle::TimeSeries { labels, samples, exemplars, histograms, from_the_future }
            })
    }

    fn any_request() -> impl Strategy<Value = oracle::WriteRequest> {
        let metadata =
            (0..9i32, ".{0,9}", ".{0,9}", ".{0,9}").prop_map(|(metric_type, family, help, unit)| {
                oracle::Metadata { metric_type, family, help, unit }
            });
        (proptest::collection::vec(any_series(), 0..5), proptest::collection::vec(metadata, 0..3), ".{0,5}")
            .prop_map(|(timeseries, metadata, from_the_future)| oracle::WriteRequest {
                timeseries,
                metadata,
                from_the_future,
            })
    }

    fn encode_label(label: &oracle::Label) -> Vec<u8> {
        let message = label.encode_to_vec();
        [&[0x0a, message.len() as u8][..], &message].concat()
    }

    fn assert_same(decoded: &WriteRequest<'_>, expected: &oracle::WriteRequest) {
        assert_eq!(decoded.series.len(), expected.timeseries.len());
        for (ours, theirs) in decoded.series.iter().zip(&expected.timeseries) {
            let labels = Labels::from_wire(&ours.labels).unwrap();
            let pairs = theirs.labels.iter().map(|l| (l.name.as_str(), l.value.as_str()));
            assert!(labels.iter().eq(pairs));
            let bits = |v: f64, t: i64| (v.to_bits(), t);
            let ours_samples = decoded.samples[ours.samples.clone()].iter();
            assert!(
                ours_samples
                    .map(|s| bits(s.value, s.timestamp))
                    .eq(theirs.samples.iter().map(|s| bits(s.value, s.timestamp)))
            );
            let histograms = &decoded.histograms[ours.histograms.clone()];
            assert_eq!(histograms.len(), theirs.histograms.len());
            histograms.iter().zip(&theirs.histograms).for_each(|(h, t)| assert_same_histogram(h, t));
        }
        let exemplars = expected.timeseries.iter().flat_map(|s| &s.exemplars);
        for (ours, theirs) in decoded.exemplars.iter().zip(exemplars.clone()) {
            let labels: Vec<u8> = theirs.labels.iter().flat_map(encode_label).collect();
            assert_eq!((ours.labels.as_ref(), ours.timestamp), (labels.as_slice(), theirs.timestamp));
            assert_eq!(ours.value.to_bits(), theirs.value.to_bits());
        }
        assert_eq!(decoded.exemplars.len(), exemplars.count());
        for ((family, ours), theirs) in decoded.metadata.iter().zip(&expected.metadata) {
            assert_eq!(
                (family.as_ref(), ours.help.as_str(), ours.unit.as_str()),
                (theirs.family.as_str(), theirs.help.as_str(), theirs.unit.as_str())
            );
            assert_eq!(ours.metric_type, MetricType::from_number(theirs.metric_type as u64));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_prost(expected in any_request()) {
            let bytes = expected.encode_to_vec();
            let decoded = decode(&bytes, 1_000).unwrap();
            assert_same(&decoded, &expected);
            prop_assert!(decoded.series.iter().all(|s| matches!(s.labels, Cow::Borrowed(_))));
        }

        #[test]
        fn accepts_and_refuses_like_prost(expected in any_request(), cut in any::<u16>(), flip in any::<(u16, u8)>()) {
            let mut bytes = expected.encode_to_vec();
            bytes.truncate(bytes.len() - usize::from(cut) % (bytes.len() + 1) / 4);
            if !bytes.is_empty() && flip.1 % 2 == 0 {
                let at = usize::from(flip.0) % bytes.len();
                bytes[at] ^= flip.1;
            }
            // We skip what we do not use (texts), so we may accept what prost refuses, never the other way round,
            // but for groups, which nobody sends, and what looks like version 2.0.
            let ours = decode(&bytes, 1_000);
            if oracle::WriteRequest::decode(bytes.as_slice()).is_ok() {
                let group = matches!(ours, Err(DecodeError::Malformed { cause: ProtobufError::WireType(3), .. }));
                let other = matches!(ours, Err(DecodeError::OtherMessage { .. }));
                prop_assert!(ours.is_ok() || group || other, "{:?}", ours);
            }
        }

        #[test]
        fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, 1_000);
        }
    }

    #[test]
    fn scattered_labels_are_gathered() {
        // sample, label a, sample, label b
        let series = b"\x12\x02\x10\x01\x0a\x06\x0a\x01a\x12\x011\x12\x02\x10\x02\x0a\x06\x0a\x01b\x12\x012";
        let mut body = vec![0x0a, series.len() as u8];
        body.extend_from_slice(series);
        let decoded = decode(&body, 10).unwrap();
        assert_eq!(
            Labels::from_wire(&decoded.series[0].labels).unwrap(),
            Labels::from_pairs([("a", "1"), ("b", "2")])
        );
        assert_eq!(decoded.samples.iter().map(|s| s.timestamp).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(decode(&body, 1).unwrap_err(), DecodeError::TooManySamples(1));
    }

    #[test]
    fn metadata_is_counted_and_version_2_is_known() {
        let empty = [3 << 3 | 2, 0].repeat(METADATA_MAX + 1);
        assert_eq!(decode(&empty, 10).unwrap_err(), DecodeError::TooMuchMetadata(METADATA_MAX));
        for number in [4, 5] {
            let other = decode(&[number << 3 | 2, 0], 10).unwrap_err();
            assert_eq!(other, DecodeError::OtherMessage { found: MESSAGE_V2, called: MESSAGE_V1 });
        }
    }
}
