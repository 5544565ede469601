//! Conditions and ranges give a part of a page.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::part(bytes));
