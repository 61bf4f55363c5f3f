//! Starts and kills a Kymo server, or a peer under the same test, on a free loopback port and a directory of its own.

use crate::http::Client;
use crate::process::{Process, Usage, find_program, free_address};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// How long a start may take before the test gives up; a debug build on a busy machine needs some.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How often a port that another program took meanwhile is exchanged for a new one.
const PORTS_TRIED: usize = 5;

/// What is under test: Kymo, or one of those beside which it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// Ours.
    Kymo,
    /// Prometheus as a receiver of remote write.
    Prometheus,
    /// VictoriaMetrics, single node.
    VictoriaMetrics,
}

impl Product {
    /// Those that are not ours.
    pub const PEERS: [Self; 2] = [Self::Prometheus, Self::VictoriaMetrics];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kymo => "Kymo",
            Self::Prometheus => "Prometheus",
            Self::VictoriaMetrics => "VictoriaMetrics",
        }
    }

    /// The program of a peer, if it is installed; ours is not looked for.
    pub fn installed(self) -> Option<PathBuf> {
        match self {
            Self::Kymo => None,
            Self::Prometheus => find_program("prometheus"),
            Self::VictoriaMetrics => find_program("victoria-metrics"),
        }
    }

    fn ready_page(self) -> &'static str {
        if self == Self::VictoriaMetrics { "/health" } else { "/-/ready" }
    }

    /// The arguments that say where to listen and where the data is.
    fn places(self, address: SocketAddr, data: &Path) -> Vec<String> {
        let data = data.display();
        match self {
            Self::Kymo => {
                vec!["serve".to_owned(), format!("--listen={address}"), format!("--data={data}")]
            }
            Self::Prometheus => vec![
                // An empty configuration scrapes nothing.
                "--config.file=/dev/null".to_owned(),
                format!("--storage.tsdb.path={data}"),
                format!("--web.listen-address={address}"),
                "--web.enable-remote-write-receiver".to_owned(),
            ],
            Self::VictoriaMetrics => {
                vec![format!("-httpListenAddr={address}"), format!("-storageDataPath={data}")]
            }
        }
    }
}

/// How a server is started, as often as need be.
#[derive(Debug, Clone)]
pub struct Launch {
    product: Product,
    program: PathBuf,
    data: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
    prefix: Vec<OsString>,
    variables: Vec<(String, OsString)>,
    limit: Duration,
}

impl Launch {
    /// `program`, which is that of `product`, on the data directory `data`; what it prints goes into `log`.
    pub fn new(product: Product, program: &Path, data: &Path, log: &Path) -> Self {
        Self {
            product,
            program: program.to_owned(),
            data: data.to_owned(),
            log: log.to_owned(),
            arguments: Vec::new(),
            prefix: Vec::new(),
            variables: Vec::new(),
            limit: READY_LIMIT,
        }
    }

    /// With these arguments, too.
    #[must_use]
    pub fn arguments(mut self, more: &[&str]) -> Self {
        self.arguments.extend(more.iter().map(|a| (*a).to_owned()));
        self
    }

    /// By another program, which is given the command line to carry out.
    #[must_use]
    pub fn by<S: Into<OsString>>(mut self, prefix: impl IntoIterator<Item = S>) -> Self {
        self.prefix = prefix.into_iter().map(Into::into).collect();
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// It may take so long until it is ready.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It ends, or does not become ready in time: how, and what it printed.
    pub fn try_start(&self) -> Result<Server, String> {
        let mut why = String::new();
        for _ in 0..PORTS_TRIED {
            let (process, address) = self.spawn()?;
            match self.wait(process, address) {
                Ok(process) => return Ok(Server { launch: self.clone(), address, process }),
                Err(text) => why = text,
            }
            if !why.to_ascii_lowercase().contains("address already in use") {
                break;
            }
        }
        Err(why)
    }

    /// As [`Launch::try_start`].
    ///
    /// # Panics
    /// Where that answers an error.
    pub fn start(&self) -> Server {
        self.try_start().unwrap_or_else(|why| panic!("{why}"))
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(&self) -> Result<(Process, SocketAddr), String> {
        let address = free_address();
        let mut line = self.prefix.clone();
        line.push(self.program.clone().into());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).args(self.product.places(address, &self.data));
        let monitors = |a: &String| a.starts_with("--self-monitor");
        if self.product == Product::Kymo && !self.arguments.iter().any(monitors) {
            command.arg("--self-monitor=false");
        }
        command.args(&self.arguments).envs(self.variables.iter().map(|(n, v)| (n, v)));
        let process = Process::start(self.product.name(), command, &self.log);
        process.map(|p| (p, address)).map_err(|e| format!("{}: {e}", self.program.display()))
    }

    fn wait(&self, mut process: Process, address: SocketAddr) -> Result<Process, String> {
        let mut client = Client::new(address).with_timeout(Duration::from_secs(5));
        let deadline = Instant::now() + self.limit;
        while process.ended().is_none() && Instant::now() < deadline {
            // A server that asks who we are, speaks TLS or has heard enough does not tell whether it is ready; its log does.
            let answer = client.get(self.product.ready_page()).map(|r| r.status).unwrap_or_default();
            if answer == 200 || ([400, 401, 429].contains(&answer) && process.output().contains("ready: ")) {
                return Ok(process);
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        let (name, ended) = (self.product.name(), process.ended());
        Err(format!("{name} is not ready ({ended:?}):\n{}", process.output()))
    }
}

/// A server under test. Dropping it ends it; the data directory lives as long as its owner keeps it.
#[derive(Debug)]
pub struct Server {
    launch: Launch,
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

    /// As [`Server::start_this`], with the log in a file of its own. It takes writes on a nearly full disk too: a test is not
    /// to fail because of the machine.
    ///
    /// # Panics
    /// The server does not become ready.
    pub fn start_with_log(program: &Path, data: &Path, log: &Path, arguments: &[&str]) -> Self {
        Launch::new(Product::Kymo, program, data, log)
            .arguments(arguments)
            .variable("KYMO_FREE_SPACE_MIN", "0")
            .start()
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
        &self.launch.data
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

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
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
        *self = self.launch.start();
    }
}
