//! Builds every part of a server and wires them: the one place where they meet.

mod reload;
mod shutdown;
mod supervise;

use crate::access::gatekeeper::Gatekeeper;
use crate::config::flags::{DurabilityFlag, LogFormat, ServeFlags};
use crate::config::settings::Settings;
use crate::http::app::{App, Made};
use crate::http::lifecycle::Lifecycle;
use crate::http::listen::{self, Deadlines, ListenOptions};
use crate::http::router::router;
use crate::ingest::self_monitor;
use crate::telemetry::{Metrics, log};
use kymo_query::{Engine, EngineOptions, QueryLimits};
use kymo_storage::db::{ReplayProgress, Storage};
use kymo_storage::env::{Clock, DiskFs, SystemClock};
use kymo_storage::options::{Durability, Limits, Options};
use reload::Reasons;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};

/// How long requests may go on after a signal.
const DRAIN: Duration = Duration::from_secs(8);
/// How long a thread that waits for work stays. What it has freed goes back to the system when it ends, so this is short; a busy
/// server keeps its threads.
const IDLE_THREAD: Duration = Duration::from_millis(100);
/// The smallest head of a request that can be asked for: what the HTTP library needs.
const HEAD_BYTES_MIN: usize = 8 << 10;
/// Descriptors kept for files when connections take all they may.
const FILES_RESERVED: u64 = 512;

/// Runs a server until a signal ends it.
///
/// # Errors
/// A sentence for the operator: the address is taken, the data directory cannot be opened, a limit makes no sense.
pub fn run(flags: ServeFlags) -> Result<(), String> {
    log::start(&flags.log.filter, flags.log.format == LogFormat::Json)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("kymo-io")
        .max_blocking_threads(blocking_threads(&flags))
        .thread_keep_alive(IDLE_THREAD)
        .build()
        .map_err(|e| format!("start the runtime: {e}"))?;
    let result = runtime.block_on(serve(flags));
    // Queries that did not end within the drain are left behind.
    runtime.shutdown_background();
    result
}

/// Queries, long answers, writes being decoded, passwords being judged, files being read again, and the opening and closing of the store may
/// block a thread each.
fn blocking_threads(flags: &ServeFlags) -> usize {
    let queries = flags.query.query_max_concurrency.max(1);
    2 * queries + queries.div_ceil(4) + flags.ingest.ingest_max_concurrency.max(1) + 8
}

