//! See `longlived_fuzzing::proxy_header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| longlived_fuzzing::proxy_header(data));
