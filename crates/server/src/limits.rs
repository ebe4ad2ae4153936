//! Every fixed limit of the serving side: its default, why it is that number, and where a peer meets it.
//!
//! Holds: everything that a peer can make grow has an entry here. Does not: read configuration; a limit that may be
//! changed is a field of `ConnectionSettings` or `AcceptorSettings` whose default is one of these.

use std::time::Duration;

/// Connections the kernel keeps for us before they are accepted. A whole fleet reconnects at once after a
/// restart; with the usual 128, ten thousand of them needed 35 s of SYN retries. The kernel caps this at
/// `net.core.somaxconn`. Met as: a slow connect.
pub(crate) const BACKLOG: i32 = 65_535;

/// Connections open at once. Each costs about 4 KiB with one stream, so this many take some 400 MiB. Met as: the
/// connection is closed right after it was accepted, counted, and named in the log once a second.
pub(crate) const CONNECTIONS_MAX: usize = 100_000;

/// The least of the process's open files that connections leave free: two segments of the log and the files that are sealed
/// from them, one for each history class; a connection for each watcher of metrics (`METRICS_CONNECTIONS_MAX`); listeners,
/// signals and the standard streams. The sealed files that the store has are counted on top. Met as: fewer connections than
/// `connections_max`, which the start warns of.
pub(crate) const OPEN_FILES_RESERVE_MIN: usize = 128;

/// Connections leave one open file in this many free, because the store gets more sealed files after connections have
/// come.
pub(crate) const OPEN_FILES_RESERVE_ONE_IN: usize = 4;

/// The most open files that connections leave free: 256 GiB of history in segments of 64 MiB.
pub(crate) const OPEN_FILES_RESERVE_MAX: usize = 4_096;

/// How long accepting pauses when the process has no open file left. Accepting again at once would fail the same
/// way and take a whole core. Met as: a slow connect, and a warning in the log once a second.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often one kind of trouble at the acceptor is logged at most.
pub(crate) const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How often the files of the certificate and the auth file are read again: a new certificate is one that is nearly too late, or one
/// by hand, for which somebody waits.
pub(crate) const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// How long reading them may take before it counts as trouble: a network file system that is gone. Met as: a warning and a metric.
pub(crate) const RELOAD_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks at them that must agree: a program that writes them is done by then.
pub(crate) const RELOAD_SETTLE: Duration = Duration::from_millis(100);

/// The looks that are tried until two agree. Files of the certificate that change all the time are used as they are; such an auth file
/// is not.
pub(crate) const RELOAD_SETTLE_TRIES: u32 = 20;

/// Callers that are known by their credential, so that it is verified once: some 600 bytes each, and up to 10 KiB of a token that names as many
/// grants as it can, so 160 MiB at most. One that is forgotten is verified again.
pub(crate) const KNOWN_CALLERS_MAX: usize = 16_384;

/// How often calls without a caller are logged at most. Met as: a count in the next line, and a metric.
pub(crate) const REFUSED_LINES_INTERVAL: Duration = Duration::from_secs(1);

/// Tokens that are verified at a time, on threads beside those of the connections: as many as small machines have cores. Met as: a wait.
pub(crate) const VERIFIERS_MAX: usize = 2;

/// Handshakes at a time, of all listeners. rustls joins up to 64 KiB of a message of one, and nothing else counts them: 256 MiB. Met as: a
/// handshake that waits for its turn, within its deadline.
pub(crate) const HANDSHAKES_MAX: usize = 4_096;

/// How long a handshake keeps its turn while others wait for one. Peers that answer are done within two round trips, and with all of
/// them at a time within the second that their signatures take. Met as: a closed connection.
pub(crate) const HANDSHAKE_TURN: Duration = Duration::from_secs(3);

/// The most bytes that a TLS socket takes beyond what TCP has taken, where rustls would take 64 KiB: two records.
pub(crate) const TLS_UNSENT_BYTES: usize = 32 << 10;

/// The most bytes of a file of the certificate. A chain has some kilobytes; more is another file by mistake. Met as: a start
/// that fails, or a certificate that does not change.
pub(crate) const TLS_FILE_BYTES_MAX: u64 = 1 << 20;

/// The most bytes of a PROXY header of version 2. It may have 64 KiB of fields behind two addresses of 36 or 216 bytes; those that
/// proxies send (a certificate's names, an endpoint's id) have some hundred. None of them is kept. Met as: a closed connection.
pub(crate) const PROXY_HEADER_BYTES_MAX: usize = 4 << 10;

