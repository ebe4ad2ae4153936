//! See `longlived_fuzzing::sealed_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| longlived_fuzzing::sealed_file(data));
