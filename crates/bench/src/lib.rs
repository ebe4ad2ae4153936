//! `longlived bench`: the costs of a server, measured from outside. The binary calls [`run`].
//!
//! The server is a process of its own, the subscribers are another (or several), and both are pinned to
//! different cores, so that each figure belongs to one of them. The command itself only conducts:
//!
//! ```text
//! run      the requested measurement (args); it ends early when stop says so
//! -> measure -> rig        a server with all its subscribers
//!            -> security      certificates and auth files (of `--tls`, `--auth`)
//!            -> server        the process whose CPU time and memory are read (proc)
//!            -> load_process  `longlived bench load`, told what to do line by line (load::control)
//!                 -> load     one epoll loop over all its connections, and the publisher
//!                      -> http2   frames out and in, by hand; wire: the protocols of other servers
//!            -> repeat -> figures   runs; medians, text and JSON
//! fanout  -> health: checks beside the load; cores: the same load with the server pinned and not
//! handshakes -> rig, with the acceptor (`longlived bench acceptor`) in the server's place
//! publish -> server, load_process (`longlived bench publish-load`), figures
//! against -> the same rig with other servers in turns with ours, and the ratios of their figures
//! slow    -> server, load_process, figures: some that read beside many that do not
//! storm   -> server (killed and started again), load_process, figures; `--library`: `longlived bench storm-library`
//! store   -> commit: the store in this process; reopen, catchup: server, load_process (`longlived bench read-load`)
//! ```
//!
//! Holds: no module imports one that imports it, over however many others; a test in `tests/tidy` reads the imports.
//! Does not: use the client crate. A reader that decodes every event costs more than the server that sent it,
//! and then the load is measured. `catchup --library` and `storm --library` measure just that.

// Reading another process's CPU time and memory, and holding ten thousand sockets in one loop, is written for Linux
// alone.
#![cfg(target_os = "linux")]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod acceptor;
mod against;
mod args;
mod bare;
mod clock;
mod cores;
mod figures;
mod handshakes;
mod health;
mod http2;
mod load;
mod load_process;
mod measure;
mod pin;
mod proc;
mod publish;
mod refuse;
mod repeat;
mod retries;
mod rig;
mod room;
mod rows;
mod run;
mod security;
mod server;
mod setting;
mod slow;
mod stop;
mod store;
mod storm;
mod tokens;
mod wire;

pub use self::args::Args;
pub use self::run::run;
