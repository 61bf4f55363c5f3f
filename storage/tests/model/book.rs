//! The plain model: maps of what was written, and the rules of what is accepted and kept.

use crate::steps::{HOUR, NOW, labels};
use kymo_storage::chunk::{encode_one_histogram, hash_one_histogram};
use kymo_storage::model::{AnyHistogram, Exemplar, FloatHistogram, Labels, Matcher, Metadata, TimeRange};
use std::collections::{BTreeMap, BTreeSet};

/// How long everything is kept, in milliseconds.
pub(crate) const RETENTION: i64 = 10 * 24 * HOUR;
/// Longer than the longest rule, so that steps may shorten it.
const LONGEST_RULE: i64 = 11 * 24 * HOUR;
/// The clock does not go on beyond this: the newest sample must be near enough to it for it to be believed.
const LATEST: i64 = NOW + 9 * 24 * HOUR;

/// The bytes of a histogram.
pub(crate) fn encoded(histogram: &AnyHistogram) -> Vec<u8> {
    let mut out = Vec::new();
    encode_one_histogram(histogram, &mut out);
    out
}

/// A sample of either kind, comparable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sample {
    Float(u64),
    /// Encoded, with floats for counts.
    Histogram(Vec<u8>),
}

/// What the store must answer.
pub(crate) type Answer = BTreeMap<Labels, BTreeMap<i64, Sample>>;

/// The exemplars of each series, in order.
pub(crate) type Exemplars = BTreeMap<Labels, Vec<Exemplar>>;

/// What becomes of an exemplar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Accepted, and held from then on.
    New,
    /// Accepted, for it is the newest that the store knows: it holds no more than before.
    Repeated,
    /// One of both.
    Accepted,
    Refused,
    /// The store may know the newest, or not.
    Either,
}

#[derive(Default)]
struct Series {
    samples: BTreeMap<i64, Sample>,
    /// The time of the newest ever, and what it was: the sample, and what tells a repeated one from another at the same
    /// time. Nothing if it was deleted.
    newest: Option<(i64, Option<(Sample, u64)>)>,
    /// Whether it has samples or exemplars outside of blocks.
    is_in_memory: bool,
    /// The time of the newest when the series left memory, until a checkpoint says that it did.
    left_at: Option<i64>,
    /// The store was opened since: it may know the newest of that time again, or not. What was written from then on.
    unsure: Option<BTreeSet<i64>>,
    /// In their order, each once.
    exemplars: Vec<Exemplar>,
    /// The newest that was taken, and whether the store must know it: after a start it knows only those of the log.
    newest_exemplar: Option<(Exemplar, bool)>,
}

impl Series {
    /// Leaves memory, if it has nothing there: its newest is not known any more.
    fn leave(&mut self) {
        if self.is_in_memory {
            return;
        }
        let left = self.newest.take().map(|newest| newest.0);
        self.left_at = self.left_at.max(left);
        self.unsure = None;
        if let Some((_, is_known)) = &mut self.newest_exemplar {
            *is_known = false;
        }
    }
}

/// What was written.
pub(crate) struct Book {
    series: BTreeMap<Labels, Series>,
    pub(crate) metadata: BTreeMap<String, Metadata>,
    /// Wall time.
    pub(crate) now: i64,
    /// How long series with an odd number are kept.
    pub(crate) keep_odd: i64,
}

impl Book {
    pub(crate) fn new() -> Self {
        Self { series: BTreeMap::new(), metadata: BTreeMap::new(), now: NOW, keep_odd: LONGEST_RULE }
    }

    /// The clock goes on; answers how far.
    pub(crate) fn advance(&mut self, by: i64) -> i64 {
        let by = by.min(LATEST - self.now);
        self.now += by;
        by
    }

    /// The oldest time that is kept of any series.
    fn oldest_accepted(&self) -> i64 {
        self.now - RETENTION.max(self.keep_odd)
    }

