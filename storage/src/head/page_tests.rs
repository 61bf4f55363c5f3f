//! Tests of `page.rs`: sharing, sealing, late samples, histograms beside floats.

use super::*;
use crate::chunk::encode_one_histogram;
use crate::model::{AnyHistogram, Buckets, IntHistogram};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Model = BTreeMap<Timestamp, u64>;

fn read(page: &Page, slot: usize, range: TimeRange) -> Vec<(Timestamp, u64)> {
    let (mut times, mut values) = (Vec::new(), Vec::new());
    page.read::<AnyHistogram>(slot, range, &mut times, &mut values, &mut Vec::new()).unwrap();
    times.into_iter().zip(values.into_iter().map(f64::to_bits)).collect()
}

/// Applies a sample to the page and to a model, in order or late as the time says.
fn apply(page: &mut Page, models: &mut [(Model, f64)], slot: usize, time: Timestamp, value: f64) {
    let (model, previous) = &mut models[slot];
    match model.last_key_value() {
        Some((last, _)) if *last >= time => page.push_late(slot, time, value),
        _ => {
            page.push(slot, time, value, *previous);
            *previous = value;
        }
    }
    model.insert(time, value.to_bits());
}

#[test]
fn a_scrape_shares_its_timestamps_and_constants_take_no_bytes() {
    let mut page = Page::default();
    for scrape in 0..480 {
        for slot in 0..1000 {
            let previous = if scrape == 0 { 0.0 } else { 7.0 };
            page.push(slot, 1_000_000 + scrape * 15_000, 7.0, previous);
        }
    }
    assert_eq!(page.groups.len(), 1);
    assert!(page.memory_bytes() < 1000 * 50, "{}", page.memory_bytes());
    assert_eq!(read(&page, 999, TimeRange::ALL).len(), 480);
    assert_eq!(read(&page, 3, TimeRange::closed(1_015_000, 1_045_000)).len(), 3);
}

