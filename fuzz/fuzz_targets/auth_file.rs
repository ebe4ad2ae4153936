//! See `longlived_fuzzing::auth_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| longlived_fuzzing::auth_file(data));
