//! What every handler shares.

use super::admission::{Desk, Gate};
use super::intake::BodyPool;
use super::lifecycle::Lifecycle;
use super::params::Params;
use super::queries::ActiveQueries;
use super::startup::Startup;
use crate::access::gatekeeper::Gatekeeper;
use crate::config::flags::ServeFlags;
use crate::config::settings::Settings;
use crate::error::{ApiError, Side};
use crate::ingest::otlp::DeltaState;
use crate::ingest::remote_write::Receiver;
use crate::telemetry::{ActiveWatch, Metrics};
use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use kymo_query::{Engine, Held};
use kymo_storage::ErrorKind;
use kymo_storage::db::Storage;
use kymo_storage::env::Clock;
use kymo_storage::model::Regex;
use std::sync::{Arc, OnceLock};

/// Largest form body in bytes: a query text and many selectors fit.
const FORM_BYTES_MAX: usize = 2 << 20;

/// One server's shared state; clones are cheap.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
pub struct Parts {
    /// What the operator set.
    pub flags: ServeFlags,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// When the server started, in milliseconds since the Unix epoch.
    pub started_ms: i64,
    /// PromQL.
    pub engine: Engine,
    /// How many queries run.
    pub query_gate: Gate,
    /// How many long answers are read from the store at the same time: a crowd that asks for such does not stand before the queries.
    pub read_gate: Gate,
    /// Which queries run.
    pub queries: Arc<ActiveQueries>,
    /// How many writes are decoded.
    pub ingest_gate: Gate,
    /// Memory of bodies being read.
    pub bodies: BodyPool,
    /// What delta series of OpenTelemetry have come to.
    pub deltas: Arc<tokio::sync::Mutex<DeltaState>>,
    /// How far the start has come.
    pub startup: Startup,
    /// Who may call.
    pub gatekeeper: Arc<Gatekeeper>,
    /// Reload and quit.
    pub lifecycle: Lifecycle,
    /// Other origins whose pages may call; `None` for none.
    pub cors: Option<Origins>,
    /// What holds now; a reload puts another in its place.
    settings: ArcSwap<Settings>,
    /// Set when the store is open.
    storage: OnceLock<Storage>,
}

/// Origins whose pages may call.
#[derive(Debug)]
pub struct Origins {
    /// The whole origin must match it.
    pub pattern: Regex,
    /// It was given as `.*`.
    pub everyone: bool,
}

/// What [`App::new`] is made of, beside the flags.
pub struct Made {
    /// What holds at the start.
    pub settings: Settings,
    /// Who may call.
    pub gatekeeper: Arc<Gatekeeper>,
    /// Reload and quit.
    pub lifecycle: Lifecycle,
    /// PromQL.
    pub engine: Engine,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl std::ops::Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// The state of a server whose store is not open yet.
    ///
    /// # Errors
    /// `--web-cors-origin` is not a regular expression.
    pub fn new(flags: ServeFlags, made: Made) -> Result<Self, String> {
        let Made { settings, gatekeeper, lifecycle, engine, metrics, clock } = made;
        let cors = flags.web.web_cors_origin.as_deref().map(|text| {
            let pattern = Regex::new(text).map_err(|e| format!("--web-cors-origin: {e}"))?;
            Ok::<_, String>(Origins { pattern, everyone: text == ".*" })
        });
        let cors = cors.transpose()?;
        // Set once: there is one engine.
        let _ = metrics.query_memory.set(engine.memory_use());
        let queries = Arc::<ActiveQueries>::default();
        let watched = Arc::clone(&queries);
        // As above: there is one list.
        let _ = metrics.active_queries.set(ActiveWatch::new(move |each| {
            watched.list().iter().for_each(|query| each(query.question.kind, query.since.elapsed()));
        }));
        Ok(Self(Arc::new(Parts {
            queries,
            query_gate: Gate::new(flags.query.query_max_concurrency, "--query-max-concurrency"),
            read_gate: Gate::quarter(
                flags.query.query_max_concurrency,
                "for long answers, a quarter of --query-max-concurrency",
            ),
            ingest_gate: Gate::new(flags.ingest.ingest_max_concurrency, "--ingest-max-concurrency"),
            bodies: BodyPool::new(flags.ingest.ingest_memory),
            flags,
            metrics,
            started_ms: clock.now_ms(),
            clock,
            engine,
            deltas: Arc::default(),
            startup: Startup::default(),
            gatekeeper,
            lifecycle,
            cors,
            settings: ArcSwap::from_pointee(settings),
            storage: OnceLock::new(),
        })))
    }

