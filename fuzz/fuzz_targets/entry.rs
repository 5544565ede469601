//! A stored value is an entry, a marker or nothing.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::entry(bytes));
