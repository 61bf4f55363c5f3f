//! Remote write 1.0 and 2.0 and remote read: their envelopes, our decoders beside prost's, and a store that takes what came.

use crate::input::{Input, seed};
use crate::store;
use kymo_server::ingest::remote_write::{Message as Kind, Receiver};
use kymo_server::telemetry::Metrics;
use kymo_server::wire::body::{self, BodyError, Encoding, Memory};
use kymo_server::wire::inflow::Inflow;
use kymo_server::wire::protobuf::ProtobufError;
use kymo_server::wire::remote_write_limits::DecodeError;
use kymo_server::wire::{remote_read, remote_write_v1, remote_write_v2};
use kymo_storage::env::{Fs, MemoryFs};
use kymo_storage::model::{AnyHistogram, Labels, MatchOp};
use kymo_tests::hostile::packed;
use kymo_tests::prometheus_messages as v1;
use kymo_tests::remote_write::{Request, TimeSeries, label_bytes};
use kymo_tests::remote_write_v2 as v2;
use prost::Message;
use std::io::Write;
use std::sync::Arc;

const SAMPLES_MAX: usize = 1_000;
const DECODED_MAX: usize = 1 << 20;
/// Encodings, and what tests call them.
const ENCODINGS: [(Encoding, &str); 6] = [
    (Encoding::Identity, "identity"),
    (Encoding::Snappy, "snappy"),
    (Encoding::SnappyFramed, "framed snappy"),
    (Encoding::Gzip, "gzip"),
    (Encoding::Deflate, "deflate"),
    (Encoding::Zstd, "zstd"),
];

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 8 {
        0 => write_v1(input.0),
        1 => write_v2(input.0),
        2 => read(input.0),
        3 => unpack(input),
        4 => pack(input),
        5 => store_it(Kind::V1, input.0),
        6 => store_it(Kind::V2, input.0),
        _ => raw(input.0),
    }
}

/// Whether we may refuse what prost takes: groups, which nobody sends; more than a request may have; the other message.
fn may_refuse(error: &DecodeError) -> bool {
    match error {
        DecodeError::Malformed { cause, .. } => matches!(cause, ProtobufError::WireType(3)),
        _ => true,
    }
}

/// Names that come once, with values.
fn pairs<'l>(labels: impl Iterator<Item = (&'l str, &'l str)>) -> Option<Vec<(&'l str, &'l str)>> {
    let mut pairs: Vec<_> = labels.collect();
    pairs.sort_unstable();
    let is_once = pairs.windows(2).all(|w| w[0].0 != w[1].0);
    (is_once && pairs.iter().all(|(n, v)| !n.is_empty() && !v.is_empty())).then_some(pairs)
}

fn write_v1(bytes: &[u8]) {
    let (ours, theirs) = (remote_write_v1::decode(bytes, SAMPLES_MAX), v1::WriteRequest::decode(bytes));
    let Ok(theirs) = theirs else { return };
    let ours = match ours {
        Ok(ours) => ours,
        Err(error) => return assert!(may_refuse(&error), "{error}"),
    };
    assert_eq!(ours.series.len(), theirs.timeseries.len());
    for (ours_one, theirs_one) in ours.series.iter().zip(&theirs.timeseries) {
        let labels = theirs_one.labels.iter().map(|l| (l.name.as_str(), l.value.as_str()));
        if let (Ok(labels), Some(pairs)) = (Labels::from_wire(&ours_one.labels), pairs(labels)) {
            assert!(labels.iter().eq(pairs.iter().copied()), "{labels} {pairs:?}");
        }
        let samples: Vec<_> =
            ours.samples[ours_one.samples.clone()].iter().map(|s| (s.timestamp, s.value.to_bits())).collect();
        let expected: Vec<_> = theirs_one.samples.iter().map(|s| (s.timestamp, s.value.to_bits())).collect();
        assert_eq!(samples, expected);
        let histograms = &ours.histograms[ours_one.histograms.clone()];
        assert_eq!(histograms.len(), theirs_one.histograms.len());
        for (h, t) in histograms.iter().zip(&theirs_one.histograms) {
            assert_eq!(h.timestamp, t.timestamp);
            let sum = match &h.histogram {
                Ok(AnyHistogram::Int(h)) => h.sum,
                Ok(AnyHistogram::Float(h)) => h.sum,
                Err(_) => continue,
            };
            assert_eq!(sum.to_bits(), t.sum.to_bits());
        }
        let exemplars = &ours.exemplars[ours_one.exemplars.clone()];
        let times: Vec<_> = exemplars.iter().map(|e| (e.timestamp, e.value.to_bits())).collect();
        let expected: Vec<_> =
            theirs_one.exemplars.iter().map(|e| (e.timestamp, e.value.to_bits())).collect();
        assert_eq!(times, expected);
    }
    assert_eq!(ours.metadata.len(), theirs.metadata.len());
    for ((family, said), expected) in ours.metadata.iter().zip(&theirs.metadata) {
        assert_eq!(
            (family.as_ref(), &said.help, &said.unit),
            (expected.family.as_str(), &expected.help, &expected.unit)
        );
    }
}

