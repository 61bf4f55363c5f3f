//! Merge: several blocks become one, series by series in the order of their labels.
//!
//! Of samples at one time that of the input with the highest sequence stays, whatever its kind; deleted and expired ones are left
//! out. Memory: the samples of one series, and what the writer keeps of each series (see [`BlockWriter`]), however large the
//! blocks are.

use super::throttle::Throttle;
use crate::block::{BlockMeta, BlockSpec, BlockWriter, ExactReader, ExactSamples, SeriesContent};
use crate::env::Fs;
use crate::error::Result;
use crate::head::view::LiveBlock;
use crate::model::{AnyHistogram, Exemplar, FloatHistogram, Labels, Timestamp};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;
use std::sync::Arc;

/// What a merge needs.
pub(crate) struct Merge<'a> {
    pub(crate) fs: &'a Arc<dyn Fs>,
    /// By ascending sequence.
    pub(crate) inputs: &'a [Arc<LiveBlock>],
    /// The oldest time that is kept of a series.
    pub(crate) oldest_kept: &'a dyn Fn(&Labels) -> Timestamp,
}

/// A series that waits to be merged: by labels, then by input.
type Waiting = Reverse<(Labels, usize, u32)>;

impl Merge<'_> {
    /// Writes the block that will be `path`. Nothing is left, and nothing answered, if no sample remains.
    ///
    /// # Errors
    /// An input is damaged, the disk refuses, or the store is closing; nothing is left behind.
    pub(crate) fn write(
        &self,
        path: &Path,
        spec: BlockSpec,
        throttle: &mut Throttle<'_>,
    ) -> Result<Option<BlockMeta>> {
        let mut writer = BlockWriter::create(self.fs, path, spec)?;
        let mut readers: Vec<ExactReader> = self.inputs.iter().map(|_| ExactReader::default()).collect();
        let mut waiting: BinaryHeap<Waiting> = BinaryHeap::new();
        for input in 0..self.inputs.len() {
            self.put_next(&mut waiting, input, 0)?;
        }
        let mut sources: Vec<ExactSamples> = Vec::new();
        let mut merged = ExactSamples::default();
        while let Some(Reverse((labels, input, series))) = waiting.pop() {
            let mut used = 0;
            let oldest = (self.oldest_kept)(&labels);
            let mut next = Some((input, series));
            while let Some((input, series)) = next {
                if used == sources.len() {
                    sources.push(ExactSamples::default());
                }
                if let (Some(live), Some(reader), Some(source)) =
                    (self.inputs.get(input), readers.get_mut(input), sources.get_mut(used))
                {
                    reader.read(&live.block, series, source)?;
                    throttle.pace(source.len() as u64 + 16)?;
                    live.deletions()?.hide_exact(series, source);
                    source.retain(|time| time >= oldest);
                    used += usize::from(!source.is_empty());
                }
                self.put_next(&mut waiting, input, series + 1)?;
                let is_same = |w: &Waiting| w.0.0 == labels;
                next = match waiting.peek() {
                    Some(other) if is_same(other) => waiting.pop().map(|w| (w.0.1, w.0.2)),
                    _ => None,
                };
            }
            merge(sources.get_mut(..used).unwrap_or_default(), &mut merged);
            let content = SeriesContent {
                floats: &[(&merged.times, &merged.values)],
                float_starts: &merged.starts,
                histograms: (&merged.histogram_times, &merged.histograms),
                histogram_starts: &merged.histogram_starts,
                exemplars: &merged.exemplars,
            };
            writer.add(&labels, &content)?;
        }
        if writer.is_empty() { Ok(None) } else { writer.finish().map(Some) }
    }

    /// Lets series number `series` of an input wait, if there is one.
    fn put_next(&self, waiting: &mut BinaryHeap<Waiting>, input: usize, series: u32) -> Result<()> {
        let Some(live) = self.inputs.get(input).filter(|live| series < live.block.series_count()) else {
            return Ok(());
        };
        waiting.push(Reverse((live.block.series_labels(series)?, input, series)));
        Ok(())
    }
}

