//! See `longlived_fuzzing::tokens`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| longlived_fuzzing::tokens(data));
