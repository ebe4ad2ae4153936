//! The Rust files of the repository, and the functions in them.
//!
//! Functions are found by the layout that rustfmt gives them: the closing brace has the indentation of the `fn`.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the repository begins.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// One file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// One function: its lines count from 0, the last one included.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl Function {
    pub(crate) fn lines(&self) -> usize {
        self.last - self.first + 1
    }
}

/// All Rust files that people write.
pub(crate) fn all() -> Vec<Source> {
    let root = root();
    let mut paths = vec![root.join("build.rs")];
    for folder in ["proto", "tests", "crates"] {
        collect(&root.join(folder), "rs", &mut paths);
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| Source {
            path: relative(&path),
            text: fs::read_to_string(&path).unwrap(),
        })
        .collect()
}

/// Every file below `folder` whose name ends in `extension`.
pub(crate) fn collect(folder: &Path, extension: &str, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().unwrap() != "target" {
                collect(&path, extension, paths);
            }
        } else if path.extension().is_some_and(|it| it == extension) {
            paths.push(path);
        }
    }
}

/// A path as the lists of exceptions name it.
pub(crate) fn relative(path: &Path) -> String {
    let inside = path.strip_prefix(root()).unwrap();
    inside.to_str().unwrap().replace('\\', "/")
}

impl Source {
    /// Whether all of it is tests, or what only tests use.
    pub(crate) fn is_test(&self) -> bool {
        let mut folders = self.path.split('/');
        folders.any(|name| name == "tests" || name == "tests.rs" || name == "benches")
    }

    /// The text up to where unit tests begin in the same file.
    pub(crate) fn product(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap()
    }

    /// The functions that have a body, in the order of their lines.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut functions = Vec::new();
        for (first, line) in lines.iter().enumerate() {
            let Some(name) = name_of_function(line) else {
                continue;
            };
            // The signature ends where the body opens; a declaration has none.
            let signature = lines[first..]
                .iter()
                .position(|line| line.ends_with(['{', ';', '}']));
            let Some(opens) = signature.map(|lines| first + lines) else {
                continue;
            };
            let last = match lines[opens].chars().last() {
                Some('{') => {
                    let indent = &line[..line.len() - line.trim_start().len()];
                    let closes = format!("{indent}}}");
                    let body = lines[opens..].iter().position(|line| **line == closes);
                    opens + body.unwrap_or(0)
                }
                Some('}') => opens,
                _ => continue,
            };
            functions.push(Function {
                name: name.to_owned(),
                first,
                last,
            });
        }
        functions
    }
}

/// The name in a line that begins a function.
fn name_of_function(line: &str) -> Option<&str> {
    let (before, after) = match line.trim_start().strip_prefix("fn ") {
        Some(after) => ("", after),
        None => line.trim_start().split_once(" fn ")?,
    };
    let is_qualifier = |word: &str| {
        let words = ["async", "const", "default", "extern", "unsafe", "\"C\""];
        words.contains(&word) || word.starts_with("pub") || word.ends_with(')')
    };
    if !before.split_whitespace().all(is_qualifier) {
        return None;
    }
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some(&after[..end])
}

#[test]
fn functions_are_found_with_all_their_lines() {
    let text = "impl A {\n    pub(crate) async fn one(\n        &self,\n    ) -> u8\n    where\n        A: B,\n    {\n        \
                if x {\n            1\n        }\n    }\n\n    fn two(&self);\n    const fn three() {}\n}\n// a fn four() {\n";
    let source = Source {
        path: String::new(),
        text: text.to_owned(),
    };
    let found: Vec<_> = source
        .functions()
        .into_iter()
        .map(|it| (it.name.clone(), it.first, it.lines()))
        .collect();
    assert_eq!(
        found,
        [("one".to_owned(), 1, 10), ("three".to_owned(), 13, 1)]
    );
}
