//! A response is stored under HTTP's policy, or is not.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::admission(bytes));
