//! Lines of text: the Prometheus text format, OpenMetrics, Influx, JSON; read one by one, imported, and written.

use crate::input::{Input, seed};
use crate::store;
use kymo_server::ingest::import::{Given, Importer, Lines};
use kymo_server::ingest::receiver::Receiver;
use kymo_server::telemetry::Metrics;
use kymo_server::wire::body::Memory;
use kymo_server::wire::exposition::{Exposed, ExposedSeries, Exposition};
use kymo_server::wire::influx::{self, Precision};
use kymo_server::wire::json_lines::{ReadLine, WriteLine};
use kymo_server::wire::label_bytes::LabelBytes;
use kymo_server::wire::text_format::{Dialect, Line, read_line};
use kymo_storage::env::{Fs, MemoryFs};
use kymo_storage::model::Labels;
use std::io::Write;
use std::sync::Arc;

const PRECISIONS: [&str; 8] = ["ns", "u", "ms", "s", "m", "h", "n", ""];

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 10 {
        0 => texts(input.0, |line| text(Dialect::Prometheus, line)),
        1 => texts(input.0, |line| text(Dialect::OpenMetrics, line)),
        2 => {
            let precision = Precision::named(PRECISIONS[usize::from(input.u8() % 8)]).unwrap_or_default();
            let _ = influx::is_open(input.0);
            texts(input.0, |line| {
                if let Ok(Some(point)) = influx::read_line(precision, line) {
                    assert!(!point.measurement.is_empty());
                }
            });
        }
        3 => texts(input.0, json),
        4 => import(&|| Lines::text(Dialect::Prometheus), input),
        5 => import(&|| Lines::text(Dialect::OpenMetrics), input),
        6 => import(&|| Lines::Influx(Precision::Milliseconds, Some("db".to_owned())), input),
        7 => import(&|| Lines::Json, input),
        8 => exposed(input),
        _ => texts(input.0, |text| {
            let _ = Exposition::negotiate(text).content_type();
        }),
    }
}

fn texts(bytes: &[u8], mut each: impl FnMut(&str)) {
    let text = String::from_utf8_lossy(bytes);
    text.split('\n').for_each(&mut each);
}

fn text(dialect: Dialect, line: &str) {
    let mut labels = LabelBytes::default();
    if let Ok(Line::Sample(_)) = read_line(dialect, line, &mut labels) {
        assert!(!labels.metric().is_empty());
        let bytes = labels.encode().to_vec();
        if let Ok(labels) = Labels::from_wire(&bytes) {
            assert!(!labels.is_empty());
        }
    }
}

/// A line that is read is written as a line that says the same.
fn json(line: &str) {
    let Ok(mut read) = ReadLine::parse(line) else { return };
    let labels = Labels::from_pairs(read.metric.iter());
    let samples: Vec<(i64, i64, f64)> = read.samples().collect();
    read.take_histograms().for_each(drop);
    let column = |pick: fn(&(i64, i64, f64)) -> i64| samples.iter().map(pick).collect::<Vec<_>>();
    let values: Vec<f64> = samples.iter().map(|s| s.2).collect();
    let (timestamps, start_timestamps) = (column(|s| s.0), column(|s| s.1));
    let write = WriteLine {
        labels: &labels,
        timestamps: &timestamps,
        values: &values,
        start_timestamps: &start_timestamps,
        histograms: &[],
    };
    let mut out = Vec::new();
    write.write(&mut out).unwrap();
    if labels.is_empty() {
        return;
    }
    let again = ReadLine::parse(std::str::from_utf8(&out).unwrap()).unwrap();
    assert_eq!(Labels::from_pairs(again.metric.iter()), labels);
    let bits = |s: &[(i64, i64, f64)]| s.iter().map(|s| (s.0, s.1, s.2.to_bits())).collect::<Vec<_>>();
    assert_eq!(bits(&again.samples().collect::<Vec<_>>()), bits(&samples));
}

/// An import comes to the same in pieces of any size, and what is stored is there after a restart.
fn import(lines: &dyn Fn() -> Lines, mut input: Input<'_>) {
    let step = usize::from(input.u8()) + 1;
    let label = input.u8().is_multiple_of(4);
    let one = |step: usize| {
        let fs: Arc<dyn Fs> = Arc::new(MemoryFs::unrecorded());
        let storage = store::open(&fs).unwrap();
        let metrics = Arc::new(Metrics::default());
        let receiver = Receiver { storage: storage.clone(), metrics, decoded_bytes_max: 1 << 20 };
        let labels = if label { vec![("added".to_owned(), "x".to_owned())] } else { Vec::new() };
        let given = Given { now: store::NOW, labels };
        let mut importer = Importer::new(receiver, lines(), given, Memory::new(8 << 20).hold());
        importer.allow(input.0.len() as u64);
        let written = input.0.chunks(step).try_for_each(|piece| importer.write_all(piece));
        let stored = match written {
            Ok(()) => importer.finish().map(|(report, sent)| {
                assert!(report.stored <= sent.max(report.stored));
                report.stored
            }),
            Err(_) => importer.failure().map_or(Ok(0), Err),
        };
        drop(importer);
        (fs, storage, stored.ok())
    };
    let ((fs, first, stored), (_, second, again)) = (one(step), one(1 << 20));
    assert_eq!(stored, again);
    assert_eq!(store::dump(&first), store::dump(&second));
    second.close().unwrap();
    store::survives_restart(&fs, first);
}

