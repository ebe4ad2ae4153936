//! One live call of a subscriber: its beginning, its responses, and the requests of its client.
//!
//! The body ([`body`]) owns the cursor and writes the responses; others hold its handle, the
//! [`Session`](crate::registry::Session).

mod body;
mod open;
mod requests;
mod tail;

pub(crate) use self::open::{OpenError, OpenedSession, open};
pub(crate) use body::SessionBody;
pub(crate) use requests::Requests as SessionRequests;
