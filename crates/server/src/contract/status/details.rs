//! From a reason to a status with its details: `google.rpc.Status` with `ErrorInfo`, and `RetryInfo` where there is a
//! time to come back.
//!
//! Holds: all trailers of a status together have at most [`TRAILERS_BYTES_MAX`] bytes. A text that quotes too much is
//! cut, between two characters.

use std::{fmt::Display, sync::OnceLock, time::Duration};

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use prost_types::Any;
use smallvec::SmallVec;
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::pb;

use super::{PUSHBACK, Reason, headers::escaped_len};

/// All trailers of one status, as HTTP/2 counts them (RFC 9113, 6.5.2): each with its name, its value and 32 bytes.
/// Stock clients take 8 KiB of metadata, and a proxy on the way has some of its own to add. Met as: a text that ends
/// with dots.
pub(crate) const TRAILERS_BYTES_MAX: usize = 1_024;
/// The trailers beside the text and the details: `grpc-status`, the names of `grpc-message` and
/// `grpc-status-details-bin`, `grpc-retry-pushback-ms`, and of `longlived-published` and `grpc-accept-encoding` the
/// longer, since no status has both.
const OTHER_BYTES: usize = 45 + 44 + 55 + 64 + 71;
/// Of one value among an `ErrorInfo`'s metadata. Numbers and names of fields are shorter.
const FIELD_BYTES_MAX: usize = 64;
/// Entries of an `ErrorInfo`'s metadata: small enough to leave bytes for a sentence.
const FIELDS_MAX: usize = 3;
/// Beside the text in the details: the code, and the text's tag and length.
const CODE_AND_TAG_BYTES: usize = 2 + 3;
/// A blank at either end of the text is written as three characters.
const BLANK_ENDS_BYTES: usize = 4;
/// Ends a text that was cut.
const CUT: &str = "...";

const DOMAIN: &str = "longlived";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// A status in the making.
pub(super) struct Refusal {
    reason: Reason,
    text: String,
    fields: SmallVec<[(&'static str, String); FIELDS_MAX]>,
    wait: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            fields: SmallVec::new(),
            wait: None,
        }
    }

    /// A value that programs may want, beside the text that quotes it.
    pub(super) fn with(mut self, name: &'static str, value: impl Display) -> Self {
        debug_assert!(self.fields.len() < FIELDS_MAX, "{name} has no room");
        let value = value.to_string();
        let mut end = value.len().min(FIELD_BYTES_MAX);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        self.fields.push((name, value[..end].to_owned()));
        self
    }

