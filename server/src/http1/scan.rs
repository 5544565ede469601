//! The heads of requests as they come over the wire, line by line, before hyper reads them.
//!
//! hyper refuses most bad heads. Four things are left to do. It drops a length beside chunks without a word, where RFC 9112
//! §6.1 wants the request refused, since a proxy in front may have used the length. It has one limit for targets and heads
//! together. It has no deadline for a head. And it refuses targets that clients do send. So the scan follows heads as far as
//! needed: where lines end, how many there are, how the body is framed, and which bytes of a target hyper may see.

use memchr::memchr;

use super::target::{FirstLine, HiddenBytes};
use crate::limits::ClientLimits;

/// How much of a line is kept when it comes in pieces: a Content-Length with its number is far shorter.
const KEPT: usize = 64;

/// Why a head is refused. No byte behind it on the connection is read as a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadFault {
    /// It could mean two things.
    Ambiguous,
    /// hyper cannot read it.
    NotHttp,
    /// The target has bytes that no target may have.
    BadTarget,
    /// Its end did not come in time.
    Late,
    /// The first line is too long.
    TargetTooLong,
    /// It has too many bytes.
    TooLarge,
    /// It has too many lines.
    TooMany,
}

/// The reader's place in the requests of a connection.
#[derive(Debug)]
pub(crate) struct Heads {
    limits: ClientLimits,
    place: Place,
    first: FirstLine,
    head: Head,
    line: Line,
    ended: u64,
    hidden: HiddenBytes,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Head,
    /// A body, and how much of it is to come.
    Body(u64),
    /// Chunks, or the bytes that a client sends after it has asked for another protocol. Neither is followed: the connection
    /// ends after the request.
    Unfollowed,
}

/// The part of a head that has arrived.
#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    lines: usize,
    is_chunked: bool,
    /// Whether the head asks for another protocol. HTTP/2 does not count: the server does not speak it here, so an ordinary
    /// request follows.
    is_upgrade: bool,
    length: Option<u64>,
}

/// The beginning of a line that is not whole yet.
#[derive(Debug)]
struct Line {
    start: [u8; KEPT],
    length: usize,
}

impl Heads {
    /// Starts a scan that puts the bytes of targets that hyper does not see into `hidden`.
    pub(crate) fn new(limits: ClientLimits, hidden: HiddenBytes) -> Self {
        let line = Line { start: [0; KEPT], length: 0 };
        let (first, head) = (FirstLine::default(), Head::default());
        Self { limits, place: Place::Head, first, head, line, ended: 0, hidden }
    }

    /// How many heads have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.ended
    }

    /// Whether a head has begun and not ended.
    pub(crate) fn is_inside(&self) -> bool {
        self.head.bytes > 0
    }

    /// Whether a head or a body has begun and not ended.
    pub(crate) fn is_within(&self) -> bool {
        self.is_inside() || !matches!(self.place, Place::Head)
    }

    /// Takes the bytes that came. An error says why a head is refused, and where it begins, if it begins in these bytes.
    pub(crate) fn take(&mut self, bytes: &mut [u8]) -> Result<(), (Option<usize>, HeadFault)> {
        let (mut at, mut head_at) = (0, None);
        while at < bytes.len() {
            let rest = &mut bytes[at..];
            at += match self.place {
                Place::Unfollowed => return Ok(()),
                Place::Body(left) => self.skip(left, rest.len()),
                Place::Head => {
                    if self.head.bytes == 0 {
                        head_at = Some(at);
                    }
                    self.piece(rest).map_err(|refusal| (head_at, refusal))?
                }
            };
        }
        Ok(())
    }

    fn skip(&mut self, left: u64, available: usize) -> usize {
        let count = usize::try_from(left).map_or(available, |left| left.min(available));
        self.place = match left - count as u64 {
            0 => Place::Head,
            left => Place::Body(left),
        };
        count
    }

    /// Takes a line, or the part of it that is there, and returns its length.
    fn piece(&mut self, rest: &mut [u8]) -> Result<usize, HeadFault> {
        let (piece, is_end) = match memchr(b'\n', rest) {
            Some(end) => (&mut rest[..=end], true),
            None => (rest, false),
        };
        if self.head.lines == 0 {
            // Bytes beyond the limit do not count, so that a line has one fault however it is split.
            let room = self.limits.request_line.saturating_sub(self.head.bytes).min(piece.len());
            self.first.take(&mut piece[..room])?;
        }
        self.head.bytes += piece.len();
        if self.head.lines == 0 && self.head.bytes > self.limits.request_line {
            return Err(HeadFault::TargetTooLong);
        }
        if self.head.bytes > self.limits.head {
            return Err(HeadFault::TooLarge);
        }
        if is_end && self.line.length == 0 {
            self.line_ends(piece)?;
        } else {
            self.line.push(piece);
            if is_end {
                let line = std::mem::replace(&mut self.line.length, 0);
                let start = self.line.start;
                self.line_ends(&start[..line.min(KEPT)])?;
            }
        }
        Ok(piece.len())
    }

    fn line_ends(&mut self, line: &[u8]) -> Result<(), HeadFault> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (line.is_empty(), self.head.lines) {
            // Old clients send one empty line after a POST (RFC 9112 §2.2). No client sends more.
            (true, 0) if self.head.bytes <= 2 => Ok(()),
            (true, 0) => Err(HeadFault::Ambiguous),
            (true, _) => self.head_ends(),
            (false, lines) => {
                if lines == 0 {
                    self.first.end(self.ended + 1, &self.hidden);
                }
                if lines > self.limits.headers {
                    return Err(HeadFault::TooMany);
                }
                self.head.lines += 1;
                self.head.header(line)
            }
        }
    }

    fn head_ends(&mut self) -> Result<(), HeadFault> {
        self.ended += 1;
        let head = std::mem::take(&mut self.head);
        self.place = match (head.is_chunked, head.length) {
            (true, Some(_)) => return Err(HeadFault::Ambiguous),
            (true, None) => Place::Unfollowed,
            (false, None) if head.is_upgrade => Place::Unfollowed,
            (false, None | Some(0)) => Place::Head,
            (false, Some(length)) => Place::Body(length),
        };
        Ok(())
    }
}