async fn serve(mut flags: ServeFlags) -> Result<(), String> {
    let settings = reload::settings(&flags)?;
    let gatekeeper = Arc::new(Gatekeeper::open(flags.web.web_config_file.as_deref())?);
    warn_if_public(&flags, &gatekeeper);
    flags.max_connections = connections_allowed(flags.max_connections);
    let (quit, signals) = shutdown::on_signal().map_err(|e| format!("listen for signals: {e}"))?;
    let hangups = reload::hangups().map_err(|e| format!("listen for signals: {e}"))?;
    let listener = listen::listen(flags.listen).map_err(|e| format!("listen on {}: {e}", flags.listen))?;
    let address = listener.local_addr().map_err(|e| format!("listen on {}: {e}", flags.listen))?;
    let metrics = Arc::new(Metrics::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    metrics.config_good.set(1);
    metrics.config_good_ms.set(clock.now_ms());
    metrics.web_config_good.set(1);
    let (ask_reload, reloads) = mpsc::channel(1);
    let made = Made {
        settings: settings.clone(),
        gatekeeper: Arc::clone(&gatekeeper),
        lifecycle: Lifecycle { reload: ask_reload, quit },
        engine: Engine::new(engine_options(&flags)),
        metrics: Arc::clone(&metrics),
        clock: Arc::clone(&clock),
    };
    let app = App::new(flags.clone(), made)?;

    // The face is up before the store: health and progress can be asked while the log is replayed.
    let (stop, stopped) = watch::channel(false);
    let options = ListenOptions {
        connections_max: flags.max_connections,
        deadlines: Deadlines {
            head: flags.web.web_head_timeout,
            idle: flags.web.web_idle_timeout,
            write: flags.web.web_write_timeout,
        },
        drain: DRAIN,
        head_bytes_max: flags.web.web_max_header_bytes.max(HEAD_BYTES_MIN),
        http2: gatekeeper.http2(),
        tls: Arc::new(move || gatekeeper.tls()),
    };
    let reasons = Arc::new(Mutex::new(Reasons { hangups, requests: reloads }));
    let (of_reload, until) = (app.clone(), stopped.clone());
    let reload = move || reload::run(of_reload.clone(), Arc::clone(&reasons), until.clone());
    tokio::spawn(supervise::keep("reading the configuration again", Arc::clone(&metrics), reload));
    let mut face = tokio::spawn(listen::serve(
        listener,
        router(app.clone()),
        options,
        Arc::clone(&metrics),
        stopped.clone(),
    ));
    tracing::info!(%address, data = %flags.data.display(), version = env!("CARGO_PKG_VERSION"), "kymo is starting");

    let storage = open(&app, &settings).await?;
    app.set_storage(storage.clone())?;
    tracing::info!(%address, "ready: remote write at /api/v1/write, PromQL at /api/v1/query");
    let monitor = flags.self_monitor.then(|| {
        let (storage, of_monitor, address) = (storage.clone(), Arc::clone(&metrics), address.to_string());
        let round = move || {
            let (storage, metrics, clock) = (storage.clone(), Arc::clone(&of_monitor), Arc::clone(&clock));
            self_monitor::run(storage, metrics, clock, address.clone(), stopped.clone())
        };
        tokio::spawn(supervise::keep("self-monitoring", Arc::clone(&metrics), round))
    });

    // Nobody can be served without a face, and nobody else would say so.
    let fallen = tokio::select! {
        () = wait(signals) => None,
        ended = &mut face => Some(ended),
    };
    // Receivers live in the tasks; when they are gone there is nobody to tell.
    let _ = stop.send(true);
    if let Some(monitor) = monitor {
        report(monitor.await, "self-monitoring");
    }
    let is_fallen = fallen.is_some();
    match fallen {
        Some(ended) => report(ended, "the HTTP face"),
        None => report(face.await, "the HTTP face"),
    }
    close(storage).await?;
    if is_fallen {
        return Err("the HTTP face ended before it was told to; see the log".to_owned());
    }
    tracing::info!("stopped");
    Ok(())
}

async fn wait(mut signals: watch::Receiver<bool>) {
    // An error says that the sender is gone, which means the same.
    let _ = signals.wait_for(|stop| *stop).await;
}

fn report(ended: Result<(), tokio::task::JoinError>, what: &str) {
    if let Err(failure) = ended {
        tracing::error!(%failure, "{what} ended in a bug");
    }
}

async fn open(app: &App, settings: &Settings) -> Result<Storage, String> {
    let (data, options) = (app.flags.data.clone(), storage_options(&app.flags, settings));
    let (app, clock) = (app.clone(), Arc::clone(&app.clock));
    let progress = move |log: ReplayProgress| {
        app.startup.set(log.first_segment, log.last_segment, log.current_segment);
    };
    let opened = tokio::task::spawn_blocking(move || {
        Storage::open_watched(Arc::new(DiskFs), clock, &data, options, &progress)
    });
    match opened.await {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(failure) => Err(format!("opening the store met a bug of Kymo: {failure}")),
    }
}

async fn close(storage: Storage) -> Result<(), String> {
    match tokio::task::spawn_blocking(move || storage.close()).await {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(failure) => Err(format!("closing the store met a bug of Kymo: {failure}")),
    }
}

fn storage_options(flags: &ServeFlags, settings: &Settings) -> Options {
    Options {
        retention: Some(flags.retention),
        retention_rules: settings.retention_rules.clone(),
        retention_bytes: (flags.storage.retention_size > 0).then_some(flags.storage.retention_size),
        compaction_percent: flags.storage.compaction_percent,
        scrub_bytes_per_second: flags.storage.scrub_rate as u64,
        delete_reclaim_after: flags.storage.delete_reclaim_after,
        free_space_min: flags.storage.free_space_min.map(|bytes| bytes as u64),
        durability: match flags.durability {
            DurabilityFlag::Sync => Durability::Sync,
            DurabilityFlag::Interval(period) => Durability::Interval(period),
            DurabilityFlag::Os => Durability::Os,
        },
        limits: Limits {
            labels_per_series: flags.ingest.ingest_max_labels,
            series: flags.ingest.ingest_max_series,
            ..Limits::default()
        },
        memory_budget: flags.ingest.storage_memory,
        ..Options::default()
    }
}

fn engine_options(flags: &ServeFlags) -> EngineOptions {
    let options = EngineOptions {
        limits: QueryLimits {
            samples: flags.query.query_max_samples,
            points_per_series: flags.query.query_max_points,
            timeout: flags.query.query_timeout,
            // One query alone may not take what all have together.
            bytes: flags.query.query_memory as u64 / 2,
            ..QueryLimits::default()
        },
        lookback: flags.query.query_lookback,
        memory_bytes: flags.query.query_memory as u64,
        ..EngineOptions::default()
    };
    flags.query.query_features.apply(options)
}

fn warn_if_public(flags: &ServeFlags, gatekeeper: &Gatekeeper) {
    let address = flags.listen;
    if address.ip().is_loopback() {
        return;
    }
    if !gatekeeper.is_closed() {
        tracing::warn!(
            %address,
            "listening on an address others can reach, without authentication: everyone who reaches it can read and write; \
             --web-config-file says who may"
        );
    } else if gatekeeper.tls().is_none() {
        tracing::warn!(%address, "passwords and tokens travel in the clear: --web-config-file has no tls_server_config");
    }
}

/// How many connections the descriptors allow, at most `wanted`; raises the soft limit as far as the hard one.
fn connections_allowed(wanted: usize) -> usize {
    let limits = getrlimit(Resource::Nofile);
    let needed = (wanted as u64).saturating_add(FILES_RESERVED);
    let granted = limits.maximum.map_or(needed, |maximum| maximum.min(needed));
    let current = limits.current.unwrap_or(u64::MAX);
    if granted > current
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(granted), ..limits })
    {
        tracing::warn!(%error, "raise the limit of open files");
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let allowed = usize::try_from(current.saturating_sub(FILES_RESERVED))
        .unwrap_or(usize::MAX)
        .clamp(16, wanted.max(16));
    if allowed < wanted {
        tracing::warn!(
            wanted,
            allowed,
            "the limit of open files allows fewer connections than --max-connections"
        );
    }
    allowed
}
