//! The server's side of an HTTP/2 connection, without input and output: RFC 9113, with the header compression of RFC 7541.
//!
//! [`Connection`] takes the peer's bytes, one frame at a time, and gives [`Event`]s. Frames for the peer go into an [`Output`]
//! that the caller lends. There are no sockets, timers, tasks, locks or wakers here: the caller says what time it is, and asks
//! which streams may send.
//!
//! Responses are pulled: [`Connection::data`] takes what the windows allow and leaves the rest to the caller, who is told by
//! [`Connection::next_writable`] when there is more room. Nothing is queued.
//!
//! # How a message is read
//!
//! A request's head becomes an [`http::Request`] in the crate, since a header block may come in several frames. Its content is
//! handed on as it comes, borrowed from the caller's input. Informational rules of HTTP, such as which statuses have no content,
//! are the caller's.
//!
//! # Where RFC 9113 leaves a choice
//!
//! | section | choice | reason |
//! |---|---|---|
//! | 3.4 | SETTINGS are sent when the preface has come whole | a peer of another protocol gets nothing that it cannot read |
//! | 4.2, 5.4.1 | a frame of a wrong size ends the connection, also where a stream error would do | no implementation sends one |
//! | 4.3, 10.5.1 | a header list over the limit is decoded to its end and not built; a block over four times the limit in bytes ends the connection | the tables stay equal, and the work has an end |
//! | 4.3, 10.5.1 | a field name over 512 octets, or a pseudo-header field over 8,192, makes a list too large | what one call costs has a bound; RFC 9110, 4.1 asks for 8,000 |
//! | 5.1 | frames of streams that we reset, and of streams closed longer ago than 32 others, are ignored | an honest peer sent them before it knew |
//! | 5.1 | DATA and HEADERS after END_STREAM of both ends end the connection with STREAM_CLOSED; after the peer's own RST_STREAM they are answered with RST_STREAM | no race explains the first; the RFC asks for the second |
//! | 5.1.2 | a stream over the limit is reset with REFUSED_STREAM, also before our SETTINGS are acknowledged | the peer may send the request again |
//! | 5.3.2 | PRIORITY is ignored, but for a stream that depends on itself | the scheme is deprecated |
//! | 6.5.2 | unknown settings, and an ACK that was not asked for, are ignored | the first is a rule; the second says nothing |
//! | 6.5.3 | wider limits hold from sending them, narrower ones from the ACK; no ACK within [`Config::settings_timeout`] ends the connection | a peer cannot know earlier |
//! | 6.8 | a request that is not whole when the last stream is said is not handed on | the peer sends it again elsewhere (8.7) |
//! | 6.8 | an orderly end is GOAWAY with 2^31-1 and PING, then GOAWAY with the last stream at its ACK or after [`Config::go_away_timeout`] | streams on their way are taken |
//! | 6.9 | credit of the connection is given back as bytes come, credit of a stream as its call takes them, both at half a window | one call that takes nothing stops its own stream only |
//! | 6.9.2 | a change of SETTINGS_INITIAL_WINDOW_SIZE is one number for all streams | a peer that changes it again and again costs the same each time |
//! | 8.1 | a response that is complete before its request is followed by RST_STREAM(NO_ERROR) | the rest of the request is of no use |
//! | 8.1.1 | a malformed request is reset with PROTOCOL_ERROR and never reaches the caller | |
//! | 8.2.3 | several `cookie` fields become one | the caller's HTTP has no frames |
//! | 8.3.1 | `host` must equal `:authority` where both are given; a user in `:authority` is malformed | two names would be read by two programs |
//! | 8.3.1 | a request may have neither `:authority` nor `host` | the client must send one, but a request without is not malformed by 8.1.1 |
//! | RFC 7541, 4.2 | the encoder has no dynamic table, and says so in the first block | no state; some peers refuse other sizes |
//! | RFC 7541, 5.1 | integers have at most four octets after the first | none of ours is larger |

#![allow(
    clippy::disallowed_types,
    reason = "the caller's clock is used; none is read here"
)]

mod closed;
mod connection;
mod error;
mod event;
mod frame;
pub mod hpack;
mod output;
mod request;
mod settings;
mod slot;
mod streams;

pub use connection::{Connection, DATA_BYTES_MAX, GO_AWAY_PING, HEADS_MAX, Heads, Held};
pub use error::{ConnectionError, ErrorCode, StreamError};
pub use event::{Event, Opening, Received};
pub use frame::FrameType;
pub use output::{CONTROL_BYTES_MAX, Output};
pub use settings::Config;
pub use slot::Slot;
