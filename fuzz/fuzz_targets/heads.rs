//! Heads end, or are refused, in the same way however their bytes come.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::heads(bytes));
