//! `kymo tsdb dump`: samples as lines of text, in the form of `promtool tsdb dump`.

use super::{open_existing, range, text, warn};
use crate::config::tsdb_flags::DumpFlags;
use kymo_query::format::float_general;
use kymo_query::syntax::parse_metric_selector;
use kymo_storage::api::{Queryable, Samples};
use std::io::{BufWriter, ErrorKind, Write};

pub(super) fn run(flags: &DumpFlags) -> Result<(), String> {
    let times = range(&flags.range)?;
    let matchers = parse_metric_selector(&flags.matcher).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("--match {}: {}", flags.matcher, errors.join("; "))
    })?;
    let storage = open_existing(&flags.store.data)?;
    let querier = storage.querier(times).map_err(text)?;
    let set = querier.select(times, &matchers).map_err(text)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut samples = Samples::new();
    for index in 0..set.len() {
        set.read(index, times, &mut samples).map_err(text)?;
        match print(&mut out, &set.labels(index).to_string(), &samples) {
            // The reader has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            written => written.map_err(|e| format!("write to standard output: {e}"))?,
        }
    }
    match out.flush() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(format!("write to standard output: {error}"));
        }
        _ => {}
    }
    let warnings = set.warnings();
    storage.close().map_err(text)?;
    warnings.iter().for_each(|warning| warn(format_args!("{warning}")));
    if warnings.is_empty() { Ok(()) } else { Err("damage was met: samples are missing".to_owned()) }
}

fn print(out: &mut impl Write, labels: &str, samples: &Samples) -> std::io::Result<()> {
    let mut histograms = samples.histograms.iter().peekable();
    for (time, value) in samples.timestamps.iter().zip(&samples.values) {
        while let Some(earlier) = histograms.next_if(|h| h.timestamp < *time) {
            writeln!(out, "{labels} {} {}", earlier.histogram, earlier.timestamp)?;
        }
        writeln!(out, "{labels} {} {time}", float_general(*value))?;
    }
    histograms.try_for_each(|rest| writeln!(out, "{labels} {} {}", rest.histogram, rest.timestamp))
}