fn write_v2(bytes: &[u8]) {
    let ours = remote_write_v2::decode(bytes, SAMPLES_MAX);
    let theirs = v2::Request::decode(bytes);
    if let Ok(request) = &ours {
        let mut out = Vec::new();
        for series in &request.series {
            let _ = request.labels(&series.labels, &mut out);
            let _ = request.name_symbol(&series.labels);
            let _ = request.metadata(series.metadata);
            let _ = request.check_metadata(series.metadata);
        }
    }
    let Ok(theirs) = theirs else { return };
    let ours = match ours {
        Ok(ours) => ours,
        Err(error) => return assert!(may_refuse(&error), "{error}"),
    };
    assert_eq!(ours.series.len(), theirs.timeseries.len());
    for (ours_one, theirs_one) in ours.series.iter().zip(&theirs.timeseries) {
        assert_eq!(ours.references(&ours_one.labels), theirs_one.labels_refs);
        let samples: Vec<_> = ours.samples[ours_one.samples.clone()]
            .iter()
            .map(|s| (s.timestamp, s.start_timestamp, s.value.to_bits()))
            .collect();
        let expected: Vec<_> =
            theirs_one.samples.iter().map(|s| (s.timestamp, s.start_timestamp, s.value.to_bits())).collect();
        assert_eq!(samples, expected);
        let histograms = ours.histograms[ours_one.histograms.clone()].iter();
        let expected = theirs_one.histograms.iter().map(|h| (h.timestamp, h.start_timestamp));
        assert!(histograms.map(|h| (h.timestamp, h.start_timestamp)).eq(expected));
        assert_eq!(ours_one.exemplars.len(), theirs_one.exemplars.len());
    }
}

fn read(bytes: &[u8]) {
    let (Ok(ours), Ok(theirs)) = (remote_read::decode(bytes), v1::ReadRequest::decode(bytes)) else { return };
    assert_eq!(ours.queries.len(), theirs.queries.len());
    for (query, expected) in ours.queries.iter().zip(&theirs.queries) {
        assert_eq!((query.start, query.end), (expected.start, expected.end));
        assert_eq!(query.matchers.len(), expected.matchers.len());
        for (matcher, sent) in query.matchers.iter().zip(&expected.matchers) {
            let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
            assert_eq!((matcher.name(), matcher.value()), (sent.name.as_str(), sent.value.as_str()));
            assert_eq!(Some(&matcher.op()), ops.get(sent.kind as usize));
        }
    }
}

/// Bodies as they come: never more than the limit, never more memory than is counted, in pieces as at once.
fn unpack(mut input: Input<'_>) {
    let (encoding, _) = ENCODINGS[usize::from(input.u8()) % ENCODINGS.len()];
    let step = usize::from(input.u8()) + 1;
    let memory = Memory::new(8 << 20);
    let mut held = memory.hold();
    let mut buffer = Vec::new();
    let decoded = body::decode(encoding, input.0, DECODED_MAX, &mut held, &mut buffer);
    let decoded = decoded.map(<[u8]>::to_vec);
    drop(held);
    assert_eq!(memory.used(), 0);
    if let Ok(bytes) = &decoded {
        assert!(bytes.len() <= DECODED_MAX);
    }
    let Ok(Some(mut inflow)) = Inflow::new(encoding, Bounded(Vec::new())) else { return };
    let pushed = input.0.chunks(step).try_for_each(|piece| inflow.push(piece));
    let ended = pushed.and_then(|()| inflow.end());
    if let (Ok(()), Ok(bytes)) = (ended, &decoded) {
        assert_eq!(&inflow.sink().0, bytes, "{encoding:?}");
    }
}