/// From the accepted connection to the end of its HTTP/2 preface. A peer that sends nothing holds a socket and
/// buffers; nothing else would ever end it. Met as: a closed connection.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Silence after which the peer is asked (HTTP/2 PING) whether it is still there. Below the 30 s after which the
/// most impatient home routers forget a connection.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How long the peer may take to answer that PING. Met as: a closed connection.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How much longer, at most, the server waits for an overdue answer before it closes the connection. A server that was
/// busy for longer than the timeout (a million subscribers that come back at once) has the answers unread at its
/// sockets. It must read them before it decides. Met as: nothing.
pub(crate) const KEEPALIVE_GRACE: Duration = Duration::from_secs(1);

/// The slowest reader whose overdue answer to a PING is waited for, in bytes a second: the answer stands behind all
/// bytes written since the last one. Some of them are in the reader's kernel, where nothing shows that they are read.
/// Less than half of the rate of a reader of 40 KB/s. Met as: a closed connection.
pub(crate) const KEEPALIVE_SLOWEST_READER: u32 = 16 * 1024;

/// No overdue answer is waited for longer than this, behind any number of bytes: 4.7 MiB at that rate, about the buffer
/// of a kernel for one reader (6 MiB by default). It begins anew when the reader's kernel was full and takes more. Met
/// as: a closed connection.
pub(crate) const KEEPALIVE_BEHIND_MAX: Duration = Duration::from_secs(300);

/// How long the question to a silent peer is put off while its kernel acknowledges what is sent to it. The kernel of a proxy, or of a
/// program that hangs, does so too, so the peer itself is asked after that. Met as: nothing.
pub(crate) const KEEPALIVE_PUT_OFF_MAX: Duration = Duration::from_secs(300);

/// How long sent bytes may stay unacknowledged by the peer's kernel, or its window shut, before the kernel gives the
/// connection up. A slow reader's window opens in large steps, and it is waited for as above, so it is longer than that. A
/// peer that is gone is found by keepalive long before; this is for a connection whose HTTP/2 side is stuck. Met as: a
/// reset connection.
pub(crate) const TCP_USER_TIMEOUT: Duration = Duration::from_secs(360);
const _: () = assert!(
    TCP_USER_TIMEOUT.as_secs()
        > KEEPALIVE_INTERVAL.as_secs()
            + KEEPALIVE_TIMEOUT.as_secs()
            + KEEPALIVE_BEHIND_MAX.as_secs()
);

/// Bytes that a socket takes beyond those in the network. A slow reader's answer to a PING stands behind all bytes sent
/// before, and the kernel would take megabytes. Events that it does not take wait as a position. As much as several
/// writes. Met as: nothing.
pub(crate) const TCP_UNSENT_BYTES: u32 = 128 * 1024;

/// Bytes that say nothing of a peer that has not answered: a PING, and the heads of other small frames. An overdue
/// answer that stands behind more is waited for (`KEEPALIVE_SLOWEST_READER`). When more than this waited because the
/// peer was full, and its kernel then acknowledges some, the peer reads. Met as: nothing.
pub(crate) const KEEPALIVE_QUEUE_BYTES: u32 = 1024;

/// How long a peer that speaks something else than HTTP/2 has to take its answer and close. Met as: a closed connection.
pub(crate) const STRANGER_LINGER: Duration = Duration::from_secs(1);

/// Silence after which the kernel probes the peer, for connections whose HTTP/2 side is stuck.
pub(crate) const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Streams open at once on one connection . Clients wait at this limit, so it stands
/// well above the 100 per connection that the client library uses. Met as: `SETTINGS_MAX_CONCURRENT_STREAMS`,
/// then `RST_STREAM(REFUSED_STREAM)`.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;

/// Streams we had to reset because the peer broke the protocol on them; the count falls by 25 a second. A peer
/// that provokes resets makes us work for streams that do not count as open (the attack called "made you reset"). Met as:
/// `GOAWAY(ENHANCE_YOUR_CALM)`.
pub(crate) const LOCAL_ERROR_RESETS_MAX: usize = 256;

/// Bytes of request headers of one call. gRPC implementations accept 8 KiB; a bearer
/// token may need a little more. Met as: RESOURCE_EXHAUSTED in gRPC, HTTP status 431 otherwise.
pub(crate) const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// From the first byte of a request's headers to the last: they may come in pieces, and are kept until they are whole. Met as:
/// `GOAWAY(ENHANCE_YOUR_CALM)`.
pub(crate) const HEADER_BLOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Frames of a peer, DATA of calls aside, that one connection looks at before its streams and other connections have their turn. Met as: nothing.
pub(crate) const CONNECTION_TURN_FRAMES: u32 = 64;

