//! `ReadHistory`: one page of events and gaps, read as a subscriber would read them.

use longlived_api::v1::{self, history_entry::Entry};
use longlived_broker::{Begin, Delivery, Position, events};
use prost::{Message as _, length_delimiter_len};
use tonic::Status;

use super::{Reader, end_of_log, page_limit, subscriber};
use crate::{
    contract::{Caller, validate, wire},
    limits::PAGE_BYTES_MAX,
    node::Node,
};

/// Entries of a page when the caller does not say.
const PAGE_SIZE_DEFAULT: u32 = 1_000;
/// Entries of a page.
const PAGE_SIZE_MAX: u32 = 10_000;
/// Bytes of a page when the caller does not say.
const PAGE_BYTES_DEFAULT: u32 = 1 << 20;
/// The bytes of a page beside its entries: two positions and a word, each at its longest.
const POSITIONS_BYTES: usize = 2 * (2 + 9 + 11) + 2;
/// Stretches of the log without a match that one page looks through: each is some ten thousand events.
const SCANS_MAX: usize = 16;

pub(super) async fn read(
    node: &Node,
    caller: &Caller,
    request: &v1::ReadHistoryRequest,
) -> Result<v1::ReadHistoryResponse, Status> {
    let subscriber = subscriber(&request.subscriber_id)?;
    let filters = validate::filters(&request.subscriptions, caller, &subscriber)?;
    let size = request.page_size;
    let size = page_limit("page_size", size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)?;
    let bytes = request.page_bytes;
    let bytes = page_limit("page_bytes", bytes, PAGE_BYTES_DEFAULT, PAGE_BYTES_MAX)?;
    let begin = match &request.after {
        Some(after) => Begin::After(validate::position("after", after)?),
        None => Begin::Earliest,
    };
    let mut reader = Reader::open(node, &filters, begin).await?;
    let mut page = Page {
        entries: Vec::new(),
        size,
        bytes_left: bytes.saturating_sub(POSITIONS_BYTES),
        next: reader.position(),
    };
    let mut scans = 0;
    let mut end = false;
    while !end && page.entries.len() < page.size && scans < SCANS_MAX {
        let delivery = reader.next().await?;
        match delivery {
            Delivery::Events { bytes, .. } => {
                if !page.take(events(bytes)) {
                    break;
                }
            }
            Delivery::Gap(gap) => {
                let entry = v1::HistoryEntry {
                    entry: Some(Entry::Gap(wire::gap_message(&gap))),
                };
                if !page.fits(entry_bytes(&entry)) {
                    break;
                }
                page.entries.push(entry);
            }
            Delivery::Scanned => scans += 1,
            Delivery::Current => end = true,
        }
        page.next = reader.position();
    }
    let last = end_of_log(node);
    Ok(v1::ReadHistoryResponse {
        entries: page.entries,
        next: Some(wire::position(page.next)),
        end: end || page.next == last,
        head: Some(wire::position(last)),
    })
}

struct Page {
    entries: Vec<v1::HistoryEntry>,
    size: usize,
    bytes_left: usize,
    // Everything up to here is in the page.
    next: Position,
}

impl Page {
    /// Whether the page takes `bytes` more; the first entry always fits.
    fn fits(&mut self, bytes: usize) -> bool {
        let full = self.entries.len() >= self.size || bytes > self.bytes_left;
        if full && !self.entries.is_empty() {
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        true
    }

    /// Takes events while the page has space; returns whether it took them all. An entry is no longer than the frame of
    /// its event.
    fn take(&mut self, events: impl Iterator<Item = (usize, v1::Event)>) -> bool {
        for (len, event) in events {
            if !self.fits(len) {
                return false;
            }
            self.next.sequence = event.sequence;
            let entry = Some(Entry::Event(event));
            self.entries.push(v1::HistoryEntry { entry });
        }
        true
    }
}

/// The bytes of an entry in its page: itself, its tag and its length.
fn entry_bytes(entry: &v1::HistoryEntry) -> usize {
    let bytes = entry.encoded_len();
    1 + length_delimiter_len(bytes) + bytes
}
