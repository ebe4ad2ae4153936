//! CPU time and memory of another process, from `/proc`.

use std::collections::BTreeMap;

use anyhow::Context as _;
use procfs::process::Process;
use procfs::{CpuInfo, Current as _};

/// CPU time of a process at one moment, in both forms the kernel offers.
#[derive(Debug, Clone)]
pub(super) struct CpuTime {
    /// Nanoseconds of each thread: exact, but a thread that ends takes its time with it.
    threads: BTreeMap<i32, u64>,
    /// Of the whole process with all that ended, in steps of a clock tick (10 ms).
    process_ns: u64,
    /// Nanoseconds that its threads were ready to run and others ran in their place.
    waited_ns: u64,
}

impl CpuTime {
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        const READING: &str = "reading a process's CPU time";
        let process = process(pid).context(READING)?;
        let stat = process.stat().context(READING)?;
        let tick_ns = 1_000_000_000 / procfs::ticks_per_second();
        let mut threads = BTreeMap::new();
        let mut waited_ns = 0;
        // Threads come and go while this is read, and some kernels have no schedstat.
        for thread in process.tasks().context(READING)?.flatten() {
            if let Ok(times) = thread.schedstat() {
                threads.insert(thread.tid, times.sum_exec_runtime);
                waited_ns += times.run_delay;
            }
        }
        Ok(Self {
            threads,
            process_ns: (stat.utime + stat.stime) * tick_ns,
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

/// Resident memory in bytes. The sum over its mappings where the kernel has it: the counter in `status` is
/// kept per core and may be off by some hundred KiB.
pub(super) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let process = process(pid).context("reading a process's memory")?;
    let rollup = process.smaps_rollup().ok();
    let mapped = rollup.and_then(|rollup| {
        let all = rollup.memory_map_rollup.into_iter().next()?;
        all.extension.map.get("Rss").copied()
    });
    if let Some(bytes) = mapped {
        return Ok(bytes);
    }
    let status = process.status().context("reading a process's memory")?;
    let kib = status.vmrss.context("/proc/PID/status has no VmRSS")?;
    Ok(kib * 1024)
}

/// The most memory a process has had resident, in bytes.
pub(super) fn peak_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = process(pid).and_then(|process| Ok(process.status()?));
    let status = status.context("reading a process's memory")?;
    let kib = status.vmhwm.context("/proc/PID/status has no VmHWM")?;
    Ok(kib * 1024)
}

fn process(pid: u32) -> anyhow::Result<Process> {
    Ok(Process::new(i32::try_from(pid)?)?)
}

/// The machine of a row of figures: processor, cores, kernel.
pub(super) fn machine() -> String {
    let processors = CpuInfo::current().ok();
    let cores = processors.as_ref().map_or(0, CpuInfo::num_cores);
    let model = processors
        .as_ref()
        .and_then(|processors| processors.model_name(0))
        .unwrap_or("unknown processor");
    let kernel = rustix::system::uname();
    let kernel = kernel.release().to_string_lossy();
    format!("{cores} x {model}, Linux {kernel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ended_makes_the_process_total_count() {
        let time = |threads: &[(i32, u64)], process_ns| CpuTime {
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
}
