//! Tests wait for conditions. A sleep on the machine's clock costs its time in every run, and fails where the machine is slow.
//!
//! Tests whose clock is paused may sleep: it costs nothing and is exact. So files are left out whose tests all pause it, and
//! folders whose files are used by such tests only.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{self, Source};

/// Where every clock is paused, and this test itself.
const PAUSED: &[&str] = &[
    "crates/broker/src/store/tests/",
    "crates/server/tests/it/transport/following",
    "crates/http2/tests/it/in_step",
    "crates/simulation/",
    "crates/instructions/",
    "tests/tidy/",
];

/// Sleeps in tests on the clock of the machine. Each line: the file, how many, and why they are about time that passes in
/// the world.
const SLEEPS: &str = include_str!("exceptions/sleeps.txt");

/// Whether no test of a file is on the clock of the machine.
fn is_all_paused(file: &Source) -> bool {
    let mut tests = file.text.lines().map(str::trim);
    tests.all(|line| !line.starts_with("#[tokio::test") || line.contains("start_paused = true"))
}

/// The sleeps of a file that are not in a function whose clock is paused.
fn sleeps(file: &Source) -> usize {
    let lines: Vec<&str> = file.text.lines().collect();
    let functions = file.functions();
    let tests_begin = if file.is_test() {
        0
    } else {
        file.product().lines().count()
    };
    let is_sleep = |line: &str| {
        ["sleep(", "sleep_until("].iter().any(|call| {
            line.match_indices(call).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            })
        })
    };
    let all_paused = is_all_paused(file) && file.text.contains("start_paused = true");
    let is_paused = |at: usize| {
        let function = functions
            .iter()
            .rev()
            .find(|it| it.first <= at && at <= it.last);
        function.is_some_and(|function| {
            lines[..function.first]
                .iter()
                .rev()
                .take_while(|line| line.trim_start().starts_with('#'))
                .any(|line| line.contains("start_paused = true"))
        })
    };
    lines
        .iter()
        .enumerate()
        .skip(tests_begin)
        .filter(|(at, line)| {
            // A thread that sleeps does so on the clock of the machine, whatever tokio's does.
            let paused = !line.contains("thread::sleep(") && (all_paused || is_paused(*at));
            !line.trim_start().starts_with("//") && is_sleep(line) && !paused
        })
        .count()
}

#[test]
fn tests_wait_for_conditions_and_not_for_the_clock() {
    let count = |line: &'static str| {
        let [path, count, why] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("a file, a number and a reason: {line}");
        };
        assert!(why.ends_with('.'), "a sentence says why: {line}");
        (path.to_owned(), count.parse().expect(line))
    };
    let lines = SLEEPS.lines().filter(|line| !line.starts_with('#'));
    let known: BTreeMap<String, usize> = lines.map(count).collect();
    let files = source::all().into_iter();
    let (paused, files): (Vec<_>, Vec<_>) =
        files.partition(|file| PAUSED.iter().any(|of| file.path.starts_with(of)));
    let found: BTreeMap<String, usize> = files
        .into_iter()
        .map(|file| (file.path.clone(), sleeps(&file)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let unpaused = paused.iter().filter(|file| !is_all_paused(file));
    let mut wrong: Vec<_> = unpaused
        .map(|file| format!("{} is said to pause the clock and does not", file.path))
        .collect();
    for path in known.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let [found, known] = [&found, &known].map(|of| of.get(path).copied().unwrap_or(0));
        if found > known {
            wrong.push(format!(
                "{path} has {found} sleeps and had {known}: wait for a condition, or pause the clock"
            ));
        } else if found < known {
            wrong.push(format!(
                "{path} has {found} sleeps and had {known}: let the list say so"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
