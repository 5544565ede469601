//! Targets with bytes that clients send and `http::Uri` refuses: a raw `"`, `<`, `>` or `` ` ``.
//!
//! hyper reads such a target with a stand-in for each of these bytes, and the handler gets the target as it was sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Request;

use super::scan::HeadFault;

/// Valid in paths and in queries.
const STAND_IN: char = '_';

/// Whether `http::Uri` refuses a character in paths, or in queries, though clients send it.
fn is_hidden(character: char) -> bool {
    matches!(character, '"' | '<' | '>' | '`')
}

/// The target as the client sent it, in the extensions of a request whose `Uri` cannot hold it.
#[derive(Clone, Debug)]
pub struct SentTarget(Arc<str>);

impl SentTarget {
    /// A target as hyper reads it: with stand-ins for the bytes that it refuses.
    pub fn stand_in(target: &str) -> String {
        target.chars().map(|c| if is_hidden(c) { STAND_IN } else { c }).collect()
    }

    /// Path and query.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SentTarget {
    fn from(target: &str) -> Self {
        Self(target.into())
    }
}

/// A byte that hyper does not see, and its place in the target.
type Hidden = (usize, u8);

/// The number of a request on its connection, from 1, and its hidden bytes.
type OfRequest = (u64, Vec<Hidden>);

/// The hidden bytes of the requests of a connection, until hyper has read these requests. The reader of the connection and
/// the service share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct HiddenBytes(Arc<Mutex<VecDeque<OfRequest>>>);

/// The first line of a request as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct FirstLine {
    within: Within,
    hidden: Vec<Hidden>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Within {
    #[default]
    Method,
    Target {
        at: usize,
        is_path: bool,
    },
    Version,
}

impl FirstLine {
    /// Takes a part of the line, and puts stand-ins into it.
    pub(crate) fn take(&mut self, piece: &mut [u8]) -> Result<(), HeadFault> {
        for byte in piece {
            self.within = match (self.within, *byte) {
                (Within::Method, b' ') => Within::Target { at: 0, is_path: false },
                (Within::Target { .. }, b' ' | b'\r' | b'\n') => Within::Version,
                (Within::Target { at, is_path }, seen) => {
                    let is_path = if at == 0 { seen == b'/' } else { is_path };
                    match (is_hidden(seen.into()), seen) {
                        (false, ..=b' ' | b'#' | 0x7f) => return Err(HeadFault::BadTarget),
                        (false, _) => {}
                        (true, _) if is_path => {
                            self.hidden.push((at, std::mem::replace(byte, STAND_IN as u8)))
                        }
                        (true, _) => return Err(HeadFault::BadTarget),
                    }
                    Within::Target { at: at + 1, is_path }
                }
                (within, _) => within,
            };
        }
        Ok(())
    }

    /// Ends the line of the request of this number.
    pub(crate) fn end(&mut self, number: u64, hidden: &HiddenBytes) {
        let Self { hidden: bytes, .. } = std::mem::take(self);
        if !bytes.is_empty() {
            hidden.0.lock().unwrap_or_else(PoisonError::into_inner).push_back((number, bytes));
        }
    }
}

impl HiddenBytes {
    /// Gives the request of this number its target, if hyper has read another.
    pub(crate) fn restore<B>(&self, number: u64, request: &mut Request<B>) {
        let mut hidden = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hidden.front().is_none_or(|(of, _)| *of != number) {
            return;
        }
        let Some((_, bytes)) = hidden.pop_front() else { return };
        let mut target = request.uri().to_string().into_bytes();
        for (at, byte) in bytes {
            target[at] = byte;
        }
        // The target stays UTF-8: an ASCII character took the place of another.
        if let Ok(target) = String::from_utf8(target) {
            request.extensions_mut().insert(SentTarget::from(&*target));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line as hyper reads it if it comes in pieces of this size, and the target that the handler gets.
    fn read(line: &[u8], size: usize) -> Result<(String, Option<String>), HeadFault> {
        let (mut line, mut first, hidden) = (line.to_vec(), FirstLine::default(), HiddenBytes::default());
        line.chunks_mut(size).try_for_each(|piece| first.take(piece))?;
        first.end(1, &hidden);
        let text = String::from_utf8(line).unwrap();
        let mut request = Request::builder().uri(text.split(' ').nth(1).unwrap()).body(()).unwrap();
        hidden.restore(1, &mut request);
        let sent = request.extensions().get::<SentTarget>().map(|sent| sent.as_str().to_owned());
        Ok((request.uri().to_string(), sent))
    }

    #[test]
    fn a_target_is_read_with_stand_ins_and_handled_as_it_was_sent() {
        for (target, uri) in [
            ("/", "/"),
            ("/a?b=c", "/a?b=c"),
            ("/\"<>`?\"<>`", "/____?____"),
            ("/{^|}\\[]?{^|}\\[]", "/{^|}\\[]?{^|}\\[]"),
            ("/?filter={\"id\":1}", "/?filter={_id_:1}"),
            ("/caf\u{e9}\"", "/caf\u{e9}_"),
            ("/%22_?", "/%22_?"),
            ("http://a/b?c", "http://a/b?c"),
        ] {
            for size in [1, 3, 1000] {
                let (read, sent) = read(format!("GET {target} HTTP/1.1\r\n").as_bytes(), size).unwrap();
                assert_eq!((read.as_str(), sent.as_deref().unwrap_or(&read)), (uri, target));
            }
        }
    }

    #[test]
    fn bytes_that_no_target_has_are_a_fault() {
        for target in ["/#", "/a?b#c", "/\0", "/\t", "/\u{7f}", "http://a/\"", "http://a\"b/", "\"", "*`"] {
            for size in [1, 1000] {
                let fault = read(format!("GET {target} HTTP/1.1\r\n").as_bytes(), size);
                assert_eq!(fault.unwrap_err(), HeadFault::BadTarget, "{target:?}");
            }
        }
    }

    #[test]
    fn hidden_bytes_are_given_to_their_own_request() {
        let hidden = HiddenBytes::default();
        for (number, line) in [(1, "GET /a HTTP/1.1"), (2, "GET /\" HTTP/1.1"), (3, "GET /< HTTP/1.1")] {
            let mut first = FirstLine::default();
            first.take(&mut line.as_bytes().to_vec()).unwrap();
            first.end(number, &hidden);
        }
        for (number, expected) in [(1, None), (2, Some("/\"")), (3, Some("/<"))] {
            let mut request = Request::builder().uri(if number == 1 { "/a" } else { "/_" }).body(()).unwrap();
            hidden.restore(number, &mut request);
            assert_eq!(request.extensions().get::<SentTarget>().map(SentTarget::as_str), expected);
        }
    }
}
