//! Any bytes decompress to no more than the limit, or to nothing.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use proxy::pickle::decompress;

const LIMIT: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    if let Some(value) = decompress(&Bytes::copy_from_slice(input), LIMIT) {
        assert!(value.len() <= LIMIT);
    }
});
