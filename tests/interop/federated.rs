//! Prometheus federates from one Kymo, writes what it scraped to a second one, and a third Prometheus reads it back from there: all
//! have the same samples at the same times, native histograms included.

use crate::answers::{Series, compare_series, now_ms, raw, wait_for, wait_for_sending, wait_until_same};
use crate::program::{Program, every_prometheus, kymo};
use kymo_tests::answer::SampleValue;
use kymo_tests::compare::same_bits;
use kymo_tests::http::Client;
use kymo_tests::remote_write_v2::{Histogram, Request, Span, send};

/// What is federated, as a selector and as `match[]` has it.
const ALL: &str = "{__name__=~\"f_.*|h_seconds\"}[5m]";
const MATCHES: &str = "['{__name__=~\"f_.*\",kind!=\"hidden\"}', 'h_seconds']";

/// All kinds of values, somewhat different each time.
fn store(client: &mut Client, t: i64, turn: u8) {
    let mut request = Request::new();
    let turn = f64::from(turn);
    let values = [0.1 + turn, -0.0, f64::INFINITY, f64::NAN, 5e-324, -1.7e308, 1e6];
    for (i, value) in values.into_iter().enumerate() {
        let labels = [("__name__", "f_value"), ("i", &*i.to_string())];
        request.push(&labels, &[(t, value)]);
    }
    let odd = "quote \" backslash \\ line\nbreak é";
    request.push(&[("__name__", "f_odd"), ("instance", "own"), ("job", "own"), ("odd", odd)], &[(t, turn)]);
    request.push(&[("__name__", "f_other"), ("kind", "hidden")], &[(t, turn)]);
    request.push(&[("__name__", "g_other")], &[(t, turn)]);
    let ended = f64::from_bits(0x7ff0_0000_0000_0002);
    request.push(&[("__name__", "f_ended")], &[(t - 1, turn), (t, ended)]);
    let histogram = |schema: i32| Histogram {
        count: 15 + turn as u64,
        sum: 18.4 + turn,
        schema,
        // 2.42 knows a histogram of floats by this alone.
        zero_threshold: 0.001,
        zero_count: 2,
        positive_spans: vec![Span { offset: -3, length: 2 }, Span { offset: 4, length: 1 }],
        positive_deltas: vec![2 + turn as i64, 3, 1],
        timestamp: t,
        ..Histogram::default()
    };
    for schema in [-4, 0, 3, 8] {
        let labels = [("__name__", "h_seconds"), ("schema", &*schema.to_string())];
        request.push(&labels, &[]).histograms =
            vec![Histogram { count: 15 + 3 * turn as u64, ..histogram(schema) }];
    }
    let response = send(client, &request.compress()).unwrap();
    assert_eq!(response.status, 204, "{}", response.text());
}

/// What a federating server should have of what the first one has: with its external label, without what `match[]` leaves out, and
/// without histograms if it scraped text.
fn federated(source: &mut Client, with_histograms: bool, time_ms: i64) -> Vec<Series> {
    let mut series = raw(source, ALL, time_ms);
    for (labels, samples) in &mut series {
        labels.insert("region".to_owned(), "eu".to_owned());
        // A series without this label gets that of the scrape.
        labels.entry("job".to_owned()).or_insert_with(|| "federate".to_owned());
        samples.retain(|s| with_histograms || matches!(s.1, SampleValue::Float(_)));
    }
    series.retain(|(labels, samples)| !samples.is_empty() && !labels.contains_key("kind"));
    // One that has ended is no longer exposed.
    series.retain(|(labels, _)| labels["__name__"] != "f_ended");
    series
}

#[test]
fn prometheus_federates_from_kymo() {
    for prometheus in every_prometheus() {
        for with_histograms in [false, true] {
            chain(&prometheus, with_histograms);
        }
    }
}

fn chain(prometheus: &Program, with_histograms: bool) {
    let dir = tempfile::tempdir().unwrap();
    let source = kymo(&dir.path().join("source"), "external_labels: {region: eu}\n");
    let target = kymo(&dir.path().join("target"), "");
    let (mut first, mut second) = (source.client(), target.client());
    let protobuf =
        if prometheus.is_third && with_histograms { "  scrape_native_histograms: true\n" } else { "" };
    let configuration = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n- job_name: federate\n  honor_labels: true\n  metrics_path: /federate\n{protobuf}  \
         params: {{'match[]': {MATCHES}}}\n  static_configs: [{{targets: ['{}']}}]\n{}",
        source.address(),
        prometheus.remote_write(&target)
    );
    let features: &[&str] = if with_histograms { &[prometheus.features()] } else { &[] };
    let peer = prometheus.start(&dir.path().join("prometheus"), &configuration, features);
    let mut middle = peer.client();
    wait_for_sending(&mut second);
    let (mut compared, mut last) = (0, 0);
    for turn in 0..3 {
        last = now_ms();
        store(&mut first, last, turn);
        compared = wait_for(|| {
            let expected = federated(&mut first, with_histograms, last);
            compare_series(expected, raw(&mut middle, ALL, last), alike)
        });
        wait_until_same(&mut middle, &mut second, ALL, last);
    }
    assert_eq!(compared, if with_histograms { 36 } else { 24 });
    read_back(prometheus, &dir.path().join("reader"), &target, last);
    println!("{compared} samples federated, sent on and read back");
}

/// One without data of its own reads from the second Kymo.
fn read_back(prometheus: &Program, dir: &std::path::Path, target: &kymo_tests::server::Server, time_ms: i64) {
    let url = target.url("/api/v1/read");
    let configuration = format!("remote_read:\n- {{url: '{url}', read_recent: true}}\n");
    let reader = prometheus.start(dir, &configuration, &[prometheus.features()]);
    let mut expected = raw(&mut target.client(), ALL, time_ms);
    if !prometheus.is_third {
        // 2.42 does not know histograms when it reads: it sees such series without samples.
        expected.retain(|(_, samples)| matches!(samples[0].1, SampleValue::Float(_)));
    }
    let mut found = raw(&mut reader.client(), ALL, time_ms);
    found.retain(|(labels, _)| prometheus.is_third || labels["__name__"] != "h_seconds");
    compare_series(expected, found, alike).unwrap();
}

/// The same bits; of what is not a number, the text formats keep no more than that.
fn alike(a: f64, b: f64) -> bool {
    same_bits(a, b) || a.is_nan() && b.is_nan()
}
