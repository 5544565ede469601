//! The address of a request, and the links to the pages next to it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The characters that Python's `quote_plus` encodes; a space becomes `+` afterwards.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~');

/// An absolute address with its parsed query.
#[derive(Debug)]
pub(crate) struct Address {
    base: String,
    query: Vec<(String, String)>,
}

impl Address {
    /// The address that a client requested, with the Host as it was sent.
    pub(crate) fn new(scheme: &str, host: &str, path: &str, query: &str) -> Self {
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Self { base: format!("{scheme}://{host}{path}"), query }
    }

    /// The last value of a parameter.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.query.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The address of another page. The parameters are sorted by name and encoded again; the first page has no `page`.
    pub(crate) fn link(&self, page: u64) -> String {
        let mut query: Vec<_> = self.query.iter().filter(|(name, _)| name != "page").cloned().collect();
        if page > 1 {
            query.push(("page".to_owned(), page.to_string()));
        }
        // The sort is stable, so the values of one name keep their order.
        query.sort_by(|(a, _), (b, _)| a.cmp(b));
        let pairs: Vec<_> =
            query.iter().map(|(name, value)| format!("{}={}", quote(name), quote(value))).collect();
        let mark = if pairs.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", self.base, pairs.join("&"))
    }
}

fn quote(text: &str) -> String {
    utf8_percent_encode(text, QUOTED).to_string().replace("%20", "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_sorted_and_encoded_again() {
        for (query, expected) in [
            ("", "?page=3"),
            ("page=2", "?page=3"),
            ("page=1&page=2", "?page=3"),
            (
                "b=2&a=1&page=2&a=%C3%A9&empty=&noval&sp=a+b&sp=a%20b",
                "?a=1&a=%C3%A9&b=2&empty=&noval=&page=3&sp=a+b&sp=a+b",
            ),
            ("x=%FF", "?page=3&x=%EF%BF%BD"),
            ("x=1;page=2", "?page=3&x=1%3Bpage%3D2"),
            ("q=a%2Bb%26c%3Dd/e:f~g*(h)'i!", "?page=3&q=a%2Bb%26c%3Dd%2Fe%3Af~g%2A%28h%29%27i%21"),
            ("&&x&=y&", "?=y&page=3&x="),
            ("x=%zz%4", "?page=3&x=%25zz%254"),
        ] {
            assert_eq!(
                Address::new("http", "H:80", "/p/", query).link(3),
                format!("http://H:80/p/{expected}"),
                "{query}"
            );
        }
    }

    #[test]
    fn the_first_page_has_no_number() {
        assert_eq!(Address::new("https", "h", "/p/", "page=2").link(1), "https://h/p/");
        assert_eq!(Address::new("http", "h", "/p/", "a=&page=2").link(1), "http://h/p/?a=");
    }

    #[test]
    fn the_last_value_of_a_parameter_counts() {
        let address = Address::new("http", "h", "/", "page=1&page=2&x");
        assert_eq!(
            (address.value("page"), address.value("x"), address.value("y")),
            (Some("2"), Some(""), None)
        );
    }
}
