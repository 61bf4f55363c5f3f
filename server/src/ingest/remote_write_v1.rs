//! From a request of remote write 1.0 to a batch. Hot path.

use super::put;
use super::receiver::{Prepared, Receiver};
use super::refusals::Refusals;
use crate::wire::remote_write_v1::WriteRequest;
use kymo_storage::model::Labels;

/// Resolves the series of a request.
pub(super) fn resolve(receiver: &Receiver, request: WriteRequest<'_>) -> Prepared {
    let metrics = &receiver.metrics;
    let mut batch = receiver.storage.batch();
    let mut refusals = Refusals::default();
    let sent = (request.samples.len() + request.histograms.len() + request.exemplars.len()) as u64;
    let mut histograms = request.histograms.into_iter();
    for series in &request.series {
        let samples = request.samples.get(series.samples.clone()).unwrap_or_default();
        // A refused series counts with all it carries, and at least as one.
        let carried = (samples.len() + series.histograms.len() + series.exemplars.len()) as u64;
        let own = histograms.by_ref().take(series.histograms.len());
        let id = match batch.series(&series.labels) {
            Ok(id) => id,
            Err(refusal) => {
                refusals.add(metrics, refusal, carried.max(1));
                own.for_each(drop);
                continue;
            }
        };
        for sample in samples {
            batch.sample(id, sample.timestamp, sample.value);
        }
        let labels = || Labels::from_wire(&series.labels).unwrap_or_default();
        for sent in own {
            if let Err(refusal) = put::histogram(&mut batch, id, sent, labels) {
                refusals.add(metrics, refusal, 1);
            }
        }
        for exemplar in request.exemplars.get(series.exemplars.clone()).unwrap_or_default() {
            let stored = put::exemplar(
                &mut batch,
                (id, &labels),
                &exemplar.labels,
                exemplar.value,
                exemplar.timestamp,
            );
            if let Err(refusal) = stored {
                refusals.add(metrics, refusal, 1);
            }
        }
    }
    for (family, metadata) in &request.metadata {
        put::metadata(&mut batch, &receiver.storage, family, metadata);
    }
    Prepared { batch, sent, refusals }
}
