//! `Vary`: the request headers that a page was selected by (RFC 9110 §12.5.5).

use hyper::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, VARY};

/// The most names. A page that varies on more is not stored: each name multiplies its variants, and no real page needs so
/// many.
const MAX_NAMES: usize = 16;

/// The names in a `Vary` header: lower case, sorted, without repeats. Empty for a page that does not vary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VaryList(Vec<HeaderName>);

/// Why a page with this `Vary` cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unstorable {
    /// `*` anywhere in the list.
    Star,
    /// An invalid name, too many names, or `X-Forwarded-For`, which the proxy itself sets for each client.
    Names,
}

impl VaryList {
    /// Reads all `Vary` lines of a response.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Unstorable> {
        let items =
            || headers.get_all(VARY).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
        let mut names = Vec::new();
        for item in items().map(<[u8]>::trim_ascii).filter(|item| !item.is_empty()) {
            if item == b"*" {
                return Err(Unstorable::Star);
            }
            names.push(HeaderName::from_bytes(item).map_err(|_| Unstorable::Names)?);
        }
        Self::from_names(names)
    }

    /// Sorts the names and removes repeats.
    pub(crate) fn from_names(mut names: Vec<HeaderName>) -> Result<Self, Unstorable> {
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        // The proxy sends each client's address in X-Forwarded-For: a page that varies on it is for one client.
        if names.len() > MAX_NAMES || names.iter().any(|name| name == "x-forwarded-for") {
            return Err(Unstorable::Names);
        }
        Ok(Self(names))
    }

    /// Whether the page is the same for all requests.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names in their order.
    pub(crate) fn names(&self) -> &[HeaderName] {
        &self.0
    }
}

/// Whether a page has this name in its `Vary`.
pub(crate) fn varies_on(page: &HeaderMap, name: &HeaderName) -> bool {
    VaryList::of(page).is_ok_and(|list| list.names().contains(name))
}

/// Adds `Accept-Encoding` to the `Vary` of a page, unless it is there.
pub(crate) fn vary_on_coding(page: &mut HeaderMap) {
    if !varies_on(page, &ACCEPT_ENCODING) {
        page.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&[u8]]) -> Result<Vec<String>, Unstorable> {
        let values = lines.iter().map(|line| (VARY, HeaderValue::from_bytes(line).unwrap()));
        let list = VaryList::of(&HeaderMap::from_iter(values))?;
        Ok(list.names().iter().map(|name| name.as_str().to_owned()).collect())
    }

    #[test]
    fn order_case_blanks_and_repeats_do_not_matter() {
        for lines in [
            &[&b"Accept, Cookie"[..]][..],
            &[b"cookie,ACCEPT"],
            &[b" Cookie ,, accept,"],
            &[b"Cookie", b"Accept, Cookie"],
        ] {
            assert_eq!(parse(lines).unwrap(), ["accept", "cookie"]);
        }
    }

    #[test]
    fn a_list_without_names_is_empty() {
        assert!(parse(&[]).unwrap().is_empty());
        assert!(parse(&[b""]).unwrap().is_empty());
        assert!(parse(&[b" , "]).unwrap().is_empty());
    }

    #[test]
    fn a_star_anywhere_is_refused() {
        for line in [&b"*"[..], b"Accept, *", b"*, Accept", b"Accept , * ", b",*"] {
            assert_eq!(parse(&[line]), Err(Unstorable::Star), "{line:?}");
        }
        assert_eq!(parse(&[b"Accept", b"*"]), Err(Unstorable::Star));
    }

    #[test]
    fn names_that_cannot_select_are_refused() {
        let hundred = (0..100).map(|i| format!("x-{i}")).collect::<Vec<_>>().join(",");
        for line in [&b"Accept Language"[..], b"a(b", b"\xff", b"X-Forwarded-For", hundred.as_bytes()] {
            assert_eq!(parse(&[line]), Err(Unstorable::Names), "{line:?}");
        }
    }
}