/// What is exposed as text is read as the same series.
fn exposed(mut input: Input<'_>) {
    let accept = [
        "*/*;escaping=allow-utf-8",
        "text/plain;version=1.0.0;escaping=allow-utf-8",
        "",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ][usize::from(input.u8() % 4)];
    let exposition = Exposition::negotiate(accept);
    let is_read_back = exposition.content_type().ends_with("escaping=allow-utf-8");
    let name = String::from_utf8_lossy(input.piece()).into_owned();
    if name.is_empty() {
        return;
    }
    let mut pairs = vec![("__name__".to_owned(), name.clone())];
    let (timestamp, value) = (input.u64().cast_signed(), f64::from_bits(input.u64()));
    while !input.is_empty() {
        let label = String::from_utf8_lossy(input.piece()).into_owned();
        let value = String::from_utf8_lossy(input.piece()).into_owned();
        if label != "__name__" && !label.is_empty() {
            pairs.push((label, value));
        }
    }
    let labels = Labels::from_pairs(pairs);
    let histogram = Arc::new(store::fractional(3));
    let series = [Exposed::Float(value), Exposed::Histogram(histogram)].map(|value| ExposedSeries {
        labels: labels.clone(),
        timestamp,
        value,
    });
    let mut out = Vec::new();
    exposition.write_family(&mut out, &name, &series);
    if exposition.is_protobuf || !is_read_back {
        return;
    }
    let text = String::from_utf8(out).unwrap();
    let mut lines = text.split_terminator('\n');
    assert!(lines.next().is_some_and(|line| line.starts_with("# TYPE ")), "{text}");
    let line = lines.next().unwrap();
    assert_eq!(lines.next(), None, "{text}");
    let mut read = LabelBytes::default();
    let sample = match read_line(Dialect::Prometheus, line, &mut read) {
        Ok(Line::Sample(sample)) => sample,
        other => panic!("{text} {other:?}"),
    };
    assert_eq!(sample.timestamp, Some(timestamp));
    assert!(sample.value.to_bits() == value.to_bits() || value.is_nan() && sample.value.is_nan(), "{text}");
    let mut found = Vec::new();
    read.each(|name, value| {
        if !value.is_empty() {
            found.push((name.to_owned(), value.to_owned()));
        }
    });
    assert_eq!(Labels::from_pairs(found), labels, "{text}");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let prometheus = "# HELP a Some \\\\ help.\n# TYPE a counter\na{b=\"c\\n\",d=\"\"} 1.5 1700000000000\na 2\n{\"u 8\",x=\"y\"} NaN\n\
        h_bucket{le=\"0.5\"} 3\nh_bucket{le=\"+Inf\"} 4\nh_sum 1e3\nh_count 4\n";
    let open_metrics = "# TYPE a counter\n# UNIT a_seconds seconds\na_total{b=\"c\"} 1 1700000000.5 # {trace_id=\"x\"} 0.5 1.5\n\
        a_created 1700000000\n# TYPE g gauge\ng -0\n# EOF\n";
    let influx =
        "cpu,host=a\\ b,zone=c usage=1.5,count=3i,up=true,text=\"a\nb\" 1700000000000\nm v=1u\n# comment\n";
    let json = "{\"metric\":{\"__name__\":\"a\",\"b\":\"c\"},\"values\":[1,\"NaN\",null],\"timestamps\":[1,2,3]}\n\
        {\"metric\":{\"__name__\":\"s\"},\"values\":[1],\"timestamps\":[5],\"start_timestamps\":[2]}\n";
    let mut histogram = Vec::new();
    let labels = Labels::from_pairs([("__name__", "h")]);
    let sample = kymo_storage::api::HistogramSample {
        timestamp: store::NOW,
        start_timestamp: 0,
        histogram: Arc::new(store::fractional(2)),
    };
    let line = WriteLine {
        labels: &labels,
        timestamps: &[],
        values: &[],
        start_timestamps: &[],
        histograms: &[sample],
    };
    line.write(&mut histogram).unwrap();
    let mut seeds = Vec::new();
    for (kind, text) in [(0, prometheus), (1, open_metrics), (3, json)] {
        seeds.push(seed(&[&[kind], text.as_bytes()]));
        seeds.push(seed(&[&[kind + 4, 7, 1], text.as_bytes()]));
    }
    seeds.push(seed(&[&[3], &histogram]));
    seeds.push(seed(&[&[7, 30, 0], &histogram]));
    seeds.extend((0..4).map(|p| seed(&[&[2, p], influx.as_bytes()])));
    seeds.push(seed(&[&[6, 9, 1], influx.as_bytes()]));
    for accept in 0..4 {
        let piece = crate::input::piece;
        let parts = [
            &piece(b"a.b"),
            &1_700u64.to_le_bytes()[..],
            &1.5f64.to_le_bytes(),
            &piece(b"x y"),
            &piece(b"\"\\\n"),
        ];
        seeds.push(seed(&[&[8, accept], &parts.concat()]));
    }
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;escaping=dots;q=0.3,*/*;q=0.1";
    seeds.push(seed(&[&[9], accept.as_bytes()]));
    seeds
}
