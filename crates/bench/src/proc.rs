//! CPU time and memory of another process, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;

/// CPU time of a process at one moment, in both forms the kernel offers.
#[derive(Debug, Clone)]
pub(super) struct CpuTime {
    /// Nanoseconds of each thread: exact, but a thread that ends takes its time with it.
    threads: BTreeMap<u32, u64>,
    /// Of the whole process with all that ended, in steps of a clock tick (10 ms).
    process_ns: u64,
    /// Nanoseconds that its threads were ready to run and others ran in their place.
    waited_ns: u64,
}

impl CpuTime {
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .context("reading a process's CPU time")?;
        let ticks = cpu_ticks(&stat).context("/proc/PID/stat has another form than expected")?;
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        let mut threads = BTreeMap::new();
        let mut waited_ns = 0;
        // Threads come and go while this is read, and some kernels have no schedstat.
        for entry in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let line = fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
            if let (Some(id), Some((ran, waited))) = (id, ran_and_waited(&line)) {
                threads.insert(id, ran);
                waited_ns += waited;
            }
        }
        Ok(Self {
            threads,
            process_ns: ticks * tick_ns,
            waited_ns,
        })
    }

    /// Nanoseconds from `earlier` to this in which it could not run, as far as its threads are still there.
    pub(super) fn waited_since(&self, earlier: &Self) -> u64 {
        self.waited_ns.saturating_sub(earlier.waited_ns)
    }

    /// CPU nanoseconds from `earlier` to this.
    pub(super) fn since(&self, earlier: &Self) -> u64 {
        let all_still_there = earlier
            .threads
            .keys()
            .all(|id| self.threads.contains_key(id));
        if self.threads.is_empty() || !all_still_there {
            return self.process_ns.saturating_sub(earlier.process_ns);
        }
        let sum = |time: &Self| time.threads.values().sum::<u64>();
        sum(self).saturating_sub(sum(earlier))
    }
}

/// The first two numbers of a thread's schedstat.
fn ran_and_waited(schedstat: &str) -> Option<(u64, u64)> {
    let mut fields = schedstat.split_whitespace();
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// User and system time: fields 14 and 15, counted behind the name, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory in bytes. The sum over its mappings where the kernel has it: the counter in `status` is
/// kept per core and may be off by some hundred KiB.
pub(super) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    if let Some(bytes) = rollup.and_then(|text| kib_field(&text, "Rss:")) {
        return Ok(bytes);
    }
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("reading a process's memory")?;
    kib_field(&status, "VmRSS:").context("/proc/PID/status has no VmRSS")
}

/// The most memory a process has had resident, in bytes.
pub(super) fn peak_bytes(pid: u32) -> anyhow::Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("reading a process's memory")?;
    kib_field(&status, "VmHWM:").context("/proc/PID/status has no VmHWM")
}

fn kib_field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What a row of figures was measured on: processor, cores, kernel.
pub(super) fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} x {model}, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 1 0 100 1000 50";
        assert_eq!(cpu_ticks(stat), Some(12));
    }

    #[test]
    fn memory_is_given_in_bytes() {
        assert_eq!(
            kib_field("Rss:                1772 kB\nPss: 519 kB\n", "Rss:"),
            Some(1772 * 1024)
        );
    }

    #[test]
    fn a_thread_that_ended_makes_the_process_total_count() {
        let time = |threads: &[(u32, u64)], process_ns| CpuTime {
            threads: threads.iter().copied().collect(),
            process_ns,
            waited_ns: 0,
        };
        assert_eq!(
            time(&[(1, 50), (3, 7)], 90).since(&time(&[(1, 20)], 10)),
            37
        );
        assert_eq!(
            time(&[(1, 50)], 90).since(&time(&[(1, 20), (2, 9)], 10)),
            80
        );
    }

    #[test]
    fn this_process_has_memory_and_uses_time() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 0);
        assert!(peak_bytes(pid).unwrap() > 0);
        let before = CpuTime::of(pid).unwrap();
        assert!(CpuTime::of(pid).unwrap().since(&before) < 60_000_000_000);
    }

    #[test]
    fn time_on_a_core_and_time_in_its_queue_are_told_apart() {
        assert_eq!(ran_and_waited("1500 70 12\n"), Some((1500, 70)));
        assert_eq!(ran_and_waited(""), None);
    }
}
