//! Cores for the server and cores for the load.
//!
//! Holds: a process starts on its cores, so that the numbers that it derives from theirs (worker threads) are right.
//! That is done as `taskset` does it: the starting thread moves there, starts the child, moves back.

use std::process::{Child, Command};

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::args::{CommonArgs, CoreList};

/// Where a process may run; `None` = wherever this one may.
#[derive(Debug, Clone)]
pub(super) struct Cores(Option<CpuSet>);

/// Where server and load run.
pub(super) struct Pinning {
    pub(super) server: Cores,
    pub(super) load: Cores,
}

impl Pinning {
    /// From the flags, or split among the cores that this process may use.
    pub(super) fn of(args: &CommonArgs) -> anyhow::Result<Self> {
        let (server, load) = split(args.server_cores.as_ref(), args.load_cores.as_ref())?;
        Ok(Self { server, load })
    }
}

/// Cores of the server and of the load, from the flags or split among those this process may use.
fn split(server: Option<&CoreList>, load: Option<&CoreList>) -> anyhow::Result<(Cores, Cores)> {
    let allowed = allowed()?;
    let (first, others) = allowed.split_at(allowed.len().min(1));
    // With one core there is nothing to split, and pinning would say nothing.
    let or_default = |list: Option<&CoreList>, default: &[usize]| match list {
        Some(list) => named(list, &allowed),
        None if others.is_empty() => Ok(Cores(None)),
        None => Ok(Cores(Some(set(default)))),
    };
    Ok((
        or_default(server, first).context("--server-cores")?,
        or_default(load, others).context("--load-cores")?,
    ))
}

/// The cores this process may use.
pub(super) fn allowed() -> anyhow::Result<Vec<usize>> {
    let cores = sched_getaffinity(None).context("asking for this process's cores")?;
    Ok(numbers(&cores))
}

impl Cores {
    /// How many they are; `None` = not pinned.
    pub(super) fn count(&self) -> Option<usize> {
        self.0.as_ref().map(|cores| numbers(cores).len())
    }

    /// Wherever this process may run.
    pub(super) fn any() -> Self {
        Self(None)
    }

    /// Moves the calling thread to these cores, for good.
    pub(super) fn enter(&self) -> anyhow::Result<()> {
        let Some(cores) = &self.0 else {
            return Ok(());
        };
        sched_setaffinity(None, cores).context("moving a thread to its cores")
    }

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

fn named(list: &CoreList, allowed: &[usize]) -> anyhow::Result<Cores> {
    let Some(cores) = &list.0 else {
        return Ok(Cores(None));
    };
    if let Some(core) = cores.iter().find(|core| !allowed.contains(core)) {
        anyhow::bail!("core {core} is not among those this process may use, {allowed:?}");
    }
    Ok(Cores(Some(set(cores))))
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
    fn a_core_that_is_not_ours_is_refused() {
        let list = |flag: &str| flag.parse::<CoreList>().unwrap();
        assert_eq!(
            named(&list("0,2-3"), &[0, 1, 2, 3]).unwrap().to_string(),
            "cores 0,2,3"
        );
        assert_eq!(named(&list("any"), &[0]).unwrap().to_string(), "any core");
        assert!(named(&list("1-4"), &[0, 1, 2, 3]).is_err());
    }
}
