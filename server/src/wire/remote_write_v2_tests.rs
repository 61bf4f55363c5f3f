//! The decoder of remote write 2.0 against prost, and against hostile bodies.

use super::*;
use kymo_storage::model::{AnyHistogram, counts_from_deltas};
use kymo_tests::remote_write_v2 as oracle;
use proptest::prelude::*;
use prost::Message;

fn any_histogram() -> impl Strategy<Value = oracle::Histogram> {
    let counts = (-5..9i32, proptest::collection::vec(0..9i64, 0..6));
    let numbers = (any::<u64>(), any::<u64>(), any::<i32>(), any::<i64>(), any::<i64>());
    (counts, numbers, proptest::collection::vec(any::<f64>(), 0..3)).prop_map(
        |((offset, counts), numbers, custom_values)| oracle::Histogram {
            count: numbers.0,
            sum: f64::from_bits(numbers.1),
            schema: numbers.2,
            zero_threshold: 0.5,
            zero_count: numbers.0 / 3,
            positive_spans: vec![oracle::Span { offset, length: counts.len() as u32 }],
            positive_deltas: (0..counts.len())
                .map(|i| counts[i] - if i == 0 { 0 } else { counts[i - 1] })
                .collect(),
            timestamp: numbers.3,
            custom_values,
            start_timestamp: numbers.4,
        },
    )
}

fn any_references() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(prop_oneof![9 => 0..12u32, 1 => any::<u32>()], 0..8)
}

fn any_series() -> impl Strategy<Value = oracle::TimeSeries> {
    let sample = (any::<u64>(), any::<i64>(), any::<i64>()).prop_map(|(bits, timestamp, start_timestamp)| {
        oracle::Sample { value: f64::from_bits(bits), timestamp, start_timestamp }
    });
    let exemplar =
        (any_references(), any::<u64>(), any::<i64>()).prop_map(|(labels_refs, bits, timestamp)| {
            oracle::Exemplar { labels_refs, value: f64::from_bits(bits), timestamp }
        });
    let metadata = (0..9i32, 0..12u32, 0..12u32)
        .prop_map(|(metric_type, help_ref, unit_ref)| oracle::Metadata { metric_type, help_ref, unit_ref });
    (
        any_references(),
        proptest::collection::vec(sample, 0..4),
        proptest::collection::vec(any_histogram(), 0..3),
        proptest::collection::vec(exemplar, 0..3),
        proptest::option::of(metadata),
        any::<u32>(),
    )
        .prop_map(|(labels_refs, samples, histograms, exemplars, metadata, from_the_future)| {
            oracle::TimeSeries { labels_refs, samples, histograms, exemplars, metadata, from_the_future }
        })
}

fn any_request() -> impl Strategy<Value = oracle::Request> {
    let symbols = proptest::collection::vec(".{0,9}", 0..10);
    (symbols, proptest::collection::vec(any_series(), 0..5), ".{0,5}").prop_map(
        |(mut symbols, timeseries, from_the_future)| {
            symbols.insert(0, String::new());
            oracle::Request { symbols, timeseries, from_the_future }
        },
    )
}

/// What labels are by the plain reading of the protocol.
fn labels_of(request: &oracle::Request, references: &[u32]) -> Option<Vec<(String, String)>> {
    let symbol = |n: u32| request.symbols.get(n as usize).cloned();
    let pairs = references.chunks(2).map(|pair| Some((symbol(pair[0])?, symbol(*pair.get(1)?)?)));
    Some(pairs.collect::<Option<Vec<_>>>()?.into_iter().filter(|(_, value)| !value.is_empty()).collect())
}

