//! The front reads no head that hyper would refuse, and none in another way.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::front(bytes));
