//! Planted faults: wrong behaviour that a test must find. `.ci/faults` plants one after the other and names the tests
//! that fell over it; a fault that no test finds shows a missing test.
//!
//! Holds: a build without `--cfg longlived_faults` has none of it: [`planted`] is a constant there, and the code behind
//! it is not compiled in. With it, `LONGLIVED_FAULT` names the one fault of the process.
//! Does not: break the code around it.
//!
//! A mistake that files, a store or a size can make is planted in front of them: `FaultyFiles` stands before the files
//! of a disk store, `faulty_log` puts another store before that of a log and changes its sizes. The others stand inside,
//! in a line or two where the mistake would be made, because nothing outside can make them. What a store writes into its
//! files and believes when it reads them again (checksums, numbers that were given out, holes, the end of the log, the
//! order in which it names and removes files, publish times) is whole or damaged seen from outside, never mistaken. What
//! the sequencer, its live tails and a cursor keep to themselves (ids of a batch that failed, the place where a live tail
//! begins, cached matches, readers that are left out, where a resumed cursor stands and what it passes) crosses no
//! trait. The same holds for the order of responses in a session and for the registry.

#[cfg(longlived_faults)]
mod files;
#[cfg(longlived_faults)]
mod log;

#[cfg(longlived_faults)]
pub(crate) use {files::FaultyFiles, log::faulty_log};

macro_rules! faults {
    ($($(#[doc = $what:literal])+ $fault:ident = $name:literal,)+) => {
        /// A mistake that a programmer could make.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[doc = $what])+ $fault,)+
        }

        #[cfg(longlived_faults)]
        const NAMES: &[(&str, Fault)] = &[$(($name, Fault::$fault)),+];
    };
}

faults! {
    /// A batch is answered before it is synced.
    AcknowledgeBeforeSync = "acknowledge_before_sync",
    /// The part of a torn batch that has reached the disk is taken for a batch.
    TornTailKept = "torn_tail_kept",
    /// The checksum of the bytes read for a subscriber is not checked.
    DamageServed = "damage_served",
    /// The numbers of a damaged last batch are given out again.
    NumberReusedAfterDamage = "number_reused_after_damage",
    /// A log whose end is missing is taken for a shorter one.
    EndOfLogNotMissed = "end_of_log_not_missed",
    /// A batch that failed leaves its numbers as the last of its topics.
    NoRollback = "no_rollback",
    /// Files are removed that the disk still names.
    DeleteBeforeFloor = "delete_before_floor",
    /// A segment is removed before its sealed files are named.
    SegmentRemovedUnnamed = "segment_removed_unnamed",
    /// A sealed file is not synced before its segment is removed.
    SealedNotSynced = "sealed_not_synced",
    /// The name of a new segment is not synced before batches in it are acknowledged.
    DirectoryNotSynced = "directory_not_synced",
    /// Removed events come back after a restart.
    FloorForgottenAtRestart = "floor_forgotten_at_restart",
    /// Damage that was found is no more known after a restart.
    DamageForgottenAtRestart = "damage_forgotten_at_restart",
    /// Publishing goes on where the reserve of the disk begins.
    ReserveIgnored = "reserve_ignored",
    /// Publish times follow a clock that is set back.
    TimeGoesBack = "time_goes_back",
    /// The message ids of sealed segments are not written down.
    IdsLostWhenSealed = "ids_lost_when_sealed",
    /// Retention does not note which topic has lost something.
    TrimWithoutGap = "trim_without_gap",
    /// An event names the one before it in the log, and not on its topic.
    PreviousSequenceWrong = "previous_sequence_wrong",
    /// The store's message ids are not taken over at a start.
    DedupeForgottenAtRestart = "dedupe_forgotten_at_restart",
    /// A message id that was seen gets a number again.
    DuplicateGetsNewNumber = "duplicate_gets_new_number",
    /// The same message id by another principal counts as a duplicate.
    DedupeAcrossPrincipals = "dedupe_across_principals",
    /// Ids beyond the window's age are kept.
    DedupeNeverExpires = "dedupe_never_expires",
    /// The ids of a batch that was not stored count as seen.
    FailedIdRemembered = "failed_id_remembered",
    /// Publishers do not wait for a place in the queue.
    QueueUnbounded = "queue_unbounded",
    /// The live tails keep more than they may.
    TailsGrow = "tails_grow",
    /// Readers are told of a batch that is not stored yet.
    VisibleBeforeStored = "visible_before_stored",
    /// A new live tail claims one event more than it has.
    SeamLoses = "seam_loses",
    /// A known topic's live tails are not looked up again when a wildcard is linked.
    MatchCacheKept = "match_cache_kept",
    /// A tail does not say that it has let something go.
    StalledReaderSkips = "stalled_reader_skips",
    /// A reader that was left out of wake-ups stays out.
    LeftOutForGood = "left_out_for_good",
    /// A resumed subscription begins one event late.
    ResumeOffByOne = "resume_off_by_one",
    /// A resumed subscription begins with the last event it had.
    ResumeRepeats = "resume_repeats",
    /// A position of another history is taken for one of this.
    EpochIgnored = "epoch_ignored",
    /// Before the gap that tells of another epoch a stream names positions of that epoch.
    WelcomeInTheNewEpoch = "welcome_in_the_new_epoch",
    /// A filter that is added begins with the next event, ahead of a stream that catches up.
    AddedAheadOfTheStream = "added_ahead_of_the_stream",
    /// Something else is said between a reset and its gap.
    ResetGapLater = "reset_gap_later",
    /// A gap covers the first event that is kept.
    GapBoundsOffByOne = "gap_bounds_off_by_one",
    /// One full filter of several: the position passes its remaining events.
    MergePassesWhatIsLeft = "merge_passes_what_is_left",
    /// A position is brought to the last sequence although an event before it is pending.
    SettlePassesPending = "settle_passes_pending",
    /// A Progress names the sequence that comes next.
    ProgressBeyondVisible = "progress_beyond_visible",
    /// A session that ends late takes its successor's place with it.
    LateEndEvictsSuccessor = "late_end_evicts_successor",
}

/// Whether this process is to make a mistake.
#[cfg(not(longlived_faults))]
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "nothing of it may be left, in any build"
)]
pub const fn planted(_: Fault) -> bool {
    false
}

/// Whether this process is to make a mistake. A name that is none ends it, and the error lists those that are.
#[cfg(longlived_faults)]
pub fn planted(fault: Fault) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Fault>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(chosen) == Some(fault)
}

#[cfg(longlived_faults)]
fn chosen() -> Option<Fault> {
    use std::io::Write as _;

    let name = std::env::var("LONGLIVED_FAULT").ok()?;
    let found = NAMES.iter().find(|(known, _)| *known == name);
    if found.is_none() {
        let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        let names = names.join(" ");
        // Not by `eprintln`, which a test harness keeps to itself; and a panic would only end the task that asked.
        writeln!(
            std::io::stderr(),
            "LONGLIVED_FAULT is `{name}`; it must be one of: {names}"
        )
        .ok();
        std::process::exit(2);
    }
    found.map(|(_, fault)| *fault)
}
