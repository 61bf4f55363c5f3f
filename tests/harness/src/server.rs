//! Starts and kills a Kymo server on a free loopback port and a directory of its own.

use crate::http::Client;
use crate::process::{Process, Usage, free_address};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// How long a start may take before the test gives up; a debug build on a busy machine needs some.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// A Kymo server under test. Dropping it ends it; the data directory lives as long as its owner keeps it.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    data: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
    address: SocketAddr,
    process: Process,
}

impl Server {
    /// Starts `program` (usually `env!("CARGO_BIN_EXE_kymo")`) on the data directory `data`, without self-monitoring
    /// unless `arguments` turn it on again, and waits until it is ready. The log is written beside the directory.
    /// If `KYMO_PROGRAM` is set, that program is started instead: so the tests can be run against another build.
    ///
    /// # Panics
    /// The server does not become ready.
    pub fn start(program: impl AsRef<Path>, data: &Path, arguments: &[&str]) -> Self {
        let other = std::env::var_os("KYMO_PROGRAM").map(PathBuf::from);
        Self::start_this(other.as_deref().unwrap_or(program.as_ref()), data, arguments)
    }

    /// As [`Server::start`], whatever `KYMO_PROGRAM` says: for a program that starts the server in its own way.
    ///
    /// # Panics
    /// The server does not become ready.
    pub fn start_this(program: &Path, data: &Path, arguments: &[&str]) -> Self {
        Self::start_with_log(program, data, &data.with_extension("log"), arguments)
    }

    /// As [`Server::start_this`], with the log in a file of its own.
    ///
    /// # Panics
    /// The server does not become ready.
    pub fn start_with_log(program: &Path, data: &Path, log: &Path, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let (process, address) = launch(program, data, log, &arguments);
        let (program, data, log) = (program.to_owned(), data.to_owned(), log.to_owned());
        Self { program, data, log, arguments, address, process }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS` followed by `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// CPU time and memory.
    pub fn usage(&self) -> Usage {
        self.process.usage()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to end; `None` if it does not within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.process.terminate(limit)
    }

    /// Starts it again on the same directory (and another port) after it has ended.
    ///
    /// # Panics
    /// The server does not become ready.
    pub fn restart(&mut self) {
        self.process.kill();
        let (process, address) = launch(&self.program, &self.data, &self.log, &self.arguments);
        self.process = process;
        self.address = address;
    }
}

fn launch(program: &Path, data: &Path, log: &Path, arguments: &[String]) -> (Process, SocketAddr) {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let address = free_address();
        let mut command = Command::new(program);
        command.arg("serve").arg(format!("--listen={address}")).arg(format!("--data={}", data.display()));
        if !arguments.iter().any(|a| a.starts_with("--self-monitor")) {
            command.arg("--self-monitor=false");
        }
        command.args(arguments);
        let mut process = Process::start("kymo", command, log).expect("start the server");
        let taken = |output: String| output.to_ascii_lowercase().contains("address already in use");
        let mut client = Client::new(address).with_timeout(Duration::from_secs(5));
        let mut again = false;
        let deadline = std::time::Instant::now() + READY_LIMIT;
        loop {
            // A server that asks who we are, or speaks TLS, does not tell whether it is ready; its log does.
            let answer = client.get("/-/ready").map(|r| r.status).unwrap_or_default();
            if answer == 200 || ([400, 401].contains(&answer) && process.output().contains("ready: ")) {
                return (process, address);
            }
            if process.ended().is_some() && attempts < 5 && taken(process.output()) {
                again = true;
                break;
            }
            if process.ended().is_some() || std::time::Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        assert!(again, "the server is not ready ({:?}):\n{}", process.ended(), process.output());
    }
}
