//! The load: every request of every connection, built once so that each subject gets the same bytes.

use kymo_storage::model::is_stale;
use kymo_tests::captures::{Capture, Member};
use kymo_tests::remote_write::Request;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Between two scrapes of an instance.
const INTERVAL_MS: i64 = 15_000;
/// What Prometheus sends at most in one request unless told otherwise.
const SAMPLES_PER_REQUEST: usize = 2000;

/// How large the load is.
pub(crate) struct Shape {
    /// Exporters, half of each kind.
    pub(crate) instances: usize,
    /// Scrapes of each.
    pub(crate) frames: usize,
    /// Connections that send at the same time.
    pub(crate) connections: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { instances: 24, frames: 240, connections: 4 }
    }
}

/// A body and the samples in it.
pub(crate) struct Body {
    /// Snappy.
    pub(crate) bytes: Vec<u8>,
    /// How many samples.
    pub(crate) samples: u64,
}

/// All requests.
pub(crate) struct FleetLoad {
    /// For each connection, in order.
    pub(crate) lanes: Vec<Vec<Body>>,
    /// One more scrape of all instances, for the loss after a kill.
    pub(crate) last: Vec<Body>,
    /// Series alive in that scrape.
    pub(crate) last_alive: u64,
    /// Samples in `lanes`.
    pub(crate) samples: u64,
    /// Series in all.
    pub(crate) series: u64,
    /// The time of the first sample.
    pub(crate) start_ms: i64,
    /// The time after the last sample of `lanes`.
    pub(crate) end_ms: i64,
    /// Whether it is made of captures.
    pub(crate) real: bool,
}

impl FleetLoad {
    /// A line about it.
    pub(crate) fn describe(&self, shape: &Shape) -> String {
        let source = if self.real { "captured scrapes" } else { "synthetic (no captures found)" };
        let bytes: usize = self.lanes.iter().flatten().map(|b| b.bytes.len()).sum();
        format!(
            "load: {source}, {} instances x {} scrapes every {} s, {} series, {:.2} M samples, {:.1} B/sample on the wire, \
             {} connections, {SAMPLES_PER_REQUEST} samples a request",
            shape.instances,
            shape.frames,
            INTERVAL_MS / 1000,
            self.series,
            self.samples as f64 / 1e6,
            bytes as f64 / self.samples as f64,
            shape.connections,
        )
    }
}

fn captures() -> Option<[Capture; 2]> {
    let named = std::env::var_os("KYMO_CAPTURES").map(PathBuf::from);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let dirs = [root.join("../shared/captures"), root.join("../../shared/captures")];
    let dir = named.into_iter().chain(dirs).find(|dir| dir.join("process.bin.zst").is_file())?;
    let read = |name| Capture::read(&dir, name).expect("read a capture");
    Some([read("process"), read("vm")])
}

/// The two exporters a fleet is made of, and whether they are captured.
pub(crate) fn kinds(frames: usize) -> ([Arc<Capture>; 2], bool) {
    let found = captures();
    let real = found.is_some();
    let kinds = found
        .unwrap_or_else(|| [1, 2].map(|seed| Capture::synthetic(&format!("job-{seed}"), seed, 1500, frames)));
    (kinds.map(Arc::new), real)
}

/// Builds the load.
pub(crate) fn build(shape: &Shape) -> FleetLoad {
    let (kinds, real) = kinds(shape.frames + 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis() as i64;
    let length = (shape.frames as i64 + 2) * INTERVAL_MS;
    let start_ms = (now - length) / INTERVAL_MS * INTERVAL_MS;
    let mut members: Vec<Member> =
        (0..shape.instances).map(|i| Member::new(&kinds[i % 2], i, shape.instances, INTERVAL_MS)).collect();
    let mut load = FleetLoad {
        lanes: (0..shape.connections).map(|_| Vec::new()).collect(),
        last: Vec::new(),
        last_alive: 0,
        samples: 0,
        series: 0,
        start_ms,
        end_ms: start_ms + shape.frames as i64 * INTERVAL_MS,
        real,
    };
    let mut seen: Vec<Vec<bool>> = members.iter().map(|m| vec![false; m.labels.len()]).collect();
    for step in 0..=shape.frames {
        for (number, member) in members.iter_mut().enumerate() {
            let (time, samples) = member.scrape(step, INTERVAL_MS);
            let lane = number % shape.connections.max(1);
            for part in samples.chunks(SAMPLES_PER_REQUEST) {
                let mut request = Request::new();
                for (series, value) in part {
                    seen[number][*series as usize] = true;
                    request.push(&member.labels[*series as usize], &[(start_ms + time, *value)]);
                }
                let body = Body { bytes: request.compress(), samples: part.len() as u64 };
                if step < shape.frames {
                    load.samples += body.samples;
                    load.lanes[lane].push(body);
                } else {
                    load.last_alive += part.iter().filter(|s| !is_stale(s.1)).count() as u64;
                    load.last.push(body);
                }
            }
        }
    }
    load.series = seen.iter().flatten().filter(|s| **s).count() as u64;
    load
}
