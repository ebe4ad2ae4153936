//! `longlived bench cores`: the cost of a delivery with the server on one core, and on all cores.
//!
//! A run measures the same load twice, each time with a fresh server: pinned to its core, and on the cores that the
//! kernel gives it. Which of the two comes first changes from run to run. The server takes as many worker threads as it
//! has cores, so the second has more of them, which hand work to each other.
//!
//! Does not: move the load. Where it has no cores of its own, the unpinned server shares them with it, and says so.

use std::process::ExitCode;

use anyhow::ensure;

use super::args::FanoutArgs;
use super::figures::Figures;
use super::measure::{explain_latency, fanout_in_words, fanout_once};
use super::pin::{self, Cores, Pinning};
use super::refuse::refuse;
use super::repeat::repeat;
use super::security::Security;
use super::stop::Stop;

/// The figures that are shown of each half.
const SHOWN: [&str; 11] = [
    "cpu_us_per_delivery",
    "server_cpu_percent",
    "load_cpu_percent",
    "deliveries_per_s",
    "latency_p50_us",
    "latency_p99_us",
    "health_p50_us",
    "health_p99_us",
    "health_max_us",
    "lost",
    "repeated",
];

pub(super) fn cores(args: &FanoutArgs, stop: &Stop) -> anyhow::Result<ExitCode> {
    let common = &args.common;
    refuse(
        "cores",
        &[
            ("--server", common.server.is_some()),
            ("--server-pid", common.server_pid.is_some()),
        ],
        "starts its servers itself, and one that runs already cannot be pinned from here",
    )?;
    refuse(
        "cores",
        &[("--against", !args.against.is_empty())],
        "measures longlived alone (`bench fanout` measures others beside it)",
    )?;
    refuse(
        "cores",
        &[("--server-cores", common.server_cores.is_some())],
        "has the server on the first core and on any, in turns",
    )?;
    let allowed = pin::allowed()?;
    ensure!(
        allowed.len() > 1,
        "this process may use one core: pinned and unpinned would be the same"
    );
    let security = Security::of(&args.security, common)?;
    let load = format!(
        "cores: the server on its core and on any of {} in turns, where it shares those of the load; {}{}",
        allowed.len(),
        fanout_in_words(args),
        security.in_words(),
    );
    let mut runs = 0;
    let ended = repeat(load, &args.common, |cores| {
        let any = Pinning {
            server: Cores::any(),
            load: cores.load.clone(),
        };
        runs += 1;
        let (pinned, any) = if runs % 2 == 1 {
            let pinned = fanout_once(args, &security, cores, stop)?;
            (pinned, fanout_once(args, &security, &any, stop)?)
        } else {
            let any = fanout_once(args, &security, &any, stop)?;
            (fanout_once(args, &security, cores, stop)?, any)
        };
        Ok(figures(&pinned, &any))
    })?;
    explain_latency(args)?;
    Ok(ended)
}

fn figures(pinned: &Figures, any: &Figures) -> Figures {
    const CPU: &str = "cpu_us_per_delivery";
    let mut figures = Figures::default();
    if let (Some(pinned), Some(any)) = (pinned.value(CPU), any.value(CPU)) {
        figures.add(
            "cpu_ratio",
            "server CPU per delivery, unpinned / pinned",
            any / pinned,
        );
    }
    figures.adopt("pinned", pinned, &SHOWN);
    figures.adopt("unpinned", any, &SHOWN);
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_one_run_and_troubles_of_both_halves_stay() {
        let half = |cpu, trouble: &str| {
            let mut figures = Figures::default();
            figures.add("cpu_us_per_delivery", "server CPU per delivery (us)", cpu);
            figures.add("wall_s", "wall time (s)", 1.0);
            figures.troubles.push(trouble.to_owned());
            figures
        };
        let both = figures(&half(2.0, "a"), &half(3.0, "b"));
        assert_eq!(both.value("cpu_ratio"), Some(1.5));
        assert_eq!(both.value("unpinned_cpu_us_per_delivery"), Some(3.0));
        assert_eq!(both.value("pinned_wall_s"), None);
        assert_eq!(both.troubles, ["pinned: a", "unpinned: b"]);
    }
}
