//! Cores for the server and cores for the load.
//!
//! Holds: a process starts on its cores, so that whatever it derives from their number (worker threads) is
//! right. That is done as `taskset` does it: the starting thread moves there, starts the child, moves back.

use std::process::{Child, Command};

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where a process may run; `None` = wherever this one may.
#[derive(Debug, Clone)]
pub(super) struct Cores(Option<CpuSet>);

/// Cores of the server and of the load, from the flags or split among those this process may use.
pub(super) fn split(server: Option<&str>, load: Option<&str>) -> anyhow::Result<(Cores, Cores)> {
    let allowed = numbers(&sched_getaffinity(None).context("asking for this process's cores")?);
    let (first, others) = allowed.split_at(allowed.len().min(1));
    // With one core there is nothing to split, and pinning would say nothing.
    let or_default = |flag: Option<&str>, default: &[usize]| match flag {
        Some(flag) => parse(flag, &allowed),
        None if others.is_empty() => Ok(Cores(None)),
        None => Ok(Cores(Some(set(default)))),
    };
    Ok((
        or_default(server, first).context("--server-cores")?,
        or_default(load, others).context("--load-cores")?,
    ))
}

impl Cores {
    /// Starts the child on these cores.
    pub(super) fn spawn(&self, command: &mut Command) -> anyhow::Result<Child> {
        let Some(cores) = &self.0 else {
            return Ok(command.spawn()?);
        };
        let before = sched_getaffinity(None)?;
        sched_setaffinity(None, cores).context("moving to the child's cores")?;
        let child = command.spawn();
        sched_setaffinity(None, &before).context("moving back from the child's cores")?;
        Ok(child?)
    }
}

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            None => f.write_str("any core"),
            Some(cores) => {
                let numbers: Vec<_> = numbers(cores).iter().map(ToString::to_string).collect();
                let noun = if numbers.len() == 1 { "core" } else { "cores" };
                write!(f, "{noun} {}", numbers.join(","))
            }
        }
    }
}

fn parse(flag: &str, allowed: &[usize]) -> anyhow::Result<Cores> {
    if flag == "any" {
        return Ok(Cores(None));
    }
    let mut cores = Vec::new();
    for part in flag.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.parse::<usize>()
                .with_context(|| format!("`{flag}` is not a list of cores such as 0 or 0,2-3"))
        };
        let range = number(first)?..=number(last)?;
        anyhow::ensure!(!range.is_empty(), "`{part}` ends before it begins");
        anyhow::ensure!(
            range.clone().all(|core| allowed.contains(&core)),
            "`{part}`: this process may use {allowed:?}"
        );
        cores.extend(range);
    }
    Ok(Cores(Some(set(&cores))))
}

fn set(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    set
}

fn numbers(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_name_cores() {
        let cores = parse("0,2-3", &[0, 1, 2, 3]).unwrap();
        assert_eq!(cores.to_string(), "cores 0,2,3");
        assert_eq!(parse("any", &[0]).unwrap().to_string(), "any core");
    }

    #[test]
    fn a_core_that_is_not_ours_is_refused() {
        for list in ["4", "1-4", "3-1", "x", ""] {
            assert!(parse(list, &[0, 1, 2, 3]).is_err(), "`{list}`");
        }
    }
}
