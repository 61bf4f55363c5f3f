//! The calls by which a program changes the files of a directory: listed thread by thread, and killed at.
//!
//! A small library stands before the C library: it counts the calls of each thread by the thread's name, writes them down, and can
//! end the process just before a given one is made. `strace` alone cannot: it counts for each thread by its number, which is another
//! one in each run, and ends the first thread that gets there. What a program does past the C library would not be seen, so
//! [`ChangeCalls::seen_by_strace`] counts the same calls in another way.

use crate::preload::compile;
use crate::server::Launch;
use crate::strace;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>
struct count { char thread[17], call[17]; long n; };
static struct count counts[256];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *data;
static int list = -1;
static struct count target;
__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("KYMO_TEST_CALLS_LIST"), *kill_at = getenv("KYMO_TEST_CALLS_KILL");
  if (kill_at) sscanf(kill_at, "%16s %16s %ld", target.thread, target.call, &target.n);
  if (path) list = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  data = getenv("KYMO_TEST_CALLS_DATA");
}
static void here(const char *call, const char *path) {
  size_t length = data ? strlen(data) : 0;
  if (list < 0 || !length || strncmp(path, data, length) || (path[length] && path[length] != '/')) return;
  char thread[17] = "", line[PATH_MAX + 64];
  prctl(PR_GET_NAME, thread);
  pthread_mutex_lock(&lock);
  struct count *at = counts;
  while (at < counts + 255 && at->n && (strcmp(at->thread, thread) || strcmp(at->call, call))) at++;
  strcpy(at->thread, thread);
  strncpy(at->call, call, 16);
  at->n++;
  int size = snprintf(line, sizeof line, "%s %s %ld %s\n", thread, call, at->n, path + length);
  syscall(SYS_write, list, line, size);
  if (target.n == at->n && !strcmp(target.thread, thread) && !strcmp(target.call, call)) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
  }
  pthread_mutex_unlock(&lock);
}
static void here_file(const char *call, int file) {
  char link[40], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
  if (size <= 0) return;
  path[size] = 0;
  here(call, path);
}
#define NEXT(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))
ssize_t write(int f, const void *b, size_t n) {
  here_file("write", f);
  return NEXT(ssize_t, write, int, const void *, size_t)(f, b, n);
}
ssize_t writev(int f, const struct iovec *v, int n) {
  here_file("writev", f);
  return NEXT(ssize_t, writev, int, const struct iovec *, int)(f, v, n);
}
ssize_t pwrite64(int f, const void *b, size_t n, off64_t at) {
  here_file("pwrite64", f);
  return NEXT(ssize_t, pwrite64, int, const void *, size_t, off64_t)(f, b, n, at);
}
int fsync(int f) { here_file("fsync", f); return NEXT(int, fsync, int)(f); }
int fdatasync(int f) { here_file("fdatasync", f); return NEXT(int, fdatasync, int)(f); }
int ftruncate64(int f, off64_t n) { here_file("ftruncate", f); return NEXT(int, ftruncate64, int, off64_t)(f, n); }
int rename(const char *a, const char *b) {
  here("rename", b);
  return NEXT(int, rename, const char *, const char *)(a, b);
}
int unlink(const char *p) { here("unlink", p); return NEXT(int, unlink, const char *)(p); }
int rmdir(const char *p) { here("rmdir", p); return NEXT(int, rmdir, const char *)(p); }
int mkdir(const char *p, mode_t m) { here("mkdir", p); return NEXT(int, mkdir, const char *, mode_t)(p, m); }
int linkat(int d, const char *a, int e, const char *b, int g) {
  here("linkat", b);
  return NEXT(int, linkat, int, const char *, int, const char *, int)(d, a, e, b, g);
}
int open64(const char *p, int how, ...) {
  va_list more;
  va_start(more, how);
  mode_t mode = how & O_CREAT ? va_arg(more, mode_t) : 0;
  va_end(more);
  if (how & (O_CREAT | O_TRUNC)) here("openat", p);
  return NEXT(int, open64, const char *, int, mode_t)(p, how, mode);
}
int open(const char *p, int how, ...) {
  va_list more;
  va_start(more, how);
  mode_t mode = how & O_CREAT ? va_arg(more, mode_t) : 0;
  va_end(more);
  if (how & (O_CREAT | O_TRUNC)) here("openat", p);
  return NEXT(int, open, const char *, int, mode_t)(p, how, mode);
}
"#;

