//! From a socket to calls: listeners, and on each connection HTTP/2.
//!
//! Does not: know the meaning of a call, a status, a topic or a session; the service that answers is a parameter.

pub(crate) mod abort;
pub mod acceptor;
mod address;
pub(crate) mod bind;
pub mod connection;
pub mod connection_counts;
mod context;
pub mod listener;
pub(crate) mod open_files;
pub(crate) mod openings;
pub mod proxy;
pub(crate) mod services;
mod settings;
pub(crate) mod tls;
pub(crate) mod unix;
