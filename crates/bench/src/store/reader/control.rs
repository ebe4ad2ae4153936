//! The lines between the conducting process and one that reads.

use std::net::SocketAddr;

use longlived_api::v1::{Position, Start, SubscribeRequest, Subscription, start};
use serde::{Deserialize, Serialize};

use crate::http2::request::Windows;
use crate::store::history;

/// The readers and their filters.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::store) struct Plan {
    pub(in crate::store) server: SocketAddr,
    pub(in crate::store) subscribers: u32,
    /// How many of them share a connection.
    pub(in crate::store) streams: u32,
    /// Each follows its own topic; otherwise all follow all.
    pub(in crate::store) own_topics: bool,
    /// Epoch and sequence; `None` = from the earliest.
    pub(in crate::store) resume_after: Option<(u64, u64)>,
    /// The events that each waits for.
    pub(in crate::store) events_each: u64,
    pub(in crate::store) stream_window_bytes: u32,
    pub(in crate::store) connection_window_bytes: u32,
    pub(in crate::store) library: bool,
    /// By the clock that processes share.
    pub(in crate::store) deadline_ns: u64,
}

/// The results, with times of the clock that processes share; 0 = it did not happen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::store) struct Done {
    pub(in crate::store) began_ns: u64,
    /// All held their Welcome.
    pub(in crate::store) welcome_ns: u64,
    pub(in crate::store) first_event_ns: u64,
    /// All had the events that they waited for.
    pub(in crate::store) complete_ns: u64,
    pub(in crate::store) events: u64,
    pub(in crate::store) gaps: u64,
    /// Subscribers that had all their events.
    pub(in crate::store) complete: u32,
    /// The first thing that went wrong, in words.
    pub(in crate::store) trouble: Option<String>,
}

impl Plan {
    pub(super) fn windows(&self) -> Windows {
        Windows {
            stream_bytes: self.stream_window_bytes,
            connection_bytes: self.connection_window_bytes,
        }
    }

    pub(super) fn filter(&self, subscriber: u32) -> String {
        if self.own_topics {
            history::own_topic(subscriber)
        } else {
            "bench.>".to_owned()
        }
    }

    pub(super) fn request(&self, subscriber: u32) -> SubscribeRequest {
        let earliest = Start {
            at: Some(start::At::Earliest(true)),
        };
        let position = |(epoch, sequence)| Position { epoch, sequence };
        SubscribeRequest {
            subscriber_id: format!("bench-{subscriber}"),
            subscriptions: vec![Subscription {
                topic_filter: self.filter(subscriber),
            }],
            resume_after: self.resume_after.map(position),
            start: self.resume_after.is_none().then_some(earliest),
            ..SubscribeRequest::default()
        }
    }
}
