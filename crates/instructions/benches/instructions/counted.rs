//! The one function inside which instructions are counted: callgrind is told its name (`.ci/instructions`).

use std::hint::black_box;

/// Runs `work`, counted under callgrind.
// Not generic and never inlined, so that it has one name; no call is its last act, so that it is seen to return.
#[inline(never)]
pub(crate) fn counted(work: &mut dyn FnMut()) {
    work();
    black_box(());
}
