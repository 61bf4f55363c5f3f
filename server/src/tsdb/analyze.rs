//! `kymo tsdb analyze`: what makes so many series.

use super::{open_existing, range, say, text};
use crate::config::tsdb_flags::AnalyzeFlags;
use kymo_storage::api::Queryable;
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(Default)]
struct Name {
    series: u64,
    values: HashSet<String>,
    bytes: u64,
}

pub(super) fn run(flags: &AnalyzeFlags) -> Result<(), String> {
    let times = range(&flags.range)?;
    let storage = open_existing(&flags.store.data)?;
    let querier = storage.querier(times).map_err(text)?;
    let set = querier.select(times, &[]).map_err(text)?;
    let mut names: BTreeMap<String, Name> = BTreeMap::new();
    let mut metrics: HashMap<String, u64> = HashMap::new();
    let mut pairs: HashMap<String, u64> = HashMap::new();
    for index in 0..set.len() {
        let labels = set.labels(index);
        *metrics.entry(labels.metric_name().to_owned()).or_default() += 1;
        for (name, value) in labels.iter() {
            let entry = names.entry(name.to_owned()).or_default();
            entry.series += 1;
            if entry.values.insert(value.to_owned()) {
                entry.bytes += value.len() as u64;
            }
            *pairs.entry(format!("{name}={value}")).or_default() += 1;
        }
    }
    say(format_args!("series: {}\nlabel names: {}\nlabel pairs: {}", set.len(), names.len(), pairs.len()))?;
    let of_names = |number: fn(&Name) -> u64| names.iter().map(move |(name, n)| (name.clone(), number(n)));
    table("metrics with most series", metrics, flags.limit)?;
    table("labels with most values", of_names(|n| n.values.len() as u64), flags.limit)?;
    table("labels with most bytes of values", of_names(|n| n.bytes), flags.limit)?;
    table("labels of most series", of_names(|n| n.series), flags.limit)?;
    table("label pairs of most series", pairs, flags.limit)?;
    storage.close().map_err(text)
}

/// Prints the largest numbers; of equal ones the first by name.
fn table(title: &str, rows: impl IntoIterator<Item = (String, u64)>, limit: usize) -> Result<(), String> {
    let mut rows: Vec<(String, u64)> = rows.into_iter().collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    say(format_args!("\n{title}:"))?;
    rows.iter().take(limit).try_for_each(|(name, count)| say(format_args!("{count:>12} {name}")))
}
