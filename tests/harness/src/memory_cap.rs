//! A memory limit that the kernel keeps for a process: a control group of version 1.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const GROUPS: &str = "/sys/fs/cgroup/memory";
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The group; gone when dropped, if no process is left in it.
#[derive(Debug)]
pub struct MemoryCap {
    dir: PathBuf,
}

impl MemoryCap {
    /// A group that may hold `bytes`.
    ///
    /// # Errors
    /// There are no such groups here, or no right to make one.
    pub fn new(bytes: u64) -> io::Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(GROUPS).join(format!("kymo-{}-{number}", std::process::id()));
        fs::create_dir(&dir)?;
        let cap = Self { dir };
        fs::write(cap.dir.join("memory.limit_in_bytes"), bytes.to_string())?;
        Ok(cap)
    }

    /// The command line before that of a program that is to live in it.
    pub fn prefix(&self) -> Vec<String> {
        let script = "echo $$ > \"$0\" && exec \"$@\"";
        let list = self.dir.join("cgroup.procs").display().to_string();
        vec!["sh".to_owned(), "-c".to_owned(), script.to_owned(), list]
    }

    /// How often memory was asked for that there was not, whether room could be made or not.
    pub fn failures(&self) -> u64 {
        let text = fs::read_to_string(self.dir.join("memory.failcnt")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

impl Drop for MemoryCap {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir);
    }
}
