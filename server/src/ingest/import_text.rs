//! Imports of the Prometheus text format and of OpenMetrics: families, metadata, exemplars, and when counting began.
//!
//! OpenMetrics says when a counter, histogram or summary was created in a line of its own, `NAME_created`, beside the other lines of
//! the same metric. So the samples of a metric wait until its last line has come; the line itself becomes their start timestamp.

use super::import_work::{LineResult, Work};
use super::put;
use crate::wire::text_format::{Dialect, Line, SampleLine, read_line};
use kymo_storage::model::{Exemplar, Labels, METRIC_NAME, Metadata, MetricType, SeriesRef, Timestamp};
use std::io;

/// Samples of one metric that wait for its `_created`.
const WAITING_MAX: usize = 10_000;

/// Where an import is.
pub struct TextLines {
    dialect: Dialect,
    /// What the comments said of the family at hand.
    family: String,
    about: Metadata,
    /// Which metric the waiting samples are of.
    metric: Vec<(String, String)>,
    created: Timestamp,
    waiting: Vec<(SeriesRef, Timestamp, f64)>,
    is_ended: bool,
}

impl TextLines {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            family: String::new(),
            about: Metadata::default(),
            metric: Vec::new(),
            created: 0,
            waiting: Vec::new(),
            is_ended: false,
        }
    }

    /// Takes one line.
    pub(super) fn line(&mut self, text: &str, work: &mut Work) -> LineResult {
        if self.is_ended {
            let why = "there is more behind # EOF".to_owned();
            return Ok(if text.trim().is_empty() { Ok(()) } else { Err(why) });
        }
        let line = match read_line(self.dialect, text, &mut work.labels) {
            Ok(line) => line,
            Err(why) => return Ok(Err(why)),
        };
        match line {
            Line::Blank => {}
            Line::End => self.is_ended = true,
            Line::Type(family, metric_type) => {
                self.enter(family, work)?;
                self.about.metric_type = metric_type;
            }
            Line::Help(family, help) => {
                self.enter(family, work)?;
                self.about.help = help;
            }
            Line::Unit(family, unit) => {
                self.enter(family, work)?;
                unit.clone_into(&mut self.about.unit);
            }
            Line::Sample(sample) => self.sample(sample, work)?,
        }
        Ok(Ok(()))
    }

    /// There are no more lines.
    pub(super) fn end(&mut self, work: &mut Work) -> LineResult {
        self.enter("", work)?;
        let is_cut = self.dialect == Dialect::OpenMetrics && !self.is_ended;
        Ok(if is_cut { Err("behind it # EOF is missing: the body is cut short".to_owned()) } else { Ok(()) })
    }

    /// The family `name` begins, unless it has begun already.
    fn enter(&mut self, name: &str, work: &mut Work) -> io::Result<()> {
        if self.family == name {
            return Ok(());
        }
        self.release(work)?;
        let about = std::mem::take(&mut self.about);
        let family = std::mem::replace(&mut self.family, name.to_owned());
        if !family.is_empty() {
            put::metadata(&mut work.batch, &work.receiver.storage, &family, &about);
        }
        Ok(())
    }

    fn sample(&mut self, sample: SampleLine, work: &mut Work) -> io::Result<()> {
        let counts =
            [MetricType::Counter, MetricType::Histogram, MetricType::GaugeHistogram, MetricType::Summary];
        let suffix = work.labels.metric().strip_prefix(self.family.as_str()).unwrap_or_default();
        let may_be_created = self.dialect == Dialect::OpenMetrics && counts.contains(&self.about.metric_type);
        let is_created = may_be_created && suffix == "_created";
        if may_be_created {
            let mut metric = Vec::new();
            work.labels.each(|name, value| {
                if ![METRIC_NAME, "le", "quantile"].contains(&name) {
                    metric.push((name.to_owned(), value.to_owned()));
                }
            });
            metric.sort_unstable();
            if metric != self.metric || self.waiting.len() >= WAITING_MAX {
                self.release(work)?;
                self.metric = metric;
            }
        }
        if is_created {
            let ms = (sample.value * 1000.0).round();
            if ms.abs() < 9.2e18 {
                self.created = ms as Timestamp;
            }
            return Ok(());
        }
        let Some(series) = work.series() else { return Ok(()) };
        let timestamp = sample.timestamp.unwrap_or(work.given.now);
        if may_be_created {
            self.waiting.push((series, timestamp, sample.value));
        } else {
            work.sample(series, timestamp, 0, sample.value)?;
        }
        if let Some(exemplar) = sample.exemplar {
            let exemplar = Exemplar {
                labels: Labels::from_pairs(exemplar.labels),
                value: exemplar.value,
                timestamp: exemplar.timestamp.unwrap_or(timestamp),
            };
            if let Err(refusal) = work.batch.exemplar(series, exemplar) {
                work.refuse(refusal);
            }
        }
        Ok(())
    }

    /// The lines of a metric are all there.
    fn release(&mut self, work: &mut Work) -> io::Result<()> {
        let created = std::mem::take(&mut self.created);
        self.metric.clear();
        for (series, timestamp, value) in self.waiting.drain(..) {
            let start = if created <= timestamp { created } else { 0 };
            work.sample(series, timestamp, start, value)?;
        }
        Ok(())
    }
}
