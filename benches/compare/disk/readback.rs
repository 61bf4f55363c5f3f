//! Whether a store gives back what was sent to it, bit for bit.

use crate::suite::feed::{Fleet, INTERVAL_MS};
use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Samples};
use kymo_storage::model::{Labels, Matcher, TimeRange};
use kymo_tests::captures::Member;
use std::collections::HashMap;

/// Reads every series of the fleet and gives the number of samples.
///
/// # Panics
/// A sample is missing, is too much, or has other bits.
pub(crate) fn check(store: &Storage, fleet: &Fleet) -> u64 {
    let querier = store.querier(TimeRange::ALL).expect("a querier");
    let (mut total, mut samples) = (0, Samples::new());
    for number in 0..fleet.instances {
        let mut member = Member::new(&fleet.kinds[number % 2], number, fleet.instances, INTERVAL_MS);
        let labels: Vec<Labels> =
            member.labels.iter().map(|bytes| Labels::from_wire(bytes).expect("labels")).collect();
        let mut sent: Vec<Vec<(i64, u64)>> = vec![Vec::new(); labels.len()];
        for step in 0..fleet.scrapes {
            let (time, scraped) = member.scrape(step, INTERVAL_MS);
            for (series, value) in scraped {
                sent[series as usize].push((fleet.start_ms + time, value.to_bits()));
            }
        }
        let by_labels: HashMap<&Labels, usize> = labels.iter().enumerate().map(|(i, l)| (l, i)).collect();
        let instance = Matcher::equal("instance", labels[0].value("instance"));
        let set = querier.select(TimeRange::ALL, &[instance]).expect("a selection");
        let expected = sent.iter().filter(|s| !s.is_empty()).count();
        assert_eq!(set.len(), expected, "series of instance {number}");
        for index in 0..set.len() {
            let labels = set.labels(index);
            set.read(index, TimeRange::ALL, &mut samples).expect("samples");
            let bits = samples.values.iter().map(|v| v.to_bits());
            let read = samples.timestamps.iter().copied().zip(bits);
            let sent = &sent[by_labels[&labels]];
            assert!(read.eq(sent.iter().copied()), "{labels} is not what was sent");
            total += sent.len() as u64;
        }
        assert!(set.warnings().is_empty(), "{:?}", set.warnings());
    }
    total
}