    fn oldest_kept(&self, labels: &Labels) -> i64 {
        self.now - if labels.value("parity") == "odd" { self.keep_odd } else { RETENTION }
    }

    /// Whether the rules say what becomes of a sample at `time`.
    pub(crate) fn is_decided(&self, series: usize, time: i64) -> bool {
        self.series.get(&labels(series)).is_none_or(|series| {
            series.unsure.as_ref().is_none_or(|written| {
                series.left_at != Some(time)
                    && !series.samples.contains_key(&time)
                    && !written.contains(&time)
            })
        })
    }

    /// All is in blocks; with a checkpoint, if anything was new.
    pub(crate) fn flushed(&mut self, has_checkpoint: bool) {
        for series in self.series.values_mut() {
            series.is_in_memory = false;
            if has_checkpoint && series.unsure.is_none() {
                series.left_at = None;
            }
        }
    }

    /// Series that have nothing in memory leave it. Answers how many stay.
    pub(crate) fn leave(&mut self) -> usize {
        self.series.values_mut().for_each(Series::leave);
        self.series.values().filter(|series| series.is_in_memory).count()
    }

    /// What the rules say about a sample; answers whether it is accepted.
    pub(crate) fn write(&mut self, series: usize, time: i64, (sample, identity): (Sample, u64)) -> bool {
        let oldest = self.oldest_accepted();
        let series = self.series.entry(labels(series)).or_default();
        if time < oldest {
            return false;
        }
        if series.left_at.is_none_or(|left| left < time) {
            (series.left_at, series.unsure) = (None, None);
        }
        if let Some(written) = &mut series.unsure {
            written.insert(time);
        }
        let is_kind =
            |other: &Sample| matches!(other, Sample::Float(_)) == matches!(sample, Sample::Float(_));
        match &mut series.newest {
            // The first of equal ones stays.
            Some((last, Some((other, known)))) if *last == time => {
                return is_kind(other) && *known == identity;
            }
            Some((last, _)) if *last > time => {}
            newest => *newest = Some((time, Some((sample.clone(), identity)))),
        }
        series.samples.insert(time, sample);
        series.is_in_memory = true;
        true
    }

    /// What the rules say about an exemplar.
    pub(crate) fn judge_exemplar(&self, labels: &Labels, exemplar: &Exemplar) -> Judged {
        if exemplar.timestamp < self.oldest_accepted() {
            return Judged::Refused;
        }
        match self.series.get(labels).and_then(|s| s.newest_exemplar.as_ref()) {
            None => Judged::New,
            Some((newest, _)) if exemplar.follows(newest) => Judged::New,
            Some((newest, true)) if exemplar == newest => Judged::Repeated,
            Some((newest, false)) if exemplar == newest => Judged::Accepted,
            Some((_, is_known)) if *is_known => Judged::Refused,
            Some(_) => Judged::Either,
        }
    }

    /// An exemplar was accepted; `is_new` says whether memory holds one more.
    pub(crate) fn put_exemplar(&mut self, labels: Labels, exemplar: Exemplar, is_new: bool) {
        let series = self.series.entry(labels).or_default();
        series.is_in_memory |= is_new;
        series.exemplars.push(exemplar.clone());
        series.exemplars.sort_by(Exemplar::order);
        series.exemplars.dedup();
        let is_newest = series.newest_exemplar.as_ref().is_none_or(|(newest, _)| !newest.follows(&exemplar));
        if is_newest {
            series.newest_exemplar = Some((exemplar, true));
        } else if let Some((_, is_known)) = &mut series.newest_exemplar {
            // It was taken for the newest, so the store does not know the newer one.
            *is_known = false;
        }
    }

    /// The store was opened: what it knows of exemplars is what its log has.
    pub(crate) fn opened(&mut self) {
        for series in self.series.values_mut() {
            if let Some((_, is_known)) = &mut series.newest_exemplar {
                *is_known = false;
            }
            if series.left_at.is_some() {
                series.unsure.get_or_insert_default();
            }
        }
    }

