//! Two requests have keys that tell them apart.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::key(bytes));
