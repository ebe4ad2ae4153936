//! How much a principal may use of one node.

/// How much a principal may use of one node. All its callers share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Subscriber ids with a live stream.
    pub streams: u64,
    /// Topic filters of all its live streams.
    pub filters: u64,
    /// Messages that it publishes in a second.
    pub publish_messages: u64,
    /// Bytes that it publishes in a second: topics, payloads, keys and headers.
    pub publish_bytes: u64,
    /// Bytes of its messages that are on their way into the log.
    pub in_flight_bytes: u64,
}

impl Quotas {
    /// What holds without a word in the file. A fleet's service does not meet it; a program that has lost its mind does, before the node is
    /// full for others.
    pub const DEFAULT: Self = Self {
        streams: 100_000,
        filters: 400_000,
        publish_messages: 50_000,
        publish_bytes: 64 << 20,
        in_flight_bytes: 32 << 20,
    };
}

impl Default for Quotas {
    fn default() -> Self {
        Self::DEFAULT
    }
}
