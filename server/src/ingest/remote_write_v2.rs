//! From a request of remote write 2.0 to a batch. Hot path.

use super::put;
use super::receiver::{Prepared, Receiver};
use super::refusals::Refusals;
use crate::wire::remote_write_v2::{References, Request, SentMetadata, Series, SymbolError};
use kymo_storage::ErrorKind;
use kymo_storage::db::{Refusal, WriteBatch};
use kymo_storage::model::{Labels, MetricType, SeriesRef};
use std::collections::HashSet;

/// References of a series spelled out in a refusal.
const REFERENCES_SHOWN: usize = 32;

/// Resolves the series of a request.
pub(super) fn resolve(receiver: &Receiver, mut request: Request<'_>) -> Prepared {
    let sent = (request.samples.len() + request.histograms.len() + request.exemplars.len()) as u64;
    let mut histograms = std::mem::take(&mut request.histograms).into_iter();
    let mut into = Resolver {
        receiver,
        request: &request,
        batch: receiver.storage.batch(),
        refusals: Refusals::default(),
        labels: Vec::with_capacity(512),
        described: HashSet::new(),
        described_last: None,
    };
    for series in &request.series {
        let own = histograms.by_ref().take(series.histograms.len());
        let Some(id) = into.series(series) else {
            own.for_each(drop);
            continue;
        };
        for sample in request.samples.get(series.samples.clone()).unwrap_or_default() {
            put::sample(&mut into.batch, id, sample.timestamp, sample.start_timestamp, sample.value);
        }
        for sent in own {
            let labels = || labels_of(&request, &series.labels);
            if let Err(refusal) = put::histogram(&mut into.batch, id, sent, labels) {
                into.refusals.add(&receiver.metrics, refusal, 1);
            }
        }
        into.exemplars(series, id);
    }
    let Resolver { batch, refusals, .. } = into;
    Prepared { batch, sent, refusals }
}

/// The labels as far as they can be read; for messages.
fn labels_of(request: &Request<'_>, labels: &References) -> Labels {
    let mut bytes = Vec::new();
    match request.labels(labels, &mut bytes) {
        Ok(()) => Labels::from_wire(&bytes).unwrap_or_default(),
        Err(_) => Labels::empty(),
    }
}

/// The work on one request.
struct Resolver<'a> {
    receiver: &'a Receiver,
    request: &'a Request<'a>,
    batch: WriteBatch,
    refusals: Refusals,
    /// The labels of the series at hand.
    labels: Vec<u8>,
    /// Of which metrics (by their symbol) what was said already: every series of a metric says the same.
    described: HashSet<(u32, SentMetadata)>,
    /// The newest of them: the series of a metric stand together.
    described_last: Option<(u32, SentMetadata)>,
}

impl Resolver<'_> {
    /// The number of a series, unless it is refused; with all it carries then, and at least as one.
    fn series(&mut self, series: &Series) -> Option<SeriesRef> {
        match self.find(series) {
            Ok(id) => Some(id),
            Err(refusal) => {
                let carried = series.samples.len() + series.histograms.len() + series.exemplars.len();
                self.refusals.add(&self.receiver.metrics, refusal, carried.max(1) as u64);
                None
            }
        }
    }

    fn find(&mut self, series: &Series) -> Result<SeriesRef, Refusal> {
        let refuse = |labels, reason| Refusal { kind: ErrorKind::Invalid, labels, timestamp: None, reason };
        if let Err(error) = self.request.labels(&series.labels, &mut self.labels) {
            return Err(refuse(Labels::empty(), self.parsing("labels", series, &error)));
        }
        self.request.check_metadata(series.metadata).map_err(|error| {
            refuse(labels_of(self.request, &series.labels), self.parsing("metadata", series, &error))
        })?;
        // Prometheus itself sends exemplars in series of their own, without a sample: these are taken.
        if series.samples.is_empty() && series.histograms.is_empty() && series.exemplars.is_empty() {
            let labels = labels_of(self.request, &series.labels);
            return Err(refuse(
                labels,
                "TimeSeries must contain at least one sample or histogram".to_owned(),
            ));
        }
        let id = self.batch.series(&self.labels).map_err(|refusal| match refusal.kind {
            ErrorKind::Invalid => {
                Refusal { reason: format!("invalid metric name or labels: {}", refusal.reason), ..refusal }
            }
            _ => refusal,
        })?;
        self.describe(series);
        Ok(id)
    }

    /// `parsing labels for series [1 2 99 100]: …`: as Prometheus says it.
    fn parsing(&self, what: &str, series: &Series, error: &SymbolError) -> String {
        let references = self.request.references(&series.labels);
        let shown: Vec<String> = references.iter().take(REFERENCES_SHOWN).map(u32::to_string).collect();
        let more = if references.len() > REFERENCES_SHOWN { " …" } else { "" };
        format!("parsing {what} for series [{}{more}]: {error}", shown.join(" "))
    }

    fn exemplars(&mut self, series: &Series, id: SeriesRef) {
        for exemplar in self.request.exemplars.get(series.exemplars.clone()).unwrap_or_default() {
            let stored = match self.request.labels(&exemplar.labels, &mut self.labels) {
                Ok(()) => {
                    let own = || labels_of(self.request, &series.labels);
                    put::exemplar(
                        &mut self.batch,
                        (id, &own),
                        &self.labels,
                        exemplar.value,
                        exemplar.timestamp,
                    )
                }
                Err(error) => Err(Refusal {
                    kind: ErrorKind::Invalid,
                    labels: labels_of(self.request, &series.labels),
                    timestamp: Some(exemplar.timestamp),
                    reason: format!("parsing exemplar: {error}"),
                }),
            };
            if let Err(refusal) = stored {
                self.refusals.add(&self.receiver.metrics, refusal, 1);
            }
        }
    }

    /// Keeps what a series says of its metric.
    fn describe(&mut self, series: &Series) {
        let Some(symbol) = self.request.name_symbol(&series.labels) else { return };
        let said = (symbol, series.metadata);
        if self.described_last == Some(said) {
            return;
        }
        self.described_last = Some(said);
        if !self.described.insert(said) {
            return;
        }
        let (Ok(Some(about)), Some(name)) =
            (self.request.metadata(series.metadata), self.request.symbol(symbol))
        else {
            return;
        };
        let family = family_of(name, about.metric_type);
        put::metadata(&mut self.batch, &self.receiver.storage, family, &about);
    }
}

/// The family of a series: its metric's name, without what the parts of histograms and summaries add to it.
fn family_of(name: &str, metric_type: MetricType) -> &str {
    let suffixes: &[&str] = match metric_type {
        MetricType::Histogram | MetricType::GaugeHistogram => &["_bucket", "_count", "_sum"],
        MetricType::Summary => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).filter(|f| !f.is_empty()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families() {
        let cases = [
            ("a_bucket", MetricType::Histogram, "a"),
            ("a_sum", MetricType::Summary, "a"),
            ("a_bucket", MetricType::Summary, "a_bucket"),
            ("a_total", MetricType::Counter, "a_total"),
            ("a_count", MetricType::Gauge, "a_count"),
            ("_sum", MetricType::Histogram, "_sum"),
        ];
        for (name, metric_type, family) in cases {
            assert_eq!(family_of(name, metric_type), family, "{name} {metric_type:?}");
        }
    }
}
