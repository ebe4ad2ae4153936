//! The modules of the server stand on stairs: each may import those below it, and none beside or above it.
//!
//! Every path in the sources counts: in a `use`, in an expression, in a macro. Unit tests may import what they need.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// From the ground up. `docs/ARCHITECTURE.md` has the same as a picture.
const STAIRS: &[&[&str]] = &[
    &["limits"],
    &["framing", "lifecycle", "tasks", "throttle"],
    &["transport"],
    &["config"],
    &["contract"],
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

/// What a source names: modules of its own crate, and other crates.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    modules: BTreeSet<String>,
    crates: BTreeSet<String>,
}

impl Names {
    /// Of a file; `depth` is how many modules its own module lies below the root of the crate.
    fn of(source: &str, depth: usize) -> Self {
        let tokens: TokenStream = source.parse().expect("a source of Rust");
        let mut names = Self::default();
        names.read(&trees(tokens), depth);
        names
    }

    fn read(&mut self, tokens: &[TokenTree], depth: usize) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if is_for_tests(&tokens[at..]) {
                at += item_len(&tokens[at..]);
                continue;
            }
            match token {
                TokenTree::Ident(word) if word == "mod" => {
                    if let Some(TokenTree::Group(inner)) = tokens.get(at + 2) {
                        self.read(&trees(inner.stream()), depth + 1);
                        at += 2;
                    }
                }
                TokenTree::Ident(_) if is_path(&tokens[at..]) => {
                    at += self.path(&tokens[at..], depth);
                    continue;
                }
                TokenTree::Group(group) => self.read(&trees(group.stream()), depth),
                _ => {}
            }
            at += 1;
        }
    }

    /// Takes the path that begins here and returns how many tokens it took.
    fn path(&mut self, tokens: &[TokenTree], depth: usize) -> usize {
        let first = word(&tokens[0]);
        let below = match first.as_str() {
            "crate" => 0,
            "self" => depth,
            "super" => depth.checked_sub(1).expect("a module above the root"),
            _ => {
                self.crates.insert(first);
                return self.tail(&tokens[3..], None) + 3;
            }
        };
        3 + self.tail(&tokens[3..], Some(below))
    }

    /// Takes what follows the `::` of a path. `below` is the depth of the module that the path has come to; `None` in
    /// another crate.
    fn tail(&mut self, tokens: &[TokenTree], below: Option<usize>) -> usize {
        match (tokens.first(), below) {
            (Some(TokenTree::Ident(name)), Some(below)) if name == "super" => {
                let below = below.checked_sub(1).expect("a module above the root");
                if is_path(tokens) {
                    return 3 + self.tail(&tokens[3..], Some(below));
                }
                1
            }
            (Some(TokenTree::Ident(name)), below) => {
                if below == Some(0) {
                    self.modules.insert(name.to_string());
                }
                1
            }
            (Some(TokenTree::Group(group)), below) if group.delimiter() == Delimiter::Brace => {
                let inner = trees(group.stream());
                let comma = |token: &TokenTree| matches!(token, TokenTree::Punct(it) if it.as_char() == ',');
                for one in inner.split(comma).filter(|one| !one.is_empty()) {
                    self.tail(one, below);
                }
                1
            }
            _ => 0,
        }
    }
}

fn trees(tokens: TokenStream) -> Vec<TokenTree> {
    tokens.into_iter().collect()
}

fn word(token: &TokenTree) -> String {
    token.to_string()
}

/// Whether a word is followed by `::`.
fn is_path(tokens: &[TokenTree]) -> bool {
    let colon =
        |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(it)) if it.as_char() == ':');
    matches!(tokens.first(), Some(TokenTree::Ident(_))) && colon(1) && colon(2)
}

/// Whether an item begins here that only tests are compiled with.
fn is_for_tests(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Punct(hash), TokenTree::Group(attribute), ..] = tokens else {
        return false;
    };
    let text = attribute.stream().to_string().replace(' ', "");
    hash.as_char() == '#' && (text == "cfg(test)" || text.starts_with("cfg(all(test,"))
}

/// The tokens of an item with its attributes: up to its `;`, or its braces.
fn item_len(tokens: &[TokenTree]) -> usize {
    let mut imports = false;
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(it) => it.as_char() == ';',
        TokenTree::Group(group) => !imports && group.delimiter() == Delimiter::Brace,
        TokenTree::Ident(word) => {
            imports |= word == "use";
            false
        }
        TokenTree::Literal(_) => false,
    };
    let end = tokens.iter().position(ends);
    end.map_or(tokens.len(), |end| end + 1)
}

