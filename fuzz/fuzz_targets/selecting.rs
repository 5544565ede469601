//! The headers that a page varies on are compared.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::selecting(bytes));
