//! One live call of a subscriber: its beginning, its responses, and the requests of its client.
//!
//! The body ([`body`]) owns the cursor and writes the responses; others hold its handle, the
//! [`Session`](crate::registry::Session).

mod body;
mod opening;
mod requests;
mod tail;

pub(crate) use body::SessionBody;
pub(crate) use opening::{OpenError, Opening, open};
pub(crate) use requests::Requests as SessionRequests;
