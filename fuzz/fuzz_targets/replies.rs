//! Replies of Redis are read alike however they arrive.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::replies(bytes));
