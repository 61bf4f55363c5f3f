//! Remote write 1.0 (`prometheus.WriteRequest`), decoded by hand without copying. Hot path.
//!
//! The labels of a series are not taken apart: every known sender writes them one after the other, so they are one slice
//! of the body, and storage hashes and compares that slice (its canonical form has the same bytes). Labels that are
//! scattered over a series' message are gathered into a buffer of their own.

use super::protobuf::{Field, ProtobufError, Reader};
use kymo_storage::model::{Metadata, MetricType, Sample};
use std::borrow::Cow;
use std::ops::Range;
use thiserror::Error;

/// Why a body is not a `prometheus.WriteRequest`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes are not the message.
    #[error("malformed protobuf in byte {offset} of the decoded body: {cause}")]
    Malformed {
        /// Where the series or metadata begins in which it happened.
        offset: usize,
        /// What happened.
        cause: ProtobufError,
    },
    /// More samples than one request may carry.
    #[error("the request carries more than {0} samples")]
    TooManySamples(usize),
}

/// One series of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Series<'a> {
    /// The encoding of `repeated Label labels = 1`, unchecked inside.
    pub labels: Cow<'a, [u8]>,
    /// Its samples in [`WriteRequest::samples`].
    pub samples: Range<usize>,
    /// How many native histograms it carries (not decoded).
    pub histograms: usize,
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
    /// How many exemplars were met (not decoded).
    pub exemplars: usize,
    /// How many native histograms were met (not decoded).
    pub histograms: usize,
}

/// The tag byte of field 1 as bytes: a series in the request, a label in a series.
const TAG_FIELD_1_BYTES: u8 = 0x0a;
/// What one series with one sample takes at least in real bodies; only sizes the first allocation.
const SERIES_BYTES_TYPICAL: usize = 160;

/// Decodes a request of at most `samples_max` samples.
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
            1 => decode_series(field.bytes().map_err(malformed)?, &mut request).map_err(malformed)?,
            3 => {
                let metadata = decode_metadata(field.bytes().map_err(malformed)?).map_err(malformed)?;
                request.metadata.push(metadata);
            }
            _ => {}
        }
        if request.samples.len() > samples_max {
            return Err(DecodeError::TooManySamples(samples_max));
        }
    }
    Ok(request)
}

fn decode_series<'a>(message: &'a [u8], request: &mut WriteRequest<'a>) -> Result<(), ProtobufError> {
    let mut reader = Reader::new(message);
    while reader.peek() == Some(TAG_FIELD_1_BYTES) {
        reader.next_field()?;
    }
    let mut labels = Cow::Borrowed(reader.span(0, reader.position()));
    let first_sample = request.samples.len();
    let mut histograms = 0;
    loop {
        let field_start = reader.position();
        let Some(field) = reader.next_field()? else { break };
        match field.number {
            1 => {
                field.bytes()?;
                labels.to_mut().extend_from_slice(reader.span(field_start, reader.position()));
            }
            2 => request.samples.push(decode_sample(&field)?),
            3 => {
                field.bytes()?;
                request.exemplars += 1;
            }
            4 => {
                field.bytes()?;
                histograms += 1;
            }
            _ => {}
        }
    }
    request.histograms += histograms;
    request.series.push(Series { labels, samples: first_sample..request.samples.len(), histograms });
    Ok(())
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
    use kymo_storage::model::Labels;
    use proptest::prelude::*;
    use prost::Message;

    /// The messages as prost derives them: the oracle.
    mod oracle {
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct WriteRequest {
            #[prost(message, repeated, tag = "1")]
            pub(super) timeseries: Vec<TimeSeries>,
            #[prost(message, repeated, tag = "3")]
            pub(super) metadata: Vec<MetricMetadata>,
            #[prost(string, tag = "9")]
            pub(super) from_the_future: String,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct TimeSeries {
            #[prost(message, repeated, tag = "1")]
            pub(super) labels: Vec<Label>,
            #[prost(message, repeated, tag = "2")]
            pub(super) samples: Vec<Sample>,
            #[prost(message, repeated, tag = "3")]
            pub(super) exemplars: Vec<Sample>,
            #[prost(message, repeated, tag = "4")]
            pub(super) histograms: Vec<Sample>,
            #[prost(fixed32, tag = "77")]
            pub(super) from_the_future: u32,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Label {
            #[prost(string, tag = "1")]
            pub(super) name: String,
            #[prost(string, tag = "2")]
            pub(super) value: String,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Sample {
            #[prost(double, tag = "1")]
            pub(super) value: f64,
            #[prost(int64, tag = "2")]
            pub(super) timestamp: i64,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct MetricMetadata {
            #[prost(int32, tag = "1")]
            pub(super) metric_type: i32,
            #[prost(string, tag = "2")]
            pub(super) metric_family_name: String,
            #[prost(string, tag = "4")]
            pub(super) help: String,
            #[prost(string, tag = "5")]
            pub(super) unit: String,
        }
    }

    fn any_sample() -> impl Strategy<Value = oracle::Sample> {
        (any::<u64>(), any::<i64>())
            .prop_map(|(bits, timestamp)| oracle::Sample { value: f64::from_bits(bits), timestamp })
    }

    fn any_series() -> impl Strategy<Value = oracle::TimeSeries> {
        let label = ("[a-z]{1,5}", ".{1,200}").prop_map(|(name, value)| oracle::Label { name, value });
        (
            proptest::collection::vec(label, 0..6),
            proptest::collection::vec(any_sample(), 0..4),
            proptest::collection::vec(any_sample(), 0..2),
            proptest::collection::vec(any_sample(), 0..2),
            any::<u32>(),
        )
            .prop_map(|(mut labels, samples, exemplars, histograms, from_the_future)| {
                labels.sort_by(|a, b| a.name.cmp(&b.name));
                labels.dedup_by(|a, b| a.name == b.name);
                oracle::TimeSeries { labels, samples, exemplars, histograms, from_the_future }
            })
    }

    fn any_request() -> impl Strategy<Value = oracle::WriteRequest> {
        let metadata = (0..9i32, ".{0,9}", ".{0,9}", ".{0,9}").prop_map(
            |(metric_type, metric_family_name, help, unit)| oracle::MetricMetadata {
                metric_type,
                metric_family_name,
                help,
                unit,
            },
        );
        (proptest::collection::vec(any_series(), 0..5), proptest::collection::vec(metadata, 0..3), ".{0,5}")
            .prop_map(|(timeseries, metadata, from_the_future)| oracle::WriteRequest {
                timeseries,
                metadata,
                from_the_future,
            })
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
            assert_eq!(ours.histograms, theirs.histograms.len());
        }
        assert_eq!(decoded.exemplars, expected.timeseries.iter().map(|s| s.exemplars.len()).sum::<usize>());
        for ((family, ours), theirs) in decoded.metadata.iter().zip(&expected.metadata) {
            assert_eq!(
                (family.as_ref(), ours.help.as_str(), ours.unit.as_str()),
                (theirs.metric_family_name.as_str(), theirs.help.as_str(), theirs.unit.as_str())
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
            // We skip what we do not use (texts, exemplars), so we may accept what prost refuses, never the other way round,
            // but for groups, which nobody sends.
            let ours = decode(&bytes, 1_000);
            if oracle::WriteRequest::decode(bytes.as_slice()).is_ok() {
                let group = matches!(ours, Err(DecodeError::Malformed { cause: ProtobufError::WireType(3), .. }));
                prop_assert!(ours.is_ok() || group, "{:?}", ours);
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
}
