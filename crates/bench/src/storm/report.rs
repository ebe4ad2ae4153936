//! The figures of a storm, and the verdict.
//!
//! Holds: a share of the subscribers counts as back when that share of all is back. So a missing subscriber is late,
//! and not left out.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::run::Seen;
use crate::args::StormLoad;
use crate::figures::{Figures, mib};
use crate::retries::Retries;

/// Figures of one run and the verdict on it in one sentence.
pub(super) fn figures(load: StormLoad, seen: &Seen) -> anyhow::Result<(Figures, String)> {
    let mut figures = Figures::default();
    let misses = add_times(&mut figures, load, seen);
    add_costs(&mut figures, seen);
    add_losses(&mut figures, seen);
    if let Some(retries) = &seen.returned.retries {
        add_last(&mut figures, retries, seen.listening_ns);
        add_retries(&mut figures, retries)?;
    }
    figures.troubles.extend(misses);
    let asked = match load.limit_p99 {
        Some(p99) => format!(
            "99 % within {} and all within {}",
            humantime::format_duration(p99),
            humantime::format_duration(load.limit)
        ),
        None => format!("all within {}", humantime::format_duration(load.limit)),
    };
    let verdict = if figures.troubles.is_empty() {
        format!("met: {asked}, nothing lost or repeated")
    } else {
        format!("MISSED ({asked}): {}", figures.troubles.join("; "))
    };
    Ok((figures, verdict))
}

/// Returns the missed limits, in words.
fn add_times(figures: &mut Figures, load: StormLoad, seen: &Seen) -> Vec<String> {
    let mut misses = Vec::new();
    let back = seen.returned.back;
    let since_listening = |time_ns: u64| time_ns.saturating_sub(seen.listening_ns) as f64 / 1e9;
    let at = |part: f64| reached(&seen.times, part, seen.subscribers).map(since_listening);
    let all = (back == seen.subscribers).then(|| since_listening(seen.last_ns));
    for (name, label, time) in [
        ("back_p50_s", "half are back after (s)", at(0.5)),
        ("back_p90_s", "90 % are back after (s)", at(0.9)),
        ("back_p99_s", "99 % are back after (s)", at(0.99)),
        ("back_all_s", "all are back after (s)", all),
    ] {
        if let Some(time) = time {
            figures.add(name, label, time);
        }
    }
    if all.is_some() {
        let since_kill = seen.last_ns as f64 / 1e9;
        figures.add(
            "back_all_since_kill_s",
            "all, counted from the kill (s)",
            since_kill,
        );
    }
    for (name, label, time_ns) in [
        (
            "gone_s",
            "from the kill until the killed server is gone (s)",
            seen.gone_ns,
        ),
        (
            "listening_s",
            "from the kill until the next one listens (s)",
            seen.listening_ns,
        ),
    ] {
        figures.add(name, label, time_ns as f64 / 1e9);
    }
    if back < seen.subscribers {
        let why = seen
            .returned
            .trouble
            .as_deref()
            .unwrap_or("the time was up");
        misses.push(format!("{back} of {} are back: {why}", seen.subscribers));
    }
    let mut judge = |who: &str, time: Option<f64>, limit: Duration| {
        if let Some(time) = time
            && time > limit.as_secs_f64()
        {
            let limit = humantime::format_duration(limit);
            misses.push(format!("{who} back after {time:.1} s, later than {limit}"));
        }
    };
    judge("all are", all, load.limit);
    if let Some(limit) = load.limit_p99 {
        judge("99 % are", at(0.99), limit);
    }
    misses
}

/// When this part of all was back; `None` if it never was.
fn reached(times: &Histogram<u64>, part: f64, subscribers: u64) -> Option<u64> {
    let mut back = 0;
    times.iter_recorded().find_map(|value| {
        back += value.count_at_value();
        (back as f64 >= part * subscribers as f64).then(|| value.value_iterated_to())
    })
}

