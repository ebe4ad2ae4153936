//! `FLOORS`: remembers the removals of retention between two writes of `STATE`.
//!
//! Holds: removals are written down before a reader misses anything. So they stay removed with any limits of the next
//! process, and in any class of a topic, also when this one is killed.

use std::{io, path::PathBuf};

use longlived_topic::{TopicFilter, TopicName};

use super::{
    Shared,
    format::{self, ClassState, Floors, State},
    history::{Class, History},
};
use crate::{
    position::Sequence,
    store::{HistoryClass, Limits, RetentionConfig, retention::OTHERS},
};

/// The classes of the process before, while its log is taken over: a topic may have belonged to another.
#[derive(Debug)]
pub(super) struct Former {
    retention: RetentionConfig,
    floors: Vec<Sequence>,
}

impl Former {
    fn of(classes: &[ClassState]) -> Self {
        // The configured ones stand first, then the two built-in ones, then the rest of others.
        let others = classes.iter().position(|class| class.identity == OTHERS);
        let configured = others.map_or(0, |others| others.saturating_sub(1));
        let filters = classes[..configured]
            .iter()
            .filter_map(|class| TopicFilter::parse(&class.identity).ok());
        let classes_of = filters.map(|filter| HistoryClass {
            filter,
            limits: Limits::DEFAULT,
        });
        Self {
            retention: RetentionConfig::new(classes_of.collect()),
            floors: classes.iter().map(|class| class.floor).collect(),
        }
    }

    /// Nothing of a topic up to here was kept.
    pub(super) fn floor_of(&self, topic: &TopicName) -> Sequence {
        let class = self.retention.class_of(topic);
        self.floors.get(class).copied().unwrap_or(0)
    }
}

impl History {
    pub(super) fn class_states(&self) -> Vec<ClassState> {
        let state = |class: &Class| ClassState {
            identity: class.identity.clone(),
            floor: class.floor,
            floor_time: class.floor_time,
        };
        self.classes.iter().map(state).collect()
    }

    /// Takes over the classes of `STATE`, and the floors written down since.
    pub(super) fn recall_floors(&mut self, state: &State, floors: Option<&Floors>) {
        let newer = floors.filter(|floors| floors.version > state.version);
        self.version = self.version.max(newer.map_or(0, |newer| newer.version));
        let newest = newer.map_or(&state.classes, |newer| &newer.classes);
        for known in state.classes.iter().chain(newest) {
            let class = self.class_of_files(&known.identity);
            let class = &mut self.classes[class];
            class.floor = class.floor.max(known.floor);
            class.floor_time = class.floor_time.max(known.floor_time);
        }
        self.former = Some(Former::of(newest));
    }

    /// The log is taken over up to `last`.
    pub(super) fn forget_former(&mut self, last: Sequence) {
        self.former = None;
        for class in &mut self.classes {
            // A floor that was brought back alone from a later time must not hide events published from here on.
            class.floor = class.floor.min(last);
        }
    }
}

impl Shared {
    pub(super) fn floors_path(&self) -> PathBuf {
        self.config.dir.join("FLOORS")
    }

    /// Writes the floors down, with that of a class after removals that are planned, unless the disk has them.
    pub(super) fn write_floors(&self, planned: &Class) -> io::Result<()> {
        // Only the maintenance moves them.
        let mut classes = self.history.read().class_states();
        for class in &mut classes {
            if class.identity == planned.identity {
                class.floor = planned.floor;
                class.floor_time = planned.floor_time;
            }
        }
        if !self.floors_differ(&classes) {
            return Ok(());
        }
        let floors = Floors {
            version: self.history.write().next_version(),
            classes,
        };
        format::write(&*self.files, &self.floors_path(), &floors)?;
        self.floors_are_written(&floors.classes);
        Ok(())
    }

    fn floors_differ(&self, classes: &[ClassState]) -> bool {
        let written = self.floors_written.lock();
        let known = |class: &ClassState| written.get(&class.identity).copied().unwrap_or(0);
        classes.iter().any(|class| class.floor > known(class))
    }

    /// The disk has these.
    pub(super) fn floors_are_written(&self, classes: &[ClassState]) {
        let mut written = self.floors_written.lock();
        for class in classes {
            let known = written.entry(class.identity.clone()).or_default();
            *known = class.floor.max(*known);
        }
    }
}