/// Reads back the bytes of labels as prost does.
fn pairs_of(bytes: &[u8]) -> Vec<(String, String)> {
    #[derive(Clone, PartialEq, Message)]
    struct Pairs {
        #[prost(message, repeated, tag = "1")]
        pairs: Vec<Pair>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Pair {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        value: String,
    }
    Pairs::decode(bytes).unwrap().pairs.into_iter().map(|p| (p.name, p.value)).collect()
}

fn assert_same_labels(ours: &Request<'_>, labels: &References, theirs: &oracle::Request, references: &[u32]) {
    let mut bytes = Vec::new();
    match (ours.labels(labels, &mut bytes), labels_of(theirs, references)) {
        (Ok(()), Some(expected)) => assert_eq!(pairs_of(&bytes), expected),
        (Err(_), None) => {}
        other => panic!("{other:?}"),
    }
}

fn assert_same_series(ours: (&Request<'_>, &Series), theirs: (&oracle::Request, &oracle::TimeSeries)) {
    let ((request, series), (whole, expected)) = (ours, theirs);
    assert_same_labels(request, &series.labels, whole, &expected.labels_refs);
    let samples = request.samples[series.samples.clone()].iter();
    let bits = |v: f64, t: i64, s: i64| (v.to_bits(), t, s);
    assert!(
        samples
            .map(|s| bits(s.value, s.timestamp, s.start_timestamp))
            .eq(expected.samples.iter().map(|s| bits(s.value, s.timestamp, s.start_timestamp)))
    );
    let exemplars = &request.exemplars[series.exemplars.clone()];
    assert_eq!(exemplars.len(), expected.exemplars.len());
    for (exemplar, theirs) in exemplars.iter().zip(&expected.exemplars) {
        assert_same_labels(request, &exemplar.labels, whole, &theirs.labels_refs);
        assert_eq!(
            (exemplar.value.to_bits(), exemplar.timestamp),
            (theirs.value.to_bits(), theirs.timestamp)
        );
    }
    let histograms = &request.histograms[series.histograms.clone()];
    assert_eq!(histograms.len(), expected.histograms.len());
    for (sent, theirs) in histograms.iter().zip(&expected.histograms) {
        assert_eq!((sent.timestamp, sent.start_timestamp), (theirs.timestamp, theirs.start_timestamp));
        let Ok(AnyHistogram::Int(h)) = &sent.histogram else { panic!("{sent:?}") };
        assert_eq!((h.count, h.schema, h.zero_count), (theirs.count, theirs.schema, theirs.zero_count));
        assert_eq!(h.positive.counts(), counts_from_deltas(&theirs.positive_deltas).unwrap());
    }
    let about = expected.metadata.unwrap_or_default();
    let text = |n: u32| whole.symbols.get(n as usize).cloned();
    match (request.metadata(series.metadata), text(about.help_ref), text(about.unit_ref)) {
        (Ok(Some(m)), Some(help), Some(unit)) => {
            assert_eq!((m.help, m.unit), (help, unit));
            assert_eq!(m.metric_type, MetricType::from_number(about.metric_type as u64));
        }
        (Ok(None), ..) => assert!(matches!((about.help_ref, about.unit_ref), (0, 0))),
        (Err(_), help, unit) => assert!(help.is_none() || unit.is_none()),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn agrees_with_prost(expected in any_request()) {
        let bytes = expected.encode_to_vec();
        let decoded = decode(&bytes, 1_000).unwrap();
        prop_assert_eq!(decoded.series.len(), expected.timeseries.len());
        for (ours, theirs) in decoded.series.iter().zip(&expected.timeseries) {
            assert_same_series((&decoded, ours), (&expected, theirs));
        }
    }

    #[test]
    fn accepts_and_refuses_like_prost(expected in any_request(), cut in any::<u16>(), flip in any::<(u16, u8)>()) {
        let mut bytes = expected.encode_to_vec();
        bytes.truncate(bytes.len() - usize::from(cut) % (bytes.len() + 1) / 4);
        if !bytes.is_empty() && flip.1 % 2 == 0 {
            let at = usize::from(flip.0) % bytes.len();
            bytes[at] ^= flip.1;
        }
        // Texts are not judged here, so we may accept what prost refuses; what it accepts we accept, but for groups and for
        // a table that does not begin with the empty string, and for what looks like version 1.0.
        let ours = decode(&bytes, 1_000);
        if oracle::Request::decode(bytes.as_slice()).is_ok() {
            let known = matches!(
                ours,
                Err(DecodeError::FirstSymbol(_) | DecodeError::OtherMessage { .. } | DecodeError::Malformed { cause: ProtobufError::WireType(3), .. })
            );
            prop_assert!(ours.is_ok() || known, "{:?}", ours);
        }
    }

    #[test]
    fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = decode(&bytes, 1_000) {
            let mut out = Vec::new();
            for series in &request.series {
                let _ = request.labels(&series.labels, &mut out);
                let _ = request.metadata(series.metadata);
            }
        }
    }
}

#[test]
fn a_request_cut_at_any_byte_is_no_request_or_a_shorter_one() {
    let mut request = oracle::Request::new();
    request.push(&[("__name__", "m"), ("a", "b")], &[(1, 1.0), (2, 2.0)]);
    request.push(&[("__name__", "n")], &[(1, 1.0)]).exemplars =
        vec![oracle::Exemplar { labels_refs: vec![1, 2], value: 1.0, timestamp: 5 }];
    let bytes = request.encode_to_vec();
    for end in 0..bytes.len() {
        let ours = decode(&bytes[..end], 1_000).map(|r| r.series.len());
        let theirs = oracle::Request::decode(&bytes[..end]).map(|r| r.timeseries.len());
        assert_eq!(ours.ok(), theirs.ok(), "cut at {end}");
    }
}

/// A field of a message: its number and bytes.
fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, payload.len() as u8][..], payload].concat()
}

