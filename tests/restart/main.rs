//! A restart, orderly or by `kill -9`, changes no answer.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a failed expectation is a failed test, and the clock is the real one"
)]

use kymo_tests::answer::{Answer, Outcome};
use kymo_tests::http::{Client, escape};
use kymo_tests::load::Load;
use kymo_tests::remote_write::{Request, TimeSeries, send};
use kymo_tests::server::Server;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const STEP_MS: i64 = 15_000;
const STEPS: i64 = 60;

const QUERIES: [&str; 16] = [
    "load_metric_1",
    "count({__name__=~\"load_.+\"})",
    "sum by (job) ({__name__=~\"load_.+\"})",
    "count by (instance) (load_metric_7 or load_metric_7_total)",
    "sort(sum by (job) (rate({__name__=~\"load_.+_total\"}[5m])))",
    "max_over_time({__name__=\"load_metric_3\"}[10m])",
    "count(count_over_time({cluster=\"eu-west-1\"}[1h]))",
    "sum(count_over_time({cluster=\"eu-west-1\"}[1h]))",
    "quantile by (job) (0.9, {cluster=\"eu-west-1\",__name__!~\".*_total\"})",
    "late_metric",
    "late_metric[1h]",
    "gone_metric",
    "gone_metric offset 5m",
    "present_over_time(gone_metric[1h])",
    "odd_values",
    "topk(3, {__name__=~\"load_.+\"})",
];

/// Everything a client can see, as text.
fn dump(client: &mut Client, base: i64) -> Vec<String> {
    let mut answers = Vec::new();
    let end = base + STEPS * STEP_MS;
    for query in QUERIES {
        let query = escape(query);
        for time in [base + 7 * STEP_MS, end - 1, end + 60_000] {
            let target = format!("/api/v1/query?query={query}&time={}", time as f64 / 1000.0);
            answers.push(sorted_answer(client, &target));
        }
        let (start, end) = (base as f64 / 1000.0, end as f64 / 1000.0);
        answers.push(sorted_answer(
            client,
            &format!("/api/v1/query_range?query={query}&start={start}&end={end}&step=37"),
        ));
    }
    for target in
        ["/api/v1/labels", "/api/v1/label/job/values", "/api/v1/label/__name__/values", "/api/v1/metadata"]
    {
        answers.push(client.get(target).unwrap().text());
    }
    answers
}

/// The order of an instant vector is not part of the answer.
fn sorted_answer(client: &mut Client, target: &str) -> String {
    let mut outcome = Outcome::from_json(&client.get(target).unwrap().json().unwrap()).unwrap();
    if let Ok(Answer::Vector(series)) = &mut outcome.result {
        series.sort_by(|a, b| a.0.cmp(&b.0));
    }
    format!("{target}: {outcome:?}")
}

fn write(client: &mut Client, series: &[TimeSeries]) {
    let mut body = Request::of(series);
    body.push_metadata("late_metric", 2, "comes late", "seconds");
    let answer = send(client, &body.compress()).unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn fill(client: &mut Client, base: i64) {
    let mut load = Load::new(11, 500);
    for step in 0..STEPS {
        write(client, &load.step(base + step * STEP_MS));
    }
    let last = base + STEPS * STEP_MS;
    write(client, &[TimeSeries::new("late_metric", &[], vec![(last, 1.0)])]);
    for step in [5, 3, 40] {
        write(client, &[TimeSeries::new("late_metric", &[], vec![(base + step * STEP_MS, step as f64)])]);
    }
    write(client, &[TimeSeries::new("late_metric", &[], vec![(base + 3 * STEP_MS, 333.0)])]);
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    write(
        client,
        &[TimeSeries::new("gone_metric", &[("a", "b")], vec![(last - 2 * STEP_MS, 5.0), (last, stale)])],
    );
    let odd = [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MIN_POSITIVE / 4.0, f64::MAX];
    for (number, value) in odd.into_iter().enumerate() {
        write(
            client,
            &[TimeSeries::new("odd_values", &[("number", &number.to_string())], vec![(last, value)])],
        );
    }
}

#[test]
fn a_restart_changes_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(env!("CARGO_BIN_EXE_kymo"), &dir.path().join("data"), &[]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let base = (now - 2 * 3_600_000) / STEP_MS * STEP_MS;
    fill(&mut server.client(), base);
    let before = dump(&mut server.client(), base);
    assert!(before.iter().any(|a| a.contains("333.0")), "the last write of late data counts");
    for orderly in [true, false, true, false] {
        if orderly {
            let status = server.terminate(Duration::from_secs(20));
            assert!(status.is_some_and(|s| s.success()), "{status:?}\n{}", server.output());
        } else {
            server.kill();
        }
        server.restart();
        for (then, now) in before.iter().zip(dump(&mut server.client(), base)) {
            assert_eq!(*then, now);
        }
        // What was known before the restart is known to the checks of new samples too.
        let again = send(
            &mut server.client(),
            &Request::of(&[TimeSeries::new("late_metric", &[], vec![(base + STEPS * STEP_MS, 2.0)])])
                .compress(),
        );
        assert_eq!(again.unwrap().status, 400, "a second value for the newest timestamp");
    }
}
