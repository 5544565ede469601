//! The Cache-Control of requests is read.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::wishes(bytes));
