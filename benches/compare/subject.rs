//! What is measured: how each is started, told to write everything down, and asked for its version.

use kymo_tests::http::Client;
use kymo_tests::peers::Peer;
use kymo_tests::process::{directory_bytes, find_program};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A program under measurement.
pub(crate) struct Subject {
    /// The name in the table.
    pub(crate) name: &'static str,
    /// The file.
    pub(crate) program: PathBuf,
    /// The first line it says about itself.
    pub(crate) version: String,
    /// Where remote write goes.
    pub(crate) write_path: &'static str,
    /// Added to every query, so that nobody answers from a cache of answers.
    pub(crate) no_cache: &'static str,
}

/// Kymo and the peers on this machine.
pub(crate) fn installed(kymo: &str) -> Vec<Subject> {
    let mut subjects = vec![subject("kymo", kymo.into(), "")];
    for (name, no_cache) in [("prometheus", ""), ("victoria-metrics", "&nocache=1")] {
        match find_program(name) {
            Some(program) => subjects.push(subject(name, program, no_cache)),
            None => println!("skipped: {name} not installed"),
        }
    }
    subjects
}

fn subject(name: &'static str, program: PathBuf, no_cache: &'static str) -> Subject {
    let said = |command: &mut Command| {
        let output = command.output().map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
        String::from_utf8_lossy(&output).trim().to_owned()
    };
    // Debian's victoria-metrics does not know its own version.
    let said = match name {
        "victoria-metrics" => said(Command::new("dpkg-query").args(["-W", "-f=${Version}", name])),
        _ => said(Command::new(&program).arg("--version")),
    };
    let version = said.lines().find(|l| !l.trim().is_empty()).unwrap_or("version unknown");
    let version = version.split(" (").next().unwrap_or(version).trim().to_owned();
    Subject { name, program, version, write_path: "/api/v1/write", no_cache }
}

impl Subject {
    /// Starts it on `dir` and waits until it is ready.
    pub(crate) fn start(&self, dir: &Path) -> Peer {
        match self.name {
            "kymo" => Peer::kymo(&self.program, dir, &[]),
            "prometheus" => Peer::prometheus(
                &self.program,
                dir,
                "global: {scrape_interval: 15s}\n",
                &["--web.enable-remote-write-receiver", "--web.enable-admin-api"],
            ),
            _ => Peer::victoria_metrics(
                &self.program,
                dir,
                &[
                    "-retentionPeriod=100y",
                    "-search.maxUniqueTimeseries=10000000",
                    "-search.maxSeries=1000000",
                    "-search.maxQueryDuration=2m",
                ],
            ),
        }
    }

    /// Makes all samples visible and merged where that takes a request.
    pub(crate) fn flush(&self, peer: &Peer) {
        if self.name == "victoria-metrics" {
            let mut client = peer.client().with_timeout(Duration::from_secs(300));
            for path in ["/internal/force_flush", "/internal/force_merge"] {
                client.get(path).expect("an answer");
            }
            wait_for_merges(&mut client);
        }
    }

    /// Has everything written into its final form and says how many bytes that is, and all of its directory. Kymo flushes
    /// by size and age and when it is stopped in order, so it is stopped and started again.
    pub(crate) fn written_bytes(&self, peer: &mut Peer, dir: &Path) -> Written {
        let data = dir.join(self.name);
        let before = peer.process.usage().cpu;
        let mut stop_cpu = None;
        let final_bytes = match self.name {
            "kymo" => {
                let mut last = before;
                peer.process.terminate_watched(Duration::from_secs(120), |usage| last = last.max(usage.cpu));
                stop_cpu = Some(last.saturating_sub(before));
                let blocks = directory_bytes(&data.join("blocks")).0;
                *peer = self.start(dir);
                blocks
            }
            "prometheus" => {
                let answer = peer.client().request("POST", "/api/v1/admin/tsdb/snapshot", &[], &[]);
                assert_eq!(answer.expect("a snapshot").status, 200);
                let bytes = directory_bytes(&data.join("snapshots")).0;
                let _ = std::fs::remove_dir_all(data.join("snapshots"));
                bytes
            }
            _ => {
                self.flush(peer);
                directory_bytes(&data).0
            }
        };
        let cpu = stop_cpu.unwrap_or_else(|| peer.process.usage().cpu.saturating_sub(before));
        Written { cpu, final_bytes, directory_bytes: directory_bytes(&data).0 }
    }
}

/// Bytes on disk, and what it took to get there.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    /// CPU of the server.
    pub(crate) cpu: Duration,
    /// In the form that stays: blocks, parts.
    pub(crate) final_bytes: u64,
    /// The whole directory, logs included.
    pub(crate) directory_bytes: u64,
}

/// VictoriaMetrics merges in the background; its own metrics say when it is done.
fn wait_for_merges(client: &mut Client) {
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut quiet = 0;
    while quiet < 5 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
        let text = client.get("/metrics").map(|r| r.text()).unwrap_or_default();
        let busy = text
            .lines()
            .filter(|l| l.starts_with("vm_active_merges") || l.starts_with("vm_active_force_merges"))
            .any(|l| !l.ends_with(" 0"));
        quiet = if busy { 0 } else { quiet + 1 };
    }
}
