//! The output for a person: tables, views and help in terminals of 40, 80 and 200 columns.

use super::cli_support::{Server, on_a_terminal};

const WIDTHS: [u16; 3] = [40, 80, 200];

/// The lines of a terminal, without the codes that move the cursor or colour the text.
fn lines(shown: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut chars = shown.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            plain.push(c);
            continue;
        }
        // ESC [ parameters letter.
        if chars.next() == Some('[') {
            chars.find(char::is_ascii_alphabetic);
        }
    }
    let lines = plain.split(['\r', '\n']).map(str::trim_end);
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Whether it fits: a word that is longer than a line may be broken, and nothing else.
#[track_caller]
fn assert_fits(arguments: &[&str], wanted: &[&str]) {
    assert_fits_until(arguments, wanted, |_| false);
}

/// The same of a command that is interrupted once it has shown enough.
#[track_caller]
fn assert_fits_until(arguments: &[&str], wanted: &[&str], enough: impl Fn(&str) -> bool) {
    for width in WIDTHS {
        let shown = on_a_terminal("xterm", width, arguments, |shown| enough(shown));
        let lines = lines(&shown);
        let told: String = lines.join(" ").split_whitespace().collect();
        for wanted in wanted {
            let wanted: String = wanted.split_whitespace().collect();
            assert!(told.contains(&wanted), "{width}: `{wanted}`: {shown}");
        }
        for line in lines {
            assert!(fits(&line, usize::from(width)), "{width}: {line}");
        }
    }
}

fn fits(line: &str, width: usize) -> bool {
    let columns: Vec<char> = line.chars().collect();
    // A line above a progress bar is filled up with blanks instead of ended.
    let blanks_at_ends = (width..columns.len())
        .step_by(width)
        .all(|end| columns[end - 1] == ' ' || columns[end] == ' ');
    let is_a_table = line.contains(['│', '─']);
    // clap breaks no synopsis.
    let is_unbreakable = !line.trim().contains(' ') || line.starts_with("Usage: ");
    columns.len() <= width || (!is_a_table && (blanks_at_ends || is_unbreakable))
}

#[test]
fn topics_fit_the_terminal() {
    let server = Server::start(&[]);
    let long = "orders.eu.created.in.the.north.of.it.by.somebody.new";
    for topic in ["a", long] {
        server.publish(topic, "x");
    }
    let topics = ["topics", "--server", &server.url];
    assert_fits(&topics, &["2 topics, all that match", "1", "0"]);
}

#[test]
fn the_output_of_a_simulation_fits_the_terminal() {
    let server = Server::start(&[]);
    for clients in ["3", "30"] {
        let simulate = ["simulate", "--server", &server.url, "--clients", clients];
        let publishing = ["--topic", "a", "--publish-every", "100ms"];
        let simulate = [&simulate[..], &publishing].concat();
        let all = format!("all {clients}");
        let last = format!("client {clients}");
        assert_fits_until(
            &simulate,
            &[&all, "unsubscribing everybody", "acknowledged,"],
            |shown| match clients {
                "3" => shown.contains(&last) && shown.contains("message 3"),
                _ => shown.contains("30/30"),
            },
        );
    }
}

#[test]
fn the_demo_fits_the_narrowest_terminal() {
    let shown = on_a_terminal("xterm", 40, &["demo", "--give-up-after", "150s"], |_| false);
    let lines = lines(&shown);
    assert!(
        lines.iter().any(|line| line.starts_with("Nothing lost")),
        "{shown}"
    );
    for line in lines {
        assert!(line.chars().count() <= 40, "{line}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_tables_of_a_bench_fit_the_terminal() {
    let cores = ["--server-cores", "any", "--load-cores", "any"];
    let load = ["--connections", "2", "--streams", "2", "--rate", "20"];
    let short = ["--duration", "200ms", "--warmup", "50ms", "--runs", "2"];
    let fanout = [&["bench", "fanout"][..], &cores, &load, &short].concat();
    assert_fits(
        &fanout,
        &["server CPU per delivery (us)", "run 1", "median"],
    );
    let against = [&fanout[..], &["--against", "floor"]].concat();
    assert_fits(&against, &["longlived / it: server CPU", "floor"]);
}

#[test]
fn the_help_of_every_command_fits_the_terminal() {
    for command in [
        &[][..],
        &["serve"],
        &["demo"],
        &["simulate"],
        &["subscribe"],
        &["publish"],
        &["topics"],
        &["healthcheck"],
        &["check"],
        &["new-epoch"],
        &["auth"],
        &["auth", "check"],
        &["token"],
        &["token", "new"],
        &["bench"],
        &["bench", "idle"],
        &["bench", "fanout"],
        &["bench", "cores"],
        &["bench", "publish"],
        &["bench", "slow"],
        &["bench", "storm"],
        &["bench", "commit"],
        &["bench", "reopen"],
        &["bench", "catchup"],
    ] {
        let help = [command, &["--help"]].concat();
        assert_fits(&help, &["Usage: longlived", "--help Print help"]);
    }
}
