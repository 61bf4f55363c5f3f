//! OpenTelemetry metrics: both encodings, the same message in both, and their translation into a store.

use crate::input::{Input, seed};
use crate::store;
use kymo_server::config::otlp::{OtlpSettings, TranslationStrategy};
use kymo_server::ingest::otlp::{DeltaState, has_deltas, translate};
use kymo_server::ingest::receiver::Receiver;
use kymo_server::telemetry::Metrics;
use kymo_server::wire::otlp::messages::ExportMetricsRequest;
use kymo_server::wire::otlp::{Format, decode, response, status};
use kymo_storage::env::{Fs, MemoryFs};
use prost::Message;
use std::sync::Arc;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.u8();
    let format = if choice % 2 == 0 { Format::Json } else { Format::Protobuf };
    let Ok(request) = decode(format, input.0) else { return };
    let encoded = request.encode_to_vec();
    let again = decode(Format::Protobuf, &encoded).unwrap();
    assert_eq!(format!("{request:?}"), format!("{again:?}"));
    if choice % 8 < 4 {
        into_a_store(&request, choice / 8);
    }
    let _ = (response(format, 3, "no"), status(format, 3, "no"));
}

/// What is translated is taken, or refused one by one; a second request goes on from the first.
fn into_a_store(request: &ExportMetricsRequest, choice: u8) {
    let strategies = [
        TranslationStrategy::UnderscoreEscapingWithSuffixes,
        TranslationStrategy::UnderscoreEscapingWithoutSuffixes,
        TranslationStrategy::NoUTF8EscapingWithSuffixes,
        TranslationStrategy::NoTranslation,
    ];
    let settings = OtlpSettings {
        translation_strategy: strategies[usize::from(choice % 4)],
        promote_all_resource_attributes: choice & 4 != 0,
        convert_histograms_to_nhcb: choice & 8 != 0,
        promote_scope_metadata: choice & 16 != 0,
        ..OtlpSettings::default()
    };
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::unrecorded());
    let storage = store::open(&fs).unwrap();
    let metrics = Arc::new(Metrics::default());
    let receiver = Receiver { storage: storage.clone(), metrics, decoded_bytes_max: 1 << 20 };
    let mut deltas = DeltaState::default();
    for _ in 0..2 {
        let translated = translate(&receiver, &settings, request, &deltas);
        assert!(translated.rejected <= translated.points);
        storage.append(translated.prepared.batch).unwrap();
        deltas.keep(translated.staged);
        let _ = has_deltas(request);
    }
    drop(receiver);
    store::survives_restart(&fs, storage);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let text = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}},
        {"key":"service.instance.id","value":{"stringValue":"1"}},{"key":"list","value":{"arrayValue":{"values":[{"intValue":"3"},{"boolValue":true}]}}}]},
        "scopeMetrics":[{"scope":{"name":"l","version":"1"},"metrics":[
        {"name":"a.b","unit":"By","description":"d","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
          {"startTimeUnixNano":"1699999990000000000","timeUnixNano":"1700000000000000000","asInt":"7","attributes":[{"key":"x","value":{"doubleValue":1.5}}],
           "exemplars":[{"timeUnixNano":5,"asDouble":"NaN","traceId":"5b8efff798038103d269b633813fc60c","spanId":"EEE19B7EC3C1B174"}]}]}},
        {"name":"d","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"startTimeUnixNano":"1699999990000000000","timeUnixNano":"1700000000000000000","asDouble":2.5}]}},
        {"name":"g","unit":"s","gauge":{"dataPoints":[{"timeUnixNano":"1700000000000000000","asDouble":-1,"flags":1}]}},
        {"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1700000000000000000","count":"4","sum":3.5,"bucketCounts":["1","2","1"],"explicitBounds":[0.5,1]}]}},
        {"name":"q","summary":{"dataPoints":[{"timeUnixNano":"1700000000000000000","count":"4","sum":3.5,"quantileValues":[{"quantile":0.5,"value":1}]}]}},
        {"name":"e","exponentialHistogram":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","dataPoints":[
          {"startTimeUnixNano":"1699999990000000000","timeUnixNano":"1700000000000000000","count":"4","sum":1,"scale":-1,"zeroCount":1,"positive":{"offset":2,"bucketCounts":["1",2]}}]}}]}]}]}"#;
    let request = decode(Format::Json, text.as_bytes()).unwrap();
    let bytes = request.encode_to_vec();
    let mut seeds =
        vec![seed(&[&[0], text.as_bytes()]), seed(&[&[4], text.as_bytes()]), seed(&[&[5], &bytes])];
    seeds.extend((0..16u8).map(|i| seed(&[&[1 + 8 * i], &bytes])));
    // One metric each, so that inputs stay short.
    for metric in &request.resource_metrics[0].scope_metrics[0].metrics {
        let mut one = request.clone();
        one.resource_metrics[0].scope_metrics[0].metrics = vec![metric.clone()];
        seeds.push(seed(&[&[1], &one.encode_to_vec()]));
    }
    seeds
}
