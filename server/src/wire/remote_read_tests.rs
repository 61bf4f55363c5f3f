//! Remote read against prost: requests decoded, answers read back.

use super::*;
use kymo_storage::model::{FloatHistogram, IntHistogram, ResetHint};
use kymo_storage::prometheus::FloatChunkReader;
use kymo_tests::prometheus_messages as oracle;
use proptest::prelude::*;
use prost::Message;
use std::sync::Arc;

fn any_request() -> impl Strategy<Value = oracle::ReadRequest> {
    let matcher = (0..5_i32, "[a-z]{0,4}", "[a-z.|]{0,6}")
        .prop_map(|(kind, name, value)| oracle::LabelMatcher { kind, name, value });
    let query = (any::<i64>(), any::<i64>(), proptest::collection::vec(matcher, 0..4))
        .prop_map(|(start, end, matchers)| oracle::Query { start, end, matchers, hints: vec![8, 1] });
    (proptest::collection::vec(query, 0..4), proptest::collection::vec(0..4_i32, 0..3))
        .prop_map(|(queries, accepted)| oracle::ReadRequest { queries, accepted })
}

proptest! {
    #[test]
    fn requests_as_prost_reads_them(expected in any_request()) {
        let all_known = expected.queries.iter().flat_map(|q| &q.matchers).all(|m| m.kind < 4);
        match decode(&expected.encode_to_vec()) {
            Err(ReadRequestError::MatcherType(4)) => prop_assert!(!all_known),
            Err(ReadRequestError::NoKnownType(kinds)) => {
                prop_assert!(!kinds.is_empty() && expected.accepted.iter().all(|k| *k > 1));
            }
            Err(other) => prop_assert!(false, "{other}"),
            Ok(request) => {
                prop_assert_eq!(request.queries.len(), expected.queries.len());
                for (ours, theirs) in request.queries.iter().zip(&expected.queries) {
                    prop_assert_eq!((ours.start, ours.end), (theirs.start, theirs.end));
                    for (a, b) in ours.matchers.iter().zip(&theirs.matchers) {
                        prop_assert_eq!((a.name(), a.value()), (b.name.as_str(), b.value.as_str()));
                        prop_assert_eq!(a.op() as i32, b.kind);
                    }
                }
                let first = expected.accepted.iter().find(|k| **k < 2).copied().unwrap_or(0);
                prop_assert_eq!(request.response_type == ResponseType::StreamedChunks, first == 1);
            }
        }
    }

    #[test]
    fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = decode(&bytes);
    }
}

fn samples() -> Samples {
    let mut samples = Samples::new();
    samples.clear();
    samples.push(-5, 1.5);
    samples.push(i64::MAX, f64::NAN);
    samples
}

#[test]
fn series_read_back() {
    let labels = Labels::from_pairs([("__name__", "m"), ("a", "b")]);
    let mut out = Vec::new();
    let mut with_histograms = samples();
    let whole = IntHistogram {
        count: 9,
        zero_count: 4,
        sum: 2.5,
        hint: ResetHint::Gauge,
        positive: Buckets::run(2, vec![3, 2]).unwrap(),
        ..IntHistogram::default()
    };
    let float = FloatHistogram {
        count: 4.5,
        negative: Buckets::run(-2, vec![4.5]).unwrap(),
        ..FloatHistogram::default()
    };
    for (timestamp, histogram) in [(1, whole.to_float()), (2, float.clone())] {
        let histogram = Arc::new(histogram);
        with_histograms.histograms.push(HistogramSample { timestamp, start_timestamp: 0, histogram });
    }
    write_series(&mut out, &labels, &with_histograms);
    write_series(&mut out, &Labels::empty(), &Samples::new());
    let result = oracle::QueryResult::decode(out.as_slice()).unwrap();
    assert_eq!(result.timeseries.len(), 2);
    let series = &result.timeseries[0];
    assert_eq!(series.labels[1], oracle::Label { name: "a".into(), value: "b".into() });
    assert_eq!(series.samples[0], oracle::Sample { value: 1.5, timestamp: -5 });
    assert_eq!(series.samples[1].timestamp, i64::MAX);
    // The decoder of remote write reads the same message.
    let read = |bytes: &[u8]| super::super::remote_write_histogram::decode_histogram(bytes).unwrap();
    let sent = read(&series.histograms[0].encode_to_vec());
    assert_eq!((sent.timestamp, sent.histogram), (1, Ok(AnyHistogram::Int(whole))));
    assert_eq!(read(&series.histograms[1].encode_to_vec()).histogram, Ok(AnyHistogram::Float(float)));
}

#[test]
fn frames_read_back() {
    let labels = Labels::from_pairs([("__name__", "m")]);
    let mut chunks = Vec::new();
    kymo_storage::prometheus::chunks_of(&samples(), |chunk| -> Result<(), ()> {
        write_chunk(&mut chunks, &chunk);
        Ok(())
    })
    .unwrap();
    let bytes = frame(&labels, &chunks, 7);
    let mut reader = Reader::new(&bytes);
    let len = reader.varint().unwrap() as usize;
    let (sum, data) = bytes[reader.position()..].split_first_chunk::<4>().unwrap();
    assert_eq!((data.len(), u32::from_be_bytes(*sum)), (len, crc32c(data)));
    let response = oracle::ChunkedReadResponse::decode(data).unwrap();
    assert_eq!((response.query_index, response.chunked_series.len()), (7, 1));
    let chunk = &response.chunked_series[0].chunks[0];
    assert_eq!((chunk.min_time_ms, chunk.max_time_ms, chunk.kind), (-5, i64::MAX, 1));
    let read: Vec<_> = FloatChunkReader::new(&chunk.data).unwrap().map(|s| s.unwrap().0).collect();
    assert_eq!(read, [-5, i64::MAX]);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value of the polynomial");
}
