//! The target of a purge: the pages that it names.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use url::{Position, Url};

use crate::request::Question;
use crate::request::receive::X_FORWARDED_HOST;

/// The characters that browsers encode in a URL, besides those that are not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ');

/// The kinds of targets.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TargetKind {
    /// `//host/path?query`, where the query may be empty: the page and its variants. `//host/path`: the pages of every query.
    Url,
    /// The beginning of URLs: `//host/pa`.
    Prefix,
    /// All pages of a host: `//host`.
    Origin,
    /// A tag that the origin gave to the page.
    Tag,
    /// A group of RFC 9875, which belongs to a host: `//host name`.
    Group,
    /// Every page.
    All,
}

impl TargetKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [Self::Url, Self::Prefix, Self::Origin, Self::Tag, Self::Group, Self::All];

    /// The fixed name in the log, in metrics and for operators.
    pub fn name(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Prefix => "prefix",
            Self::Origin => "origin",
            Self::Tag => "tag",
            Self::Group => "group",
            Self::All => "all",
        }
    }
}

/// The pages that a purge names. They need not exist.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Target {
    /// How the target names them.
    pub kind: TargetKind,
    /// The name; empty for [`TargetKind::All`].
    pub value: Vec<u8>,
}

impl Target {
    /// A target of this kind.
    pub fn new(kind: TargetKind, value: impl Into<Vec<u8>>) -> Self {
        Self { kind, value: value.into() }
    }

    /// The target of every page.
    pub fn all() -> Self {
        Self::new(TargetKind::All, "")
    }

    /// A tag.
    pub fn tag(tag: impl Into<Vec<u8>>) -> Self {
        Self::new(TargetKind::Tag, tag)
    }

    /// A group of a host.
    pub(crate) fn group(host: &str, name: &str) -> Self {
        Self::new(TargetKind::Group, format!("//{host} {name}"))
    }

    /// A group of the host of a URL.
    pub(crate) fn group_of(origin: &str, name: &str) -> Result<Self, String> {
        Ok(Self::group(&host_in(origin)?, name))
    }

    /// The page of a question. If `queries` is set, a question without a query means every query of its path.
    pub(crate) fn url(question: &Question<'_>, queries: bool) -> Self {
        let mut url = url_of(question);
        if !queries && !url.contains('?') {
            url.push('?');
        }
        Self::new(TargetKind::Url, url)
    }

    /// The page of a `Location` with every query, if it is on this host. A `Location` may be relative to a URL (RFC 3986 §5).
    pub(crate) fn path_on(host: &str, base: &str, location: &str) -> Option<Self> {
        // Stands for the host, which the library might write in another way.
        const HERE: &str = "here.invalid";
        let rest = base.strip_prefix("//")?.strip_prefix(host)?;
        let url = Url::parse(&format!("http://{HERE}{rest}")).ok()?.join(location).ok()?;
        let (other, path) = split(&url[..Position::AfterPath]).ok()?;
        (other == host || other == HERE).then(|| Self::new(TargetKind::Url, format!("//{host}{path}")))
    }

    /// The URLs that begin with these characters, as clients send them. A URL that is not encoded also means the encoded one
    /// that browsers send.
    pub(crate) fn prefixes(url: &str) -> Result<Vec<Self>, String> {
        let (host, rest) = split(url)?;
        let rest = if rest.is_empty() { "/" } else { rest };
        let encoded = encoded(rest);
        let spellings = [Some(rest), Some(&*encoded).filter(|encoded| *encoded != rest)];
        let target = |rest: &str| Self::new(TargetKind::Prefix, format!("//{host}{rest}"));
        Ok(spellings.into_iter().flatten().map(target).collect())
    }

    /// All pages of the host of a URL, or of a host alone.
    pub(crate) fn origin(text: &str) -> Result<Self, String> {
        Ok(Self::new(TargetKind::Origin, format!("//{}", host_in(text)?)))
    }
}

/// A URL, encoded as browsers send it.
pub(crate) fn encoded(url: &str) -> String {
    utf8_percent_encode(url, ENCODED).to_string()
}

/// The URL of the page that a question asks for, `//host/path?query`. Purges do not distinguish http and https.
pub(crate) fn url_of(question: &Question<'_>) -> String {
    let host = host_of(question);
    let query = if question.query.is_empty() { "" } else { "?" };
    format!("//{host}{}{query}{}", question.path, question.query)
}

