//! PromQL, typed: values, limits, cancellation, annotations, explain.

use super::{fill, options};
use kymo::{Cancel, Db, ErrorKind, QueryOptions, Value};
use std::time::Duration;

const STEP: Duration = Duration::from_millis(100);

#[test]
fn each_kind_of_value() {
    let db = Db::in_memory().unwrap();
    fill(&db, "m", 2, (0..=100).map(|i| i * 100));
    assert_eq!(db.instant("1 + 1", 0).unwrap().single(), Some(2.0));
    let Value::String { text, .. } = db.instant("\"a\"", 0).unwrap().value else { panic!() };
    assert_eq!(text, "a");
    let Value::Vector(samples) = db.instant("m", 1_000).unwrap().value else { panic!() };
    assert_eq!((samples.len(), samples[1].point.value, samples[1].labels.value("i")), (2, 1_000.0, "1"));
    let Value::Matrix(series) = db.instant("m[300ms]", 1_000).unwrap().value else { panic!() };
    assert_eq!(series[0].points.iter().map(|p| p.timestamp).collect::<Vec<_>>(), [800, 900, 1_000]);
    let answer = db.range("sum(m)", 0, 1_000, STEP).unwrap();
    let Value::Matrix(series) = &answer.value else { panic!() };
    assert_eq!((series.len(), series[0].points.len()), (1, 11));
    assert_eq!(answer.stats.series, 2);
    let steps = QueryOptions::new().samples_per_step(true);
    let counted = db.range_with("m", 0, 200, STEP, &steps).unwrap().samples_per_step.unwrap();
    assert_eq!(counted, [(0, 2), (100, 2), (200, 2)]);
}

#[test]
fn mistakes_have_places() {
    let db = Db::in_memory().unwrap();
    let error = db.instant("sum(rate(m))", 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let mistake = &error.mistakes()[0];
    assert_eq!((mistake.position, mistake.bytes.clone()), (Some((1, 10)), Some(9..10)));
    assert!(mistake.message.contains("range vector"), "{mistake:?}");
    assert_eq!(db.check_query("sum( m )by(i)").unwrap(), "sum by (i) (m)");
    assert!(db.check_query("sum(").is_err());
    for (start, end, step) in [(10, 0, STEP), (0, 10, Duration::ZERO), (0, 10, Duration::from_nanos(5))] {
        assert_eq!(db.range("m", start, end, step).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn each_limit_is_named() {
    let db = Db::in_memory().unwrap();
    fill(&db, "m", 100, (0..1_000).map(|i| i * 100));
    let new = QueryOptions::new;
    let cases = [
        (new().series_max(10), "series is 10"),
        (new().samples_max(500), "samples is 500"),
        (new().points_max(3), "3 points"),
        (new().bytes_max(1_000), "is 1000 bytes"),
    ];
    for (limits, word) in cases {
        let error = db.range_with("sum(max_over_time(m[1m]))", 0, 100_000, STEP, &limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let short =
        Db::in_memory_with(options().query(new().timeout(Duration::from_nanos(1)).series_max(1))).unwrap();
    assert_eq!(short.instant("1", 0).unwrap_err().kind(), ErrorKind::Deadline);
    fill(&short, "m", 2, 0..1);
    let longer = new().timeout(Duration::from_secs(60));
    let error = short.instant_with("m", 0, &longer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "what is not said is as in the options: {error}");
    assert_eq!(
        db.instant_with("m", 0, &new().timeout(Duration::ZERO)).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    let look = new().lookback(Duration::from_millis(1));
    let Value::Vector(none) = db.instant_with("m", 99_950, &look).unwrap().value else { panic!() };
    assert!(none.is_empty());
}

#[test]
fn a_query_ends_when_it_is_told_to() {
    let db = Db::in_memory().unwrap();
    fill(&db, "m", 200, (0..2_000).map(|i| i * 1_000));
    let cancel = Cancel::new();
    let error = std::thread::scope(|scope| {
        let query = scope.spawn(|| {
            let options = QueryOptions::new().cancel(&cancel).points_max(u64::MAX).samples_max(u64::MAX);
            let text = "sum(quantile_over_time(0.9, m[30m])) + sum(quantile_over_time(0.8, m[30m]))";
            db.range_with(text, 0, 2_000_000, Duration::from_millis(20), &options)
        });
        std::thread::sleep(Duration::from_millis(50));
        cancel.clone().cancel();
        query.join().unwrap().unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(cancel.is_cancelled());
}

#[test]
fn annotations_and_operators_are_told() {
    let db = Db::in_memory().unwrap();
    fill(&db, "gauge", 3, (0..100).map(|i| i * 1_000));
    let answer = db.instant("rate(gauge[1m])", 90_000).unwrap();
    assert!(answer.infos[0].contains("might not be a counter"), "{:?}", answer.infos);
    let answer = db.instant("histogram_quantile(2, sum by (le) (gauge))", 90_000).unwrap();
    assert!(!answer.warnings.is_empty());
    let operator = db.explain("sum(rate(gauge[1m]))", 90_000).unwrap();
    assert_eq!((operator.name.as_str(), operator.series), ("sum", 1));
    let mut leaf = &operator;
    while let Some(child) = leaf.children.first() {
        leaf = child;
    }
    assert!(leaf.text.contains("gauge") && operator.children[0].series == 3, "{operator:?}");
    assert!(answer.explain.is_none());
}

#[test]
fn answers_hold_memory_until_they_are_dropped() {
    let db = Db::in_memory().unwrap();
    fill(&db, "m", 50, (0..1_000).map(|i| i * 100));
    let answer = db.range("m", 0, 100_000, STEP).unwrap();
    let held = db.stats().query_bytes;
    assert!(held >= 50 * 1_000 * 16, "{held}");
    let clone = answer.clone();
    drop(answer);
    assert_eq!(db.stats().query_bytes, held);
    drop(clone);
    assert_eq!(db.stats().query_bytes, 0);
}
