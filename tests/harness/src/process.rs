//! A child process that is always ended, with its output in a file; and what the kernel says about it.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A running program. Dropping it kills it and waits for it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both outputs appended to `log`.
    ///
    /// # Errors
    /// The program cannot be started or the log not be opened.
    pub fn start(name: &str, mut command: Command, log: &Path) -> io::Result<Self> {
        let out = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it at once, as `kill -9` does, and waits for it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits; `None` if it has not ended in `limit` (it is then killed).
    pub fn terminate(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.terminate_watched(limit, |_| {})
    }

    /// As [`Process::terminate`]; `watch` is called with what the kernel counts, every few milliseconds until the end.
    pub fn terminate_watched(&mut self, limit: Duration, mut watch: impl FnMut(Usage)) -> Option<ExitStatus> {
        let id = self.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            let usage = self.usage();
            if let Some(status) = self.ended() {
                return Some(status);
            }
            watch(usage);
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        None
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// Waits until `ready` says so.
    ///
    /// # Panics
    /// The process ended, or `limit` is over; the message holds what it printed.
    pub fn wait_until(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + limit;
        while !ready() {
            let ended = self.ended();
            assert!(ended.is_none(), "{} ended with {ended:?}:\n{}", self.name, self.output());
            assert!(
                Instant::now() < deadline,
                "{} is not ready after {limit:?}:\n{}",
                self.name,
                self.output()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// User and system CPU time so far (with a resolution of 10 ms), resident memory in bytes.
    pub fn usage(&self) -> Usage {
        Usage::of(self.id())
    }
}

impl Usage {
    /// What the kernel counts for process `id`: CPU time with a resolution of 10 ms, resident memory in bytes.
    pub fn of(id: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // After the last ')', which ends the program's name, come the fields from the third on.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let kib = |key: &str| {
            let line = status.lines().find(|l| l.starts_with(key)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
        };
        Self {
            cpu: Duration::from_millis((ticks(11) + ticks(12)) * 10),
            resident_bytes: kib("VmRSS:") * 1024,
            peak_resident_bytes: kib("VmHWM:") * 1024,
            anonymous_bytes: kib("RssAnon:") * 1024,
        }
    }
}

/// Follows the memory of process `id` while `work` goes on: the most that was resident in bytes, and what `work` gave.
///
/// # Panics
/// As `work`.
pub fn most_memory<T>(id: u32, work: impl FnOnce() -> T) -> (u64, T) {
    /// Ends the watch even if the work panics.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(Usage::of(id).resident_bytes);
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        });
        let guard = Done(&done);
        let given = work();
        drop(guard);
        (watch.join().expect("the watch only reads"), given)
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the kernel counts for a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time of all threads.
    pub cpu: Duration,
    /// Resident memory now.
    pub resident_bytes: u64,
    /// The most it ever was.
    pub peak_resident_bytes: u64,
    /// Of what is resident, the part that is no file's.
    pub anonymous_bytes: u64,
}

/// Runs `command` to its end and gives what it wrote to its standard output.
///
/// # Panics
/// It fails or has not ended within `limit` (it is then killed); the message holds what it wrote to its standard error.
pub fn run_to_end(mut command: Command, limit: Duration) -> String {
    let (mut out, mut errors) =
        (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
    command.stdin(Stdio::null());
    command.stdout(out.try_clone().expect("a file")).stderr(errors.try_clone().expect("a file"));
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break Some(status);
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let read = |file: &mut fs::File| {
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut text)).expect("a file can be read");
        String::from_utf8_lossy(&text).into_owned()
    };
    let text = read(&mut out);
    assert!(status.is_some_and(|s| s.success()), "{command:?}: {status:?}\n{text}\n{}", read(&mut errors));
    text
}

/// A loopback address nobody listens on at this moment. Another program may take it before it is used: a caller that
/// starts a server on it tries again with a new one when the server ends at once.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
    listener.local_addr().expect("a bound listener has an address")
}

/// The program `name` in `PATH` or one of the system's directories.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/bin", "/usr/local/bin", "/usr/sbin"])
        .filter(|dir| !dir.is_empty())
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}

/// The bytes of all files below `dir` as `(length, allocated on disk)`.
pub fn directory_bytes(dir: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let (mut length, mut allocated) = (0, 0);
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            } else {
                length += meta.len();
                allocated += meta.blocks() * 512;
            }
        }
    }
    (length, allocated)
}
