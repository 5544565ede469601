//! The normal form of a request is normal.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::normalise(bytes));
