//! Any bytes in the place of a segment of the log, and a segment that was damaged, before a start.

use std::sync::LazyLock;

use crate::changes::changed;
use crate::store::Left;

/// Several batches in one segment that is not sealed.
static LEFT: LazyLock<Left> = LazyLock::new(|| Left::after(&[&[1, 5, 2, 9, 3, 1]]));

/// Its first byte says what the others are. As a capital letter it asks for a second start.
///
/// `w` is followed by the whole segment. Everything else is followed by changes of one that a killed process left.
///
/// The store opens. Each event of the segment is read as it was published, or announced as lost, and not both; a later start finds the
/// same; and what is published then is read. Of a whole segment, whose checksums may hold over any events, only those promises are held
/// that need no record of what was published.
pub fn log_records(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let files = LEFT.files_in("/data/log");
    let [(path, content)] = files[..] else {
        panic!("{} segments", files.len());
    };
    let again = kind.is_ascii_uppercase();
    match kind.to_ascii_lowercase() {
        b'w' => LEFT.judge(&LEFT.with(path, rest), true, again),
        _ => LEFT.judge(&LEFT.with(path, &changed(content, rest)), false, again),
    }
}