/// Takes no more than a body may be.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > DECODED_MAX {
            return Err(std::io::Error::other("too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What was compressed comes back if it fits, and is refused by its size if it is one byte too large.
fn pack(mut input: Input<'_>) {
    let (encoding, name) = ENCODINGS[usize::from(input.u8()) % ENCODINGS.len()];
    let bytes = input.0.repeat(usize::from(input.u8()) + 1);
    let packed = packed(name, &bytes);
    let memory = Memory::new(64 << 20);
    let mut buffer = Vec::new();
    let decoded = body::decode(encoding, &packed, bytes.len(), &mut memory.hold(), &mut buffer);
    assert_eq!(decoded.as_deref(), Ok(&*bytes), "{encoding:?}");
    if let Some(limit) = bytes.len().checked_sub(1) {
        let mut buffer = Vec::new();
        let refused = body::decode(encoding, &packed, limit, &mut memory.hold(), &mut buffer);
        assert!(matches!(refused, Err(BodyError::TooLarge { .. })), "{refused:?}");
    }
}

/// A request goes through the door into a store: what it then answers, it answers after a restart too.
fn store_it(kind: Kind, bytes: &[u8]) {
    let block = snap::raw::Encoder::new().compress_vec(bytes).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::unrecorded());
    let storage = store::open(&fs).unwrap();
    let metrics = Arc::new(Metrics::default());
    let receiver = Receiver { storage: storage.clone(), metrics, decoded_bytes_max: DECODED_MAX };
    let Ok(prepared) = receiver.prepare(&block, Ok(kind)) else { return };
    drop(receiver);
    storage.append(prepared.batch).unwrap();
    store::survives_restart(&fs, storage);
}

/// The whole body as a stranger sends it.
fn raw(bytes: &[u8]) {
    let mut buffer = Vec::new();
    let Ok(decoded) = body::snappy(bytes, DECODED_MAX, &mut buffer) else { return };
    let _ = remote_write_v1::decode(decoded, SAMPLES_MAX);
    let _ = remote_write_v2::decode(decoded, SAMPLES_MAX);
    let _ = remote_read::decode(decoded);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let now = store::NOW;
    let mut first = Request::of(&[
        TimeSeries::new("up", &[("job", "a")], vec![(now, 1.0), (now + 15_000, 0.0)]),
        TimeSeries::new("up", &[("job", "b")], vec![(now, f64::NAN)]),
    ]);
    let labels = label_bytes(&[("__name__", "latency"), ("job", "a")]);
    let (whole, float) = (store::whole(3), store::fractional(2));
    first.push_whole_histograms(&labels, &[(now, &whole)]);
    first.push_histograms(&labels, &[(now + 1000, &float)]);
    first.push_metadata("up", 1, "whether it is up", "");
    let texts = ["", "__name__", "up", "job", "a", "trace_id", "0123", "help", "s"];
    let second = v2::Request {
        symbols: texts.map(str::to_owned).to_vec(),
        timeseries: vec![v2::TimeSeries {
            labels_refs: vec![1, 2, 3, 4],
            samples: vec![v2::Sample { value: 1.5, timestamp: now, start_timestamp: now - 5 }],
            exemplars: vec![v2::Exemplar { labels_refs: vec![5, 6], value: 0.1, timestamp: now }],
            metadata: Some(v2::Metadata { metric_type: 1, help_ref: 7, unit_ref: 8 }),
            histograms: vec![v2::Histogram {
                count: 3,
                sum: 1.5,
                positive_spans: vec![v2::Span { offset: 0, length: 2 }],
                positive_deltas: vec![1, 1],
                timestamp: now + 1000,
                ..v2::Histogram::default()
            }],
            ..v2::TimeSeries::default()
        }],
        ..v2::Request::default()
    };
    let second = second.encode_to_vec();
    let matchers =
        (0..4).map(|kind| v1::LabelMatcher { kind, name: "job".to_owned(), value: "a|b".to_owned() });
    let query = v1::Query { start: now - 1000, end: now, matchers: matchers.collect(), hints: Vec::new() };
    let read = v1::ReadRequest { queries: vec![query.clone(), query], accepted: vec![1, 0] }.encode_to_vec();
    let one = Request::of(&[TimeSeries::new("a", &[], vec![(now, 0.5)])]);
    let mut seeds = vec![
        seed(&[&[0], first.as_bytes()]),
        seed(&[&[0], one.as_bytes()]),
        seed(&[&[1], &second]),
        seed(&[&[2], &read]),
        seed(&[&[5], first.as_bytes()]),
        seed(&[&[5], one.as_bytes()]),
        seed(&[&[6], &second]),
        seed(&[&[7], &first.compress()]),
    ];
    for (number, (_, name)) in ENCODINGS.iter().enumerate() {
        let body = packed(name, &first.as_bytes().repeat(3));
        seeds.push(seed(&[&[3, number as u8, 20], &body]));
        seeds.push(seed(&[&[4, number as u8, 9], &body]));
    }
    seeds
}