/// And work with header blocks that it does before them, in octets: a field counts as eight at least, and takes some 1,000 instructions. What comes last may
/// go beyond it: a piece that is decoded at once takes 100,000 instructions at most. Met as: nothing.
pub(crate) const CONNECTION_TURN_OCTETS: usize = 1_024;

/// Frames that ask for nothing (PING, SETTINGS, PRIORITY, unknown ones, WINDOW_UPDATE, empty DATA, frames of closed streams) which a peer
/// may send at once beyond what answers ours. Met as: `GOAWAY(ENHANCE_YOUR_CALM)`.
pub(crate) const IDLE_FRAMES_MAX: i32 = 2_048;

/// And as many of them each second.
pub(crate) const IDLE_FRAMES_A_SECOND: i32 = 100;

/// And as many for each call.
pub(crate) const IDLE_FRAMES_PER_CALL: i32 = 4;

/// The most of them that DATA of ours allows: a peer answers late, when it has read.
pub(crate) const IDLE_FRAMES_CREDIT_MAX: i32 = 1 << 16;

/// The fewest bytes that an honest peer gives back with one WINDOW_UPDATE. gRPC's C library gives back each message when its application
/// takes it, and the five bytes before the message by themselves. Met as: WINDOW_UPDATEs for fewer count for [`IDLE_FRAMES_MAX`].
pub(crate) const GIVEN_BACK_BYTES_MIN: u32 = 5;

/// The most WINDOW_UPDATEs that DATA of ours allows beside [`IDLE_FRAMES_CREDIT_MAX`], for the same reason.
pub(crate) const WINDOW_UPDATES_MAX: u32 = 1 << 16;

/// DATA frames that a peer may have sent for a stream before it knows that we closed it: its window, in frames of a small message. Met as
/// [`IDLE_FRAMES_MAX`].
pub(crate) const LATE_FRAMES_PER_STREAM: i32 =
    (STREAM_WINDOW_BYTES / SMALLEST_MESSAGE_BYTES).cast_signed();

/// Work with DATA in one round, in pieces and bytes: 64 bytes count 1. Met as: nothing.
pub(crate) const CONNECTION_TURN_DATA: usize = 16 * 1_024;

/// What a piece of DATA counts there, beside its bytes: it takes some 700 instructions. Met as: nothing.
pub(crate) const CONNECTION_TURN_DATA_PIECE: usize = 48;

/// Calls that a peer may cancel at once in ten seconds, for each stream that may be open: those that are answered, or older than 100 ms,
/// do not count. Met as: `GOAWAY(ENHANCE_YOUR_CALM)`.
pub(crate) const CANCELS_PER_STREAM_MAX: u32 = 4;

/// Bytes of requests that one stream may have on their way to us. Enough for one large publish batch within a
/// round trip. Met as: flow control.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Bytes of requests that one connection may have on their way to us. Bytes that were read and
/// wait for their call count against `CONNECTION_BYTES_MAX`. Met as: flow control.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Bytes of the smallest message that can be published, with the five before it. Met as: nothing; other limits are made of it.
pub(crate) const SMALLEST_MESSAGE_BYTES: u32 = 11;

/// How long a call waits for its first message, and for the rest of any message that was begun. Longer than a slow
/// line needs for the largest message; a call that never says anything would stay for ever. Not for the first message
/// of a stream of messages to publish, which may have nothing to say for hours. Met as: DEADLINE_EXCEEDED.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a call that takes one request message waits, after it, for the end of the request. gRPC's libraries send
/// both together. The wait finds a second message, which is an error of the caller's. Met as: an answer that comes
/// later by this, to callers that never half-close.
pub(crate) const REQUEST_END_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes that the server holds for the calls of one connection: frames, header fields and trailers, content that its call has not taken, messages that
/// have not come whole, and answers for which windows are too small. Sixteen of the largest messages, or a hundred streams with 150 KiB each. Within one
/// `CONNECTION_WINDOW_BYTES` of it the connection gets no more credit, and what waits for the store is waited for. A message that is the only one under
/// way in its direction may be larger. Met as: flow control; RESOURCE_EXHAUSTED for the largest call, when nothing else would go on, with a
/// pushback if its request has not come whole, and otherwise as `RST_STREAM(ENHANCE_YOUR_CALM)`.
pub(crate) const CONNECTION_BYTES_MAX: usize = 16 << 20;

