//! No-Vary-Search says which parameters of a query select a page.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::search(bytes));
