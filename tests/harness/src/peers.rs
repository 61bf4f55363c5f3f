//! Real programs of other projects that tests and benchmarks talk to, when they are installed.

use crate::http::Client;
use crate::process::{Process, find_program, free_address};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a peer may take to start.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// The program of a peer; `None` (and a line that says so) if it is not installed.
///
/// # Panics
/// It is not installed and `KYMO_REQUIRE_PEERS=1`.
pub fn require(name: &str) -> Option<PathBuf> {
    let program = find_program(name);
    if program.is_none() {
        let required = std::env::var("KYMO_REQUIRE_PEERS").is_ok_and(|v| v == "1");
        assert!(!required, "{name} is not installed and KYMO_REQUIRE_PEERS=1");
        println!("skipped: {name} not installed");
    }
    program
}

/// The Python that has the client libraries of `tests/clients/requirements.txt`: what `KYMO_PYTHON` names, else that of the virtual
/// environment in `target/clients`. `None` (and a line that says so) if it is not there.
///
/// # Panics
/// It is not there and `KYMO_REQUIRE_PEERS=1`.
pub fn python() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients/bin/python");
    let program = std::env::var_os("KYMO_PYTHON").map_or(own, PathBuf::from);
    if program.is_file() {
        return Some(program);
    }
    let required = std::env::var("KYMO_REQUIRE_PEERS").is_ok_and(|v| v == "1");
    let program = program.display();
    assert!(!required, "{program} is not there and KYMO_REQUIRE_PEERS=1");
    println!("skipped: {program} is not there (.ci/run makes it)");
    None
}

/// A script of `tests/clients`, to be run by `python`.
pub fn script(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients").join(name);
    // Isolated: what the environment says about Python, and modules beside the script, do not matter.
    command.arg("-I").arg(path).env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    command
}

/// A running peer.
#[derive(Debug)]
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    /// The process, ended on drop.
    pub process: Process,
}

impl Peer {
    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// A program that answers `health` with 200 as soon as it is ready; `command` is how to start it on an address. What it prints is
    /// in `NAME.log` below `dir`.
    ///
    /// # Panics
    /// It does not become ready.
    pub fn start(name: &str, dir: &Path, health: &str, command: impl Fn(SocketAddr) -> Command) -> Self {
        let address = free_address();
        let log = dir.join(format!("{name}.log"));
        let mut process = Process::start(name, command(address), &log).expect("start a peer");
        let mut client = Client::new(address).with_timeout(Duration::from_secs(5));
        process.wait_until(READY_LIMIT, || client.get(health).is_ok_and(|r| r.status == 200));
        Self { address, process }
    }

    /// Kymo itself, to be measured like the others, with its data below `dir`.
    ///
    /// # Panics
    /// It does not become ready.
    pub fn kymo(program: &Path, dir: &Path, arguments: &[&str]) -> Self {
        Self::start("kymo", dir, "/-/ready", |address| {
            let mut command = Command::new(program);
            command.arg("serve").arg(format!("--listen={address}")).arg("--self-monitor=false");
            command.arg(format!("--data={}", dir.join("kymo").display())).args(arguments);
            command
        })
    }

    /// Prometheus with a configuration text and its data below `dir`.
    ///
    /// # Panics
    /// It does not become ready.
    pub fn prometheus(program: &Path, dir: &Path, configuration: &str, arguments: &[&str]) -> Self {
        let file = dir.join("prometheus.yml");
        fs::write(&file, configuration).expect("write prometheus.yml");
        Self::start("prometheus", dir, "/-/ready", |address| {
            let mut command = Command::new(program);
            command
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
                .arg(format!("--web.listen-address={address}"))
                .args(arguments);
            command
        })
    }

    /// The node exporter. Only collectors that read `/proc` are on, so that it works in any container.
    ///
    /// # Panics
    /// It does not become ready.
    pub fn node_exporter(program: &Path, dir: &Path) -> Self {
        Self::start("prometheus-node-exporter", dir, "/metrics", |address| {
            let mut command = Command::new(program);
            command.arg(format!("--web.listen-address={address}")).arg("--collector.disable-defaults");
            for collector in
                ["cpu", "loadavg", "meminfo", "netdev", "stat", "vmstat", "filefd", "time", "uname"]
            {
                command.arg(format!("--collector.{collector}"));
            }
            command
        })
    }

    /// VictoriaMetrics with its data below `dir`.
    ///
    /// # Panics
    /// It does not become ready.
    pub fn victoria_metrics(program: &Path, dir: &Path, arguments: &[&str]) -> Self {
        Self::start("victoria-metrics", dir, "/health", |address| {
            let mut command = Command::new(program);
            command
                .arg(format!("-httpListenAddr={address}"))
                .arg(format!("-storageDataPath={}", dir.join("victoria-metrics").display()))
                .args(arguments);
            command
        })
    }
}
