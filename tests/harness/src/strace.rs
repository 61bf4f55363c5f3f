//! Faults at system calls, by `strace`: attached to a server that runs, or the program that starts it.

use crate::process::{Process, find_program};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long attaching may take.
const ATTACH_LIMIT: Duration = Duration::from_secs(20);
/// How long letting go may take.
const DETACH_LIMIT: Duration = Duration::from_secs(5);

/// The program.
///
/// # Errors
/// It is not installed.
pub fn program() -> Result<PathBuf, String> {
    find_program("strace").ok_or_else(|| "strace is not installed".to_owned())
}

/// A running `strace`; lets go when dropped.
#[derive(Debug)]
pub struct Strace {
    process: Process,
}

impl Strace {
    /// Lets `fault` (as in `error=EIO`) befall each of the `calls` (as in `fsync,fdatasync`) of process `id` from now on. What it
    /// prints goes into `log`.
    ///
    /// # Errors
    /// It is not installed, or may not attach.
    pub fn attach(id: u32, calls: &str, fault: &str, log: &Path) -> Result<Self, String> {
        Self::hold(&["-f"], id, calls, fault, log)
    }

    /// The same for the thread of this name alone: the others go on at full speed, which they do not when each of their calls is
    /// looked at.
    ///
    /// # Errors
    /// As [`Strace::attach`], or there is no such thread.
    pub fn attach_thread(id: u32, name: &str, calls: &str, fault: &str, log: &Path) -> Result<Self, String> {
        let tasks = fs::read_dir(format!("/proc/{id}/task")).map_err(|e| e.to_string())?;
        let is_it = |task: &Path| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
        let thread = tasks.flatten().map(|task| task.path()).find(|task| is_it(task));
        let number = thread.and_then(|task| task.file_name()?.to_str()?.parse().ok());
        Self::hold(&[], number.ok_or_else(|| format!("no thread {name}"))?, calls, fault, log)
    }

    fn hold(how: &[&str], id: u32, calls: &str, fault: &str, log: &Path) -> Result<Self, String> {
        let mut command = Command::new(program()?);
        command.args(how).args(["-o", "/dev/null", "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:{fault}"), "-p", &id.to_string()]);
        let mut process = Process::start("strace", command, log).map_err(|e| format!("strace: {e}"))?;
        let deadline = Instant::now() + ATTACH_LIMIT;
        while !process.output().contains("attached") {
            if process.ended().is_some() || Instant::now() > deadline {
                return Err(format!("strace cannot attach: {}", process.output()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { process })
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.process.terminate(DETACH_LIMIT);
    }
}

/// The command line before that of a program whose threads' `calls` are to be written into `log`, a line a call, with the paths of
/// files.
///
/// # Errors
/// It is not installed.
pub fn list_calls(calls: &str, log: &Path) -> Result<Vec<OsString>, String> {
    let mut line: Vec<OsString> = vec![program()?.into()];
    let trace = format!("trace={calls}");
    line.extend(["-f", "-qq", "-y", "-s", "0", "-e", "signal=none", "-e", &trace, "-o"].map(Into::into));
    line.push(log.into());
    Ok(line)
}