/// Merges `sources`, lowest priority first, into `out`, replacing what is there. The sources are left in any state.
fn merge(sources: &mut [ExactSamples], out: &mut ExactSamples) {
    out.clear();
    if let [only] = sources {
        std::mem::swap(out, only);
        return;
    }
    for source in sources.iter_mut() {
        out.exemplars.append(&mut source.exemplars);
    }
    out.exemplars.sort_by(Exemplar::order);
    out.exemplars.dedup();
    let (has_starts, has_histogram_starts) = (
        sources.iter().any(|source| !source.starts.is_empty()),
        sources.iter().any(|source| !source.histogram_starts.is_empty()),
    );
    for source in sources.iter_mut() {
        if has_starts {
            source.starts.resize(source.times.len(), 0);
        }
        if has_histogram_starts {
            source.histogram_starts.resize(source.histogram_times.len(), 0);
        }
    }
    let mut order: Vec<(Timestamp, Timestamp, usize)> =
        sources.iter().enumerate().filter_map(|(i, s)| s.times().map(|(a, b)| (a, b, i))).collect();
    order.sort_unstable();
    if order.windows(2).all(|pair| pair[0].1 < pair[1].0) {
        for (_, _, source) in order {
            if let Some(source) = sources.get_mut(source) {
                out.times.extend_from_slice(&source.times);
                out.values.extend_from_slice(&source.values);
                out.starts.extend_from_slice(&source.starts);
                out.histogram_times.extend_from_slice(&source.histogram_times);
                out.histograms.append(&mut source.histograms);
                out.histogram_starts.extend_from_slice(&source.histogram_starts);
            }
        }
        return;
    }
    // Time, source, whether a histogram, place in the source.
    let mut all: Vec<(Timestamp, usize, bool, usize)> = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        all.extend(source.times.iter().enumerate().map(|(i, t)| (*t, number, false, i)));
        all.extend(source.histogram_times.iter().enumerate().map(|(i, t)| (*t, number, true, i)));
    }
    all.sort_unstable();
    let mut entries = all.into_iter().peekable();
    while let Some((time, source, is_histogram, place)) = entries.next() {
        // The last of those at one time is of the highest source.
        if entries.peek().is_some_and(|next| next.0 == time) {
            continue;
        }
        let Some(source) = sources.get_mut(source) else { continue };
        if is_histogram {
            if let Some(histogram) = source.histograms.get_mut(place) {
                out.histogram_times.push(time);
                out.histogram_starts.extend(source.histogram_starts.get(place));
                let empty = AnyHistogram::Float(FloatHistogram::default());
                out.histograms.push(std::mem::replace(histogram, empty));
            }
        } else if let Some(value) = source.values.get(place) {
            out.times.push(time);
            out.values.push(*value);
            out.starts.extend(source.starts.get(place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn merging_is_what_a_map_does(
            maps in prop::collection::vec(
                (-60i64..60, prop::collection::btree_map(0i64..40, (any::<bool>(), 0u32..1000), 0..20)), 0..5)
        ) {
            let (mut expected, mut exemplars) = (BTreeMap::new(), Vec::new());
            let mut sources = Vec::new();
            for (shift, map) in &maps {
                let mut source = ExactSamples::default();
                for (time, (is_histogram, value)) in map {
                    expected.insert(time + shift, (*is_histogram, *value));
                    let value = f64::from(*value);
                    if *is_histogram {
                        source.histogram_times.push(time + shift);
                        let histogram = FloatHistogram { sum: value, ..FloatHistogram::default() };
                        source.histograms.push(AnyHistogram::Float(histogram));
                    } else {
                        source.times.push(time + shift);
                        source.values.push(value);
                        if shift % 2 == 0 {
                            source.starts.push(value as i64);
                        }
                    }
                    let labels = Labels::from_pairs([("t", (time % 3).to_string())]);
                    source.exemplars.push(Exemplar { labels, value, timestamp: time + shift });
                }
                exemplars.extend(source.exemplars.iter().cloned());
                sources.push(source);
            }
            let mut out = ExactSamples::default();
            merge(&mut sources, &mut out);
            prop_assert!(out.times.is_sorted() && out.histogram_times.is_sorted());
            exemplars.sort_by(Exemplar::order);
            exemplars.dedup();
            prop_assert_eq!(&out.exemplars, &exemplars);
            let has_starts = maps.iter().any(|(shift, map)| shift % 2 == 0 && map.values().any(|v| !v.0));
            prop_assert_eq!(out.starts.len(), if has_starts { out.times.len() } else { 0 });
            prop_assert!(out.starts.iter().zip(&out.values).all(|(s, v)| *s == 0 || *s == *v as i64));
            let floats = out.times.iter().zip(&out.values).map(|(t, v)| (*t, (false, *v as u32)));
            let histograms = out.histogram_times.iter().zip(&out.histograms).map(|(t, h)| {
                (*t, (true, match h { AnyHistogram::Float(h) => h.sum as u32, AnyHistogram::Int(_) => u32::MAX }))
            });
            prop_assert_eq!(floats.chain(histograms).collect::<BTreeMap<_, _>>(), expected);
        }
    }
}
