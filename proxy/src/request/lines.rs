//! The header lines of a request, as the origin will see them.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use server::RequestHead;

use super::receive::is_forwarded;

/// Header lines, wherever they were read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lines<'a> {
    /// As the own reader left them. What is not forwarded is passed over at each look.
    Head {
        head: &'a RequestHead<'a>,
        /// Whether the peer is believed when it says for whom it asks.
        is_trusted: bool,
    },
    /// As hyper read them; what is not forwarded is gone.
    Map(&'a HeaderMap),
}

impl<'a> Lines<'a> {
    /// The values of all lines of this name, in their order.
    pub(crate) fn get_all<'n>(self, name: &'n HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let (head, map) = match self {
            Self::Head { head, is_trusted } => (is_forwarded(name, is_trusted).then_some(head), None),
            Self::Map(map) => (None, Some(map)),
        };
        let of_head = head.into_iter().flat_map(move |head| head.values(name.as_str()));
        of_head.chain(map.into_iter().flat_map(move |map| map.get_all(name)).map(HeaderValue::as_bytes))
    }

    /// The value of the first line of this name.
    pub(crate) fn get(self, name: &HeaderName) -> Option<&'a [u8]> {
        match self {
            Self::Head { .. } => self.get_all(name).next(),
            Self::Map(map) => map.get(name).map(HeaderValue::as_bytes),
        }
    }

    /// The lines as a map of their own.
    pub(crate) fn to_map(self) -> HeaderMap {
        match self {
            Self::Map(map) => map.clone(),
            Self::Head { head, is_trusted } => {
                let line = |(name, value)| {
                    let name = HeaderName::from_bytes(name).ok()?;
                    Some((name, HeaderValue::from_bytes(value).ok()?))
                };
                let lines = head.lines().filter_map(line);
                lines.filter(|(name, _)| is_forwarded(name, is_trusted)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use server::ClientLimits;

    use super::*;

    #[test]
    fn lines_are_the_same_wherever_they_were_read() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-Forwarded-Host: b\r\nTE: trailers\r\nx-a: 2\r\nX-B:\r\n\r\n";
        let head = RequestHead::read(text, &ClientLimits::default()).unwrap();
        for is_trusted in [false, true] {
            let lines = Lines::Head { head: &head, is_trusted };
            let map = lines.to_map();
            for name in ["host", "x-a", "x-b", "x-c", "x-forwarded-host", "te"] {
                let name = HeaderName::from_static(name);
                let values = |lines: Lines<'_>| lines.get_all(&name).map(<[u8]>::to_vec).collect::<Vec<_>>();
                assert_eq!(values(lines), values(Lines::Map(&map)), "{name}");
                assert_eq!(lines.get(&name), Lines::Map(&map).get(&name), "{name}");
            }
            assert_eq!(map.get_all("x-a").iter().count(), 2);
            assert!(!map.contains_key("te"));
            assert_eq!(map.contains_key("x-forwarded-host"), is_trusted);
        }
    }
}
