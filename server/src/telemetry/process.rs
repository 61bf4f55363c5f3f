//! What the system knows of this process: memory, CPU, descriptors. Read from `/proc`; elsewhere nothing is said.

use super::registry::Visitor;

/// Adds the `process_*` metrics.
pub fn visit(visitor: &mut dyn Visitor) {
    if let Some(stat) = Stat::read() {
        visitor.counter("process_cpu_seconds_total", "CPU time spent.", stat.cpu_s);
        visitor.gauge("process_resident_memory_bytes", "Resident memory.", stat.resident_bytes);
        visitor.gauge("process_virtual_memory_bytes", "Virtual memory.", stat.virtual_bytes);
        visitor.gauge("process_threads", "Threads.", stat.threads);
        visitor.gauge("process_start_time_seconds", "When it started, Unix time.", stat.start_time_s);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        // The listing itself holds one descriptor.
        let open = entries.count().saturating_sub(1);
        visitor.gauge("process_open_fds", "Open file descriptors.", open as f64);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        visitor.gauge(
            "process_max_fds",
            "Most descriptors allowed.",
            limit.map_or(f64::INFINITY, |l| l as f64),
        );
    }
}

struct Stat {
    cpu_s: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    threads: f64,
    start_time_s: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot_s: f64 = boot.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
        let ticks_per_s = rustix::param::clock_ticks_per_second() as f64;
        Self::parse(&stat, boot_s, ticks_per_s, rustix::param::page_size() as f64)
    }

    /// The fields behind the command's name, which is in parentheses and may hold anything (proc(5)).
    fn parse(stat: &str, boot_s: f64, ticks_per_s: f64, page_bytes: f64) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<f64> = rest.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            cpu_s: (field(14)? + field(15)?) / ticks_per_s,
            threads: field(20)?,
            start_time_s: boot_s + field(22)? / ticks_per_s,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_line() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 4 0 1000 8192000 30 184467";
        let stat = Stat::parse(line, 1_700_000_000.0, 100.0, 4096.0).unwrap();
        assert_eq!((stat.cpu_s, stat.threads, stat.start_time_s), (2.0, 4.0, 1_700_000_010.0));
        assert_eq!((stat.virtual_bytes, stat.resident_bytes), (8_192_000.0, 122_880.0));
        assert!(Stat::parse("", 0.0, 1.0, 1.0).is_none());
    }
}
