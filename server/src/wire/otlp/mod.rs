//! OTLP metrics (`ExportMetricsServiceRequest`, protobuf and JSON): messages, decoding, answers.

mod json;
mod limit;
pub mod messages;

use messages::ExportMetricsRequest;
use prost::Message;
use thiserror::Error;

/// How a request is written; its answer is written the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/x-protobuf`
    Protobuf,
    /// `application/json`
    Json,
}

/// Messages (objects) in one request: data points, attributes, exemplars and all that holds them. A body holds one in two
/// bytes, memory in some hundred.
pub const MESSAGES_MAX: usize = 500_000;

/// Why a body is not a request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OtlpError {
    /// Not the protobuf message.
    #[error("malformed protobuf: {0}")]
    Protobuf(String),
    /// Not JSON, or not of the message.
    #[error("malformed JSON: {0}")]
    Json(String),
    /// More of everything than one request may have.
    #[error("the request has more than {MESSAGES_MAX} messages; send smaller batches")]
    TooManyMessages,
}

/// Decodes a request.
///
/// # Errors
/// The body is not the message, or is too large.
pub fn decode(format: Format, body: &[u8]) -> Result<ExportMetricsRequest, OtlpError> {
    match format {
        Format::Protobuf => {
            if limit::messages(body).map_err(|e| OtlpError::Protobuf(e.to_string()))? > MESSAGES_MAX {
                return Err(OtlpError::TooManyMessages);
            }
            ExportMetricsRequest::decode(body).map_err(|e| OtlpError::Protobuf(e.to_string()))
        }
        Format::Json => {
            if body.iter().filter(|b| **b == b'{').count() > MESSAGES_MAX {
                return Err(OtlpError::TooManyMessages);
            }
            serde_json::from_slice(body).map_err(|e| OtlpError::Json(e.to_string()))
        }
    }
}

/// The answer to a request of which `rejected` data points are not stored, because of `message`.
pub fn response(format: Format, rejected: u64, message: &str) -> Vec<u8> {
    let nothing = rejected == 0 && message.is_empty();
    match format {
        Format::Protobuf if nothing => Vec::new(),
        Format::Protobuf => {
            let partial = messages::PartialSuccess {
                rejected_data_points: rejected.cast_signed(),
                error_message: message.to_owned(),
            };
            messages::ExportMetricsResponse { partial_success: Some(partial) }.encode_to_vec()
        }
        Format::Json if nothing => b"{}".to_vec(),
        // `int64` is a string in the JSON of protobuf.
        Format::Json => serde_json::json!({
            "partialSuccess": { "rejectedDataPoints": rejected.to_string(), "errorMessage": message }
        })
        .to_string()
        .into_bytes(),
    }
}

/// `google.rpc.Status`, the answer to a request that failed; `code` is one of gRPC's.
pub fn status(format: Format, code: i32, message: &str) -> Vec<u8> {
    match format {
        Format::Protobuf => messages::Status { code, message: message.to_owned() }.encode_to_vec(),
        Format::Json => serde_json::json!({ "code": code, "message": message }).to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers() {
        assert_eq!(response(Format::Protobuf, 0, ""), b"");
        assert_eq!(response(Format::Json, 0, ""), b"{}");
        assert_eq!(response(Format::Protobuf, 3, "no"), b"\x0a\x06\x08\x03\x12\x02no");
        let json: serde_json::Value = serde_json::from_slice(&response(Format::Json, 3, "no")).unwrap();
        assert_eq!(json["partialSuccess"]["rejectedDataPoints"], "3");
        assert_eq!(status(Format::Protobuf, 3, "x"), b"\x08\x03\x12\x01x");
    }

    #[test]
    fn both_formats_say_the_same() {
        let text = br#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}},{"key":"b","value":{"bytesValue":"aGVsbG8"}}]},
            "scopeMetrics":[{"scope":{"name":"l","version":"1"},"metrics":[
              {"name":"a","unit":"s","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
                {"timeUnixNano":"1544712660300000000","asInt":"7","exemplars":[
                  {"timeUnixNano":5,"asDouble":"NaN","traceId":"5b8efff798038103d269b633813fc60c","spanId":"EEE19B7EC3C1B174"}]}]}},
              {"name":"h","exponentialHistogram":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","dataPoints":[
                {"count":"3","scale":-1,"zeroCount":1,"positive":{"offset":2,"bucketCounts":["1",2]},"unknown":[{}]}]}}]}]}]}"#;
        let request = decode(Format::Json, text).unwrap();
        let again = decode(Format::Protobuf, &request.encode_to_vec()).unwrap();
        assert_eq!(format!("{request:?}"), format!("{again:?}"));
        let bytes =
            request.resource_metrics[0].resource.as_ref().unwrap().attributes[1].value.as_ref().unwrap();
        assert_eq!(bytes.bytes_value.as_deref(), Some(&b"hello"[..]));
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let sum = metrics[0].sum.as_ref().unwrap();
        assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (2, true));
        let point = &sum.data_points[0];
        assert_eq!((point.time_unix_nano, point.as_int), (1_544_712_660_300_000_000, Some(7)));
        assert_eq!(point.exemplars[0].span_id, [0xee, 0xe1, 0x9b, 0x7e, 0xc3, 0xc1, 0xb1, 0x74]);
        let histogram = metrics[1].exponential_histogram.as_ref().unwrap();
        assert_eq!(histogram.aggregation_temporality, 1);
        assert_eq!(histogram.data_points[0].positive.as_ref().unwrap().bucket_counts, [1, 2]);
    }

    #[test]
    fn bombs_are_counted_before_they_are_read() {
        let mut points = b"\x2a".to_vec();
        let inner = b"\x0a\x00".repeat(MESSAGES_MAX + 1);
        for number in [0x2a, 0x12, 0x12, 0x0a] {
            let payload = if number == 0x2a { inner.clone() } else { points.clone() };
            points = vec![number];
            prost::encoding::encode_varint(payload.len() as u64, &mut points);
            points.extend_from_slice(&payload);
        }
        assert_eq!(decode(Format::Protobuf, &points).unwrap_err(), OtlpError::TooManyMessages);
        let json = "{},".repeat(MESSAGES_MAX + 1);
        assert_eq!(decode(Format::Json, json.as_bytes()).unwrap_err(), OtlpError::TooManyMessages);
        let deep = [b"{\"arrayValue\":{\"values\":[".repeat(500), b"]}}".repeat(500)].concat();
        let deep =
            [b"{\"resourceMetrics\":[{\"resource\":{\"attributes\":[{\"value\":".to_vec(), deep].concat();
        assert!(matches!(decode(Format::Json, &deep), Err(OtlpError::Json(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Format::Protobuf, &bytes);
            let _ = decode(Format::Json, &bytes);
        }
    }
}
