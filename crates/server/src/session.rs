//! One live call of a subscriber: how it begins, what it says, and what its client may ask of it.
//!
//! The body ([`body`]) owns the cursor and does the talking; others hold its handle, the
//! [`Session`](crate::registry::Session).

mod body;
mod opening;
mod requests;
mod tail;

pub(crate) use body::SessionBody;
pub(crate) use opening::{OpenError, Opening, open};
pub(crate) use requests::Requests as SessionRequests;
