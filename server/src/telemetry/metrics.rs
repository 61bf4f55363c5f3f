//! The metrics of the server's own work; storage and process add theirs when they are read out.

use super::registry::{Counter, Family, Gauge, Histogram, Kind, Visitor};
use kymo_query::MemoryUse;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// All metrics of one server.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests by route and status.
    pub http_requests: Family<(&'static str, u16), Counter>,
    /// Time to the response's head by route.
    pub http_duration: Family<&'static str, Histogram>,
    /// Open connections.
    pub connections: Arc<Gauge>,
    /// Connections closed at once, by the limit that was met.
    pub connections_refused: Family<&'static str, Counter>,
    /// Connections cut because the client was too slow, by what it was slow at.
    pub connections_cut: Family<&'static str, Counter>,
    /// Requests that were not let in, by why.
    pub http_denied: Family<&'static str, Counter>,
    /// Tasks in the background that met a bug and were started again.
    pub tasks_restarted: Counter,
    /// 1 if the last reading of the configuration went well.
    pub config_good: Gauge,
    /// When a reading of the configuration last went well, in milliseconds.
    pub config_good_ms: Gauge,
    /// 1 if the last reading of the web configuration went well.
    pub web_config_good: Gauge,
    /// Body bytes of writes as sent.
    pub ingest_body_bytes: Counter,
    /// Body bytes of writes after decompression.
    pub ingest_decoded_bytes: Counter,
    /// Samples that storage took.
    pub ingest_samples_accepted: Counter,
    /// Samples and series refused, by reason.
    pub ingest_refused: Family<&'static str, Counter>,
    /// Queries that run now.
    pub queries_running: Arc<Gauge>,
    /// Queries that wait for their turn.
    pub queries_waiting: Arc<Gauge>,
    /// Queries by how they ended.
    pub queries: Family<&'static str, Counter>,
    /// The queries that run, each with its kind and how long it has run; unset as long as there is no list of them.
    pub active_queries: OnceLock<ActiveWatch>,
    /// Time queries ran.
    pub query_duration: Histogram,
    /// Samples queries read.
    pub query_samples: Counter,
    /// Memory queries hold; unset as long as there is no engine.
    pub query_memory: OnceLock<MemoryUse>,
}

/// Looks at each query that runs.
pub struct ActiveWatch(Box<Look>);

