//! Appending: handles, batches, receipts, refusals, everything a sample may be.

use super::{count, fill, labels, options};
use kymo::{
    Buckets, Db, Durability, ErrorKind, Exemplar, IntHistogram, Labels, Metadata, MetricType, Options,
    SimClock, TimeRange, parse_selector,
};
use std::time::Duration;

#[test]
fn nothing_is_seen_before_the_commit_and_nothing_after_a_rollback() {
    let db = Db::in_memory().unwrap();
    let mut appender = db.appender();
    let series = appender.series(&labels("m", 0)).unwrap();
    appender.append(series, 1, 1.0);
    assert_eq!((appender.len(), count(&db, "m")), (1, 0));
    appender.rollback();
    assert!(appender.is_empty() && appender.commit().unwrap().wait().unwrap().accepted == 0);
    appender.append(series, 2, 1.0);
    drop(appender);
    assert_eq!(count(&db, "m"), 0, "dropped without a commit");
    let mut appender = db.appender();
    appender.append(series, 3, 1.0);
    assert_eq!(appender.commit().unwrap().wait().unwrap().accepted, 1);
    assert_eq!(count(&db, "m"), 1);
}

#[test]
fn rows_columns_and_labels_say_the_same() {
    let db = Db::in_memory().unwrap();
    let mut appender = db.appender();
    let handles: Vec<_> = (0..3).map(|i| appender.series(&labels("m", i)).unwrap()).collect();
    assert_eq!(appender.series(&labels("m", 1)).unwrap(), handles[1], "a handle is Copy and the same again");
    appender.append_row(&handles, 1, &[1.0, 2.0, 3.0]).unwrap();
    appender.append_column(handles[0], &[2, 3], &[4.0, 5.0]).unwrap();
    assert_eq!(appender.append_labels(&labels("m", 2), 2, 6.0).unwrap(), handles[2]);
    for wrong in [appender.append_row(&handles, 9, &[1.0]), appender.append_column(handles[0], &[1], &[])] {
        assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(appender.commit().unwrap().wait().unwrap().accepted, 6);
    assert_eq!(db.instant("sum(m)", 3).unwrap().single(), Some(5.0 + 2.0 + 6.0));
}

#[test]
fn late_samples_are_taken_and_contradictions_are_told() {
    let clock = SimClock::new(10_000_000);
    let options = crate::options().retention(Some(Duration::from_secs(3600))).clock(clock);
    let db = Db::in_memory_with(options).unwrap();
    let mut appender = db.appender();
    let series = appender.series(&labels("m", 0)).unwrap();
    for (time, value) in
        [(9_000_000, 1.0), (8_000_000, 2.0), (9_000_000, 1.0), (9_000_000, 7.0), (1, 1.0), (99_000_000, 1.0)]
    {
        appender.append(series, time, value);
    }
    let report = appender.commit().unwrap().wait().unwrap();
    assert_eq!((report.accepted, report.refused_total), (3, 3));
    let kinds: Vec<ErrorKind> = report.refused.iter().map(|refusal| refusal.kind).collect();
    assert_eq!(kinds, [ErrorKind::Duplicate, ErrorKind::OutOfBounds, ErrorKind::OutOfBounds]);
    assert!(report.refused.iter().all(|refusal| refusal.labels == labels("m", 0)));
    assert_eq!(count(&db, "m"), 2);
    let error = kymo::Error::from(report.refused[0].clone());
    assert!(error.to_string().contains("9000000") && error.to_string().contains("i=\"0\""), "{error}");
}

#[test]
fn limits_have_names() {
    let db = Db::in_memory_with(options().series_max(2).label_limits(2, 8, 8)).unwrap();
    let mut appender = db.appender();
    let refused = |labels: &Labels, word: &str| {
        let error = db.appender().series(labels).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        error.kind()
    };
    assert_eq!(refused(&Labels::from_pairs([("i", "1")]), "__name__"), ErrorKind::Invalid);
    let three = Labels::from_pairs([("__name__", "m"), ("a", "1"), ("b", "2")]);
    assert_eq!(refused(&three, "3 labels"), ErrorKind::LimitExceeded);
    let long = Labels::from_pairs([("__name__", "m"), ("a", "123456789")]);
    assert_eq!(refused(&long, "9 bytes"), ErrorKind::LimitExceeded);
    for i in 0..2 {
        appender.series(&labels("m", i)).unwrap();
    }
    assert_eq!(refused(&labels("m", 2), "2 series"), ErrorKind::LimitExceeded);

    let small = Db::in_memory_with(Options::new().retention(None).memory_bytes(32 << 20)).unwrap();
    let mut appender = small.appender();
    let series = appender.series(&labels("m", 0)).unwrap();
    (0..100_000).for_each(|t| appender.append(series, t, 0.0));
    let error = appender.commit().unwrap().wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    assert_eq!(count(&small, "m"), 0);
}

#[test]
fn a_handle_of_another_database_is_refused_or_harmless() {
    let (a, b) = (Db::in_memory().unwrap(), Db::in_memory().unwrap());
    fill(&a, "m", 10, 0..1);
    let mut appender = a.appender();
    let last = appender.series(&labels("m", 9)).unwrap();
    let mut other = b.appender();
    other.append(last, 5, 5.0);
    let report = other.commit().unwrap().wait().unwrap();
    assert_eq!((report.accepted, report.refused[0].kind), (0, ErrorKind::NotFound));
}

#[test]
fn histograms_exemplars_and_metadata_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let name = Labels::from_pairs([("__name__", "latency")]);
    let about =
        Metadata { metric_type: MetricType::Histogram, unit: "s".to_owned(), help: "how long".to_owned() };
    let trace = Exemplar { labels: Labels::from_pairs([("trace", "ab")]), value: 0.5, timestamp: 2_000 };
    let histogram = IntHistogram {
        schema: 0,
        count: 5,
        sum: 6.5,
        positive: Buckets::run(0, vec![2, 3]).unwrap(),
        ..IntHistogram::default()
    };
    {
        let db = Db::open(folder.path(), options()).unwrap();
        let mut appender = db.appender();
        let series = appender.series(&name).unwrap();
        appender.histogram(series, 1_000, histogram.clone()).unwrap();
        appender.histogram_with_start(series, 2_000, 500, histogram).unwrap();
        appender.exemplar(series, trace.clone()).unwrap();
        appender.metadata("latency", about.clone());
        let long = Exemplar {
            labels: Labels::from_pairs([("trace", "x".repeat(200))]),
            value: 0.5,
            timestamp: 2_000,
        };
        assert_eq!(appender.exemplar(series, long).unwrap_err().kind(), ErrorKind::LimitExceeded);
        let report = appender.commit().unwrap().wait().unwrap();
        assert_eq!((report.accepted_histograms, report.exemplars_accepted), (2, 1));
    }
    let db = Db::open(folder.path(), options()).unwrap();
    assert_eq!(db.metadata(), [("latency".to_owned(), about)]);
    let exemplars = db.exemplars(&[parse_selector("latency").unwrap()], TimeRange::ALL).unwrap();
    assert_eq!(exemplars.series[0].exemplars, [trace]);
    let mut found = db.select(&[], TimeRange::ALL).unwrap();
    let batch = found.next_series().unwrap().next_batch().unwrap().unwrap();
    assert_eq!((batch.timestamps.len(), batch.histograms.len()), (0, 2));
    assert_eq!((batch.histograms[1].timestamp, batch.histograms[1].start_timestamp), (2_000, 500));
    assert_eq!(db.instant("histogram_count(latency)", 2_000).unwrap().single(), Some(5.0));
}

