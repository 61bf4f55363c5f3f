//! `GET|POST /api/v1/export`: everything of the series that match, as lines of JSON, sent while they are read.

use super::series::needed_matcher_sets;
use crate::error::{ApiError, Side};
use crate::http::admission::Cancel;
use crate::http::app::App;
use crate::http::respond::{BodyWriter, Encoding};
use crate::http::stream::{Fitting, Pieces, read_out};
use crate::wire::json_lines::WriteLine;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::Response;
use kymo_query::Held;
use kymo_storage::api::{Queryable, Samples, SeriesSet};
use kymo_storage::model::{Labels, Matcher, TimeRange};
use std::io;

/// Samples of a line; a longer series takes several.
const LINE_SAMPLES: usize = 1_000;
/// Native histograms of a line.
const LINE_HISTOGRAMS: usize = 100;

/// Every sample between `start` and `end` of the series that match one of `match[]`, bit for bit. One series is in memory at a
/// time; the next one is read when the client has taken the one before.
pub async fn export(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    let params = app.params(request).await?;
    let sets = needed_matcher_sets(&params)?;
    let start = params.time("start")?.unwrap_or(i64::MIN);
    let end = params.time("end")?.unwrap_or(i64::MAX);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let storage = app.storage(Side::Read)?;
    let range = TimeRange::closed(start, end);
    let of_work = app.clone();
    let begin = move |_: &Cancel| {
        let failed = |e| ApiError::storage(Side::Read, &e);
        let querier = storage.querier(range).map_err(failed)?;
        let select = |matchers: &Vec<Matcher>| querier.select(range, matchers);
        let selected = sets.iter().map(select).collect::<kymo_storage::Result<Vec<_>>>().map_err(failed)?;
        let held = of_work.hold(selected.iter().map(|set| set.bytes()).sum())?;
        let export = Export {
            matchers: sets,
            sets: selected,
            _held: held,
            room: Fitting::new(of_work),
            range,
            set: 0,
            series: 0,
            labels: Labels::empty(),
            samples: Samples::new(),
            sample: 0,
            histogram: 0,
        };
        Ok(Box::new(export) as Box<dyn Pieces>)
    };
    let media = HeaderValue::from_static("application/stream+json; charset=utf-8");
    read_out(&app, encoding, media, begin).await
}

/// Where an export is.
struct Export {
    matchers: Vec<Vec<Matcher>>,
    sets: Vec<Box<dyn SeriesSet>>,
    /// The memory of `sets`.
    _held: Held,
    /// The memory of `samples`.
    room: Fitting,
    range: TimeRange,
    /// The next series to be read.
    set: usize,
    series: usize,
    /// The one being written, and how much of it is.
    labels: Labels,
    samples: Samples,
    sample: usize,
    histogram: usize,
}

impl Pieces for Export {
    fn write_next(&mut self, out: &mut BodyWriter) -> io::Result<bool> {
        if !self.is_written() {
            self.line().write(out)?;
            self.sample = (self.sample + LINE_SAMPLES).min(self.samples.timestamps.len());
            self.histogram = (self.histogram + LINE_HISTOGRAMS).min(self.samples.histograms.len());
            return Ok(true);
        }
        let Some(set) = self.sets.get(self.set) else { return Ok(false) };
        if self.series >= set.len() {
            (self.set, self.series) = (self.set + 1, 0);
            return Ok(true);
        }
        self.labels = set.labels(self.series);
        (self.sample, self.histogram) = (0, 0);
        let is_double = self.matchers.iter().take(self.set).any(|matchers| {
            matchers.iter().all(|matcher| matcher.matches(self.labels.value(matcher.name())))
        });
        if is_double {
            self.samples.clear();
        } else {
            set.read(self.series, self.range, &mut self.samples).map_err(io::Error::other)?;
            self.room.fit(self.samples.bytes())?;
        }
        self.series += 1;
        Ok(true)
    }

    fn let_go(&mut self) {
        if self.is_written() {
            self.samples = Samples::new();
            self.room.clear();
        }
    }
}

impl Export {
    /// Whether all of the series that was read is written.
    fn is_written(&self) -> bool {
        self.sample >= self.samples.timestamps.len() && self.histogram >= self.samples.histograms.len()
    }

    fn line(&self) -> WriteLine<'_> {
        let samples = &self.samples;
        let end = (self.sample + LINE_SAMPLES).min(samples.timestamps.len());
        let histograms_end = (self.histogram + LINE_HISTOGRAMS).min(samples.histograms.len());
        WriteLine {
            labels: &self.labels,
            timestamps: samples.timestamps.get(self.sample..end).unwrap_or_default(),
            values: samples.values.get(self.sample..end).unwrap_or_default(),
            start_timestamps: samples.start_timestamps.get(self.sample..end).unwrap_or_default(),
            histograms: samples.histograms.get(self.histogram..histograms_end).unwrap_or_default(),
        }
    }
}
