//! See `longlived_fuzzing::log_records`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| longlived_fuzzing::log_records(data));
