//! One module of the server builds every gRPC status, so that each has its reason and its wait.

use crate::source;

/// Reads a status, or builds it by a conversion that stands in the module.
const READS: &[&str] = &["from_header_map(", "from(", "from)"];

#[test]
fn one_module_builds_every_status() {
    let mut wrong = Vec::new();
    for file in source::all() {
        let is_server = file.path.starts_with("crates/server/src/");
        let is_status = file.path.contains("/status/") || file.path.ends_with("/status.rs");
        if !is_server || is_status || file.is_test() {
            continue;
        }
        for (number, line) in file.product().lines().enumerate() {
            let builds = line.match_indices("Status::").any(|(at, found)| {
                let before = line[..at].chars().next_back();
                let after = &line[at + found.len()..];
                !before.is_some_and(char::is_alphanumeric)
                    && after.starts_with(|c: char| c.is_ascii_lowercase())
                    && !READS.iter().any(|read| after.starts_with(read))
            });
            let builds = builds || line.ends_with("> for Status {");
            if builds && !line.trim_start().starts_with("//") {
                wrong.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "a status is built outside of status.rs:\n{}",
        wrong.join("\n")
    );
}
