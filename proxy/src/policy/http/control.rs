//! The caching directives of a response: `CDN-Cache-Control` (RFC 9213) or, without it, `Cache-Control` (RFC 9111 §5.2.2).

use hyper::header::{CACHE_CONTROL, HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::directives::{directives, seconds_of};

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The directives of a response. Of several equal ones the first counts (RFC 9111 §4.2.1).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Control {
    pub(super) is_public: bool,
    /// `private` without names, or with names that cannot be read.
    pub(super) is_private: bool,
    pub(super) no_store: bool,
    /// `no-cache` without names, or with names that cannot be read.
    pub(super) no_cache: bool,
    pub(super) must_understand: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) max_age: Option<u64>,
    pub(super) s_maxage: Option<u64>,
    pub(super) stale_while_revalidate: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
    /// The headers that `private` and `no-cache` name.
    pub(super) named: Vec<HeaderName>,
    /// Whether they come from `CDN-Cache-Control`. Then `Expires` does not count.
    pub(super) is_targeted: bool,
}

impl Control {
    /// The directives of a response with these headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self::targeted(headers).unwrap_or_else(|| {
            let mut control = Self::default();
            let lines = headers.get_all(CACHE_CONTROL).iter();
            lines
                .flat_map(|line| directives(line.as_bytes()))
                .for_each(|(name, argument)| control.add(name, argument));
            control
        })
    }

    /// "If the targeted field in a given response is empty or a parsing error is encountered, that field MUST be ignored by
    /// the cache" (RFC 9213 §2.2). All lines are one dictionary, and of equal keys the last counts (RFC 9651 §3.2).
    fn targeted(headers: &HeaderMap) -> Option<Self> {
        let lines: Vec<_> = headers.get_all(CDN_CACHE_CONTROL).iter().map(|line| line.as_bytes()).collect();
        if lines.is_empty() {
            return None;
        }
        let dictionary = Parser::new(&lines.join(&b", "[..])).parse::<Dictionary>().ok()?;
        let mut control = Self { is_targeted: true, ..Self::default() };
        for (key, entry) in &dictionary {
            let key = key.as_str();
            let item = match entry {
                ListEntry::Item(item) => Some(&item.bare_item),
                ListEntry::InnerList(_) => None,
            };
            match item {
                // False means that the directive is absent.
                Some(BareItem::Boolean(false)) => {}
                Some(BareItem::Boolean(true)) => control.add(key.as_bytes(), None),
                Some(BareItem::Integer(number)) if !restricts(key) => {
                    control.add(key.as_bytes(), Some(number.to_string().as_bytes()));
                }
                // Only `private` and `no-cache` take a text, with names.
                Some(BareItem::String(text)) if matches!(key, "private" | "no-cache") => {
                    control.add(key.as_bytes(), Some(text.as_str().as_bytes()));
                }
                // An argument of the wrong type must not loosen a directive.
                _ if restricts(key) => control.add(key.as_bytes(), None),
                _ => {}
            }
        }
        (!dictionary.is_empty()).then_some(control)
    }

    fn add(&mut self, name: &[u8], argument: Option<&[u8]>) {
        let first = |known: &mut Option<u64>| {
            known.get_or_insert(seconds_of(argument));
        };
        match &*name.to_ascii_lowercase() {
            b"public" => self.is_public = true,
            b"private" => self.is_private |= !self.names(argument),
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache |= !self.names(argument),
            b"must-understand" => self.must_understand = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"max-age" => first(&mut self.max_age),
            b"s-maxage" => first(&mut self.s_maxage),
            b"stale-while-revalidate" => first(&mut self.stale_while_revalidate),
            b"stale-if-error" => first(&mut self.stale_if_error),
            _ => {}
        }
    }

    /// Keeps the names in an argument. Returns false if there are no names, or names that cannot be read.
    fn names(&mut self, argument: Option<&[u8]>) -> bool {
        let items = argument.unwrap_or_default().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        let names: Result<Vec<_>, _> =
            items.filter(|item| !item.is_empty()).map(HeaderName::from_bytes).collect();
        let names = names.unwrap_or_default();
        let has_names = !names.is_empty();
        self.named.extend(names);
        has_names
    }

    /// Whether a stale page must not be served without asking the origin. `s-maxage` "also implies" `proxy-revalidate`
    /// (RFC 9111 §5.2.2.10).
    pub(super) fn forbids_stale(&self) -> bool {
        self.no_cache || self.must_revalidate || self.proxy_revalidate || self.s_maxage.is_some()
    }

    /// Whether a response to a request with `Authorization` may be stored and served to others: "the following response
    /// directives have such an effect: must-revalidate, public, and s-maxage" (RFC 9111 §3.5).
    pub(super) fn allows_credentials(&self) -> bool {
        self.must_revalidate || self.is_public || self.s_maxage.is_some()
    }
}