/// The same for all connections together, in steps of 4 KiB a connection. Met as: the same, for the largest call of the connection that holds
/// most.
pub(crate) const HELD_BYTES_MAX: usize = 256 << 20;

/// A DATA frame below this many bytes costs a peer that uses Rust's h2 the difference to it for as long as the frame waits for its
/// reader. That is about the memory of its bookkeeping. See `connection/unread.rs`.
pub(crate) const SMALL_FRAME_BYTES: usize = 256;

/// The least cost of small frames that a counting peer allows, with the smallest window for the connection; the limit
/// is half of that window where this is more. Met as: pieces of 256 bytes.
pub(crate) const UNREAD_COST_LEAST: u64 = 100 * SMALL_FRAME_BYTES as u64;

/// Bytes that one connection collects before it writes them, so that many small frames are one write. Held only
/// while the socket takes no more, given back otherwise.
pub(crate) const STAGED_BYTES_MAX: usize = 64 * 1024;

/// DATA of at least this size goes to the socket without being copied first.
pub(crate) const STAGED_WRITE_BYTES_MAX: usize = 8 * 1024;

/// Bytes read from a socket at once, into a buffer that the thread's connections share.
pub(crate) const READ_BYTES_MAX: usize = 64 * 1024;

/// The same at first, and after a turn that left some of them: what is left is kept with the connection, and the kernel counts what is not
/// read. Some thirty calls, which are answered in five turns. Met as: nothing.
pub(crate) const READ_BYTES_MIN: u32 = 4 * 1024;

/// After a read that took all it may, the next may take as many times more: the largest reads begin with the third. Met as: nothing.
pub(crate) const READ_BYTES_GROWTH: u32 = 4;

/// Bytes that a stream is asked for at a time: fewer if its windows take fewer, since the rest would have to wait. Met as: nothing.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// The least part that a stream has of what all pieces of its connection may hold: of 16 MiB, 4,096 streams have it. Met as: nothing.
pub(crate) const PIECE_BYTES_LEAST: usize = 4 * 1024;

/// Bytes one stream hands over before the others of its connection have their turn.
pub(crate) const STREAM_TURN_BYTES: usize = 64 * 1024;

/// Bytes that the streams of a connection send before its socket is looked at, and after some such rounds other
/// connections have their turn.
pub(crate) const CONNECTION_TURN_BYTES: usize = 256 * 1024;

/// Heads of responses that the streams of a connection send in one round, and requests refused or calls cancelled in it. Met as: nothing.
pub(crate) const CONNECTION_TURN_HEADS: u32 = 16;

/// Turns of a connection whose answers are written together, while the peer has more to say. A call costs a third less than with one; with
/// eight a tenth less again, and the first answer waits for twice as many turns of all others. Met as: nothing.
pub(crate) const HELD_ANSWERS_TURNS: u8 = 4;

/// Collected bytes from which on nothing waits for the next turn: what waits is copied. Met as: nothing.
pub(crate) const HELD_ANSWERS_BYTES: usize = 16 * 1024;

/// Calls that reach their handlers before the other streams and other connections have their turn. Met as: nothing.
pub(crate) const CONNECTION_TURN_CALLS: u32 = 6;

/// How long a connection without streams stays after GOAWAY. A peer that follows HTTP/2 has closed it by then, and the
/// bytes of the last stream have gone out. Another peer must not hold up the end of the node. Met as: a closed
/// connection.
pub(crate) const GOAWAY_GRACE: Duration = Duration::from_secs(1);

/// How long the answer of a call that is no subscription waits for its stream's window, since its peer took something of it last. Longer than the
/// five minutes in which the slowest reader that is waited for reads what was written before. Met as: `RST_STREAM(CANCEL)`.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(6 * 60);

/// How long after its deadline a stream whose reader is stalled is reset. A reader that only has to catch up gets
/// the status within it. Met as: `RST_STREAM(CANCEL)`.
pub(crate) const STALLED_DEADLINE_GRACE: Duration = Duration::from_secs(1);

/// Rounds of a connection (its streams, then its socket) before other connections have their turn.
pub(crate) const CONNECTION_TURN_ROUNDS: u32 = 8;

/// How long flow control holds pending bytes before metrics say that the reader takes nothing. A reader that catches up
/// as fast as it can is held for a round trip again and again, which is shorter. Met as: nothing; it is only counted.
pub(crate) const HELD_TIME_MIN: Duration = Duration::from_millis(500);

/// A text that a peer has chosen, in a line of the log: a path, or what a status repeats of a request. Met as: a text that ends with dots.
pub(crate) const LOG_FIELD_BYTES_MAX: usize = 256;

