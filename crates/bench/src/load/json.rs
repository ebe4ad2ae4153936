//! A payload that is worth compressing: JSON of orders, whose names and times repeat and whose ids and prices do not.

use std::fmt::Write as _;

/// A document of `bytes`, always the same; zstd at its fastest makes a quarter of 4 KiB.
pub(super) fn payload(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut text = String::from("{\"orders\":[");
    while text.len() < bytes {
        let (id, customer, price, time) = (random(), random(), random(), random());
        write!(
            text,
            "{{\"id\":\"{id:016x}\",\"customer\":{},\"status\":\"{}\",\"price\":{}.{:02},\"currency\":\"EUR\",\
             \"placed_at\":\"2026-01-{:02}T{:02}:{:02}:{:02}Z\"}},",
            customer % 1_000_000,
            ["open", "paid", "shipped", "returned"][(customer >> 32) as usize % 4],
            price % 1_000,
            (price >> 20) % 100,
            time % 28 + 1,
            (time >> 8) % 24,
            (time >> 16) % 60,
            (time >> 24) % 60,
        )
        .expect("a String takes everything");
    }
    text.truncate(bytes);
    text.into_bytes()
}