/// Calls what it is given with the kind of each query and how long it has run.
type Look = dyn Fn(&mut dyn FnMut(&'static str, Duration)) + Send + Sync;

impl ActiveWatch {
    /// Looks by means of `look`.
    pub fn new(look: impl Fn(&mut dyn FnMut(&'static str, Duration)) + Send + Sync + 'static) -> Self {
        Self(Box::new(look))
    }
}

impl fmt::Debug for ActiveWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActiveWatch")
    }
}

/// The kinds of queries there are.
const QUERY_KINDS: [&str; 5] = ["instant", "range", "series", "labels", "label_values"];

impl Metrics {
    /// Reads all out.
    pub fn visit(&self, visitor: &mut dyn Visitor) {
        visitor.family("kymo_build_info", Kind::Gauge, "Always 1; the version is a label.");
        visitor.sample("", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        visitor.counter(
            "kymo_background_task_restarts_total",
            "Tasks in the background that met a bug and were started again.",
            self.tasks_restarted.get() as f64,
        );
        self.visit_config(visitor);
        self.visit_http(visitor);
        self.visit_ingest(visitor);
        self.visit_queries(visitor);
    }

    fn visit_config(&self, visitor: &mut dyn Visitor) {
        let good = self.config_good.get() as f64;
        visitor.gauge(
            "kymo_config_last_reload_successful",
            "Whether the last reading of the configuration went well.",
            good,
        );
        visitor.gauge(
            "kymo_config_last_reload_success_timestamp_seconds",
            "When a reading of the configuration last went well.",
            self.config_good_ms.get() as f64 / 1000.0,
        );
        visitor.gauge(
            "kymo_web_config_last_reload_successful",
            "Whether the last reading of the web configuration and what it names went well.",
            self.web_config_good.get() as f64,
        );
    }

    fn visit_http(&self, visitor: &mut dyn Visitor) {
        visitor.family("kymo_http_requests_total", Kind::Counter, "Requests by route and status code.");
        self.http_requests.each(|(handler, code), counter| {
            let labels = [("code", &*code.to_string()), ("handler", handler)];
            visitor.sample("", &labels, counter.get() as f64);
        });
        visitor.family("kymo_http_request_duration_seconds", Kind::Histogram, "Time to answer by route.");
        self.http_duration.each(|handler, histogram| visitor.histogram(&[("handler", handler)], histogram));
        visitor.gauge("kymo_http_connections", "Open connections.", self.connections.get() as f64);
        let help = "Connections closed at once because a limit was met.";
        by_label(visitor, "kymo_http_connections_refused_total", help, "limit", &self.connections_refused);
        let help = "Connections cut because the client was too slow.";
        by_label(visitor, "kymo_http_connections_cut_total", help, "slow", &self.connections_cut);
        let help = "Requests that were not let in.";
        by_label(visitor, "kymo_http_requests_denied_total", help, "reason", &self.http_denied);
    }

    fn visit_ingest(&self, visitor: &mut dyn Visitor) {
        let counters = [
            ("kymo_ingest_body_bytes_total", "Bytes of write bodies as sent.", &self.ingest_body_bytes),
            ("kymo_ingest_decoded_bytes_total", "Bytes of write bodies decoded.", &self.ingest_decoded_bytes),
            ("kymo_ingest_samples_total", "Samples accepted.", &self.ingest_samples_accepted),
        ];
        for (name, help, counter) in counters {
            visitor.counter(name, help, counter.get() as f64);
        }
        let help = "Samples and series refused, by reason.";
        by_label(visitor, "kymo_ingest_refused_total", help, "reason", &self.ingest_refused);
    }

    fn visit_queries(&self, visitor: &mut dyn Visitor) {
        visitor.gauge("kymo_queries_running", "Queries that run now.", self.queries_running.get() as f64);
        visitor.gauge("kymo_queries_waiting", "Queries that wait.", self.queries_waiting.get() as f64);
        let (mut kinds, mut oldest) = (QUERY_KINDS.map(|kind| (kind, 0u32)).to_vec(), Duration::ZERO);
        if let Some(ActiveWatch(look)) = self.active_queries.get() {
            look(&mut |kind, age| {
                oldest = oldest.max(age);
                match kinds.iter_mut().find(|known| known.0 == kind) {
                    Some(known) => known.1 += 1,
                    None => kinds.push((kind, 1)),
                }
            });
        }
        visitor.family("kymo_queries_active", Kind::Gauge, "Queries on the list of those that run, by kind.");
        kinds.iter().for_each(|(kind, n)| visitor.sample("", &[("kind", kind)], f64::from(*n)));
        let help = "How long the oldest query of those that run has run.";
        visitor.gauge("kymo_query_oldest_seconds", help, oldest.as_secs_f64());
        by_label(visitor, "kymo_queries_total", "Queries by how they ended.", "outcome", &self.queries);
        visitor.family("kymo_query_duration_seconds", Kind::Histogram, "Time queries ran.");
        visitor.histogram(&[], &self.query_duration);
        let memory = self.query_memory.get().map_or(0, MemoryUse::bytes);
        visitor.gauge(
            "kymo_query_memory_bytes",
            "Memory that queries and their answers hold.",
            memory as f64,
        );
        visitor.counter("kymo_query_samples_total", "Samples queries read.", self.query_samples.get() as f64);
    }
}

fn by_label(
    visitor: &mut dyn Visitor,
    name: &'static str,
    help: &'static str,
    label: &'static str,
    family: &Family<&'static str, Counter>,
) {
    visitor.family(name, Kind::Counter, help);
    family.each(|key, counter| visitor.sample("", &[(label, key)], counter.get() as f64));
}
