//! A handshake without a certificate ends, whatever it asks for.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::hello(bytes));