/// The host of a question, as the client knows it.
pub(crate) fn host_of(question: &Question<'_>) -> String {
    let sent = question.lines.get(&X_FORWARDED_HOST).unwrap_or(question.authority);
    plain(&String::from_utf8_lossy(sent))
}

/// The host of a URL, or a host alone.
fn host_in(text: &str) -> Result<String, String> {
    if text.contains("//") { Ok(split(text)?.0) } else { host(text) }
}

/// Splits a URL into its host and the rest.
fn split(url: &str) -> Result<(String, &str), String> {
    let rest = ["http://", "https://", "//"].into_iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or_else(|| format!("{url:?} is no URL like http://www.example.com/blog/"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !path.is_empty() && !path.starts_with('/') {
        return Err(format!("{url:?} has no path before its query"));
    }
    Ok((host(authority)?, path))
}

fn host(text: &str) -> Result<String, String> {
    match crate::request::is_host(text.as_bytes()) {
        true => Ok(plain(text)),
        false => Err(format!("{text:?} is no host like www.example.com or localhost:8000")),
    }
}

/// A host in lower case, without the ports of http and https.
fn plain(host: &str) -> String {
    let bare = host.strip_suffix(":80").or_else(|| host.strip_suffix(":443"));
    bare.unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use hyper::header::{HOST, HeaderMap, HeaderValue};

    use super::*;

    fn target(host: &'static str, path: &str, query: &str, queries: bool) -> String {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        let target = Target::url(&Question::get(path, query, &headers), queries);
        String::from_utf8(target.value).unwrap()
    }

    #[test]
    fn a_url_without_a_query_stands_for_every_query_of_its_path_unless_the_settings_say_otherwise() {
        assert_eq!(target("Shop.example:80", "/p/", "", true), "//shop.example/p/");
        assert_eq!(target("shop.example:443", "/p/", "", false), "//shop.example/p/?");
        assert_eq!(target("shop.example:8000", "/p/", "a=1", true), "//shop.example:8000/p/?a=1");
        assert_eq!(target("shop.example:8080", "/p/", "a=1", false), "//shop.example:8080/p/?a=1");
    }

    #[test]
    fn a_prefix_is_one_of_characters_behind_the_host() {
        let values = |url: &str| -> Result<Vec<String>, String> {
            let values = Target::prefixes(url)?.into_iter();
            Ok(values.map(|target| String::from_utf8(target.value).unwrap()).collect())
        };
        for (url, expected) in [
            ("https://Shop.example/blo", &["//shop.example/blo"][..]),
            ("http://shop.example:80/p?pag", &["//shop.example/p?pag"]),
            ("//shop.example", &["//shop.example/"]),
            ("http://[::1]:8000/a", &["//[::1]:8000/a"]),
            ("http://a/\u{fc} b", &["//a/\u{fc} b", "//a/%C3%BC%20b"]),
        ] {
            assert_eq!(values(url).unwrap(), expected, "{url}");
        }
        for url in ["", "/blog/", "ftp://a/", "http://", "http://a@b/", "http://a?b", "http://a b/"] {
            assert!(values(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_location_counts_on_its_own_host_and_for_every_query() {
        for (location, expected) in [
            ("/q/?x=1#y", Some("//a:81/q/")),
            ("https://A:81/q", Some("//a:81/q")),
            ("http://a:81", Some("//a:81/")),
            ("//a:81/q", Some("//a:81/q")),
            ("http://b/q", None),
            ("sub?x", Some("//a:81/p/sub")),
            ("", Some("//a:81/p/page")),
            ("/q?next=http://b/", Some("//a:81/q")),
            ("/q//r#s//t", Some("//a:81/q//r")),
            ("../q", Some("//a:81/q")),
            ("./q/../r", Some("//a:81/p/r")),
            ("HTTPS://A:81/q", Some("//a:81/q")),
            ("/\u{fc}ber", Some("//a:81/%C3%BCber")),
            ("mailto:a@b", None),
        ] {
            let target = Target::path_on("a:81", "//a:81/p/page", location);
            assert_eq!(
                target.map(|target| String::from_utf8(target.value).unwrap()).as_deref(),
                expected,
                "{location}"
            );
        }
    }

    #[test]
    fn an_origin_is_a_host_or_a_url_with_one() {
        for (text, expected) in
            [("Shop.example:80", "//shop.example"), ("https://shop.example/", "//shop.example")]
        {
            assert_eq!(Target::origin(text).unwrap(), Target::new(TargetKind::Origin, expected), "{text}");
        }
        assert!(Target::origin("/blog").is_err());
    }
}
