//! The values of real Django: pickles, read and written so that Django and the proxy share one cache.
//!
//! ```text
//! stored bytes ─ decompress ─▶ pickle ─ machine ─▶ heap ─ page, field, cookie ─▶ Page
//!              ◀─ compress ──          ◀─────────── write ─────────────────────
//! ```
//!
//! [`read_page`] and [`read_list`] run the opcodes of a pickle in a `machine` that builds plain data in a `heap` and can
//! do nothing else, and then look for what serving a page needs: by attributes, because sites have response classes of
//! their own. A value is untrusted: whatever it says, reading takes time and memory linear in its length.
//!
//! Django answers 500 to a value that it cannot read or serve, until the value expires. Here it is `None`, a miss; and
//! [`write_page`] writes nothing that Django would fail on.
//!
//! Pure: no clock, no log, no I/O.

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
pub use page::Page;
pub use write::{Protocol, write_list, write_page};

/// More names, and more bytes of them, than a `Vary` has. They bound what shared texts can grow to.
const MAX_NAMES: usize = 256;
const MAX_NAMES_LENGTH: usize = 16 << 10;

/// Reads the list of the headers that the pages of a path vary on, by Django's names for them: `HTTP_ACCEPT`. `None` for
/// all that is not a list or tuple of texts.
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

/// Reads a page; `None` for what Django takes as a miss, for what it answers with 500, and for what passes the bounds.
pub fn read_page(value: &Bytes) -> Option<Page> {
    let (heap, root) = machine::load(value)?;
    page::read(&heap, root)
}
