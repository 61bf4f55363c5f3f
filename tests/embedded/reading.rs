//! Streams of samples, names, values, series, cardinality.

use super::{count, fill, labels, options};
use kymo::{Db, Labels, TimeRange, parse_selector, stale_nan};

#[test]
fn any_slices_give_the_same_samples() {
    let db = Db::in_memory().unwrap();
    // Dense, then nothing for a year, then sparse: windows of time must widen and narrow.
    let dense = (0..40_000).map(|i| i * 100);
    let sparse = (0..500).map(|i| 40_000_000_000 + i * 3_600_000);
    let times: Vec<i64> = dense.chain(sparse).collect();
    fill(&db, "m", 1, times.iter().copied());
    for place in ["memory", "blocks"] {
        for size in [1, 7, 1_000, 100_000] {
            let mut found = db.select(&parse_selector("m").unwrap(), TimeRange::ALL).unwrap();
            let series = found.next_series().unwrap();
            let (mut timestamps, mut values) = (vec![0; size], vec![0.0; size + 3]);
            let (mut all, mut sum) = (Vec::new(), 0.0);
            loop {
                let read = series.read(&mut timestamps, &mut values).unwrap();
                if read == 0 {
                    break;
                }
                all.extend_from_slice(&timestamps[..read]);
                sum += values[..read].iter().sum::<f64>();
            }
            assert!(all == times, "{place} {size}: {} of {}", all.len(), times.len());
            assert_eq!(sum, times.iter().sum::<i64>() as f64);
            assert!(found.next_series().is_none());
        }
        db.flush().unwrap();
    }
    let part = TimeRange::new(1_050, 40_003_600_001);
    let mut found = db.select(&[], part).unwrap();
    let series = found.next_series().unwrap();
    let mut all = Vec::new();
    while let Some(batch) = series.next_batch().unwrap() {
        all.extend_from_slice(batch.timestamps);
    }
    assert_eq!((all.first(), all.last(), all.len()), (Some(&1_100), Some(&40_003_600_000), 39_991));
}

