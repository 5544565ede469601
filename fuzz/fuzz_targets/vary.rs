//! Lines of `Vary` give names in their one order.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::vary(bytes));
