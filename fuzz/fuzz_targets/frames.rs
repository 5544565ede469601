//! A connection of HTTP/2 ends when its client has left, and its requests can be written as HTTP/1.1.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::frames(bytes));
