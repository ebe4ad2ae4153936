//! What the documents say of the project: one command runs every suite, and nothing is promised that is not there.

use crate::source;

pub(crate) fn document(name: &str) -> String {
    let path = source::root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The command by which a text runs all tests.
fn test_command(text: &str) -> &str {
    let commands = text.lines().map(|line| line.split('#').next().unwrap());
    let mut commands = commands
        .map(str::trim_end)
        .filter(|line| line.starts_with("cargo test"));
    let command = commands.next().expect("a command that runs the tests");
    assert_eq!(commands.next(), None, "there is one");
    command
}

#[test]
fn one_command_runs_every_suite_also_after_one_that_failed() {
    let readme = document("README.md");
    let command = test_command(&readme);
    assert!(command.contains("--no-fail-fast"), "{command}");
    // The gate keeps what it prints.
    let gate = document(".ci/run");
    let kept = format!("{command} 2>&1 | tee");
    assert!(gate.lines().any(|line| line.starts_with(&kept)), "{kept}");
    let told = readme.split_once(command).unwrap().1;
    let told = told.split("\n\n").take(2).collect::<String>();
    assert!(told.contains("minutes"), "how long it takes: {told}");
}

#[test]
fn the_readme_says_that_nobody_is_checked_and_what_is_sent_in_the_clear() {
    let readme = document("README.md");
    let (_, security) = readme.split_once("\n## Security\n").expect("a section");
    let security = security.split("\n## ").next().unwrap();
    for said in ["nobody is checked", "in the clear", "trusted network"] {
        assert!(security.contains(said), "{said}: {security}");
    }
}

#[test]
fn every_flag_of_serve_is_in_the_operators_manual() {
    let manual = document("docs/OPERATIONS.md");
    let sources = [
        "serve.rs",
        "auth_args.rs",
        "compression_args.rs",
        "disk_args.rs",
        "tls_args.rs",
    ];
    let mut flags = 0;
    for source in sources {
        let text = document(&format!("crates/cli/src/{source}"));
        for variable in text.split("env = \"LONGLIVED_").skip(1) {
            let name = variable.split('"').next().unwrap();
            let flag = format!("--{}", name.to_lowercase().replace('_', "-"));
            assert!(manual.contains(&format!("`{flag}")), "{source}: {flag}");
            flags += 1;
        }
    }
    assert!(flags > 20, "only {flags} flags were found");
}

#[test]
fn every_metric_is_in_the_operators_manual() {
    let manual = document("docs/OPERATIONS.md");
    let values = document("crates/server/src/metrics/values.rs");
    let names = values.lines().filter_map(|line| {
        let name = line.trim().strip_prefix('"')?.strip_suffix("\",")?;
        let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        is_name.then_some(name)
    });
    let mut metrics = 0;
    for name in names {
        let told = [format!("`longlived_{name}"), format!("{{{name}}}")];
        let is_told = told.iter().any(|told| manual.contains(told));
        assert!(is_told, "longlived_{name}");
        metrics += 1;
    }
    assert!(metrics > 20, "only {metrics} metrics were found");
}

#[test]
fn what_formats_the_code_is_told_the_edition_of_the_workspace() {
    let cargo = document("Cargo.toml");
    let edition = cargo.lines().find(|line| line.starts_with("edition = "));
    let edition = edition.expect("an edition");
    let rustfmt = document("rustfmt.toml");
    let told: Vec<_> = rustfmt.lines().filter(|it| !it.starts_with('#')).collect();
    assert_eq!(told, [edition, &format!("style_{edition}")]);
}