    /// What holds now: limits, external labels, the naming of OpenTelemetry. A request takes it once and keeps it to its end.
    pub fn settings(&self) -> Arc<Settings> {
        self.0.settings.load_full()
    }

    /// From now on `settings` hold.
    ///
    /// # Errors
    /// The store refuses a rule of retention; nothing changes then.
    pub fn set_settings(&self, settings: Settings) -> Result<(), String> {
        if let Some(storage) = self.storage_if_open() {
            storage.set_retention_rules(settings.retention_rules.clone()).map_err(|e| e.to_string())?;
        }
        self.0.settings.store(Arc::new(settings));
        Ok(())
    }

    /// Where queries are let in.
    pub fn desk(&self) -> Desk<'_> {
        Desk {
            gate: &self.query_gate,
            metrics: &self.metrics,
            queries: &self.queries,
            now_ms: self.clock.now_ms(),
        }
    }

    /// The store is open: from now on the server is ready.
    ///
    /// # Errors
    /// The store refuses a rule of retention that was read while it was being opened.
    pub fn set_storage(&self, storage: Storage) -> Result<(), String> {
        // A second store would be a mistake of `run`, which opens one.
        let storage = self.0.storage.get_or_init(|| storage);
        let rules = self.settings().retention_rules.clone();
        storage.set_retention_rules(rules).map_err(|e| e.to_string())
    }

    /// The store, if it is open.
    pub fn storage_if_open(&self) -> Option<&Storage> {
        self.0.storage.get()
    }

    /// The store.
    ///
    /// # Errors
    /// `Unavailable` while it is being opened.
    pub fn storage(&self, side: Side) -> Result<Storage, ApiError> {
        let starting = || {
            ApiError::new(side, ErrorKind::Unavailable, "the server is starting: the store is being opened")
        };
        self.0.storage.get().cloned().ok_or_else(starting)
    }

    /// Memory of an answer, out of that of all queries.
    ///
    /// # Errors
    /// There is not so much left.
    pub fn hold(&self, bytes: usize) -> Result<Held, ApiError> {
        self.engine.hold(bytes as u64).map_err(|e| ApiError::query(&e))
    }

    /// The remote-write receiver.
    ///
    /// # Errors
    /// As [`App::storage`].
    pub fn receiver(&self) -> Result<Receiver, ApiError> {
        Ok(Receiver {
            storage: self.storage(Side::Write)?,
            metrics: Arc::clone(&self.metrics),
            decoded_bytes_max: self.settings().ingest.decoded_bytes_max,
        })
    }

    /// The parameters of a request: its query string, and its form if it has one.
    ///
    /// # Errors
    /// A body that is not a form, too long or too slow; escapes that are wrong.
    pub async fn params(&self, request: Request) -> Result<Params, ApiError> {
        let (head, body) = request.into_parts();
        let has_form = matches!(head.method, axum::http::Method::POST | axum::http::Method::PUT);
        let form = if has_form { self.form(&head, body).await? } else { None };
        Params::parse(head.uri.query(), form.as_ref().map_or(&[][..], |f| &f.bytes))
    }

    async fn form(
        &self,
        head: &axum::http::request::Parts,
        body: Body,
    ) -> Result<Option<super::intake::HeldBody>, ApiError> {
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let is_form = content_type
            .split(';')
            .next()
            .is_some_and(|t| t.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
        // As Go's servers do: what is not a form is not looked at.
        if !is_form {
            return Ok(None);
        }
        let held = self
            .bodies
            .read(body, FORM_BYTES_MAX)
            .await
            .map_err(|e| e.into_api(Side::Read, FORM_BYTES_MAX))?;
        Ok(Some(held))
    }
}
