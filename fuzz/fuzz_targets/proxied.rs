//! No PROXY header is the beginning of another.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::proxied(bytes));
