//! The kept inputs of `tests/corpus/frames`: what once went wrong, and what reaches far into the code.
//!
//! A file is hexadecimal, with lines of `#` that say what it is. The preface is not written down.

use std::path::{Path, PathBuf};

use crate::{anything, cuts, wire};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/frames");
    let mut files: Vec<PathBuf> = (std::fs::read_dir(folder).expect("the folder"))
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    files
}

fn bytes(file: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(file).expect("text");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let digits: Vec<u8> = (lines.flat_map(|line| line.bytes()))
        .filter(|it| !it.is_ascii_whitespace())
        .map(|it| char::from(it).to_digit(16).expect("hexadecimal") as u8)
        .collect();
    let octets = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]);
    [wire::PREFACE.to_vec(), octets.collect()].concat()
}

#[test]
fn kept_inputs_are_taken_or_refused_lawfully() {
    let files = files();
    assert!(files.len() > 10);
    for file in files {
        println!("{}", file.display());
        let bytes = bytes(&file);
        cuts::same_at_any_cut(&bytes, &[7]);
        for seed in 0..20 {
            anything::whatever(&bytes, seed);
        }
    }
}
