//! Acceptor, connections and layers, seen from the other end of the socket.

mod acceptor;
mod accounts;
mod ages;
mod attacks;
mod blocked;
mod buffering;
mod calls;
mod drain;
mod establishing;
mod floods;
mod following;
mod generated;
mod liveness;
mod log;
mod piped;
mod portions;
mod proxy_headers;
mod refused;
mod slow_reader;
mod stalls;
mod strangers;
mod support;
mod windows;
