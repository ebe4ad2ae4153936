//! What one connection makes its task do in one turn, for each kind of frames that make a server work.
//!
//! A turn is one poll of the connection's task. Callgrind counts each, and `.ci/instructions` takes the dearest: other connections wait
//! for as long.
//!
//! Does not: have anything to deliver.

use std::hint::black_box;

use longlived_testkit::attacks::Attack;
use longlived_testkit::frames::{WINDOW_INITIAL, hello};

use crate::world::{World, store_with};

/// What is counted.
pub(crate) const OPERATION: &str = "turn";
/// Bytes of frames that come at once: those of several turns.
const BYTES: usize = 64 << 10;

/// The name of the scenario, in one word.
pub(crate) fn name(attack: &Attack) -> String {
    let words = attack.name.replace(',', "").to_lowercase();
    format!("turn_{}", words.replace(' ', "_"))
}

/// One attacker.
pub(crate) fn serve(attack: &Attack) -> usize {
    let mut world = World::new(|environment| store_with(0, environment));
    let attacker = world.open();
    attacker.say(&hello(WINDOW_INITIAL));
    attacker.say(&(attack.begin)());
    world.settle();
    begun();
    let mut bytes = Vec::new();
    let mut round = 0;
    while bytes.len() < BYTES {
        bytes.extend((attack.round)(round));
        round += 1;
    }
    attacker.say(&bytes);
    world.settle();
    assert!(
        attacker.is_heard(),
        "the server reads what is said, or ends the connection"
    );
    1
}

/// Turns before this do not count: `.ci/instructions` is told its name.
#[inline(never)]
fn begun() {
    black_box(());
}
