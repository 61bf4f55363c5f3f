//! `GET /federate`: the newest samples of matching series, for another server to scrape.

use super::admission::Cancel;
use super::app::App;
use super::external::External;
use super::respond::{self, BodyWriter, Encoding};
use super::stream::{Pieces, Refused, read_out};
use crate::error::{ApiError, Side};
use crate::wire::exposition::{Exposed, ExposedSeries, Exposition};
use crate::wire::regex_room::RegexRoom;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::ACCEPT;
use axum::response::Response;
use kymo_query::Held;
use kymo_query::syntax::parse_metric_selector;
use kymo_storage::api::{Queryable, Samples, histogram_bytes};
use kymo_storage::db::Storage;
use kymo_storage::model::{Matcher, TimeRange, is_stale};
use std::io::{self, Write};
use std::sync::Arc;

/// How often a loop over series looks whether its client is still there.
const CANCEL_CHECK_EVERY: usize = 256;
/// A value and a time as text.
const VALUE_BYTES: usize = 48;

/// Answers a scrape.
pub async fn federate(State(app): State<App>, request: Request) -> Response {
    match answer(&app, request).await {
        Ok(response) => response,
        Err(error) => respond::text(error.status, format!("{}\n", error.message.trim_end())),
    }
}

async fn answer(app: &App, request: Request) -> Result<Response, ApiError> {
    let accept = request.headers().get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let exposition = Exposition::negotiate(accept);
    let encoding = Encoding::accepted(request.headers());
    let params = app.params(request).await?;
    let (mut selectors, mut compiled) = (Vec::new(), RegexRoom::default());
    for text in params.all("match[]") {
        let matchers = parse_metric_selector(text).map_err(|errors| {
            ApiError::bad_data(errors.first().map(ToString::to_string).unwrap_or_default())
        })?;
        compiled.take(&matchers).map_err(ApiError::bad_data)?;
        selectors.push(matchers);
    }
    let settings = app.settings();
    let now = app.clock.now_ms();
    let lookback = i64::try_from(settings.query.lookback.as_millis()).unwrap_or(i64::MAX);
    let source = Source {
        app: app.clone(),
        storage: app.storage(Side::Read)?,
        external: External(settings.external_labels.clone()),
        range: TimeRange::closed(now.saturating_sub(lookback), now),
    };
    let begin = move |cancel: &Cancel| {
        let (found, memory) = source.newest(&selectors, cancel)?;
        let families =
            Families { found, memory, written: 0, app: source.app, external: source.external, exposition };
        Ok(Box::new(families) as Box<dyn Pieces>)
    };
    let plain = |_| HeaderValue::from_static("text/plain");
    let media = HeaderValue::from_str(&exposition.content_type()).unwrap_or_else(plain);
    read_out(app, encoding, media, begin).await
}

/// What a scrape is answered from.
struct Source {
    app: App,
    storage: Storage,
    external: External,
    range: TimeRange,
}

impl Source {
    /// The newest sample of each series that matches one of `selectors`, sorted by name, then by labels; and their memory.
    fn newest(
        &self,
        selectors: &[Vec<Matcher>],
        cancel: &Cancel,
    ) -> Result<(Vec<ExposedSeries>, Vec<Held>), ApiError> {
        let failed = |e: kymo_storage::Error| ApiError::storage(Side::Read, &e);
        let querier = self.storage.querier(self.range).map_err(failed)?;
        let (mut found, mut memory) = (Vec::new(), Vec::new());
        // Bytes of what was found and is not yet reserved.
        let mut unheld = 0;
        let mut samples = Samples::new();
        for matchers in selectors {
            let set = querier.select(self.range, matchers).map_err(failed)?;
            for index in 0..set.len() {
                if index % CANCEL_CHECK_EVERY == 0 {
                    if cancel.is_cancelled() {
                        return Err(ApiError::cancelled());
                    }
                    memory.push(self.app.hold(std::mem::take(&mut unheld))?);
                }
                set.read(index, self.range, &mut samples).map_err(failed)?;
                if let Some((timestamp, value)) = last(&samples) {
                    let series = ExposedSeries { labels: set.labels(index), timestamp, value };
                    unheld += bytes_of(&series);
                    found.push(series);
                }
            }
        }
        memory.push(self.app.hold(unheld)?);
        found.sort_by(|a, b| {
            let names = a.labels.metric_name().cmp(b.labels.metric_name());
            names.then_with(|| a.labels.cmp(&b.labels))
        });
        // Selectors may overlap.
        found.dedup_by(|a, b| a.labels == b.labels);
        Ok((found, memory))
    }
}

/// The answer on its way out: one family after the other.
struct Families {
    found: Vec<ExposedSeries>,
    /// The memory of `found`.
    memory: Vec<Held>,
    written: usize,
    app: App,
    external: External,
    exposition: Exposition,
}

impl Pieces for Families {
    fn write_next(&mut self, out: &mut BodyWriter) -> io::Result<bool> {
        let rest = self.found.get_mut(self.written..).unwrap_or_default();
        let same_name =
            |a: &ExposedSeries, b: &ExposedSeries| a.labels.metric_name() == b.labels.metric_name();
        let Some(family) = rest.chunk_by_mut(same_name).next() else { return Ok(false) };
        let name = family.first().map(|s| s.labels.metric_name().to_owned()).unwrap_or_default();
        for series in &mut *family {
            series.labels = self.external.seen(series.labels.clone());
        }
        // A family is written in one go, and may be all there is.
        let text_bytes =
            family.iter().map(|s| s.labels.as_bytes().len() + VALUE_BYTES + bytes_of_value(&s.value)).sum();
        self.memory.push(self.app.hold(text_bytes).map_err(Refused::error)?);
        let mut text = Vec::new();
        self.exposition.write_family(&mut text, &name, family);
        self.written += family.len();
        out.write_all(&text)?;
        self.memory.pop();
        Ok(true)
    }
}

/// What a series takes while it waits to be written.
fn bytes_of(series: &ExposedSeries) -> usize {
    size_of::<ExposedSeries>() + series.labels.as_bytes().len() + bytes_of_value(&series.value)
}

fn bytes_of_value(value: &Exposed) -> usize {
    match value {
        Exposed::Float(_) => 0,
        Exposed::Histogram(histogram) => histogram_bytes(histogram),
    }
}

/// The newest sample, unless it says that the series has ended: the formats cannot say that.
fn last(samples: &Samples) -> Option<(i64, Exposed)> {
    let float = samples.timestamps.last().copied().zip(samples.values.last().copied());
    let histogram = samples.histograms.last();
    match (float, histogram) {
        (Some((time, _)), Some(histogram)) if histogram.timestamp > time => newest_histogram(samples),
        (Some((time, value)), _) => (!is_stale(value)).then_some((time, Exposed::Float(value))),
        (None, _) => newest_histogram(samples),
    }
}

fn newest_histogram(samples: &Samples) -> Option<(i64, Exposed)> {
    let last = samples.histograms.last().filter(|h| !h.histogram.is_stale())?;
    Some((last.timestamp, Exposed::Histogram(Arc::clone(&last.histogram))))
}