/// Whether a directive forbids storing or serving.
fn restricts(key: &str) -> bool {
    matches!(key, "private" | "no-cache" | "no-store")
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn control(lines: &[(&'static str, &str)]) -> Control {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        Control::of(&lines.iter().map(line).collect())
    }

    fn of(text: &str) -> Control {
        control(&[("cache-control", text)])
    }

    #[test]
    fn directives_are_read_in_any_case_and_the_first_of_equal_ones_counts() {
        let found =
            of("Public, MAX-AGE=5, max-age=9, s-maxage=\"7\", stale-if-error=x, unknown=1, Must-Revalidate");
        let expected = Control {
            is_public: true,
            must_revalidate: true,
            max_age: Some(5),
            s_maxage: Some(7),
            stale_if_error: Some(0),
            ..Control::default()
        };
        assert_eq!(found, expected);
        assert_eq!(of("x=\"max-age=1, no-store\"").max_age, None);
        assert_eq!(of("max-age='9'").max_age, Some(0));
        assert_eq!(
            control(&[("cache-control", "no-store"), ("cache-control", "max-age=1")]).max_age,
            Some(1)
        );
    }

    #[test]
    fn private_and_no_cache_with_names_are_of_these_headers_alone() {
        let names = |text| {
            let Control { is_private, no_cache, named, .. } = of(text);
            let named: Vec<_> = named.iter().map(HeaderName::to_string).collect();
            (is_private, no_cache, named.join(" "))
        };
        assert_eq!(names("private=\"Set-Cookie, X-A\""), (false, false, "set-cookie x-a".to_owned()));
        assert_eq!(names("no-cache=x-b, private=x-c"), (false, false, "x-b x-c".to_owned()));
        assert_eq!(names("no-cache=\"\", private=\"a b\""), (true, true, String::new()));
        assert_eq!(names("private, no-cache=\"x-a\""), (true, false, "x-a".to_owned()));
    }

    #[test]
    fn cdn_cache_control_counts_alone_if_it_can_be_read() {
        let both = |cdn| control(&[("cache-control", "no-store, max-age=1"), ("cdn-cache-control", cdn)]);
        let targeted = Control { is_targeted: true, ..Control::default() };
        for (cdn, expected) in [
            ("max-age=60", Control { max_age: Some(60), ..targeted.clone() }),
            ("max-age=-1", Control { max_age: Some(0), ..targeted.clone() }),
            ("no-store, foo;x=1", Control { no_store: true, ..targeted.clone() }),
            ("no-store=?0, public", Control { is_public: true, ..targeted.clone() }),
            ("max-age=99999999999", Control { max_age: Some(1 << 31), ..targeted.clone() }),
            ("private=\"x-a\"", Control { named: vec!["x-a".parse().unwrap()], ..targeted.clone() }),
            // An argument that cannot be read does not loosen a directive.
            ("private=(\"x-user\")", Control { is_private: true, ..targeted.clone() }),
            ("private=x-user", Control { is_private: true, ..targeted.clone() }),
            (
                "no-cache=(\"x-user\"), no-store=1",
                Control { no_cache: true, no_store: true, ..targeted.clone() },
            ),
            // A directive of the wrong type does not count.
            (
                "max-age=\"9\", s-maxage=(1 2), stale-if-error=1.5, private",
                Control { is_private: true, ..targeted },
            ),
        ] {
            assert_eq!(both(cdn), expected, "{cdn}");
        }
        for ignored in ["", "max-age =60", "max-age= 60", "MAX-AGE=60", "max-age=60,", "&"] {
            assert!(both(ignored).no_store && !both(ignored).is_targeted, "{ignored}");
        }
        let lines = control(&[("cdn-cache-control", "public"), ("cdn-cache-control", "max-age=3")]);
        assert!(lines.is_public && lines.max_age == Some(3));
    }
}