    /// The time after which to come back.
    pub(super) fn after(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    pub(super) fn status(self) -> Status {
        let code = self.reason.code();
        let info = self.info();
        let wait_ms = self
            .wait
            .map(|wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
        let retry = wait_ms.map_or_else(Bytes::new, retry_info);
        let text = cut(self.text, CODE_AND_TAG_BYTES + info.len() + retry.len());

        let head = pb::Status {
            code: code as i32,
            message: text.clone(),
            details: Vec::new(),
        };
        // Parts of one message, one after the other, are that message.
        let mut details = BytesMut::with_capacity(head.encoded_len() + info.len() + retry.len());
        details.extend_from_slice(&head.encode_to_vec());
        details.extend_from_slice(&info);
        details.extend_from_slice(&retry);

        let mut metadata = MetadataMap::new();
        if let Some(wait_ms) = wait_ms {
            metadata.insert(PUSHBACK, wait_ms.into());
        }
        Status::with_details_and_metadata(code, text, details.freeze(), metadata)
    }

    /// The part of the details that holds the `ErrorInfo`. Without fields it is the same each time, and made once.
    fn info(&self) -> Bytes {
        static FIXED: [OnceLock<Bytes>; Reason::ALL.len()] =
            [const { OnceLock::new() }; Reason::ALL.len()];
        if self.fields.is_empty() {
            return FIXED[self.reason as usize]
                .get_or_init(|| error_info(self.reason, &[]))
                .clone();
        }
        error_info(self.reason, &self.fields)
    }
}

/// A status of a text alone, for the frozen contract.
pub(super) fn plain(code: Code, text: impl Into<String>) -> Status {
    Status::new(code, cut(text.into(), 0))
}

fn error_info(reason: Reason, fields: &[(&'static str, String)]) -> Bytes {
    let mut value = pb::ErrorInfo {
        reason: reason.as_str().to_owned(),
        domain: DOMAIN.to_owned(),
        ..pb::ErrorInfo::default()
    }
    .encode_to_vec();
    // One map each, since the order in a map is one of its hash.
    for (name, field) in fields {
        let metadata = [((*name).to_owned(), field.clone())].into();
        let one = pb::ErrorInfo {
            metadata,
            ..pb::ErrorInfo::default()
        };
        value.extend(one.encode_to_vec());
    }
    detail(ERROR_INFO, value)
}

fn retry_info(wait_ms: u32) -> Bytes {
    let info = pb::RetryInfo {
        retry_delay: Some(prost_types::Duration {
            seconds: (wait_ms / 1_000).into(),
            nanos: (wait_ms % 1_000 * 1_000_000).cast_signed(),
        }),
    };
    detail(RETRY_INFO, info.encode_to_vec())
}

fn detail(type_url: &str, value: Vec<u8>) -> Bytes {
    let any = Any {
        type_url: type_url.to_owned(),
        value,
    };
    let part = pb::Status {
        details: vec![any],
        ..pb::Status::default()
    };
    part.encode_to_vec().into()
}

/// As much of a text as fits beside details of a given size. The text stands in the trailers twice: once as it is, with
/// escapes, and once within the details, where three bytes become four characters.
fn cut(mut text: String, details_bytes: usize) -> String {
    let details = (details_bytes * 4).div_ceil(3);
    let room = TRAILERS_BYTES_MAX.saturating_sub(OTHER_BYTES + details + BLANK_ENDS_BYTES + 1);
    // In thirds of a byte.
    let cost = |text: &str| 3 * escaped_len(text) + 4 * text.len();
    if cost(&text) <= 3 * room {
        return text;
    }
    let mut left = (3 * room).saturating_sub(cost(CUT));
    let mut end = 0;
    for (at, letter) in text.char_indices() {
        let after = at + letter.len_utf8();
        let Some(rest) = left.checked_sub(cost(&text[at..after])) else {
            break;
        };
        left = rest;
        end = after;
    }
    text.truncate(end);
    text.push_str(CUT);
    text
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::super::headers::trailers;
    use super::*;
    use crate::contract::Contract;

    /// As RFC 9113 counts a list of headers.
    fn list_bytes(headers: &HeaderMap) -> usize {
        let each = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 32);
        each.sum()
    }

    fn decoded(status: &Status) -> (pb::Status, pb::ErrorInfo, Option<pb::RetryInfo>) {
        let details = pb::Status::decode(status.details()).expect("details");
        let find = |url| details.details.iter().find(|any| any.type_url == url);
        let info = find(ERROR_INFO).expect("ErrorInfo");
        let info = pb::ErrorInfo::decode(&*info.value).expect("ErrorInfo");
        let retry = find(RETRY_INFO).map(|any| pb::RetryInfo::decode(&*any.value).expect("it"));
        (details, info, retry)
    }

    proptest! {
        #[test]
        fn trailers_stay_below_their_limit_with_any_quoted_text(
            text in prop_oneof![".*", "[ %]{0,2000}", "\\PC{0,2000}", "[a-z ]{0,4000}"],
            reason in 0..Reason::ALL.len(),
            fields in prop::collection::vec("\\PC{0,200}", 0..=FIELDS_MAX),
            wait in prop::option::of(any::<u32>()),
        ) {
            let names = ["requested_epoch", "kept_first", "kept_last"];
            let reason = Reason::ALL[reason];
            let mut refusal = Refusal::new(reason, text.clone());
            for (name, value) in names.into_iter().zip(&fields) {
                refusal = refusal.with(name, value);
            }
            if let Some(wait) = wait {
                refusal = refusal.after(Duration::from_millis(wait.into()));
            }
            let mut status = refusal.status();
            let (details, info, retry) = decoded(&status);

            let kept = status.message().strip_suffix(CUT).unwrap_or(status.message());
            prop_assert!(text.starts_with(kept));
            if kept.len() < text.len() {
                prop_assert!(kept.len() > 20 || !kept.is_ascii(), "a sentence is left: {kept}");
            }
            prop_assert_eq!(details.code, reason.code() as i32);
            prop_assert_eq!(&details.message, status.message());
            prop_assert_eq!(info.reason, reason.as_str());
            prop_assert_eq!(info.domain, DOMAIN);
            prop_assert_eq!(info.metadata.len(), fields.len());
            let told = retry.and_then(|retry| retry.retry_delay).map(|delay| {
                delay.seconds * 1_000 + i64::from(delay.nanos) / 1_000_000
            });
            prop_assert_eq!(told, wait.map(i64::from));

            status.metadata_mut().insert("longlived-published", u64::MAX.into());
            let trailers = trailers(&status, Contract::V1);
            prop_assert!(list_bytes(&trailers) <= TRAILERS_BYTES_MAX, "{}", list_bytes(&trailers));
            // And reading them gives the same status.
            let read = Status::from_header_map(&trailers).expect("a status");
            prop_assert_eq!(read.code(), status.code());
            prop_assert_eq!(read.message(), status.message());
            prop_assert_eq!(read.details(), status.details());
            let pushback = read.metadata().get(PUSHBACK).map(|ms| ms.to_str().unwrap().parse());
            prop_assert_eq!(pushback, wait.map(Ok));
        }
    }

    #[test]
    fn a_text_that_fits_is_not_cut() {
        let text = "`topic_filter` has 300 bytes; at most 256 are allowed";
        let status = Refusal::new(Reason::FieldInvalid, text).with("field", "topic_filter");
        assert_eq!(status.status().message(), text);
    }
}