    pub(crate) fn delete(&mut self, matcher: &Matcher, range: TimeRange) {
        for (_, series) in self.series.iter_mut().filter(|s| matcher.matches(s.0.value(matcher.name()))) {
            series.samples.retain(|time, _| !range.contains(*time));
            series.exemplars.retain(|exemplar| !range.contains(exemplar.timestamp));
            if let Some((time, what)) = &mut series.newest
                && range.contains(*time)
            {
                *what = None;
            }
            if let Some((newest, is_known)) = &mut series.newest_exemplar
                && range.contains(newest.timestamp)
            {
                *is_known = false;
            }
        }
    }

    /// Some blocks are gone: this is what is left.
    pub(crate) fn replace(&mut self, samples: &Answer, exemplars: &Exemplars) {
        for (labels, series) in &mut self.series {
            series.samples = samples.get(labels).cloned().unwrap_or_default();
            series.exemplars = exemplars.get(labels).cloned().unwrap_or_default();
        }
    }

    /// What the store must answer.
    pub(crate) fn expected(&self, range: TimeRange, matcher: Option<&Matcher>) -> Answer {
        let mut out = Answer::new();
        for (labels, series) in self.matching(matcher) {
            let oldest = self.oldest_kept(labels);
            let inside = series.samples.iter().filter(|s| range.contains(*s.0) && *s.0 >= oldest);
            let samples: BTreeMap<i64, Sample> = inside.map(|(t, s)| (*t, s.clone())).collect();
            if !samples.is_empty() {
                out.insert(labels.clone(), samples);
            }
        }
        out
    }

    /// What the store must answer for exemplars.
    pub(crate) fn expected_exemplars(&self, range: TimeRange, matcher: Option<&Matcher>) -> Exemplars {
        let mut out = Exemplars::new();
        for (labels, series) in self.matching(matcher) {
            let oldest = self.oldest_kept(labels);
            let is_in = |e: &&Exemplar| range.contains(e.timestamp) && e.timestamp >= oldest;
            let exemplars: Vec<Exemplar> = series.exemplars.iter().filter(is_in).cloned().collect();
            if !exemplars.is_empty() {
                out.insert(labels.clone(), exemplars);
            }
        }
        out
    }

    fn matching(&self, matcher: Option<&Matcher>) -> impl Iterator<Item = (&Labels, &Series)> {
        self.series
            .iter()
            .filter(move |(labels, _)| matcher.is_none_or(|m| m.matches(labels.value(m.name()))))
    }

    /// The labels of all series ever written.
    pub(crate) fn all_labels(&self) -> impl Iterator<Item = &Labels> {
        self.series.keys()
    }

    /// Leaves out what is over its time.
    pub(crate) fn kept(&self, mut samples: Answer, mut exemplars: Exemplars) -> (Answer, Exemplars) {
        for (labels, samples) in &mut samples {
            let oldest = self.oldest_kept(labels);
            samples.retain(|time, _| *time >= oldest);
        }
        for (labels, exemplars) in &mut exemplars {
            let oldest = self.oldest_kept(labels);
            exemplars.retain(|exemplar| exemplar.timestamp >= oldest);
        }
        samples.retain(|_, samples| !samples.is_empty());
        exemplars.retain(|_, exemplars| !exemplars.is_empty());
        (samples, exemplars)
    }
}

/// A float and what tells it from another.
pub(crate) fn float(value: f64) -> (Sample, u64) {
    (Sample::Float(value.to_bits()), value.to_bits())
}

/// As the store keeps and answers it.
pub(crate) fn kept(mut histogram: AnyHistogram) -> (Sample, u64) {
    histogram.accept().unwrap();
    let identity = hash_one_histogram(&encoded(&histogram));
    (answered(&histogram.to_float()), identity)
}

/// As it is answered.
pub(crate) fn answered(histogram: &FloatHistogram) -> Sample {
    Sample::Histogram(encoded(&AnyHistogram::Float(histogram.clone())))
}