#[test]
fn two_targets_get_two_groups_and_a_missed_scrape_comes_back() {
    let mut page = Page::default();
    let mut models = vec![(Model::new(), 0.0); 100];
    for scrape in 0..50 {
        for slot in 0..100 {
            if slot == 7 && scrape % 10 == 3 {
                continue;
            }
            let time = scrape * 1000 + if slot < 60 { 0 } else { 123 };
            apply(&mut page, &mut models, slot, time, (scrape * slot as i64) as f64 * 0.1);
        }
    }
    assert_eq!(page.groups.len(), 2);
    for slot in [0, 7, 59, 60, 99] {
        assert_eq!(read(&page, slot, TimeRange::ALL), models[slot].0.clone().into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn has_samples_looks_at_chunks_and_late_samples() {
    let mut page = Page::default();
    page.push(1, 1000, 1.0, 0.0);
    page.push(1, 2000, 2.0, 1.0);
    page.push_late(1, 10, 1.0);
    page.push_late(2, 50, 1.0);
    assert!(page.has_samples(1, TimeRange::closed(1500, 3000)));
    assert!(page.has_samples(1, TimeRange::closed(0, 10)) && !page.has_samples(1, TimeRange::closed(0, 9)));
    assert!(!page.has_samples(1, TimeRange::closed(2001, 3000)) && !page.has_samples(0, TimeRange::ALL));
    assert_eq!(page.slots().collect::<Vec<_>>(), [1, 2]);
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => Just(1.0),
        4 => (0..1000i32).prop_map(f64::from),
        2 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(-0.0),
    ]
}

proptest! {
    #![proptest_config(crate::tests::cases(64))]
    #[test]
    fn a_page_answers_as_a_map_does(
        steps in proptest::collection::vec((0usize..8, 0i64..6, value()), 0..1500),
        copy_every in 1usize..200,
        from in 0i64..3000, len in 0i64..3000,
    ) {
        let mut page = Arc::new(Page::default());
        let mut models = vec![(Model::new(), 0.0); 8];
        let mut now = 0;
        let mut held = None;
        for (i, (slot, step, value)) in steps.into_iter().enumerate() {
            // A step of 5 goes back, of 0 repeats the time of the sample before.
            now += if step == 5 { -7 } else { step };
            apply(Arc::make_mut(&mut page), &mut models, slot, now, value);
            if i % copy_every == 0 {
                held = Some(Arc::clone(&page));
            }
        }
        drop(held);
        for range in [TimeRange::ALL, TimeRange::closed(from, from + len)] {
            for (slot, (model, _)) in models.iter().enumerate() {
                let expected: Vec<_> = model.iter().filter(|s| range.contains(*s.0)).map(|s| (*s.0, *s.1)).collect();
                prop_assert_eq!(page.has_samples(slot, range) || expected.is_empty(), true);
                prop_assert_eq!(read(&page, slot, range), expected);
            }
        }
    }
}

/// By time: whether it is a histogram, and its number.
type Kinds = BTreeMap<Timestamp, (bool, u64)>;

/// A histogram that `number` tells apart; some have another layout.
fn histogram(number: u64) -> Encoded {
    let positive = Buckets::run((number / 40) as i32, vec![number + 1, 2]).unwrap();
    let schema = if number.is_multiple_of(31) { 1 } else { 2 };
    let histogram = IntHistogram { schema, count: number + 3, positive, ..IntHistogram::default() };
    let mut out = Vec::new();
    encode_one_histogram(&AnyHistogram::Int(histogram), &mut out);
    out.into()
}

proptest! {
    #![proptest_config(crate::tests::cases(64))]
    #[test]
    fn of_both_kinds_the_last_to_come_stays(
        steps in proptest::collection::vec((0usize..4, 0i64..6, any::<bool>()), 0..1500),
        copy_every in 1usize..200,
        from in 0i64..3000, len in 0i64..3000,
    ) {
        let mut page = Arc::new(Page::default());
        let mut models: Vec<(Kinds, f64)> = vec![(Kinds::new(), 0.0); 4];
        let (mut now, mut held) = (0, None);
        for (i, (slot, step, is_histogram)) in steps.into_iter().enumerate() {
            now += if step == 5 { -7 } else { step };
            let (model, previous) = &mut models[slot];
            let number = i as u64;
            let is_late = model.last_key_value().is_some_and(|(last, _)| *last >= now);
            let page = Arc::make_mut(&mut page);
            match (is_histogram, is_late) {
                (true, true) => page.push_late_histogram(slot, now, histogram(number)),
                (false, true) => page.push_late(slot, now, number as f64),
                (true, false) => {
                    page.push_histogram(slot, now, histogram(number));
                    *previous = f64::NAN;
                }
                (false, false) => {
                    page.push(slot, now, number as f64, *previous);
                    *previous = number as f64;
                }
            }
            model.insert(now, (is_histogram, number));
            if i % copy_every == 0 {
                held = Some(page.clone());
            }
        }
        drop(held);
        for range in [TimeRange::ALL, TimeRange::closed(from, from + len)] {
            for (slot, (model, _)) in models.iter().enumerate() {
                let (mut times, mut values, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
                page.read::<AnyHistogram>(slot, range, &mut times, &mut values, &mut histograms).unwrap();
                prop_assert!(times.is_sorted() && histograms.is_sorted_by_key(|h| h.0));
                let mut found: BTreeMap<_, _> =
                    times.iter().zip(&values).map(|(t, v)| (*t, (false, *v as u64))).collect();
                for (time, histogram) in &histograms {
                    let AnyHistogram::Int(histogram) = histogram else { panic!("it was of whole numbers") };
                    found.insert(*time, (true, histogram.count - 3));
                }
                prop_assert_eq!(found.len(), times.len() + histograms.len());
                let expected: BTreeMap<_, _> =
                    model.iter().filter(|s| range.contains(*s.0)).map(|s| (*s.0, *s.1)).collect();
                prop_assert_eq!(page.has_samples(slot, range) || expected.is_empty(), true);
                prop_assert_eq!(found, expected);
            }
        }
        let slots: Vec<usize> = models.iter().enumerate().filter(|m| !m.1.0.is_empty()).map(|m| m.0).collect();
        prop_assert_eq!(page.slots().collect::<Vec<_>>(), slots);
    }
}
