//! A wall clock that is wrong for one process: a small library, compiled here, that its dynamic linker puts before the C library.

use crate::preload::compile;
use crate::server::Launch;
use std::fs;
use std::path::{Path, PathBuf};

/// Two 64-bit numbers in a file that is mapped: nanoseconds to add to the wall clock, and, if not 0, the time at which it stands.
/// Clocks that only count on are left alone, as a jump of a machine's clock leaves them.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long long *state;
__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("KYMO_TEST_CLOCK");
  int file = path ? open(path, O_RDONLY) : -1;
  if (file < 0) return;
  void *map = mmap(0, 16, PROT_READ, MAP_SHARED, file, 0);
  if (map != MAP_FAILED) state = map;
  close(file);
}
int clock_gettime(clockid_t id, struct timespec *out) {
  int result = syscall(SYS_clock_gettime, id, out);
  if (result || !state || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)) return result;
  long long now = out->tv_sec * 1000000000LL + out->tv_nsec;
  now = (state[1] ? state[1] : now) + state[0];
  out->tv_sec = now / 1000000000LL;
  out->tv_nsec = now % 1000000000LL;
  return 0;
}
int gettimeofday(struct timeval *restrict out, void *restrict zone) {
  struct timespec now;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
"#;

/// The clock of the processes that are started by [`Clock::preload`].
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    state: PathBuf,
}

impl Clock {
    /// Compiles it in `dir`. It is right until it is set.
    ///
    /// # Errors
    /// There is no C compiler.
    pub fn make(dir: &Path) -> Result<Self, String> {
        let library = compile(dir, "clock", SOURCE)?;
        let clock = Self { library, state: dir.join("clock.state") };
        clock.set(0, false)?;
        Ok(clock)
    }

    /// The same launch with this clock.
    pub fn preload(&self, launch: Launch) -> Launch {
        launch.variable("LD_PRELOAD", &self.library).variable("KYMO_TEST_CLOCK", &self.state)
    }

    /// From now on it is wrong by so many milliseconds, and stands if told so.
    ///
    /// # Errors
    /// The file of its state cannot be written.
    pub fn set(&self, shift_ms: i64, is_frozen: bool) -> Result<(), String> {
        use std::os::unix::fs::FileExt;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_err(|e| e.to_string())?.as_nanos() as i64;
        let stands_at = if is_frozen { now } else { 0 };
        let mut state = [0; 16];
        state[..8].copy_from_slice(&(shift_ms * 1_000_000).to_le_bytes());
        state[8..].copy_from_slice(&stands_at.to_le_bytes());
        // In place: the file is mapped.
        let file = fs::File::options().create(true).truncate(false).write(true).open(&self.state);
        file.and_then(|file| file.write_all_at(&state, 0)).map_err(|e| e.to_string())
    }
}
