//! `ReadHistory`: one page of events and gaps, read as a subscriber would read them.

use longlived_api::v1::{self, history_entry::Entry};
use longlived_broker::{Begin, Delivery, Position, frame};
use tonic::Status;

use super::{PAGE_BYTES_MAX, Reader, caller, head, page_limit};
use crate::{
    node::Node,
    rpc::{validate, wire},
};

/// Entries of a page when the caller does not say.
const PAGE_SIZE_DEFAULT: u32 = 1_000;
/// Entries of a page.
const PAGE_SIZE_MAX: u32 = 10_000;
/// Bytes of a page when the caller does not say.
const PAGE_BYTES_DEFAULT: u32 = 1 << 20;
/// Stretches of the log without a match that one page looks through: each is some ten thousand events.
const SCANS_MAX: usize = 16;

pub(super) async fn read(
    node: &Node,
    request: &v1::ReadHistoryRequest,
) -> Result<v1::ReadHistoryResponse, Status> {
    let caller = caller(&request.subscriber_id)?;
    let filters = validate::filters(&request.subscriptions, &caller)?;
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
        bytes_left: bytes,
        next: reader.position(),
    };
    let mut scans = 0;
    let mut end = false;
    while !end && page.entries.len() < page.size && scans < SCANS_MAX {
        let delivery = reader.next().await?;
        match delivery {
            Delivery::Events { bytes, .. } => {
                if !page.take(frame::events(bytes)) {
                    break;
                }
            }
            Delivery::Gap(gap) => {
                let entry = Entry::Gap(wire::gap_message(&gap));
                page.entries.push(v1::HistoryEntry { entry: Some(entry) });
            }
            Delivery::Scanned => scans += 1,
            Delivery::Current => end = true,
        }
        page.next = reader.position();
    }
    let head = head(node);
    Ok(v1::ReadHistoryResponse {
        entries: page.entries,
        next: Some(wire::position(page.next)),
        end: end || page.next == head,
        head: Some(wire::position(head)),
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
    /// Takes events while there is room; whether it took them all.
    fn take(&mut self, events: impl Iterator<Item = (usize, v1::Event)>) -> bool {
        for (len, event) in events {
            let full = self.entries.len() >= self.size || len > self.bytes_left;
            if full && !self.entries.is_empty() {
                return false;
            }
            self.bytes_left = self.bytes_left.saturating_sub(len);
            self.next.sequence = event.sequence;
            let entry = Some(Entry::Event(event));
            self.entries.push(v1::HistoryEntry { entry });
        }
        true
    }
}