#[test]
fn a_receipt_may_be_waited_for_by_another_thread_and_made_durable() {
    let folder = tempfile::tempdir().unwrap();
    let lazy = options().durability(Durability::Interval(Duration::from_secs(3600)));
    let db = Db::open(folder.path(), lazy).unwrap();
    let mut appender = db.appender();
    let series = appender.series(&labels("m", 0)).unwrap();
    appender.append(series, 1, 1.0);
    let receipt = appender.commit().unwrap();
    let syncs = db.stats().store.wal_syncs;
    let report =
        std::thread::scope(|scope| scope.spawn(|| db.wait_durable(receipt)).join().unwrap()).unwrap();
    assert_eq!(report.accepted, 1);
    assert!(db.stats().store.wal_syncs > syncs, "the log was synced long before the hour is over");
}

#[test]
fn writers_in_many_threads_share_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(folder.path(), options()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let db = db.clone();
            scope.spawn(move || {
                let mut appender = db.appender();
                let series = appender.series(&labels("m", thread)).unwrap();
                let mut receipts = Vec::new();
                for t in 0..50 {
                    appender.append(series, t, t as f64);
                    receipts.push(appender.commit().unwrap());
                }
                receipts.into_iter().for_each(|receipt| assert_eq!(receipt.wait().unwrap().accepted, 1));
            });
        }
    });
    assert_eq!(count(&db, "m"), 400);
    let stats = db.stats().store;
    assert_eq!(stats.batches, 400);
    assert!(stats.commit_groups < 400, "{} groups", stats.commit_groups);
}
