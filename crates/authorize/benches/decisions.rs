//! What a decision costs, by hand: `cargo bench -p longlived-authorize`.

fn main() {}
