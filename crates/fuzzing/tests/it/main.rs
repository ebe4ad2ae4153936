//! What stands in `fuzz/corpus/`, each through its function: what once went wrong, and what reaches far into the code.

use std::panic::catch_unwind;
use std::path::Path;

/// Gives each kept input to a function, and names the ones that break a promise.
fn replay(target: &str, function: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder.join(target))
        .expect("the folder")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{} inputs", files.len());
    let breaks = |file: &&std::path::PathBuf| {
        let bytes = std::fs::read(file).expect("it can be read");
        catch_unwind(|| function(&bytes)).is_err()
    };
    let broken: Vec<_> = files.iter().filter(breaks).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn kept_auth_files_are_read_or_refused_lawfully() {
    replay("auth_file", longlived_fuzzing::auth_file);
}

#[test]
fn kept_tokens_make_the_callers_that_they_name_or_none() {
    replay("tokens", longlived_fuzzing::tokens);
}

#[test]
fn kept_headers_of_the_proxy_protocol_have_one_meaning() {
    replay("proxy_header", longlived_fuzzing::proxy_header);
}

#[test]
fn kept_segments_are_read_or_announced_as_lost() {
    replay("log_records", longlived_fuzzing::log_records);
}

#[test]
fn kept_sealed_files_are_read_or_announced_as_lost() {
    replay("sealed_file", longlived_fuzzing::sealed_file);
}
