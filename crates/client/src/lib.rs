//! Introduced with its parts.