/// Connections that ask for metrics at a time. A handful of watchers ask every few seconds and are answered within
/// milliseconds. Met as: a closed connection, for the oldest that has asked for nothing.
pub(crate) const METRICS_CONNECTIONS_MAX: usize = 16;

/// From the accepted connection to the end of the answer to its one request. As long as the usual scrape timeout; a
/// slower scraper would not take the answer any more. Met as: a closed connection.
pub(crate) const METRICS_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of the head of a request for metrics, the least that the HTTP/1 parser works with. Met as: 431, and a closed
/// connection.
pub const METRICS_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Headers of a request for metrics; a scraper sends half a dozen. Met as: 431, and a closed connection.
pub(crate) const METRICS_HEADERS_MAX: usize = 64;

/// Takeovers of one id by programs of version 1 within [`TAKEOVER_WINDOW`] that go through at once. A program that is
/// started again makes one, a client without an instance on a bad network a few. Two programs that ignore the order not
/// to come back make thousands. Met as: UNAVAILABLE with a wait that doubles with each refusal.
pub(crate) const TAKEOVERS_MAX: usize = 30;

/// The same for programs of the frozen contract, which come back on every end and cannot be told not to.
pub(crate) const LEGACY_TAKEOVERS_MAX: usize = 2;

/// The time within which takeovers are counted.
pub(crate) const TAKEOVER_WINDOW: Duration = Duration::from_secs(60);

/// The wait of the first that is refused ...
pub(crate) const TAKEOVER_WAIT_MIN: Duration = Duration::from_secs(1);

/// ... of the frozen contract ...
pub(crate) const LEGACY_TAKEOVER_WAIT_MIN: Duration = Duration::from_secs(5);

/// ... and the longest, by which the window is empty again.
pub(crate) const TAKEOVER_WAIT_MAX: Duration = TAKEOVER_WINDOW;

/// Takeovers within the window that are logged like anything else. From the next on it is a fight, which has a line of
/// its own and no others.
pub(crate) const TAKEOVERS_USUAL: usize = 2;

/// How often a fight over one id is logged at most.
pub(crate) const FIGHT_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How often fights over all ids together are logged at most. Met as: a count in the next line.
pub(crate) const FIGHT_LINES_INTERVAL: Duration = Duration::from_millis(100);

/// Subscribers that were unsubscribed while they were away and have not come back to be told: about 150 bytes each. Met
/// as: the one that was unsubscribed longest ago comes back as if it had not been.
pub(crate) const UNSUBSCRIBED_AWAY_MAX: usize = 100_000;

/// How long that is remembered: several times the longest wait of a client.
pub(crate) const UNSUBSCRIBED_AWAY_KEPT: Duration = Duration::from_secs(600);

/// Bytes of an `x-request-id` that are taken over into the log and the answer; a longer or unprintable one is
/// replaced by one of ours.
pub(crate) const REQUEST_ID_BYTES_MAX: usize = 128;

/// Largest request message that is not a publish: the longest 64 filters and 16 labels take 68 KiB. Met as: a call that is
/// refused with `REQUEST_TOO_LARGE`.
pub(crate) const REQUEST_BYTES_MAX: usize = 128 << 10;

/// Largest request of health and reflection: the name of a service, a file or a symbol, of which answers repeat some. And the most that may
/// wait behind a request of reflection whose answer is not taken. Met as: a call that is refused with `REQUEST_TOO_LARGE`.
pub(crate) const PROBE_REQUEST_BYTES_MAX: usize = 4 << 10;

/// Bytes of answers of one `Session` that wait for a reader that takes nothing: with these, no further request is read.
/// It is some three hundred requests, so such a reader can still add and remove all its topic filters and renew its credential. One
/// answer may go beyond it, by less than 2 KiB. Met as: flow control.
pub(crate) const SESSION_ANSWERS_BYTES_MAX: usize = 16 << 10;

/// The largest message with an event in a page, and the most bytes of a page: below the 4 MiB that gRPC clients take in
/// one message unless told otherwise. Met as: a page that ends early.
pub(crate) const PAGE_BYTES_MAX: u32 = 3 << 20;

/// The bytes of a page beside its events and names: some for each entry. Met as: nothing.
pub(crate) const PAGE_OVERHEAD_BYTES_MAX: u32 = 512 << 10;

/// How long a call waits for the budget of its page: pages that are taken are gone sooner. Met as: a call that is
/// refused with `PAGES_EXHAUSTED`.
pub(crate) const PAGE_WAIT: Duration = Duration::from_secs(1);
