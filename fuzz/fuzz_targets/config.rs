//! A file of settings is a configuration, or is refused with reasons.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::config(bytes));
