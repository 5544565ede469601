//! What identifies a page besides its path: the query, a foreign host, and the values of the headers it varies on.

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use md5::{Digest as _, Md5};

use super::path::Marker;
use super::{hex, sha256_hex};
use crate::policy::{Authorization, Rule, has_authorization};
use crate::request::receive::{X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::request::site::Site;

/// The md5 of nothing, which most pages have: 0.1 us of each hit.
const NOTHING: &[u8; 32] = b"d41d8cd98f00b204e9800998ecf8427e";

/// The text that tells pages of one path apart: the query as sent, then a line for each further trait. No part can
/// hold a line feed (HTTP forbids it in targets and in header values), so the text can be read in one way only, and
/// a request with nothing but a query is told apart by just its query.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selection(pub(super) Vec<u8>);

impl Selection {
    /// The selection that the request alone makes, before any `Vary` is known.
    pub(crate) fn of(request: &Parts, rule: &Rule, site: &Site) -> Self {
        let mut text = Self(request.uri.query().unwrap_or_default().as_bytes().to_vec());
        let headers = &request.headers;
        if let Some(host) = headers.get(HOST).and_then(|host| site.foreign(host.as_bytes())) {
            text.line(b"host", &host);
        }
        // Only a trusted peer's are still here (forward::receive); the origin builds its links from them.
        for name in [X_FORWARDED_HOST, X_FORWARDED_PROTO] {
            if let Some(value) = headers.get(&name).filter(|value| value.as_bytes() != b"http") {
                text.line(name.as_str().as_bytes(), value.as_bytes());
            }
        }
        if rule.authorization == Authorization::Vary && has_authorization(headers) {
            text.header(&AUTHORIZATION, headers);
        }
        text
    }

    /// The selection of one variant: the same, under the marker's nonce, with the values of its headers.
    pub(crate) fn variant(&self, marker: &Marker, headers: &HeaderMap) -> Self {
        let mut text = self.clone();
        text.line(b"vary", marker.nonce.as_bytes());
        marker.vary.names().iter().for_each(|name| text.header(name, headers));
        text
    }

    fn line(&mut self, name: &[u8], value: &[u8]) {
        for part in [b"\n", name, b":", value] {
            self.0.extend_from_slice(part);
        }
    }

    /// One line a value. A header that is absent has no line, one that is empty has an empty one.
    fn header(&mut self, name: &HeaderName, headers: &HeaderMap) {
        headers.get_all(name).iter().for_each(|value| self.line(name.as_str().as_bytes(), value.as_bytes()));
    }

    /// Whether the path alone identifies the page.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The digest in the key: md5, as the article's key has it.
    pub(crate) fn digest(&self) -> [u8; 32] {
        if self.is_empty() {
            return *NOTHING;
        }
        let mut text = [0; 32];
        hex(&Md5::digest(&self.0), &mut text);
        text
    }

    /// The proof that is stored with the entry and compared on a hit.
    pub(crate) fn proof(&self) -> [u8; 64] {
        sha256_hex(&self.0)
    }
}
