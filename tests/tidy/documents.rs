//! What the documents say of the project: one command runs every suite, and nothing is promised that is not there.

use crate::source;

fn document(name: &str) -> String {
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
    assert_eq!(test_command(&document(".ci/run")), command);
    let told = readme.split_once(command).unwrap().1;
    let told = told.split("\n\n").take(2).collect::<String>();
    assert!(told.contains("minutes"), "how long it takes: {told}");
}

#[test]
fn the_readme_says_that_nobody_is_checked_and_nothing_is_encrypted() {
    let readme = document("README.md");
    let (_, security) = readme.split_once("\n## Security\n").expect("a section");
    let security = security.split("\n## ").next().unwrap();
    for said in [
        "nobody is checked",
        "nothing is encrypted",
        "trusted network",
    ] {
        assert!(security.contains(said), "{said}: {security}");
    }
}

#[test]
fn no_document_promises_what_needs_identities() {
    for name in [
        "README.md",
        "docs/OPERATIONS.md",
        "docs/ARCHITECTURE.md",
        "proto/longlived/v1/longlived.proto",
    ] {
        let text = document(name);
        // That section is for those who will build it.
        let text = text.split("\n## Where a change goes\n").next().unwrap();
        for (number, line) in text.lines().enumerate() {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric());
            for word in words {
                let promised = ["admin", "admins", "principal", "principals"].contains(&word);
                assert!(!promised, "{name}:{}: {line}", number + 1);
            }
        }
    }
}
