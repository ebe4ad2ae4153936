//! Lines of libraries in the log. Peers may provoke them, and nothing in a library bounds them.
//!
//! Holds: of each module of a library, and each level, some lines a second are written, and one line tells how many were left out.
//! Does not: touch lines of our own crates, which bound theirs by kind.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

/// Lines of one kind in a second: enough to see what happens.
const LINES_MAX: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// Lets some lines of each kind through.
pub(super) struct LibraryLines {
    kinds: Mutex<HashMap<(&'static str, Level), Kind>>,
    /// Tells how many lines of a module were left out.
    tell: fn(target: &str, lines: u64),
}

struct Kind {
    began: Instant,
    lines: u32,
    left_out: u64,
}

impl LibraryLines {
    pub(super) fn new(tell: fn(&str, u64)) -> Self {
        Self {
            kinds: Mutex::default(),
            tell,
        }
    }

    fn lets_through(&self, target: &'static str, level: Level, now: Instant) -> bool {
        if target.starts_with("longlived") {
            return true;
        }
        let mut kinds = self.kinds.lock();
        let kind = kinds.entry((target, level)).or_insert(Kind {
            began: now,
            lines: 0,
            left_out: 0,
        });
        let mut left_out = 0;
        if now.saturating_duration_since(kind.began) >= SECOND {
            kind.began = now;
            kind.lines = 0;
            left_out = std::mem::take(&mut kind.left_out);
        }
        kind.lines += 1;
        let passes = kind.lines <= LINES_MAX;
        if !passes {
            kind.lines = LINES_MAX;
            kind.left_out += 1;
        }
        drop(kinds);
        if left_out > 0 {
            (self.tell)(target, left_out);
        }
        passes
    }
}

impl<S: Subscriber> Filter<S> for LibraryLines {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::always()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        self.lets_through(metadata.target(), *metadata.level(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::*;

    #[test]
    fn a_library_has_ten_lines_a_second_of_each_kind_and_we_have_ours() {
        static TOLD: AtomicU64 = AtomicU64::new(0);
        let lines = LibraryLines::new(|target, lines| {
            assert_eq!(target, "hyper::server");
            TOLD.fetch_add(lines, SeqCst);
        });
        let now = Instant::now();
        let passed = |target, level, at| {
            (0..100)
                .filter(|_| lines.lets_through(target, level, at))
                .count()
        };
        assert_eq!(passed("hyper::server", Level::WARN, now), 10);
        assert_eq!(passed("hyper::server", Level::DEBUG, now), 10);
        assert_eq!(passed("longlived::call", Level::INFO, now), 100);
        assert_eq!(passed("longlived_server::transport", Level::WARN, now), 100);
        assert_eq!(TOLD.load(SeqCst), 0);
        assert_eq!(passed("hyper::server", Level::WARN, now + SECOND), 10);
        assert_eq!(TOLD.load(SeqCst), 90);
    }
}
