//! One client of a fleet.