#[test]
fn a_selection_is_a_view_of_one_moment_and_may_be_read_by_many() {
    let db = Db::in_memory().unwrap();
    fill(&db, "m", 50, 0..200);
    let found = db.select(&[], TimeRange::ALL).unwrap();
    fill(&db, "m", 60, 200..300);
    assert_eq!(found.len(), 50);
    let total: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let found = &found;
                scope.spawn(move || {
                    let mut count = 0;
                    for index in (thread..found.len()).step_by(4) {
                        let mut series = found.series(index).unwrap();
                        assert_eq!(series.labels().metric_name(), "m");
                        while let Some(batch) = series.next_batch().unwrap() {
                            count += batch.values.len();
                        }
                    }
                    count
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(total, 50 * 200);
    assert!(found.series(50).is_none());
}

#[test]
fn bits_come_back() {
    let values = [
        0.0,
        -0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::from_bits(1),
        stale_nan(),
        f64::from_bits(0x7ff8_dead_beef_0001),
    ];
    let db = Db::in_memory().unwrap();
    let mut appender = db.appender();
    let series = appender.series(&labels("m", 0)).unwrap();
    values.iter().zip(0..).for_each(|(value, t)| appender.append(series, t, *value));
    appender.commit().unwrap().wait().unwrap();
    for _ in 0..2 {
        let mut found = db.select(&[], TimeRange::ALL).unwrap();
        let batch = found.next_series().unwrap().next_batch().unwrap().unwrap();
        let bits = |all: &[f64]| all.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(batch.values), bits(&values));
        db.flush().unwrap();
    }
}

#[test]
fn times_at_both_ends_are_read() {
    let db = Db::in_memory_with(options().future_max(std::time::Duration::from_secs(u64::MAX / 2))).unwrap();
    fill(&db, "m", 1, [i64::MIN + 1, -5, 0, i64::MAX - 1].into_iter());
    assert_eq!(count(&db, "m"), 4);
    db.flush().unwrap();
    assert_eq!(count(&db, "m"), 4);
    assert_eq!(db.time_range().unwrap().min_time, i64::MIN + 1);
}

#[test]
fn names_values_series_and_what_makes_them_many() {
    let db = Db::in_memory().unwrap();
    let mut appender = db.appender();
    for (name, job, time) in [("up", "a", 1), ("up", "b", 2), ("down", "a", 3_000_000)] {
        let labels = Labels::from_pairs([("__name__", name), ("job", job)]);
        appender.append_labels(&labels, time, 1.0).unwrap();
    }
    appender.commit().unwrap().wait().unwrap();
    let (all, ups) = (TimeRange::ALL, [parse_selector("up").unwrap()]);
    assert_eq!(db.labels(&[], all).unwrap().names, ["__name__", "job"]);
    assert_eq!(db.label_values("job", &[], all).unwrap().names, ["a", "b"]);
    assert_eq!(db.label_values("__name__", &ups, all).unwrap().names, ["up"]);
    let either = [parse_selector("up").unwrap(), parse_selector("{job=\"a\"}").unwrap()];
    let shown = |sets: &[Vec<kymo::Matcher>], range| {
        let found = db.series(sets, range).unwrap();
        assert!(found.warnings.is_empty());
        found.series.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(shown(&either, all).len(), 3);
    assert_eq!(shown(&[], TimeRange::new(0, 2)), ["{__name__=\"up\", job=\"a\"}"]);
    let cardinality = db.cardinality(&[], all, 1).unwrap();
    assert_eq!((cardinality.series, cardinality.label_pairs), (3, 4));
    assert_eq!(cardinality.series_by_metric, [("up".to_owned(), 2)]);
    assert_eq!(cardinality.values_by_label, [("__name__".to_owned(), 2)]);
    assert_eq!(cardinality.series_by_pair, [("__name__=up".to_owned(), 2)]);
    assert_eq!(cardinality.bytes_by_label, [("__name__".to_owned(), 8)]);
    let error = parse_selector("up{job=").unwrap_err();
    assert_eq!((error.kind(), error.mistakes().len()), (kymo::ErrorKind::Invalid, 1));
}

#[cfg(feature = "arrow")]
#[test]
fn record_batches_hold_what_was_stored() {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float64Type, Int32Type, TimestampMillisecondType};
    use kymo::arrow::RecordBatches;

    let db = Db::in_memory().unwrap();
    fill(&db, "m", 3, 0..30_000);
    fill(&db, "other", 1, 5..6);
    let (mut rows, mut sum, mut batches) = (0, 0.0, 0);
    for batch in RecordBatches::new(db.select(&parse_selector("m").unwrap(), TimeRange::ALL).unwrap()) {
        let batch = batch.unwrap();
        let names: Vec<&String> = batch.schema_ref().fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, ["__name__", "i", "timestamp", "value"]);
        let times = batch.column(2).as_primitive::<TimestampMillisecondType>();
        let values = batch.column(3).as_primitive::<Float64Type>();
        assert!(times.values().iter().zip(values.values()).all(|(t, v)| *t as f64 == *v));
        let texts = batch.column(0).as_dictionary::<Int32Type>();
        assert_eq!(texts.values().as_string::<i32>().value(0), "m");
        rows += batch.num_rows();
        sum += values.values().iter().sum::<f64>();
        batches += 1;
    }
    assert!(batches > 1 && rows == 90_000 && sum == 3.0 * 30_000.0 * 29_999.0 / 2.0);
    let answer = db.range("sum by (i) (m)", 0, 10, std::time::Duration::from_millis(5)).unwrap();
    let batch = answer.to_record_batch().unwrap();
    assert_eq!((batch.num_rows(), batch.num_columns()), (9, 3));
    assert_eq!(db.instant("1", 0).unwrap().to_record_batch().unwrap().num_columns(), 2);
    assert!(db.instant("\"text\"", 0).unwrap().to_record_batch().is_err());
    assert_eq!(db.instant("other", 5).unwrap().to_record_batch().unwrap().column(1).len(), 1);
}
