//! A link from one document to another leads to a file that is there, and to one of its headings.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::source;

fn documents() -> Vec<PathBuf> {
    let root = source::root();
    let mut paths = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    source::collect(&root.join("docs"), "md", &mut paths);
    paths.sort();
    paths
}

/// The anchors that a renderer makes of the headings.
fn anchors(text: &str) -> HashSet<String> {
    let mut in_code = false;
    let mut anchors = HashSet::new();
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        if in_code || !line.starts_with('#') {
            continue;
        }
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    anchors
}

/// What stands in the round brackets of each link.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let link = &rest[..rest.find(')')?];
        (!link.contains(char::is_whitespace)).then_some(link)
    })
}

/// Why a link leads nowhere.
fn broken(document: &Path, link: &str) -> Option<String> {
    if link.starts_with("http") {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => document.to_owned(),
        path => document.parent().unwrap().join(path),
    };
    if !target.exists() {
        return Some("no such file".to_owned());
    }
    let has_anchor = |text: String| anchors(&text).contains(anchor);
    let found = anchor.is_empty() || fs::read_to_string(target).is_ok_and(has_anchor);
    (!found).then(|| "no such heading".to_owned())
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            if let Some(why) = broken(&document, link) {
                wrong.push(format!("{}: {link}: {why}", source::relative(&document)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_document_that_the_code_names_is_there() {
    let mut wrong = Vec::new();
    for file in source::all() {
        for rest in file.text.split("docs/").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_./".contains(c));
            let name = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
            let path = source::root().join("docs").join(name);
            if path.extension().is_some_and(|it| it == "md") && !path.exists() {
                wrong.push(format!("{}: docs/{name}", file.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn headings_become_anchors_as_they_are_rendered() {
    let text = "# Two `words`\n```sh\n# no heading\n```\n## A clock, that is wrong (2026-11-21)\n";
    let expected = ["two-words", "a-clock-that-is-wrong-2026-11-21"];
    assert_eq!(anchors(text), expected.map(str::to_owned).into());
}

#[test]
fn every_file_that_the_architecture_names_is_there() {
    let files: Vec<_> = source::all()
        .into_iter()
        .map(|file| format!("/{}", file.path))
        .collect();
    let text = fs::read_to_string(source::root().join("docs/ARCHITECTURE.md")).unwrap();
    let named = text.split('`').skip(1).step_by(2);
    let gone: Vec<_> = named
        .filter(|name| match name.strip_suffix('/') {
            Some(folder) if !folder.contains('<') => {
                let folder = format!("/{folder}/");
                !files.iter().any(|path| path.contains(&folder))
            }
            _ => {
                let is_file = Path::new(name).extension().is_some_and(|it| it == "rs");
                let file = format!("/{name}");
                is_file && !files.iter().any(|path| path.ends_with(&file))
            }
        })
        .collect();
    assert!(gone.is_empty(), "{gone:?}");
}