impl Head {
    fn header(&mut self, line: &[u8]) -> Result<(), HeadFault> {
        // The first letter tells most lines apart from the special ones.
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = value_of(line, b"content-length:") {
                    let length = number(value).ok_or(HeadFault::Ambiguous)?;
                    if self.length.replace(length).is_some_and(|before| before != length) {
                        return Err(HeadFault::Ambiguous);
                    }
                }
            }
            Some(b'u' | b'U') => {
                self.is_upgrade |= value_of(line, b"upgrade:").is_some_and(is_followed_by_others)
            }
            Some(b't' | b'T') => self.is_chunked |= value_of(line, b"transfer-encoding:").is_some(),
            _ => {}
        }
        Ok(())
    }
}

/// Whether the bytes after a request for this protocol may belong to that protocol. After `h2c`, which the server does not
/// speak, they are requests as before.
pub(crate) fn is_followed_by_others(protocol: &[u8]) -> bool {
    !protocol.trim_ascii().eq_ignore_ascii_case(b"h2c")
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(value)
}

/// A number of digits alone. A text that may be cut off at the kept length is no number.
fn number(value: &[u8]) -> Option<u64> {
    const LONGEST: usize = KEPT - "content-length:".len() - "\r\n".len() - 1;
    let digits = std::str::from_utf8(value.trim_ascii()).ok()?;
    let is_number = value.len() <= LONGEST && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

impl Line {
    fn push(&mut self, piece: &[u8]) {
        if let Some(room) = self.start.get_mut(self.length..) {
            let count = room.len().min(piece.len());
            room[..count].copy_from_slice(&piece[..count]);
        }
        self.length += piece.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ClientLimits =
        ClientLimits { request_line: 40, head: 200, headers: 4, connections: 1, connections_per_address: 0 };

    fn heads() -> Heads {
        Heads::new(LIMITS, HiddenBytes::default())
    }

    /// The results for bytes that come at once, and for the same bytes one by one.
    fn taken(bytes: &[u8]) -> (Result<u64, HeadFault>, Result<u64, HeadFault>) {
        let mut whole = heads();
        let at_once = whole.take(&mut bytes.to_vec()).map(|()| whole.ended()).map_err(|(_, refusal)| refusal);
        let mut heads = heads();
        let one_by_one = bytes.to_vec().chunks_mut(1).try_for_each(|byte| heads.take(byte));
        (at_once, one_by_one.map(|()| heads.ended()).map_err(|(_, refusal)| refusal))
    }

    #[test]
    fn heads_are_followed_through_bodies() {
        for (bytes, ended) in [
            (&b""[..], 0),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", 0),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
            (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
            (b"GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\nHost: a\n\n", 2),
            (b"POST / HTTP/1.1\r\ncontent-LENGTH: 4\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
            (b"POST / HTTP/1.1\r\nContent-Length:0\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
            (
                b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
                2,
            ),
            // No bytes behind chunks count as a head.
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", 1),
        ] {
            assert_eq!(taken(bytes), (Ok(ended), Ok(ended)), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for bytes in [
            &b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\ntransfer-ENCODING:chunked\r\ncontent-length:3\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: x\r\nContent-Length: 0\r\n\r\n",
            b"POST / HTTP/1.1\nContent-Length: 3\nContent-Length: 4\n\n",
            b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 0000000000000000000000000000000000000000000000000000000000005\r\n",
            b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            let refused = Err(HeadFault::Ambiguous);
            assert_eq!(taken(bytes), (refused, refused), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_line_and_a_head_have_their_measure() {
        let line = |length: usize| format!("GET /{} HTTP/1.1\r\n", "x".repeat(length - 16));
        let head = |length: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(length - 23));
        let lines = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
        for (text, result) in [
            (line(40) + "\r\n", Ok(1)),
            (line(41), Err(HeadFault::TargetTooLong)),
            ("x".repeat(41), Err(HeadFault::TargetTooLong)),
            (head(200), Ok(1)),
            (head(201), Err(HeadFault::TooLarge)),
            (lines(4), Ok(1)),
            (lines(5), Err(HeadFault::TooMany)),
        ] {
            assert_eq!(taken(text.as_bytes()), (result, result), "{text}");
        }
    }

    #[test]
    fn what_came_before_a_refused_head_is_told_from_it() {
        let mut heads = heads();
        let good = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
        let bad = "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n";
        assert_eq!(
            heads.take(&mut format!("{good}{bad}").into_bytes()),
            Err((Some(good.len()), HeadFault::Ambiguous))
        );
        let mut heads = Heads::new(LIMITS, HiddenBytes::default());
        heads.take(&mut b"POST / HTTP/1.1\r\nContent".to_vec()).unwrap();
        assert!(heads.is_inside());
        assert_eq!(heads.take(&mut b"-Length: x\r\n\r\n".to_vec()), Err((None, HeadFault::Ambiguous)));
    }
}
