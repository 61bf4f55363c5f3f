//! The CPU of remote write 2.0 against 1.0 for the same samples.

use super::subject::Subject;
use kymo_tests::remote_write::{self as v1, label_bytes};
use kymo_tests::remote_write_v2 as v2;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Series, each with one sample in every scrape; a request of this many is what Prometheus sends unless told otherwise.
const SERIES: usize = 2_000;
/// Each version is measured so often, in turns; the least counts, because other work on the machine only adds.
const TURNS: usize = 5;

/// Labels as exporters have them.
fn labels() -> Vec<Vec<(String, String)>> {
    (0..SERIES)
        .map(|i| {
            let pairs = [
                ("__name__", format!("node_subsystem_{}_operations_total", i / 40)),
                ("cluster", "production-eu-1".to_owned()),
                ("device", format!("device-{}", i % 20)),
                ("instance", format!("machine-{:03}.example.net:9100", i % 40 / 20)),
                ("job", "node".to_owned()),
                ("mode", "idle".to_owned()),
            ];
            pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
        })
        .collect()
}

/// Bodies of `scrapes` requests in each version.
fn bodies(scrapes: usize) -> [Vec<Vec<u8>>; 2] {
    let labels = labels();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let sample = |scrape: usize, i: usize| {
        (now - 15_000 * (scrapes - scrape) as i64 + (i / 100) as i64, (scrape * (i % 7 + 1)) as f64 * 1.25)
    };
    let encoded: Vec<Vec<u8>> = labels.iter().map(|l| label_bytes(l)).collect();
    // As a sender does: each text once, in the order met.
    let mut symbols = vec![String::new()];
    let mut known = HashMap::from([(String::new(), 0)]);
    let mut symbol = |text: &String| {
        *known.entry(text.clone()).or_insert_with(|| {
            symbols.push(text.clone());
            symbols.len() as u32 - 1
        })
    };
    let references: Vec<Vec<u32>> =
        labels.iter().map(|l| l.iter().flat_map(|(n, v)| [symbol(n), symbol(v)]).collect()).collect();
    let first = (0..scrapes).map(|scrape| {
        let mut request = v1::Request::new();
        encoded.iter().enumerate().for_each(|(i, labels)| request.push(labels, &[sample(scrape, i)]));
        request.compress()
    });
    let second = (0..scrapes).map(|scrape| {
        let series = references.iter().enumerate().map(|(i, references)| {
            let (timestamp, value) = sample(scrape, i);
            v2::TimeSeries {
                labels_refs: references.clone(),
                samples: vec![v2::Sample { value, timestamp, start_timestamp: 0 }],
                metadata: Some(v2::Metadata { metric_type: 1, help_ref: 0, unit_ref: 0 }),
                ..v2::TimeSeries::default()
            }
        });
        v2::Request { symbols: symbols.clone(), timeseries: series.collect(), ..v2::Request::default() }
            .compress()
    });
    [first.collect(), second.collect()]
}

/// Prints the CPU of Kymo for a million samples in each version, and how they compare.
pub(crate) fn run(kymo: &Subject, dir: &Path, scrapes: usize) {
    let bodies = bodies(scrapes);
    let mut least = [Duration::MAX; 2];
    for turn in 0..TURNS * 2 {
        let version = turn % 2;
        let dir = dir.join(format!("protocols-{turn}"));
        std::fs::create_dir_all(&dir).expect("create a folder for the data");
        let peer = kymo.start(&dir);
        let mut client = peer.client();
        let before = peer.process.usage().cpu;
        for body in &bodies[version] {
            let sent = if version == 0 { v1::send(&mut client, body) } else { v2::send(&mut client, body) };
            let response = sent.expect("an answer");
            assert_eq!(response.status, 204, "{}", response.text());
            let written = (version == 1).then_some([SERIES as u64, 0, 0]);
            assert_eq!(v2::written(&response), written);
        }
        least[version] = least[version].min(peer.process.usage().cpu.saturating_sub(before));
        drop(peer);
        let _ = std::fs::remove_dir_all(&dir);
    }
    let samples = (SERIES * scrapes) as f64;
    let bytes = bodies.map(|bodies| bodies.iter().map(Vec::len).sum::<usize>());
    let [first, second] = least.map(|cpu| cpu.as_secs_f64() / samples * 1e6);
    println!(
        "remote write, CPU s per million samples: 1.0 {first:.3}, 2.0 {second:.3}, ratio {:.2}",
        second / first
    );
    let [first, second] = bytes.map(|bytes| bytes as f64 / samples);
    println!("remote write, bytes on the wire per sample: 1.0 {first:.2}, 2.0 {second:.2}");
}
