//! The longlived binary.

fn main() {}
