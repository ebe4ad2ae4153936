//! The limit of open files: every connection is one.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit, which is often 1,024, to the hard one. Returns the limit that holds from now on.
pub fn raise() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    getrlimit(Resource::Nofile).current
}
