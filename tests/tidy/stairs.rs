//! The modules of the server stand on stairs: each may import those below it, and none beside or above it.
//!
//! Every path in the sources counts: in a `use`, in an expression, in a macro. Unit tests may import what they need.

use std::collections::BTreeSet;
use std::fs;

use crate::imports::{self, Imports};
use crate::modules::{self, ModulePath};
use crate::source;

/// From the ground up. `docs/ARCHITECTURE.md` has the same as a picture.
const STAIRS: &[&[&str]] = &[
    &["limits"],
    &[
        "age",
        "framing",
        "lifecycle",
        "rate",
        "reload",
        "tasks",
        "throttle",
    ],
    &["transport"],
    &["config"],
    &["contract"],
    &["callers"],
    &["layers"],
    &["registry"],
    &["node"],
    &["generator", "metrics", "probes", "session"],
    &["rpc"],
    &["server"],
];

/// Crates that a module does not know: the transport carries bytes for whatever they mean.
const NOT_KNOWN: &[(&str, &[&str])] = &[(
    "transport",
    &["longlived_api", "longlived_broker", "longlived_topic"],
)];

fn step(module: &str) -> Option<usize> {
    STAIRS.iter().position(|step| step.contains(&module))
}

/// The module of the root that a module is, or lies in; nothing for the root itself.
fn folder(module: &ModulePath) -> &str {
    module.first().map_or("", String::as_str)
}

/// What is imported that must not be.
fn wrong(imports: &Imports) -> Vec<String> {
    let mut wrong = Vec::new();
    for (module, imported) in imports {
        let (name, from) = (folder(module), module.join("::"));
        for to in &imported.modules {
            // What stands in the root is something from above, by another way.
            let is_below = step(folder(to)).is_some_and(|step_of| Some(step_of) < step(name));
            if !is_below && folder(to) != name && !name.is_empty() {
                wrong.push(format!("{from} imports crate::{}", to.join("::")));
            }
        }
        for (_, crates) in NOT_KNOWN.iter().filter(|(module, _)| *module == name) {
            let known = crates.iter().filter(|it| imported.crates.contains(**it));
            wrong.extend(known.map(|it| format!("{from} imports {it}")));
        }
    }
    wrong
}

#[test]
fn every_module_of_the_server_has_its_place_on_the_stairs() {
    let modules = modules::of_crate("server");
    let modules = modules.keys().map(folder).filter(|name| !name.is_empty());
    let placed: BTreeSet<_> = STAIRS.concat().into_iter().collect();
    assert_eq!(modules.collect::<BTreeSet<_>>(), placed);
}

#[test]
fn no_module_of_the_server_imports_one_beside_or_above_it() {
    let wrong = wrong(&imports::of(&modules::of_crate("server")));
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_picture_of_the_stairs_is_the_table() {
    let architecture = fs::read_to_string(source::root().join("docs/ARCHITECTURE.md")).unwrap();
    let picture = architecture
        .split("## The stairs of the server")
        .nth(1)
        .expect("a picture");
    let drawn = picture.lines().filter_map(|line| line.strip_prefix("    "));
    let drawn: Vec<Vec<&str>> = drawn
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split("  ").next())
        .map(|names| names.split(", ").collect())
        .collect();
    let table: Vec<_> = STAIRS.iter().rev().map(|step| step.to_vec()).collect();
    assert_eq!(drawn, table);
}

#[test]
fn an_import_from_below_is_right_and_any_other_is_wrong() {
    let wrong = |layers: &str, transport: &str| {
        let modules = [
            (vec![], "mod layers; mod limits; mod rpc; mod transport;"),
            (vec!["layers"], layers),
            (vec!["limits"], ""),
            (vec!["rpc"], ""),
            (vec!["transport"], transport),
        ];
        wrong(&imports::of(&modules::made_of(&modules)))
    };
    let (none, expected) = ([""; 0], "layers imports crate::rpc");
    assert_eq!(wrong("use crate::{limits, transport::Io};", ""), none);
    assert_eq!(wrong("use crate::limits;", "use super::limits;"), none);
    assert_eq!(wrong("use crate::{limits, rpc::Rpc};", ""), [expected]);
    assert_eq!(wrong("use crate::Server;", ""), ["layers imports crate::"]);
    let topic = "transport imports longlived_topic";
    assert_eq!(wrong("", "use longlived_topic::TopicName;"), [topic]);
    assert_eq!(wrong("use longlived_topic::TopicName;", ""), none);
}
