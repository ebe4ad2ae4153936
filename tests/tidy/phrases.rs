//! Three phrases that leave a noun out stand in no document and in no source (docs/STYLE.md, "Plain English").

use crate::documents::document;
use crate::source;

const PHRASES: [&str; 3] = ["whoever", "so many", "what is due"];

/// This file names the phrases.
const OF_THE_TEST: &str = "tests/tidy/phrases.rs";

/// The text in lower case on one line, without the marks of comments and with the words of names apart: a phrase is
/// found in comments, strings and names, also where a line ends in it.
fn words(source: &str) -> String {
    let lines = source
        .lines()
        .map(|line| line.trim().trim_start_matches(['/', '!']));
    let words = lines.flat_map(|line| line.split([' ', '_']));
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ").to_lowercase()
}

#[test]
fn documents_name_the_thing() {
    for name in [
        "README.md",
        "docs/ARCHITECTURE.md",
        "docs/BENCHMARKS.md",
        "docs/OPERATIONS.md",
        "docs/TESTING.md",
        "proto/longlived/v1/longlived.proto",
    ] {
        let text = document(name);
        for section in text.split("\n## ") {
            // That one is the word of the project on what it does not do, and stays as it is.
            if section.starts_with("Security\n") {
                continue;
            }
            for phrase in PHRASES {
                assert!(!words(section).contains(phrase), "{name}: {phrase}");
            }
        }
    }
}

#[test]
fn sources_name_the_thing() {
    let mut wrong = Vec::new();
    for file in source::all() {
        if file.path == OF_THE_TEST {
            continue;
        }
        let text = words(&file.text);
        let found = PHRASES.iter().filter(|phrase| text.contains(**phrase));
        wrong.extend(found.map(|phrase| format!("{}: {phrase}", file.path)));
    }
    assert!(
        wrong.is_empty(),
        "name the thing instead:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_phrase_is_found_in_comments_strings_and_names_and_across_lines() {
    for source in [
        "    /// Reads so\n    /// many bytes.",
        "fn it_waits_for_whoever_comes() {",
        "panic!(\"What is due is not sent\")",
    ] {
        let found = PHRASES.iter().any(|phrase| words(source).contains(phrase));
        assert!(found, "{source}");
    }
}
