//! Any bytes in the place of a sealed file, and a sealed file that was damaged, before a start.

use std::sync::LazyLock;

use crate::changes::changed;
use crate::store::Left;

/// Several sealed files of two classes. Each process seals what the one before it has left, and the last one leaves nothing.
static LEFT: LazyLock<Left> = LazyLock::new(|| Left::after(&[&[5, 9], &[3, 6], &[]]));

/// Length of a sealed file's last bytes, which say where its footer is.
const TRAILER_BYTES: usize = 40;

/// The second byte chooses a file, and the first says what the others are. As a capital letter it asks for a second start.
///
/// `w` is followed by the whole file, `f` by changes of the footer, whose checksums are then made to hold. Everything else is followed by
/// changes of the file.
///
/// The store opens. Each event is read as it was published, or announced as lost, and not both; a later start finds the same; and what is
/// published then is read. Of a file whose checksums may hold over anything only those promises are held that need no record of what was
/// published.
pub fn sealed_file(data: &[u8]) {
    let [kind, choice, rest @ ..] = data else {
        return;
    };
    let files = LEFT.files_in("/data/sealed");
    let (path, content) = files[usize::from(*choice) % files.len()];
    let (content, forged) = match kind.to_ascii_lowercase() {
        b'w' => (rest.to_vec(), true),
        b'f' => (with_footer(content, rest), true),
        _ => (changed(content, rest), false),
    };
    let again = kind.is_ascii_uppercase();
    LEFT.judge(&LEFT.with(path, &content), forged, again);
}

/// The file with changes of its footer, under checksums that hold.
fn with_footer(content: &[u8], said: &[u8]) -> Vec<u8> {
    let (content, trailer) = content.split_at(content.len() - TRAILER_BYTES);
    let narrow = |at: usize| trailer[at..at + 4].try_into().map_or(0, u32::from_le_bytes) as usize;
    // Summary and postings: where each begins, and how long it is.
    let mut parts = [0, 16].map(|at| {
        let (begin, len) = (narrow(at), narrow(at + 8));
        content[begin..begin + len].to_vec()
    });
    let (chosen, said) = said.split_first().unwrap_or((&0, &[]));
    let part = &mut parts[usize::from(chosen % 2)];
    *part = changed(part, said);
    let mut forged = content[..narrow(0).min(narrow(16))].to_vec();
    let mut trailer = Vec::new();
    for part in parts {
        trailer.extend((forged.len() as u64).to_le_bytes());
        trailer.extend((part.len() as u32).to_le_bytes());
        trailer.extend(crc32c::crc32c(&part).to_le_bytes());
        forged.extend(part);
    }
    trailer.extend(b"LLSEALED");
    [forged, trailer].concat()
}
