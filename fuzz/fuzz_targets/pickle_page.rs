//! Any bytes give a page, a list or nothing; and a page that is written again reads as it was.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use proxy::pickle::{PickledPage, Protocol, read_list, read_page, write_list, write_page};

fuzz_target!(|input: &[u8]| {
    let value = Bytes::copy_from_slice(input);
    if let Some(names) = read_list(&value) {
        assert_eq!(read_list(&write_list(&names)), Some(names));
    }
    let Some(page) = read_page(&value) else { return };
    let Some(written) = write_page(&page, Protocol::Five) else { return };
    let back = read_page(&written).expect("what is written is a page");
    // Some fields are left out.
    assert_eq!(PickledPage { headers: Vec::new(), ..back }, PickledPage { headers: Vec::new(), ..page });
});