/// All calls by which Linux lets a file or a directory be changed. The program need not know them all: those that the library does
/// not, `strace` must not see.
const CHANGING: &str = "write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,ftruncate,truncate,fallocate,rename,\
     renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,open,openat,openat2,creat,copy_file_range,\
     sendfile,splice";

/// A place to kill at: the `n`-th call (from 1) of this name by threads of this name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The name of the thread.
    pub thread: String,
    /// The name of the call.
    pub call: String,
    /// Which of them.
    pub n: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.thread, self.call, self.n)
    }
}

/// The library, ready to be put before others.
#[derive(Debug, Clone)]
pub struct ChangeCalls {
    library: PathBuf,
}

impl ChangeCalls {
    /// Compiles it in `dir`.
    ///
    /// # Errors
    /// There is no C compiler.
    pub fn make(dir: &Path) -> Result<Self, String> {
        compile(dir, "change_calls", SOURCE).map(|library| Self { library })
    }

    /// The same launch on the directory `data`, its calls written into `list`, killed just before `place` if there is one.
    #[must_use]
    pub fn preload(&self, launch: Launch, data: &Path, list: &Path, place: Option<&Place>) -> Launch {
        let launch = launch.variable("LD_PRELOAD", &self.library);
        let launch = launch.variable("KYMO_TEST_CALLS_DATA", data).variable("KYMO_TEST_CALLS_LIST", list);
        place.into_iter().fold(launch, |launch, at| launch.variable("KYMO_TEST_CALLS_KILL", at.to_string()))
    }

    /// The places of a list, in the order in which they were reached.
    pub fn places(list: &Path) -> Vec<Place> {
        let text = fs::read_to_string(list).unwrap_or_default();
        let place = |line: &str| {
            let mut words = line.split(' ');
            let (thread, call) = (words.next()?.to_owned(), words.next()?.to_owned());
            Some(Place { thread, call, n: words.next()?.parse().ok()? })
        };
        text.lines().filter_map(place).collect()
    }

    /// The command line before that of a program whose calls are to be counted by `strace`, too, which writes into `log`.
    ///
    /// # Errors
    /// It is not installed.
    pub fn under_strace(log: &Path) -> Result<Vec<OsString>, String> {
        strace::list_calls(CHANGING, log)
    }

    /// How often each call changed something in `data`, by what `strace` wrote into `log`.
    pub fn seen_by_strace(log: &Path, data: &Path) -> BTreeMap<String, u64> {
        let text = fs::read_to_string(log).unwrap_or_default();
        let mut seen = BTreeMap::new();
        for line in text.lines() {
            // A number, a call and its arguments; what is resumed was counted when it began.
            let Some((name, rest)) =
                line.split_once(' ').and_then(|(_, call)| call.trim_start().split_once('('))
            else {
                continue;
            };
            let creates = rest.contains("O_CREAT") || rest.contains("O_TRUNC");
            let is_change = (!name.starts_with("open") || creates) && !name.starts_with('<');
            if is_change && is_below(rest, data) {
                *seen.entry(name.to_owned()).or_default() += 1;
            }
        }
        seen
    }
}

/// Whether arguments name the directory or something below it.
fn is_below(arguments: &str, data: &Path) -> bool {
    let data = data.display().to_string();
    // Paths are in quotes or, where they say what a descriptor is, in angle brackets.
    arguments.match_indices(&data).any(|(at, _)| {
        let before = arguments[..at].chars().next_back();
        let after = arguments[at + data.len()..].chars().next();
        matches!(before, Some('"' | '<')) && matches!(after, Some('/' | '"' | '>'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strace_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let text = "7 openat(AT_FDCWD</x>, \"/d/a\", O_RDWR|O_CREAT, 0666) = 3</d/a>\n\
                    8 openat(AT_FDCWD</d>, \"/d/a\", O_RDONLY) = 4</d/a>\n\
                    9 write(3</d/a>, \"\"..., 2 <unfinished ...>\n\
                    9 <... write resumed>)  = 2\n\
                    7 write(5</da/a>, \"\"..., 2) = 2\n\
                    7 rename(\"/d/a\", \"/d/b\") = 0\n";
        fs::write(&log, text).unwrap();
        let seen = ChangeCalls::seen_by_strace(&log, Path::new("/d"));
        let seen: Vec<_> = seen.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(seen, [("openat", 1), ("rename", 1), ("write", 1)]);
    }
}