#[test]
fn labels_in_pieces_around_an_exemplar() {
    let series = [field(1, &[1, 2]), field(4, &field(1, &[3, 4])), field(1, &[3, 2])].concat();
    let symbols = ["", "a", "1", "b", "2"].map(|s| field(4, s.as_bytes())).concat();
    // The table may stand behind what refers to it.
    let body = [field(5, &series), symbols].concat();
    let request = decode(&body, 10).unwrap();
    assert_eq!(request.references(&request.series[0].labels), [1, 2, 3, 2]);
    assert_eq!(request.references(&request.exemplars[0].labels), [3, 4]);
}

#[test]
fn limits_are_met_before_memory_is_spent() {
    let empty_series = [5 << 3 | 2, 0].repeat(super::super::remote_write_limits::SERIES_MAX + 1);
    assert!(matches!(decode(&empty_series, 10), Err(DecodeError::TooManySeries(_))));
    let empty_symbols = [4 << 3 | 2, 0].repeat(SYMBOLS_MAX + 1);
    assert!(matches!(decode(&empty_symbols, 10), Err(DecodeError::TooManySymbols(_))));
    let long = |number: u8, count: usize| {
        let inner = [number << 3 | 2, 0].repeat(count);
        let mut body = vec![5 << 3 | 2];
        let mut len = inner.len();
        while len >= 0x80 {
            body.push(len as u8 | 0x80);
            len >>= 7;
        }
        body.push(len as u8);
        [body, inner].concat()
    };
    assert!(matches!(decode(&long(2, 12), 10), Err(DecodeError::TooManySamples(10))));
    assert!(matches!(decode(&long(4, EXEMPLARS_MAX + 1), 10), Err(DecodeError::TooManyExemplars(_))));
    assert!(matches!(decode(&long(3, 400_000), 500_000), Err(DecodeError::TooManyBuckets(_))));
    let first = oracle::Request { symbols: vec!["x".into()], ..oracle::Request::default() };
    assert!(matches!(decode(&first.encode_to_vec(), 10), Err(DecodeError::FirstSymbol(_))));
    for number in [1, 3] {
        let other = decode(&[number << 3 | 2, 0], 10).unwrap_err();
        assert_eq!(other, DecodeError::OtherMessage { found: MESSAGE_V1, called: MESSAGE_V2 });
    }
}