fn add_costs(figures: &mut Figures, seen: &Seen) {
    let each_us = |cpu_ns: u64| cpu_ns as f64 / 1e3 / seen.subscribers as f64;
    figures.add(
        "server_cpu_s",
        "server CPU until all are back (s)",
        seen.server_cpu_ns as f64 / 1e9,
    );
    figures.add(
        "server_cpu_us_per_subscriber",
        "the same per subscriber (us)",
        each_us(seen.server_cpu_ns),
    );
    figures.add(
        "load_cpu_us_per_subscriber",
        "load CPU per subscriber from the kill on (us)",
        each_us(seen.load_cpu_ns),
    );
    let memory = &seen.memory;
    for (name, label, bytes) in [
        (
            "memory_before_kill_mib",
            "server memory before the kill (MiB)",
            memory.before_kill,
        ),
        (
            "memory_peak_mib",
            "server memory after it at its peak (MiB)",
            memory.peak,
        ),
        (
            "memory_rest_mib",
            "server memory after it at rest (MiB)",
            memory.rest,
        ),
        (
            "load_memory_peak_mib",
            "load memory at its peak (MiB)",
            memory.load_peak,
        ),
    ] {
        figures.add(name, label, mib(bytes));
    }
}

fn add_losses(figures: &mut Figures, seen: &Seen) {
    let (returned, finished) = (&seen.returned, &seen.finished);
    for (name, label, count) in [
        ("resumed", "told that nothing was missed", returned.resumed),
        (
            "resets",
            "told that something was missed (reset)",
            returned.resets,
        ),
        ("gaps", "gaps announced", finished.gaps),
        ("lost", "deliveries lost", finished.lost),
        ("repeated", "deliveries repeated", finished.repeated),
        (
            "refused_dials",
            "attempts while nobody listened",
            returned.refused_dials,
        ),
        (
            "lost_again",
            "lost again after they had come back",
            returned.lost_again,
        ),
    ] {
        figures.add(name, label, count as f64);
    }
    if finished.lost + finished.repeated > 0 {
        figures.troubles.push(format!(
            "{} of {} deliveries lost, {} repeated",
            finished.lost,
            seen.published.acknowledged * seen.subscribers,
            finished.repeated
        ));
    }
    if finished.ended > 0 {
        let why = finished.trouble.as_deref().unwrap_or("no reason known");
        figures
            .troubles
            .push(format!("{} streams ended for good: {why}", finished.ended));
    }
}

/// The subscriber that was back last, beside the time without a server.
fn add_last(figures: &mut Figures, retries: &Retries, outage_ns: u64) {
    if let Some(last) = retries.last {
        let away = last.back_ns as f64 / outage_ns.max(1) as f64;
        let waited_s = f64::from(last.waited_ms) / 1e3;
        for (name, label, value) in [
            (
                "last_away",
                "the last client: away, in lengths of the outage",
                away,
            ),
            ("last_tries", "the same: its tries", f64::from(last.tries)),
            (
                "last_wait_s",
                "the same: its wait before the last of them (s)",
                waited_s,
            ),
        ] {
            figures.add(name, label, value);
        }
    }
    figures.add(
        "tries_max",
        "the most tries of one client",
        f64::from(retries.tries_max),
    );
}

fn add_retries(figures: &mut Figures, retries: &Retries) -> anyhow::Result<()> {
    figures.add("waits", "waits drawn", retries.count() as f64);
    for tenth in 1..10_u32 {
        let part = f64::from(tenth) / 10.0;
        figures.add(
            format!("wait_p{tenth}0"),
            format!("wait / ceiling, decile {tenth} (asked: {part:.1})"),
            retries.quantile(part),
        );
    }
    let (distance, allowed) = (retries.distance(), retries.distance_max());
    figures.add(
        "wait_distance",
        "distance of the waits from uniform (Kolmogorov-Smirnov)",
        distance,
    );
    figures.add(
        "wait_distance_max",
        "at most, but for one in a million of uniform samples",
        allowed,
    );
    figures.add(
        "waits_above",
        "waits above their ceiling",
        retries.above as f64,
    );
    figures.add(
        "waits_named",
        "waits that the server named",
        retries.named as f64,
    );
    let mut attempts = Histogram::<u64>::new(3)?;
    for (time_ns, count) in &retries.attempts {
        attempts.record_n(*time_ns, *count)?;
    }
    for (name, label, part) in [
        (
            "attempt_p50_ms",
            "from a wait's end to the attempt's outcome, p50 (ms)",
            0.5,
        ),
        ("attempt_p99_ms", "the same, p99 (ms)", 0.99),
    ] {
        figures.add(name, label, attempts.value_at_quantile(part) as f64 / 1e6);
    }
    if retries.count() == 0 {
        figures.troubles.push("no wait was drawn".to_owned());
    } else if distance > allowed {
        figures.troubles.push(format!(
            "waits are not spread as full jitter asks: {distance:.4} off, at most {allowed:.4} is chance"
        ));
    }
    Ok(())
}
