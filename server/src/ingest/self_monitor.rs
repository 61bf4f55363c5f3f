//! Kymo watches itself: its own metrics, stored every 15 s through the same door as everybody's.

use crate::telemetry::Metrics;
use crate::telemetry::registry::{Kind, Visitor};
use kymo_storage::db::{Storage, WriteBatch};
use kymo_storage::env::Clock;
use kymo_storage::model::{LabelsBuilder, METRIC_NAME, Metadata, MetricType};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often.
const INTERVAL: Duration = Duration::from_secs(15);

/// Everything there is to say about this server, in one order.
pub fn visit_all(metrics: &Metrics, storage: Option<&Storage>, visitor: &mut dyn Visitor) {
    metrics.visit(visitor);
    if let Some(storage) = storage {
        visit_storage(storage, visitor);
    }
    crate::telemetry::process::visit(visitor);
}

fn visit_storage(storage: &Storage, visitor: &mut dyn Visitor) {
    let stats = storage.stats();
    let counters = [
        ("kymo_storage_samples_accepted_total", "Samples stored.", stats.samples_accepted),
        (
            "kymo_storage_samples_late_total",
            "Samples older than the newest of their series.",
            stats.samples_late,
        ),
        ("kymo_storage_samples_refused_total", "Samples refused.", stats.samples_refused),
        ("kymo_storage_batches_total", "Batches committed.", stats.batches),
        ("kymo_storage_commit_groups_total", "Groups of batches that shared a sync.", stats.commit_groups),
        ("kymo_storage_wal_failures_total", "Writes and syncs of the WAL that failed.", stats.wal_failures),
        ("kymo_storage_wal_syncs_total", "Syncs of the WAL.", stats.wal_syncs),
        ("kymo_storage_exemplars_accepted_total", "Exemplars stored.", stats.exemplars_accepted),
        ("kymo_storage_exemplars_refused_total", "Exemplars refused.", stats.exemplars_refused),
        ("kymo_storage_flushes_total", "Flushes of the head into blocks.", stats.flushes),
        ("kymo_storage_flush_failures_total", "Flushes that failed.", stats.flush_failures),
        ("kymo_storage_blocks_dropped_total", "Blocks dropped by retention.", stats.blocks_dropped),
        ("kymo_storage_compactions_total", "Merges of blocks.", stats.compactions),
        ("kymo_storage_compaction_failures_total", "Merges that failed.", stats.compaction_failures),
        ("kymo_storage_compaction_read_bytes_total", "Bytes of merged blocks.", stats.compaction_bytes_read),
        (
            "kymo_storage_compaction_written_bytes_total",
            "Bytes that merges wrote.",
            stats.compaction_bytes_written,
        ),
        ("kymo_storage_scrub_bytes_total", "Bytes read again in search of rot.", stats.scrub_bytes),
        ("kymo_storage_scrub_rounds_total", "Times all blocks were read again.", stats.scrub_rounds),
    ];
    for (name, help, value) in counters {
        visitor.counter(name, help, value as f64);
    }
    let dropped = "Series that stopped and left memory; their samples are in blocks.";
    visitor.counter("kymo_storage_series_dropped_total", dropped, stats.series_dropped as f64);
    let sync_s = stats.wal_sync_micros as f64 / 1e6;
    visitor.counter("kymo_storage_wal_sync_seconds_total", "How long the syncs of the WAL took.", sync_s);
    let gauges = [
        ("kymo_storage_head_exemplars", "Exemplars in the head.", stats.head_exemplars),
        ("kymo_storage_series", "Series in memory.", stats.series),
        ("kymo_storage_symbols", "Distinct label names and values.", stats.symbols),
        ("kymo_storage_samples_queued", "Samples waiting to be committed.", stats.samples_queued),
        ("kymo_storage_wal_bytes", "Bytes of the WAL that a start would read.", stats.wal_bytes),
        ("kymo_storage_head_samples", "Samples in the head.", stats.head_samples),
        ("kymo_storage_head_bytes", "Memory of the head's samples.", stats.head_bytes),
        ("kymo_storage_registry_bytes", "Memory of labels and their index.", stats.registry_bytes),
        ("kymo_storage_blocks", "Blocks in use.", stats.blocks),
        ("kymo_storage_block_bytes", "Bytes of the blocks in use.", stats.block_bytes),
        ("kymo_storage_block_samples", "Samples in the blocks in use.", stats.block_samples),
        ("kymo_storage_blocks_damaged", "Blocks in which rot was found.", stats.blocks_damaged),
        ("kymo_storage_tombstones", "Deletes that wait for their blocks to be rewritten.", stats.tombstones),
        ("kymo_storage_blocks_quarantined", "Blocks put aside as damaged.", stats.blocks_quarantined),
        (
            "kymo_storage_wal_lost_frames",
            "WAL frames lost to damage at the last start.",
            stats.wal_lost_frames,
        ),
        ("kymo_storage_replayed_samples", "Samples replayed at the last start.", stats.replayed_samples),
    ];
    for (name, help, value) in gauges {
        visitor.gauge(name, help, value as f64);
    }
    let compaction_s = stats.compaction_millis as f64 / 1000.0;
    visitor.counter("kymo_storage_compaction_seconds_total", "Time merges took.", compaction_s);
    let open_s = stats.open_millis as f64 / 1000.0;
    visitor.gauge("kymo_storage_open_seconds", "How long the last start took.", open_s);
    let writable = storage.health() == kymo_storage::db::Health::Ok;
    visitor.gauge("kymo_storage_writable", "Whether writes are taken.", f64::from(u8::from(writable)));
}

/// Puts what it is told into a batch.
struct IntoBatch<'a> {
    batch: WriteBatch,
    instance: &'a str,
    timestamp: i64,
    family: &'static str,
    refused: Option<String>,
}

impl Visitor for IntoBatch<'_> {
    fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        self.family = name;
        let metric_type = match kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        self.batch.metadata(name, Metadata { metric_type, unit: String::new(), help: help.to_owned() });
    }

    fn sample(&mut self, suffix: &'static str, labels: &[(&str, &str)], value: f64) {
        let mut builder = LabelsBuilder::new();
        builder.set(METRIC_NAME, &format!("{}{suffix}", self.family));
        builder.set("job", "kymo").set("instance", self.instance);
        for (name, label_value) in labels {
            builder.set(name, label_value);
        }
        match self.batch.series_labels(&builder.build()) {
            Ok(series) => self.batch.sample(series, self.timestamp, value),
            Err(refusal) => self.refused = Some(refusal.reason),
        }
    }
}

/// Stores one round now, the next ones every 15 s, until `shutdown`.
pub async fn run(
    storage: Storage,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    instance: String,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = round(&storage, &metrics, clock.now_ms(), &instance).await {
            tracing::warn!(error, "store the server's own metrics");
        }
    }
}

async fn round(storage: &Storage, metrics: &Metrics, timestamp: i64, instance: &str) -> Result<(), String> {
    let mut visitor = IntoBatch { batch: storage.batch(), instance, timestamp, family: "up", refused: None };
    visitor.family("up", Kind::Gauge, "Always 1: the server is there.");
    visitor.sample("", &[], 1.0);
    visit_all(metrics, Some(storage), &mut visitor);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let done = Box::new(move |result| {
        // The receiver waits below.
        let _ = sender.send(result);
    });
    storage.submit(visitor.batch, done);
    match receiver.await {
        Ok(Ok(_)) => visitor.refused.map_or(Ok(()), Err),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the store is closed".to_owned()),
    }
}
