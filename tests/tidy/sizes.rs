//! A file has at most 500 lines and a function at most 80, so that each can be read at once.

use std::collections::BTreeMap;

use crate::source;

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 80;

/// Each line: the file, its lines, and why it is that long.
const LONG_FILES: &str = include_str!("exceptions/long_files.txt");

/// Each line: the file, the function, its lines, and why it is that long.
const LONG_FUNCTIONS: &str = include_str!("exceptions/long_functions.txt");

/// What stands in a list: the name, the number of lines, and the reason.
fn exceptions(list: &'static str, words_of_name: usize) -> BTreeMap<String, usize> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(words.len() > words_of_name + 1, "no reason: {line}");
            let lines = words[words_of_name].parse().expect(line);
            (words[..words_of_name].join(" "), lines)
        })
        .collect()
}

/// What is wrong with the sizes that were found, by name: of several of one name the largest counts.
fn judge_all(
    found: impl Iterator<Item = (String, usize)>,
    limit: usize,
    known: &BTreeMap<String, usize>,
) -> Vec<String> {
    let mut sizes = BTreeMap::<String, usize>::new();
    for (name, lines) in found {
        let size = sizes.entry(name).or_default();
        *size = lines.max(*size);
    }
    let gone = known.keys().filter(|name| !sizes.contains_key(*name));
    let gone = gone.map(|name| format!("{name} is not there: take it off the list"));
    let sizes = sizes.iter();
    let wrong =
        sizes.filter_map(|(name, lines)| judge(name, *lines, limit, known.get(name).copied()));
    wrong.chain(gone).collect()
}

/// What a size that is over the limit is held against.
fn judge(what: &str, lines: usize, limit: usize, known: Option<usize>) -> Option<String> {
    match known {
        None if lines > limit => Some(format!(
            "{what} has {lines} lines, above the limit of {limit}: split it"
        )),
        Some(known) if lines > known => Some(format!(
            "{what} has {lines} lines and had {known}, above the limit of {limit}: do not let it grow"
        )),
        Some(_) if lines <= limit => Some(format!(
            "{what} has {lines} lines, within the limit of {limit}: take it off the list"
        )),
        _ => None,
    }
}

#[test]
fn no_file_is_longer_than_can_be_kept_in_mind() {
    let files = source::all().into_iter();
    let sizes = files.map(|file| (file.path, file.text.lines().count()));
    let wrong = judge_all(sizes, FILE_LINES_MAX, &exceptions(LONG_FILES, 1));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_function_is_longer_than_two_screens() {
    let files = source::all();
    let sizes = files.iter().flat_map(|file| {
        let functions = file.functions().into_iter();
        functions.map(|it| (format!("{} {}", file.path, it.name), it.lines()))
    });
    let wrong = judge_all(sizes, FUNCTION_LINES_MAX, &exceptions(LONG_FUNCTIONS, 2));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_size_is_held_against_the_limit_and_the_list() {
    let known = BTreeMap::from([
        ("shrunk".to_owned(), 90),
        ("gone".to_owned(), 90),
        ("as_long".to_owned(), 90),
    ]);
    let found = [("shrunk", 80), ("as_long", 90), ("long", 81), ("short", 80)];
    let found = found.map(|(name, lines)| (name.to_owned(), lines));
    let wrong = judge_all(found.into_iter(), 80, &known);
    let named: Vec<_> = wrong
        .iter()
        .map(|it| it.split(' ').next().unwrap())
        .collect();
    assert_eq!(named, ["long", "shrunk", "gone"]);
}
