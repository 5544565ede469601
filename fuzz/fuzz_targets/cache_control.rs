//! Lines of `Cache-Control` and one of `Expires` give a page an age.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::cache_control(bytes));
