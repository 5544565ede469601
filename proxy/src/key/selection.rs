//! What identifies a page besides its path: the query, a foreign host, and the values of the headers it varies on.

use hyper::header::{AUTHORIZATION, HeaderName};
use md5::{Digest as _, Md5};
use smallvec::SmallVec;

use super::path::PathMarker;
use crate::policy::{Authorization, Rule, has_authorization};
use crate::request::receive::{X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::request::site::Site;
use crate::request::{Lines, Question};
use crate::text::hex;

/// The md5 of nothing, which most pages have: 0.1 us of each hit.
const NOTHING: &[u8; 32] = b"d41d8cd98f00b204e9800998ecf8427e";

/// The text that tells pages of one path apart: the query as sent, then a line for each further trait. No part can
/// hold a line feed (HTTP forbids it in targets and in header values), so the text can be read in one way only, and
/// a request with nothing but a query is told apart by just its query.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selection(SmallVec<[u8; 128]>);

impl Selection {
    /// The selection that the request alone makes, before any `Vary` is known.
    pub(crate) fn of(question: &Question<'_>, rule: &Rule, site: &Site) -> Self {
        let mut text = Self(SmallVec::from_slice(question.query.as_bytes()));
        if let Some(host) = site.foreign(question.authority) {
            text.line(b"host", &host);
        }
        let lines = question.lines;
        // Only a trusted peer's are among the lines; the origin builds its links from them.
        for name in [X_FORWARDED_HOST, X_FORWARDED_PROTO] {
            if let Some(value) = lines.get(&name).filter(|value| *value != b"http") {
                text.line(name.as_str().as_bytes(), value);
            }
        }
        if rule.authorization == Authorization::Vary && has_authorization(lines) {
            text.header(&AUTHORIZATION, lines);
        }
        text
    }

    /// The selection of one variant: the same, under the marker's nonce, with the values of its headers.
    pub(crate) fn variant(&self, marker: &PathMarker, lines: Lines<'_>) -> Self {
        let mut text = self.clone();
        text.line(b"vary", marker.nonce.as_bytes());
        marker.vary.names().iter().for_each(|name| text.header(name, lines));
        text
    }

    fn line(&mut self, name: &[u8], value: &[u8]) {
        for part in [b"\n", name, b":", value] {
            self.0.extend_from_slice(part);
        }
    }

    /// One line a value. A header that is absent has no line, one that is empty has an empty one.
    fn header(&mut self, name: &HeaderName, lines: Lines<'_>) {
        lines.get_all(name).for_each(|value| self.line(name.as_str().as_bytes(), value));
    }

    /// Whether the path alone identifies the page.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
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
}
