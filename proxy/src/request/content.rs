//! The content of a QUERY (RFC 10008): it selects the page, as the query of a GET does.

use bytes::Bytes;

use crate::text::sha256_hex;

/// The content of a request, read whole. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    bytes: Bytes,
    digest: [u8; 64],
}

impl Content {
    /// The longest content that selects a page.
    pub(crate) const LONGEST: u64 = 64 << 10;

    pub(crate) fn new(bytes: Bytes) -> Self {
        let digest = sha256_hex(&bytes);
        Self { bytes, digest }
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its SHA-256, in hexadecimal.
    pub(crate) fn digest(&self) -> &[u8] {
        &self.digest
    }
}
