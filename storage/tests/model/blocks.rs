//! What is in the blocks of a store, file by file.

use crate::book::{Answer, Exemplars, answered, float};
use kymo_storage::block::{Block, ExactReader, ExactSamples};
use kymo_storage::env::Fs;
use kymo_storage::model::Exemplar;
use std::path::Path;
use std::sync::Arc;

/// Reads a block.
pub(crate) fn read(fs: &Arc<dyn Fs>, path: &Path) -> (Answer, Exemplars) {
    let block = Block::open(fs, path).unwrap();
    let (mut reader, mut found) = (ExactReader::default(), ExactSamples::default());
    let (mut samples, mut exemplars) = (Answer::new(), Exemplars::new());
    for series in 0..block.series_count() {
        reader.read(&block, series, &mut found).unwrap();
        let labels = block.series_labels(series).unwrap();
        let floats = found.times.iter().zip(&found.values).map(|(t, v)| (*t, float(*v).0));
        let histograms = found.histogram_times.iter().zip(&found.histograms);
        let all = floats.chain(histograms.map(|(t, h)| (*t, answered(&h.to_float()))));
        samples.entry(labels.clone()).or_default().extend(all);
        exemplars.entry(labels).or_default().append(&mut found.exemplars);
    }
    (samples, exemplars)
}

/// What blocks, by ascending sequence, say together.
pub(crate) fn merge<'a>(blocks: impl Iterator<Item = &'a (Answer, Exemplars)>) -> (Answer, Exemplars) {
    let (mut samples, mut exemplars) = (Answer::new(), Exemplars::new());
    for (of_block, exemplars_of_block) in blocks {
        for (labels, found) in of_block {
            samples.entry(labels.clone()).or_default().extend(found.clone());
        }
        for (labels, found) in exemplars_of_block {
            let all: &mut Vec<Exemplar> = exemplars.entry(labels.clone()).or_default();
            all.extend(found.iter().cloned());
            all.sort_by(Exemplar::order);
            all.dedup();
        }
    }
    (samples, exemplars)
}