fn step(module: &str) -> Option<usize> {
    STAIRS.iter().position(|step| step.contains(&module))
}

/// The module of a file below `src`, and how deep it lies.
fn module_of(file: &Path) -> (String, usize) {
    let mut parts: Vec<_> = file.iter().map(|part| part.to_string_lossy()).collect();
    let name = parts.pop().expect("a file has a name");
    if name != "mod.rs" {
        parts.push(name.trim_end_matches(".rs").to_owned().into());
    }
    (parts[0].to_string(), parts.len())
}

/// What a file imports that it must not.
fn wrong(file: &Path, source: &str) -> Vec<String> {
    let (module, depth) = module_of(file);
    let own = step(&module);
    let names = Names::of(source, depth);
    let mut wrong = Vec::new();
    for name in &names.modules {
        // A name of the root that is no module is something from above, by another way.
        let below = step(name).is_some_and(|step| Some(step) < own);
        if !below && *name != module {
            wrong.push(format!("{}: crate::{name}", file.display()));
        }
    }
    for (_, crates) in NOT_KNOWN.iter().filter(|(name, _)| *name == module) {
        let known = crates.iter().filter(|name| names.crates.contains(**name));
        wrong.extend(known.map(|name| format!("{}: {name}", file.display())));
    }
    wrong
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The files of the server by their path below `src`, without those that are tests or the root.
fn files() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    found.sort();
    let read = |path: PathBuf| {
        let source = fs::read_to_string(&path).expect("a text");
        let below = path.strip_prefix(&root).expect("it was found there");
        (below.to_owned(), source)
    };
    let files = found.into_iter().map(read);
    files
        .filter(|(path, _)| path != Path::new("lib.rs"))
        .collect()
}

#[test]
fn every_module_has_its_place_on_the_stairs() {
    let modules: BTreeSet<_> = files().iter().map(|(path, _)| module_of(path).0).collect();
    let placed: BTreeSet<_> = STAIRS.concat().into_iter().map(str::to_owned).collect();
    assert_eq!(modules, placed);
}

#[test]
fn no_module_imports_one_beside_or_above_it() {
    let files = files();
    let wrong: Vec<_> = files
        .iter()
        .flat_map(|(path, source)| wrong(path, source))
        .collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_picture_of_the_stairs_is_the_table() {
    let architecture = include_str!("../../../../docs/ARCHITECTURE.md");
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
fn an_import_is_found_wherever_it_stands() {
    let upward = |file: &str, source: &str| wrong(Path::new(file), source);
    for source in [
        "use crate::rpc::status;",
        "use crate::{limits, rpc::{self, status}};",
        "pub(crate) use crate::rpc;",
        "fn refuse() -> crate::rpc::Status { loop {} }",
        "fn refuse() { tokio::select! { () = crate::rpc::gone() => {} } }",
        "mod inner { use super::super::super::rpc::status; }",
        "use super::super::{limits, rpc};",
        "use super::{super::rpc};",
        "use crate::Router;",
    ] {
        assert_eq!(upward("layers/refuse.rs", source).len(), 1, "{source}");
    }
    for source in [
        "use crate::{contract::status, transport::connection::Follower};",
        "use crate::layers::CallRecord;",
        "use super::answer; use self::inner::rpc; pub(crate) struct Rpc;",
        "//! See `crate::rpc`.\n/// crate::rpc\nfn f() { g(\"crate::rpc::status\") }",
        "#[cfg(test)] use crate::rpc::{status, wire};\nfn f() {}",
        "#[cfg(test)]\nmod tests { use crate::rpc::status; }",
        "#[cfg(all(test, target_os = \"linux\"))]\nmod tests { use crate::rpc::status; }",
    ] {
        assert_eq!(upward("layers/refuse.rs", source), [""; 0], "{source}");
    }
    let beside = upward(
        "probes.rs",
        "#[cfg(test)] mod tests {} use crate::session::Plan;",
    );
    assert_eq!(beside, ["probes.rs: crate::session"]);
    let cursors = "fn read(cursor: longlived_broker::Cursor) {}";
    assert_eq!(
        upward("transport/io.rs", cursors),
        ["transport/io.rs: longlived_broker"]
    );
    assert_eq!(upward("session/body.rs", cursors), [""; 0]);
}
