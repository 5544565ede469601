//! Reads and writes the pickles that Django stores, so that Django and the proxy share one cache.
//!
//! ```text
//! stored bytes ─ decompress ─▶ pickle ─ machine ─▶ heap ─ page, field, cookie ─▶ PickledPage
//!              ◀─ compress ──        ◀──────────────── write ────────────────────
//! ```
//!
//! [`read_page`] and [`read_list`] run the opcodes of a pickle in a `machine` that can only build plain data in a
//! `heap`. They then look for the attributes of a response, whatever its class, because sites have response classes
//! of their own. A value is untrusted: reading takes time and memory linear in its length, whatever it contains.
//!
//! If Django cannot read or serve a value, it answers 500 until the value expires. The proxy takes such a value as a
//! miss, and [`write_page`] writes nothing that Django would fail on.
//!
//! This module uses no clock, no log and no I/O.

mod compress;
mod cookie;
mod cursor;
mod field;
mod heap;
mod literal;
mod machine;
mod object;
mod opcode;
mod page;
mod write;

use bytes::Bytes;

pub use compress::{Compressor, compress, decompress};
pub use page::PickledPage;
pub use write::{Protocol, write_list, write_page};

/// The most names of a list, and the most bytes of all its names: more than any `Vary` has. Without these bounds a
/// short value could repeat one text many times.
const MAX_NAMES: usize = 256;
const MAX_NAMES_LENGTH: usize = 16 << 10;

/// Reads the list of request headers that the pages of a path vary on, with Django's names: `HTTP_ACCEPT`. `None` for
/// everything that is not a list or tuple of texts.
pub fn read_list(value: &Bytes) -> Option<Vec<String>> {
    let (heap, root) = machine::load(value)?;
    let list = object::sequence(&heap, root).filter(|list| heap.len(*list) <= MAX_NAMES)?;
    let mut length = 0;
    heap.items(list)
        .map(|name| {
            let name = heap.text(name)?;
            length += name.len();
            (length <= MAX_NAMES_LENGTH).then(|| name.to_owned())
        })
        .collect()
}

/// Reads a page. `None` for a value that Django takes as a miss or answers with 500, and for one beyond the bounds.
pub fn read_page(value: &Bytes) -> Option<PickledPage> {
    let (heap, root) = machine::load(value)?;
    page::read(&heap, root)
}
