//! The headers of a request as gunicorn hands them to Django.

use hyper::header::{HeaderMap, HeaderName};

/// The value of a header. Several lines of one name are joined in their order.
pub(crate) fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
    (!values.is_empty()).then(|| values.join(&b','))
}

/// Decodes a header as Python's servers do: each byte is a character (ISO 8859-1).
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use hyper::header::{ACCEPT, HeaderValue};

    use super::*;

    #[test]
    fn headers_of_one_name_are_one_list() {
        for (values, expected) in
            [(&[][..], None), (&[""], Some("")), (&["a"], Some("a")), (&["a, b", "", "c"], Some("a, b,,c"))]
        {
            let values = values.iter().map(|value| (ACCEPT, HeaderValue::from_static(value)));
            let joined = joined(&values.collect(), &ACCEPT);
            assert_eq!(joined.as_deref(), expected.map(str::as_bytes));
        }
    }

    #[test]
    fn a_byte_is_a_character() {
        assert_eq!(latin1(b"a\xa0\xe9"), "a\u{a0}\u{e9}");
    }
}
